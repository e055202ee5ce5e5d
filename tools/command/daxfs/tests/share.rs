// SPDX-License-Identifier: GPL-2.0-only

//! `daxfs share`: what hypervisors are given. qemu/share starts machines with it.

use crate::support::{fail, fixture, run, succeed, DAXFS};
use daxfs_check::acl;
use daxfs_testing::builder::access_list;
use daxfs_testing::{image_with, options, scratch};
use rustix::fs::{open, setxattr, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// Run `daxfs share` with words, which must succeed, and return its output.
fn share(words: &[&str]) -> String {
    let words: Vec<_> = ["share"].iter().chain(words).collect();
    succeed(&words).text().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Return the only file in `dir`.
fn only(dir: &Path) -> PathBuf {
    let mut files = fs::read_dir(dir).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

#[test]
fn the_image_itself() {
    let fixture = fixture();
    let image = text(&fixture.image);
    let size = fs::metadata(image).unwrap().len();
    assert_eq!(size % (2 * MIB), 0);
    let backend = |id| {
        format!("-object memory-backend-file,id=daxfs-{id},mem-path={image},size={size},share=on,readonly=on,align=2M")
    };
    let expected = format!(
        "{} -device virtio-pmem-pci,memdev=daxfs-pmem3\n",
        backend("pmem3")
    );
    assert_eq!(share(&["--number", "3", image]), expected);
    let expected = format!(
        "{} -device ivshmem-plain,memdev=daxfs-ivshmem0\n",
        backend("ivshmem0")
    );
    assert_eq!(share(&["-d", "ivshmem", image]), expected);
    let expected = format!("--pmem file={image},discard_writes=on\n");
    assert_eq!(
        share(&["--hypervisor", "cloud-hypervisor", image]),
        expected
    );
    assert_eq!(
        share(&["--hypervisor", "crosvm", image]),
        format!("--pmem {image},ro=true\n")
    );
    let config: serde_json::Value =
        serde_json::from_str(&share(&["--hypervisor", "firecracker", image])).unwrap();
    assert_eq!(config["pmem"][0]["path_on_host"], image);
    assert_eq!(config["pmem"][0]["read_only"], true);
    assert_eq!(
        share(&["--guest", "-n", "1", image]),
        "mount -t daxfs /dev/pmem1 /mnt\n"
    );

    // A file of another size.
    let file = fs::OpenOptions::new().write(true).open(image).unwrap();
    file.set_len(size + 4096).unwrap();
    let line = fail(&["share", image], 1);
    assert!(
        line.contains(&format!("has {} bytes", size + 4096)),
        "{line}"
    );
    // One that suits no device but for its size.
    file.set_len(6 * MIB).unwrap();
    assert!(share(&[image]).contains("size=6291456"));
    assert!(fail(&["share", "-d", "ivshmem", image], 1).contains("a power of two"));
}

#[test]
fn names() {
    let fixture = fixture();
    let directory = scratch();
    let odd = directory.path().join("it's a,b.img");
    fs::copy(&fixture.image, &odd).unwrap();
    let line = share(&[text(&odd)]);
    let script = format!("printf '%s\\n' {line}");
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    let words: Vec<_> = words.lines().collect();
    assert_eq!(words.len(), 4, "{line}");
    assert!(words[1].contains("/it's a,,b.img,size="), "{line}");
    let line = fail(&["share", "--hypervisor", "crosvm", text(&odd)], 1);
    assert!(line.contains("has a ,"), "{line}");
    // Unusable copies are not made.
    let copies = directory.path().join("a[b]");
    fs::create_dir(&copies).unwrap();
    let arguments = [
        "share",
        "--hypervisor",
        "cloud-hypervisor",
        "--copy",
        text(&copies),
        text(&fixture.image),
    ];
    let line = fail(&arguments, 1);
    assert!(line.contains("has a ["), "{line}");
    assert_eq!(fs::read_dir(&copies).unwrap().count(), 0);
    let relative = std::process::Command::new(DAXFS)
        .current_dir(directory.path())
        .args(["share", "it's a,b.img"])
        .output()
        .unwrap();
    assert_eq!(relative.stdout, share(&[text(&odd)]).into_bytes());
}

#[test]
fn copies() {
    let fixture = fixture();
    let image = text(&fixture.image);
    let bytes = fs::read(image).unwrap();
    // The copy must not be readable for more users than the image.
    fs::set_permissions(image, PermissionsExt::from_mode(0o640)).unwrap();
    for (device, start, size) in [
        ("virtio-pmem", 0, bytes.len() as u64),
        ("nvdimm", 2 * MIB, bytes.len() as u64 + 2 * MIB),
        ("cxl", 0, 256 * MIB),
        ("ivshmem", 0, (bytes.len() as u64).next_power_of_two()),
    ] {
        let directory = scratch();
        let dir = directory.path();
        let arguments = ["--device", device, "--copy", text(dir), image];
        let line = share(&arguments);
        let copy = only(dir);
        let status = fs::metadata(&copy).unwrap();
        assert_eq!(
            (status.len(), status.mode() & 0o7777),
            (size, 0o440),
            "{device}"
        );
        assert!(status.blocks() * 512 < bytes.len() as u64 + MIB, "{device}");
        assert!(
            line.contains(&format!("mem-path={},size={size},", text(&copy))),
            "{line}"
        );
        let stored = fs::read(&copy).unwrap();
        let (start, end) = (start as usize, start as usize + bytes.len());
        assert!(stored[start..end] == bytes && stored[end..].iter().all(|&byte| byte == 0));
        assert_eq!(start > 0, stored[4096..].starts_with(b"NVDIMM_PFN_INFO\0"));

        // The next machine has the same copy.
        assert_eq!(share(&arguments), line);
        assert_eq!(
            (only(dir), fs::metadata(&copy).unwrap().ino()),
            (copy.clone(), status.ino())
        );
        let call: Vec<_> = ["share"].iter().chain(&arguments).collect();
        fs::set_permissions(&copy, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(fail(&call, 1).contains("other users can change this copy"));
        fs::set_permissions(&copy, PermissionsExt::from_mode(0o644)).unwrap();
        let mut damaged = stored;
        damaged[start + 100] ^= 1;
        fs::write(&copy, damaged).unwrap();
        assert!(fail(&call, 1).contains("that it should be; remove it"));
        fs::remove_file(&copy).unwrap();
        assert_eq!(share(&arguments), line);
    }
}

/// Return the group and the permission bits of a copy of `image`.
fn readers_of_copy(image: &Path) -> (u32, u32) {
    let copies = scratch();
    share(&["--copy", text(copies.path()), text(image)]);
    let status = fs::metadata(only(copies.path())).unwrap();
    (status.gid(), status.mode() & 0o7777)
}

/// The group and the access list of the image decide who may read the copy.
#[test]
fn readers() {
    let fixture = fixture();
    let image = &fixture.image;
    let mode = |mode| fs::set_permissions(image, PermissionsExt::from_mode(mode)).unwrap();
    if geteuid().is_root() {
        std::os::unix::fs::chown(image, None, Some(12345)).unwrap();
    }
    let group = fs::metadata(image).unwrap().gid();
    for (has, wanted) in [
        (0o640, 0o440),
        (0o604, 0o404),
        (0o664, 0o444),
        (0o600, 0o400),
    ] {
        mode(has);
        assert_eq!(readers_of_copy(image), (group, wanted));
    }

    // The owner and user 1003 may read it, its group may not.
    let list = access_list(&[
        (acl::USER_OBJ, 6, acl::NOBODY),
        (acl::USER, 4, 1003),
        (acl::GROUP_OBJ, 0, acl::NOBODY),
        (acl::MASK, 4, acl::NOBODY),
        (acl::OTHER, 0, acl::NOBODY),
    ]);
    let name = "system.posix_acl_access";
    match setxattr(image, name, &list, XattrFlags::empty()) {
        // This filesystem has no lists.
        Err(Errno::OPNOTSUPP) => (),
        set => {
            set.unwrap();
            assert_eq!(fs::metadata(image).unwrap().mode() & 0o777, 0o640);
            assert_eq!(readers_of_copy(image), (group, 0o400));
        }
    }
}

#[test]
fn what_follows_the_image() {
    let (source, directory, copies) = (scratch(), scratch(), scratch());
    fs::write(source.path().join("file"), [7; 100_000]).unwrap();
    let image = directory.path().join("image");
    let mut options = options();
    options.sums = true;
    image_with(source.path(), &image, &options).unwrap();
    let bytes = fs::read(&image).unwrap();
    let info = succeed(&["info", "--json", text(&image)]).json();
    let sums = info["total_size"].as_u64().unwrap() as usize;
    assert!(sums < bytes.len());
    let arguments = ["share", "--copy", text(copies.path()), text(&image)];
    succeed(&arguments);
    let copy = only(copies.path());
    let mut stored = fs::read(&copy).unwrap();
    assert!(stored[..bytes.len()] == bytes);
    stored[sums] ^= 1;
    fs::remove_file(&copy).unwrap();
    fs::write(&copy, stored).unwrap();
    assert!(fail(&arguments, 1).contains("that it should be; remove it"));
}

/// A copy must be what its name says, also if the image was changed after it was made.
#[test]
fn a_changed_image() {
    let (source, directory, copies) = (scratch(), scratch(), scratch());
    fs::write(source.path().join("file"), vec![7; 5 << 20]).unwrap();
    let image = directory.path().join("image");
    image_with(source.path(), &image, &options()).unwrap();
    let sound = fs::read(&image).unwrap();
    let arguments = ["share", "--copy", text(copies.path()), text(&image)];
    let (first, last) = (4096, sound.iter().rposition(|&byte| byte == 7).unwrap());
    for changed in [first, sound.len() / 2, last, sound.len() - 1] {
        let mut bytes = sound.clone();
        bytes[changed] ^= 1;
        fs::write(&image, &bytes).unwrap();
        let line = fail(&arguments, 1);
        assert!(line.contains("image: SHA-256 is "), "{changed}: {line}");
        assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 0);
    }
    fs::write(&image, &sound).unwrap();
    succeed(&arguments);
    assert!(fs::read(only(copies.path())).unwrap() == sound);
}

/// The hypervisor opens the copy by its name, which must be safe.
#[test]
fn directories_of_others() {
    let fixture = fixture();
    let copies = scratch();
    let dir = copies.path();
    let arguments = ["share", "--copy", text(dir), text(&fixture.image)];
    let mode = |mode| fs::set_permissions(dir, PermissionsExt::from_mode(mode)).unwrap();
    for bits in [0o777, 0o770, 0o702] {
        mode(bits);
        let line = fail(&arguments, 1);
        assert!(line.contains("other users can replace files"), "{line}");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    }
    mode(0o1777);
    succeed(&arguments);
    let copy = only(dir);
    let elsewhere = fixture.directory.path().join("elsewhere");
    fs::rename(&copy, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &copy).unwrap();
    assert!(fail(&arguments, 1).contains("is a symbolic link, not a copy"));
    fs::remove_file(&copy).unwrap();
    mode(0o700);
    // Only root can give it away.
    if std::os::unix::fs::chown(dir, Some(65534), None).is_ok() {
        assert!(fail(&arguments, 1).contains("other users can replace files"));
        mode(0o1777);
        assert!(fail(&arguments, 1).contains("other users can replace files"));
    }
}

/// Nothing remains if the copy is larger than files may be.
#[test]
fn file_size_limit() {
    let fixture = fixture();
    let copies = scratch();
    for (ignore, signal) in [("", Some(25)), ("trap '' XFSZ; ", None)] {
        let script = format!("{ignore}ulimit -c 0; ulimit -f 1024; exec \"$@\"");
        let output = std::process::Command::new("bash")
            .args(["-c", &script, "-", DAXFS, "share", "--copy"])
            .args([copies.path(), &fixture.image])
            .output()
            .unwrap();
        assert_eq!(output.status.signal(), signal, "{output:?}");
        assert!(!output.status.success());
        assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 0);
    }
}

/// Nothing remains if the process is killed while it copies, on filesystems that have files without a name.
#[test]
fn killed() {
    let (source, copies) = (scratch(), scratch());
    let flags = OFlags::TMPFILE | OFlags::WRONLY;
    if open(copies.path(), flags, Mode::RUSR).is_err() {
        eprintln!("skipped: {} has no such files", copies.path().display());
        return;
    }
    // This takes a while to copy.
    fs::write(source.path().join("large"), vec![7; 64 << 20]).unwrap();
    let place = scratch();
    let image = place.path().join("image.daxfs");
    image_with(source.path(), &image, &options()).unwrap();
    let mut process = std::process::Command::new(DAXFS)
        .args(["share", "--copy", text(copies.path()), text(&image)])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let files = format!("/proc/{}/fd", process.id());
    let inside = format!("{}/", text(copies.path()));
    let has_file = || {
        let mut links = fs::read_dir(&files).into_iter().flatten().flatten();
        links.any(|link| {
            fs::read_link(link.path()).is_ok_and(|path| path.to_string_lossy().starts_with(&inside))
        })
    };
    while !has_file() {
        assert_eq!(process.try_wait().unwrap(), None, "it was faster");
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 0);
}

#[test]
fn a_sealed_memfd() {
    let fixture = fixture();
    let image = text(&fixture.image);
    let script = r#"
        IMAGE=$0
        file=$(echo "$*" | sed 's/.*mem-path=\([^,]*\),.*/\1/')
        tail -c "$(stat -c %s "$IMAGE")" "$file" | cmp - "$IMAGE" || exit 5
        # The seals hold for every process, whatever it may do.
        refused() {
            why=$(LC_ALL=C "$@" 2>&1) && exit 6
            case $why in *"Operation not permitted"*) ;; *) echo "$why"; exit 7 ;; esac
        }
        refused dd if=/dev/zero of="$file" bs=1 count=1 conv=notrunc
        refused truncate -s 1M "$file"
        refused truncate -s 1G "$file"
        echo "$file $*"
        exit 42"#;
    for device in ["virtio-pmem", "nvdimm"] {
        let words = [
            "share", "--into", "memfd", "-d", device, image, "--", "sh", "-c", script, image,
        ];
        let run = run(&words.map(OsStr::new));
        assert_eq!((run.status, run.stderr.as_str()), (42, ""), "{run:?}");
        assert!(run.text().starts_with("/proc/self/fd/"), "{run:?}");
        assert!(run.text().contains(" -device "), "{run:?}");
    }
}

