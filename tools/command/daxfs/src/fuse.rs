// SPDX-License-Identifier: GPL-2.0-only

//! `fuse`: serve an image through FUSE, on machines without the module.

mod filesystem;

use crate::options::ImageAt;
use daxfs_command::signals::{on_signal, SIGHUP, SIGINT, SIGTERM};
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_load::mountinfo::mount_id;
use filesystem::ImageFs;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

/// Threads that serve requests, at most.
const THREADS: usize = 8;

/// Serve the image at `dir` with the mount options `words` until it is unmounted. If `ready`, write
/// a line to standard output when it is mounted, for the process that started this one.
pub fn serve(image: &ImageAt, dir: &Path, words: &[String], ready: bool) -> Result<()> {
    let config = config(&image.image, words)?;
    let image = image.open()?;
    // Other damage is an error when it is accessed; without a root there is nothing to mount.
    image.reader().root()?;
    let name = shown_path(dir);
    let fail = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound if !Path::new("/dev/fuse").exists() => {
                "; /dev/fuse is missing: load the module fuse (modprobe fuse)"
            }
            io::ErrorKind::NotFound if dir.exists() => {
                "; users other than root need the program fusermount3 (package fuse3)"
            }
            io::ErrorKind::NotFound => "; make the directory first",
            io::ErrorKind::PermissionDenied => {
                "; the directory must be yours, and /dev/fuse be open to you"
            }
            _ => "",
        };
        Error::system(&name, "cannot mount", remedy, error)
    };
    // Before the mount: afterwards a look-up would wait for an answer.
    let place = dir.canonicalize().map_err(fail)?;
    let session = Session::new(ImageFs::new(image), &place, &config).map_err(fail)?;
    let id = mount_id(&place).map_err(fail)?;
    let unmount = move |_| {
        // Never unmount another mount at the same place.
        if mount_id(&place).is_ok_and(|now| now == id) {
            // While files are open it stays mounted, and the next signal tries again.
            detach(&place);
        }
    };
    on_signal(&[SIGHUP, SIGINT, SIGTERM], unmount)
        .map_err(|error| Error::system("", "cannot handle signals", "", error))?;
    let session = session.spawn().map_err(fail)?;
    if ready {
        tell_parent()
            .map_err(|error| Error::system("", "cannot go on in the background", "", error))?;
    }
    ended(session).map_err(|error| Error::system(&name, "stopped serving", "", error))
}

/// Unmount the topmost mount on `place`, which is absolute and leads through no symlinks, unless it is
/// in use. A user who is not root needs fusermount3.
fn detach(place: &Path) {
    if rustix::mount::unmount(place, UnmountFlags::NOFOLLOW) == Err(Errno::PERM) {
        let mut fusermount = Command::new("fusermount3");
        fusermount.args(["-u", "--"]).arg(place);
        let _ = fusermount
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Wait until the mount of `session` is gone.
///
/// Dropping a session unmounts any file system at its mount point, even if its own mount is gone.
/// So do not drop it.
fn ended(mut session: BackgroundSession) -> io::Result<()> {
    let nothing = thread::spawn(|| Ok(()));
    let guard = std::mem::replace(&mut session.guard, nothing);
    std::mem::forget(session);
    let panicked = |_| io::Error::other("a thread panicked");
    guard.join().map_err(panicked)?
}

/// Report to the parent that the image is mounted, and detach from its terminal.
fn tell_parent() -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/")
}

/// Start a process that serves the image at `dir`, and wait until it is mounted.
///
/// Fail if the process cannot be started. The process reports its own errors.
pub fn in_background(picked: &ImageAt, dir: &Path, words: &[String]) -> Result<ExitCode> {
    let ImageAt { image, at } = picked;
    let mut arguments: Vec<OsString> = vec!["fuse".into(), "--ready".into()];
    if !words.is_empty() {
        arguments.push("--options".into());
        arguments.push(words.join(",").into());
    }
    if let Some(offset) = at.offset {
        arguments.push(format!("--offset={offset}").into());
    }
    if let Some(name) = &at.name {
        arguments.push(format!("--image={name}").into());
    }
    arguments.extend(["--".into(), image.into(), dir.into()]);
    let from_stdin = image.as_os_str() == "-";
    let mut child = Command::new("/proc/self/exe")
        .arg0("daxfs")
        .args(arguments)
        .stdin(if from_stdin {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::system("", "cannot start a process", "", error))?;
    let mut line = [0];
    let ready = child
        .stdout
        .take()
        .map(|mut stdout| stdout.read_exact(&mut line));
    if matches!(ready, Some(Ok(()))) {
        return Ok(ExitCode::SUCCESS);
    }
    let _ = child.wait();
    Ok(ExitCode::FAILURE)
}

fn config(image: &Path, words: &[String]) -> Result<Config> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::DefaultPermissions,
        MountOption::FSName(image.to_string_lossy().into()),
        // fusermount3 adds it to mounts of users other than root.
        if rustix::process::geteuid().is_root() {
            MountOption::CUSTOM("subtype=daxfs".into())
        } else {
            MountOption::Subtype("daxfs".into())
        },
    ];
    for word in words {
        let option = match word.as_str() {
            "" | "ro" | "defaults" | "nosuid" | "nodev" | "default_permissions" => continue,
            "allow_other" => {
                config.acl = SessionACL::All;
                continue;
            }
            "allow_root" => {
                config.acl = SessionACL::RootAndOwner;
                continue;
            }
            "suid" => MountOption::Suid,
            "dev" => MountOption::Dev,
            "exec" => MountOption::Exec,
            "noexec" => MountOption::NoExec,
            "noatime" => MountOption::NoAtime,
            _ => {
                let known = "allow_other, allow_root, suid, dev, exec, noexec, noatime";
                let why = format!("unknown mount option {word}; there are {known}");
                return Err(Error::refused("", why));
            }
        };
        config.mount_options.push(option);
    }
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    config.n_threads = Some(threads.min(THREADS));
    config.clone_fd = true;
    Ok(config)
}
