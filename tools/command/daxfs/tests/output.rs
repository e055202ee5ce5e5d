// SPDX-License-Identifier: GPL-2.0-only

//! Output of the commands: it is complete or an error, and nothing that is in use is overwritten.

use crate::support::{fail, fixture, run, succeed, DAXFS};
use daxfs_testing::builder::{seal, superblock};
use daxfs_testing::{image_of, scratch};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Return an image, and where it is.
fn image() -> (tempfile::TempDir, PathBuf) {
    let fixture = fixture();
    (fixture.directory, fixture.image)
}

#[test]
fn full_and_closed_standard_output() {
    let (_directory, image) = image();
    let image = image.to_str().unwrap();
    for (name, arguments, status) in [
        ("daxfs", &["info", image][..], 1),
        ("daxfs", &["info", "--json", image], 1),
        ("daxfs", &["info", "--udev", image], 1),
        ("daxfs", &["ls", "-lR", image], 1),
        ("daxfs", &["stat", image, "/file"], 1),
        ("daxfs", &["dump", image], 1),
        ("daxfs", &["digest", image], 1),
        ("daxfs", &["cat", image, "file"], 1),
        ("daxfs", &["fsck", image], 8),
        ("fsck.daxfs", &["-a", image], 8),
        ("fsck.daxfs", &["-V"], 8),
        ("daxfs", &["--help"], 1),
        ("daxfs", &["ls", "--help"], 1),
        ("mount.daxfs", &["--version"], 1),
    ] {
        let command = || {
            let mut command = Command::new(DAXFS);
            command.arg0(name).args(arguments).stderr(Stdio::piped());
            command
        };
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command().stdout(full).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {told}");
        assert!(
            told.contains("standard output: cannot write: No space left"),
            "{told}"
        );

        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        let output = command().stdout(OwnedFd::from(writer)).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.signal(), said.as_str()),
            (Some(13), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn archives_that_exist() {
    let (directory, image) = image();
    let archive = directory.path().join("archive.tar");
    let (image, target) = (image.to_str().unwrap(), archive.to_str().unwrap());
    fs::write(&archive, "precious").unwrap();
    let line = fail(&["extract", "--tar", image, target], 1);
    assert!(
        line.ends_with("archive.tar: exists; name another file, or give --force to overwrite it\n"),
        "{line}"
    );
    assert_eq!(fs::read(&archive).unwrap(), b"precious");
    run(&["extract", "--tar", "--force", image, target]);
    assert!(fs::metadata(&archive).unwrap().len() > 10_000);
    fs::write(&archive, "").unwrap();
    run(&["extract", "-t", image, target]);
    assert!(fs::metadata(&archive).unwrap().len() > 10_000);
    // The image itself, by any name.
    let before = fs::read(image).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("image", &link).unwrap();
    for target in [image, link.to_str().unwrap()] {
        let line = fail(&["extract", "--tar", "--force", image, target], 1);
        assert!(line.contains("is an input as well"), "{line}");
    }
    assert!(fs::read(image).unwrap() == before);
    assert_eq!(run(&["extract", "--force", image, "directory"]).status, 2);
}

/// An archive is as private as the file that it replaces, which a symbolic link may lead to.
#[test]
fn private_archives() {
    let (directory, image) = image();
    let archive = directory.path().join("archive.tar");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("archive.tar", &link).unwrap();
    for target in [&archive, &link] {
        fs::write(&archive, "old").unwrap();
        fs::set_permissions(&archive, fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&archive, Some(1000), Some(1001)).unwrap();
        }
        let who = || {
            let found = archive.metadata().unwrap();
            (found.uid(), found.gid(), found.mode() & 0o7777)
        };
        let before = who();
        let words: [&OsStr; 4] = [
            "extract".as_ref(),
            "-tf".as_ref(),
            image.as_ref(),
            target.as_ref(),
        ];
        assert_eq!(run(&words).status, 0);
        assert_eq!(who(), before);
        assert!(archive.metadata().unwrap().len() > 10_000);
        assert!(link.is_symlink());
    }
}

#[test]
fn devices_in_use() {
    let (directory, image) = image();
    let backing = directory.path().join("backing");
    fs::write(&backing, vec![0xaa; 8 << 20]).unwrap();
    let output = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&backing)
        .output();
    let device = match output {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        _ => return println!("SKIP: losetup cannot set up a loop device"),
    };
    let (image, device) = (image.to_str().unwrap(), device.trim_end());
    let refused = run(&["write", image, device]);
    let untouched = fs::read(&backing).unwrap().iter().all(|&byte| byte == 0xaa);
    let forced = run(&["write", "--force", image, device]);
    let again = run(&["write", image, device]);
    let itself = run(&["write", "--force", device, device]);
    Command::new("losetup")
        .args(["--detach", device])
        .status()
        .unwrap();
    assert!(refused.status == 1 && untouched, "{refused:?}");
    let expected = "holds data other than a daxfs image, which would be lost; name another device, or give --force";
    assert!(refused.stderr.contains(expected), "{refused:?}");
    assert_eq!(
        (forced.status, again.status),
        (0, 0),
        "{forced:?} {again:?}"
    );
    assert!(itself.stderr.contains("is an input as well"), "{itself:?}");
}