#[test]
fn the_hypervisor_of_a_command() {
    let fixture = fixture();
    let image = text(&fixture.image);
    let directory = scratch();
    for (name, expected) in [
        (
            "cloud-hypervisor",
            format!("--kernel x --pmem file={image},discard_writes=on\n"),
        ),
        ("crosvm", format!("--kernel x --pmem {image},ro=true\n")),
    ] {
        let program = directory.path().join(name);
        fs::write(&program, "#!/bin/sh\necho \"$@\"\n").unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(
            share(&[image, "--", text(&program), "--kernel", "x"]),
            expected
        );
    }
    // QEMU has to have room.
    let program = directory.path().join("qemu-system-x86_64");
    fs::rename(directory.path().join("crosvm"), &program).unwrap();
    let line = share(&[image, "--", text(&program), "-m", "1G,maxmem=4G"]);
    assert!(
        line.starts_with("-m 1G,maxmem=4G -object memory-backend-file,"),
        "{line}"
    );
    let copies = scratch();
    let nvdimm = [
        "share",
        "-d",
        "nvdimm",
        "--copy",
        text(copies.path()),
        image,
        "--",
    ];
    let nvdimm = |size| [&nvdimm[..], &[text(&program), "-m", size]].concat();
    assert!(fail(&nvdimm("1G,maxmem=4G"), 1).contains("needs -m SIZE,slots=4,maxmem=MAX"));
    assert!(succeed(&nvdimm("1G,slots=1,maxmem=4G"))
        .text()
        .contains("unarmed=on"));
}
