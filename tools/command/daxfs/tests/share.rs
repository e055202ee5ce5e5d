// SPDX-License-Identifier: GPL-2.0-only

//! `daxfs share`: what QEMU is given. qemu/share starts machines with it.

use crate::support::{chmod, fixture, is_root, skip, who, Place};
use daxfs_check::acl;
use daxfs_testing::builder::access_list;
use daxfs_testing::{image_with, options};
use rustix::fs::{open, setxattr, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{chown, MetadataExt};

const MIB: u64 = 1 << 20;

/// Copy the image for a machine. QEMU opens the copy by its name.
const COPY: &str = "daxfs share --copy copies image";

/// Return an image and a directory for copies.
fn shared() -> Place {
    let place = fixture();
    place.shell("mkdir -m 700 copies");
    place
}

/// Return the name of the only copy.
fn copy(place: &Place) -> String {
    let names = place.names("copies");
    assert_eq!(names.len(), 1, "{names:?}");
    format!("copies/{}", names[0])
}

#[test]
fn the_image_itself() {
    let place = fixture();
    let image = place.text("image");
    let size = place.read("image").len();
    assert_eq!(size % (2 << 20), 0);
    let backend = |id| {
        format!("-object memory-backend-file,id=daxfs-{id},mem-path={image},size={size},share=on,readonly=on,align=2M")
    };
    for (words, expected) in [
        (
            "--number 3",
            backend("pmem3") + " -device virtio-pmem-pci,memdev=daxfs-pmem3",
        ),
        ("--guest -n 1", "mount -t daxfs /dev/pmem1 /mnt".into()),
    ] {
        let found = place.ok(format!("daxfs share {words} image"));
        assert_eq!(found.text().trim_end(), expected);
    }
    // A file of another size.
    place.shell("truncate -s +4K image");
    place.fails("daxfs share image", &format!("has {} bytes", size + 4096));
    // One that suits no device but for its size.
    place.shell("truncate -s 6M image");
    let line = place.ok("daxfs share image");
    assert!(line.text().contains("size=6291456"), "{line:?}");
}

/// Machines share a catalogue as it is, so that they see what the host adds. A copy would not.
#[test]
fn a_catalogue() {
    let place = shared();
    let add = "daxfs catalog add --activate disk";
    place.ok(format!(
        "truncate -s 16M disk && daxfs catalog init disk && {add} one image"
    ));
    let line = place.ok("daxfs share disk");
    let backend = format!("mem-path={},size=16777216,", place.text("disk"));
    assert!(line.text().contains(&backend), "{line:?}");
    place.ok(format!("{add} two image"));
    assert_eq!(place.ok("daxfs share disk").text(), line.text());
    let guest = place.ok("daxfs share --guest disk");
    assert_eq!(guest.text(), "mount -t daxfs /dev/pmem0 /mnt\n");
    place.fails(
        "daxfs share -d nvdimm disk",
        "make a catalogue in a file that suits it",
    );
    for copy in ["--copy copies disk", "--into memfd disk -- true"] {
        place.fails(
            format!("daxfs share {copy}"),
            "a catalogue of images, not an image",
        );
    }
    place.shell("printf X | dd of=disk bs=1 seek=200 conv=notrunc status=none");
    place.shell("printf X | dd of=disk bs=1 seek=1048776 conv=notrunc status=none");
    place.fails("daxfs share disk", "no copy of the catalogue is whole");
}

#[test]
fn names() {
    let place = fixture();
    place.shell("mv image \"it's a,b.img\"");
    let line = place.ok("daxfs share \"it's a,b.img\"");
    let words = place.ok(format!("printf '%s\\n' {}", line.text()));
    let words: Vec<_> = words.text().lines().collect();
    assert_eq!(words.len(), 4, "{line:?}");
    assert!(words[1].contains("/it's a,,b.img,size="), "{line:?}");

    // XML has other special characters.
    place.shell("mv it*.img 'a&\"<b.img'");
    let line = place.ok("daxfs share 'a&\"<b.img'").text().to_owned();
    let words = place.ok(format!("printf '%s\\n' {line}"));
    place.ok(r"cp a*.img $'a\nb.img'");
    place.fails(r"daxfs share --libvirt $'a\nb.img'", "control characters");
    let xml = place.ok("daxfs share --libvirt 'a&\"<b.img'");
    let name = |word: &str| word.replace("a&\"<b", "a&amp;&quot;&lt;b");
    let argument = |word: &str| format!("  <qemu:arg value=\"{}\"/>\n", name(word));
    let arguments: String = words.text().lines().map(argument).collect();
    let space = "http://libvirt.org/schemas/domain/qemu/1.0";
    let expected =
        format!("<qemu:commandline xmlns:qemu=\"{space}\">\n{arguments}</qemu:commandline>\n");
    assert_eq!(xml.text(), expected);
}

#[test]
fn copies() {
    let place = shared();
    let bytes = place.read("image");
    let length = bytes.len() as u64;
    // The copy must not be readable for more users than the image.
    chmod(place.path("image"), 0o640);
    for (device, start, size) in [
        ("virtio-pmem", 0, length),
        ("nvdimm", 2 * MIB, length + 2 * MIB),
    ] {
        let share = format!("daxfs share --device {device} --copy copies image");
        let line = place.ok(&share).text().to_owned();
        let name = copy(&place);
        let path = place.path(&name);
        let status = path.metadata().unwrap();
        assert_eq!((status.len(), who(&path).2), (size, 0o440), "{device}");
        assert!(status.blocks() * 512 < length + MIB, "{device}");
        let backend = format!("mem-path={},size={size},", place.text(&name));
        assert!(line.contains(&backend), "{line}");
        let mut stored = place.read(&name);
        let (start, end) = (start as usize, start as usize + bytes.len());
        assert!(stored[start..end] == bytes && stored[end..].iter().all(|&byte| byte == 0));
        assert_eq!(start > 0, stored[4096..].starts_with(b"NVDIMM_PFN_INFO\0"));

        // The next machine has the same copy.
        assert_eq!(place.ok(&share).text(), line);
        assert_eq!(copy(&place), name);
        assert_eq!(path.metadata().unwrap().ino(), status.ino());
        chmod(&path, 0o666);
        place.fails(&share, "other users can change this copy");
        chmod(&path, 0o644);
        stored[start + 100] ^= 1;
        place.write(&name, stored);
        place.fails(&share, "that it should be; remove it");
        place.shell("rm copies/*");
        assert_eq!(place.ok(&share).text(), line);
        place.shell("rm -f copies/*");
    }
}

/// The group and the access list of the image decide who may read the copy.
#[test]
fn readers() {
    let place = shared();
    let image = place.path("image");
    let readers_of_copy = || {
        place.ok(format!("rm -f copies/*; {COPY}"));
        let (_, group, mode) = who(&place.path(copy(&place)));
        (group, mode)
    };
    if is_root() {
        chown(&image, None, Some(12345)).unwrap();
    }
    let group = who(&image).1;
    for (has, wanted) in [
        (0o640, 0o440),
        (0o604, 0o404),
        (0o664, 0o444),
        (0o600, 0o400),
    ] {
        chmod(&image, has);
        assert_eq!(readers_of_copy(), (group, wanted));
    }

    // The owner and user 1003 may read it, its group may not.
    let list = access_list(&[
        (acl::USER_OBJ, 6, acl::NOBODY),
        (acl::USER, 4, 1003),
        (acl::GROUP_OBJ, 0, acl::NOBODY),
        (acl::MASK, 4, acl::NOBODY),
        (acl::OTHER, 0, acl::NOBODY),
    ]);
    match setxattr(
        &image,
        "system.posix_acl_access",
        &list,
        XattrFlags::empty(),
    ) {
        Err(Errno::OPNOTSUPP) => skip("this filesystem has no lists"),
        set => {
            set.unwrap();
            assert_eq!(who(&image).2, 0o640);
            assert_eq!(readers_of_copy(), (group, 0o400));
        }
    }
}

#[test]
fn what_follows_the_image() {
    let place = shared();
    let mut options = options();
    options.sums = true;
    image_with(&place.path("source"), &place.path("image"), &options).unwrap();
    let bytes = place.read("image");
    let info = place.ok("daxfs info --json image").json();
    let sums = info["total_size"].as_u64().unwrap() as usize;
    assert!(sums < bytes.len());
    place.ok(COPY);
    let mut stored = place.read(copy(&place));
    assert!(stored[..bytes.len()] == bytes);
    stored[sums] ^= 1;
    let name = copy(&place);
    place.shell("rm -f copies/*");
    place.write(name, stored);
    place.fails(COPY, "that it should be; remove it");
}

/// A copy must be what its name says, also if the image was changed after it was made.
#[test]
fn a_changed_image() {
    let place = shared();
    place.write("source/large", vec![7; 5 << 20]);
    image_with(&place.path("source"), &place.path("image"), &options()).unwrap();
    let sound = place.read("image");
    let last = sound.iter().rposition(|&byte| byte == 7).unwrap();
    for changed in [4096, sound.len() / 2, last, sound.len() - 1] {
        let mut bytes = sound.clone();
        bytes[changed] ^= 1;
        place.write("image", &bytes);
        place.fails(COPY, "image: SHA-256 is ");
        assert_eq!(place.names("copies"), [""; 0], "{changed}");
    }
    place.write("image", &sound);
    place.ok(COPY);
    assert!(place.read(copy(&place)) == sound);
}

/// QEMU opens the copy by its name, which must be safe.
#[test]
fn directories_of_others() {
    let place = shared();
    let directory = place.path("copies");
    let why = "other users can replace files";
    for mode in [0o777, 0o770, 0o702] {
        chmod(&directory, mode);
        place.fails(COPY, why);
        assert_eq!(place.names("copies"), [""; 0]);
    }
    chmod(&directory, 0o1777);
    place.ok(COPY);
    let name = copy(&place);
    place.shell(format!("mv {name} elsewhere; ln -s $PWD/elsewhere {name}"));
    place.fails(COPY, "is a symbolic link, not a copy");
    place.shell("rm copies/*");
    chmod(&directory, 0o700);
    // Only root can give it away.
    if chown(&directory, Some(65534), None).is_ok() {
        place.fails(COPY, why);
        chmod(&directory, 0o1777);
        place.fails(COPY, why);
    }
}

/// Nothing remains if the copy is larger than files may be.
#[test]
fn file_size_limit() {
    let place = shared();
    for (trap, status) in [("", -25), ("trap '' XFSZ; ", 1)] {
        let run = place.run(format!("{trap}ulimit -c 0; ulimit -f 1024; exec {COPY}"));
        assert_eq!(run.status, status, "{run:?}");
        assert_eq!(place.names("copies"), [""; 0]);
    }
}

/// Nothing remains if the process is killed while it copies, on filesystems that have files without a name.
#[test]
fn killed() {
    let place = shared();
    let flags = OFlags::TMPFILE | OFlags::WRONLY;
    if open(place.path("copies"), flags, Mode::RUSR).is_err() {
        return skip("there are no files without a name");
    }
    // This takes a while to copy.
    place.write("source/large", vec![7; 64 << 20]);
    image_with(&place.path("source"), &place.path("image"), &options()).unwrap();
    let mut command = place.command("daxfs");
    command.args(["share", "--copy", "copies", "image"]);
    let mut process = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let files = format!("/proc/{}/fd", process.id());
    let inside = place.path("copies");
    let has_file = || {
        let mut links = fs::read_dir(&files).into_iter().flatten().flatten();
        links.any(|link| fs::read_link(link.path()).is_ok_and(|path| path.starts_with(&inside)))
    };
    while !has_file() {
        assert_eq!(process.try_wait().unwrap(), None, "it was faster");
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(place.names("copies"), [""; 0]);
}

#[test]
fn a_sealed_memfd() {
    let place = fixture();
    place.write(
        "machine",
        r#"
        file=$(echo "$*" | sed 's/.*mem-path=\([^,]*\),.*/\1/')
        tail -c "$(stat -c %s image)" "$file" | cmp - image || exit 5
        # The seals hold for every process, whatever it may do.
        refused() {
            why=$(LC_ALL=C "$@" 2>&1) && exit 6
            case $why in *"Operation not permitted"*) ;; *) echo "$why"; exit 7 ;; esac
        }
        refused dd if=/dev/zero of="$file" bs=1 count=1 conv=notrunc
        refused truncate -s 1M "$file"
        refused truncate -s 1G "$file"
        echo "$file $*"
        exit 42"#,
    );
    for device in ["virtio-pmem", "nvdimm"] {
        let run = place.run(format!(
            "daxfs share --into memfd -d {device} image -- sh machine"
        ));
        assert_eq!((run.status, run.stderr.as_str()), (42, ""), "{run:?}");
        assert!(run.text().starts_with("/proc/self/fd/"), "{run:?}");
        assert!(run.text().contains(" -device "), "{run:?}");
    }
}