#[test]
fn sizes_for_people() {
    let (_directory, image) = image();
    let image = image.to_str().unwrap();
    let lines = succeed(&["ls", "-lh", image, "/dir/below"]);
    assert!(lines.text().contains("  9.8K "), "{lines:?}");
    assert_eq!(
        lines.text(),
        succeed(&["ls", "-l", "--human-readable", image, "/dir/below"]).text()
    );
    let help = succeed(&["ls", "--help"]);
    assert!(help.text().contains("--human-readable"), "{help:?}");
}

/// Archives contain access control lists in both forms.
#[test]
fn lists_in_archives() {
    let directory = scratch();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("source")).unwrap();
    let mut list = 2u32.to_le_bytes().to_vec();
    for (kind, bits, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 7, 12),
        (4, 4, u32::MAX),
        (16, 7, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        list.extend([kind.to_le_bytes(), bits.to_le_bytes()].concat());
        list.extend(id.to_le_bytes());
    }
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        let flags = rustix::fs::XattrFlags::empty();
        if let Err(error) = rustix::fs::lsetxattr(at("source"), name, &list, flags) {
            return println!("SKIP: {name}: {error}");
        }
    }
    archive_of(&at("source"), &at("image"), &at("archive"));
    let archive = fs::read(at("archive")).unwrap();
    for kind in ["access", "default"] {
        let record =
            format!(" SCHILY.acl.{kind}=user::rw-,user:12:rwx,group::r--,mask::rwx,other::---\n");
        let found = archive
            .windows(record.len())
            .any(|bytes| bytes == record.as_bytes());
        assert!(found, "{kind}");
    }
}

/// Make `image` of `source`, and `archive` of `image`.
fn archive_of(source: &Path, image: &Path, archive: &Path) {
    image_of(source, image).unwrap();
    succeed(&[
        "extract".as_ref(),
        "--tar".as_ref(),
        image.as_os_str(),
        archive.as_os_str(),
    ]);
}

/// Both GNU tar and bsdtar restore the lists with `--acls`, which reads only the text form.
#[test]
fn lists_survive_tar_programs() {
    let directory = scratch();
    let at = |name: &str| directory.path().join(name);
    let names = ["system.posix_acl_access", "system.posix_acl_default"];
    fs::create_dir_all(at("source/dir")).unwrap();
    fs::write(at("source/file"), "").unwrap();
    let set = Command::new("setfacl")
        .args(["-m", "u:12:rwx,g:34:r,m::x,d:u:56:rw,d:g::-"])
        .arg(at("source/dir"))
        .status()
        .and_then(|_| {
            Command::new("setfacl")
                .args(["-m", "u:12:rwx,g::rw,m::-"])
                .arg(at("source/file"))
                .status()
        });
    if !set.is_ok_and(|status| status.success()) {
        return println!("SKIP: setfacl cannot set an access control list");
    }
    let lists = |tree: &str| {
        let mut found = Vec::new();
        for file in ["dir", "file"] {
            for name in names {
                let mut value = [0; 1024];
                let path = at(tree).join(file);
                let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
                found.push(value[..length].to_vec());
            }
        }
        found
    };
    let expected = lists("source");
    let lengths: Vec<_> = expected.iter().map(|list| list.is_empty()).collect();
    assert_eq!(lengths, [false, false, false, true]);
    archive_of(&at("source"), &at("image"), &at("archive"));
    for program in ["tar", "bsdtar"] {
        fs::create_dir(at(program)).unwrap();
        let status = Command::new(program)
            .args(["--acls", "-xpf"])
            .arg(at("archive"))
            .arg("-C")
            .arg(at(program))
            .status();
        match status {
            Ok(status) => assert!(status.success(), "{program}"),
            Err(error) => {
                println!("SKIP: {program}: {error}");
                continue;
            }
        }
        assert_eq!(lists(program), expected, "{program}");
    }
}

/// Findings name the affected file.
#[test]
fn fsck_names_paths() {
    let (_directory, image) = image();
    let mut bytes = fs::read(&image).unwrap();
    let inodes = superblock(&bytes).inodes;
    let start = inodes.offset.get() as usize;
    // The link count of the one inode with 10,000 bytes.
    let record = (start..start + inodes.length.get() as usize)
        .step_by(64)
        .find(|&at| bytes[at + 16..at + 24] == 10_000_u64.to_le_bytes());
    bytes[record.unwrap() + 4] = 7;
    seal(&mut bytes);
    fs::write(&image, &bytes).unwrap();
    let image = image.to_str().unwrap();
    let found = run(&["fsck", image]);
    assert_eq!(found.status, 4);
    let expected = format!("{image}: /dir/below/deep: wrong link count (offset ");
    assert!(found.stderr.contains(&expected), "{found:?}");
}
