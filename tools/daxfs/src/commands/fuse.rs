// SPDX-License-Identifier: GPL-2.0-only

//! `fuse`: serves an image through FUSE, on machines without the module.

mod filesystem;

use super::common::ImageAt;
use clap::Args;
use daxfs_files::signals::{on_signal, SIGHUP, SIGINT, SIGTERM};
use daxfs_files::values::id;
use daxfs_files::{eprintln, notify};
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::PackFiles;
use daxfs_image::source::Opened;
use daxfs_image::text::shown_path;
use daxfs_load::context::explain;
use daxfs_load::mount::{examine, mount_on, set, shortened, MountOptions};
use daxfs_load::mountinfo::mount_id;
use filesystem::{ImageFs, Owner};
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::{fsconfig_set_string, fsopen, FsOpenFlags, MountAttrFlags, UnmountFlags};
use rustix::process::{getegid, geteuid};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

const DEVICE: &str = "/dev/fuse";

const HELPER: &str = "; users other than root need fusermount3 of the package fuse3, with its set-user-ID bit (chmod u+s)";

const THREADS: usize = 8;

/// Serve an image through FUSE, without the kernel module
///
/// If you are not root, you need fusermount3 (Debian's package fuse3). Files look as they do with
/// the module, but reads go through this process and the page cache. Unmount with umount or
/// fusermount3 -u. In fstab(5), use the type fuse.daxfs; in a systemd service, use --foreground and
/// Type=notify. If the process is killed, the mount remains, and all access fails with ENOTCONN
/// until you unmount it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs fuse base.img mnt; ls mnt; fusermount3 -u mnt
  mount -t fuse.daxfs base.img mnt")]
pub struct Fuse {
    #[command(flatten)]
    image: ImageAt,
    #[command(flatten)]
    packs: PackFiles,
    /// The mount point
    dir: PathBuf,
    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,
    /// Mount options: allow_other, allow_root, uid= and gid= (the owner and group of all files),
    /// and generic ones of mount(8); the default is nosuid,nodev
    #[arg(short, long, value_delimiter = ',')]
    options: Vec<String>,
    /// Write a line to standard output once the image is mounted
    #[arg(long, hide = true)]
    ready: bool,
}

impl Fuse {
    pub fn run(self) -> Result<ExitCode> {
        if !self.foreground && !self.ready {
            return in_background(&self.image, &self.packs, &self.dir, &self.options);
        }
        let image = self.image.open_with(&self.packs)?;
        serve(
            image,
            &self.image.image,
            &self.dir,
            &self.options,
            self.ready,
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Serves `image` from the file `source` at `dir`, with the mount options `words`, until it is
/// unmounted. If `ready`, writes a line to standard output once mounted, for the parent process.
fn serve(image: Opened, source: &Path, dir: &Path, words: &[String], ready: bool) -> Result<()> {
    let (acl, owner, options) = parse(words)?;
    // Other damage causes errors on access, but without a root there is nothing to mount.
    image.reader().root()?;
    image.require_packs()?;
    examine(dir)?;
    let name = shown_path(dir);
    let fail = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound if !Path::new(DEVICE).exists() => {
                "; /dev/fuse is missing: load the module fuse (modprobe fuse)"
            }
            io::ErrorKind::PermissionDenied => {
                "; the directory must be yours, and /dev/fuse be open to you"
            }
            _ => "",
        };
        Error::system(&name, "cannot mount", remedy, error)
    };
    // Do this before the mount; afterwards, a look-up would wait for our answer.
    let mount_point = dir.canonicalize().map_err(fail)?;
    let mut config = Config::default();
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    config.n_threads = Some(threads.min(THREADS));
    config.clone_fd = true;
    config.acl = acl;
    let served = ImageFs::new(image, owner);
    let device = File::options().read(true).write(true).open(DEVICE);
    let session = match fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC) {
        // fusermount3 has permission.
        Err(Errno::PERM) => {
            device.map_err(fail)?;
            config.mount_options = for_fusermount(source, &options);
            let begun = Session::new(served, &mount_point, &config).and_then(Session::spawn);
            begun.map_err(|error| {
                let Some(said) = error.get_ref().map(ToString::to_string) else {
                    return Error::system(&name, "cannot run fusermount3", HELPER, error);
                };
                let (said, remedy) = match said.trim_end() {
                    "" => ("fusermount3 gives no reason", HELPER),
                    said if said.ends_with("Operation not permitted") => (said, HELPER),
                    said => (said, ""),
                };
                Error::system(&name, "cannot mount", remedy, io::Error::other(said))
            })?
        }
        opened => {
            let device = device.map_err(fail)?;
            let fs = opened.map_err(|error| fail(error.into()))?;
            describe(&fs, source, &device, acl, &options)?;
            let mut session = None;
            mount_on(&fs, &mount_point, options.attributes, |_| {
                let begun = Session::from_fd(served, device.into(), acl, config);
                session = Some(begun.and_then(Session::spawn).map_err(fail)?);
                Ok(())
            })?;
            // The session exists if it was called.
            session.ok_or_else(|| fail(Errno::NOTCONN.into()))?
        }
    };
    let id = mount_id(&mount_point).map_err(fail)?;
    let unmount = move |_| {
        // Never unmount another mount in the same place.
        if mount_id(&mount_point).is_ok_and(|now| now == id) {
            // While files are open, it stays mounted, and the next signal tries again.
            detach(&mount_point);
        }
    };
    on_signal(&[SIGHUP, SIGINT, SIGTERM], unmount)
        .map_err(|error| Error::system("", "cannot handle signals", "", error))?;
    if ready {
        tell_parent("/dev/null")
            .map_err(|error| Error::system("", "cannot go on in the background", "", error))?;
    }
    // In the background, systemd watches the parent's exit.
    if let (false, Err(error)) = (ready, notify()) {
        eprintln!("daxfs: warning: cannot notify systemd: {error}");
    }
    ended(session).map_err(|error| Error::system(&name, "stopped serving", "", error))
}

/// Unmounts the topmost mount on `place`, an absolute path without symlinks, unless it is in use. A
/// user who is not root needs fusermount3.
fn detach(mount_point: &Path) {
    if rustix::mount::unmount(mount_point, UnmountFlags::NOFOLLOW) == Err(Errno::PERM) {
        let mut fusermount = Command::new("fusermount3");
        fusermount.args(["-u", "--"]).arg(mount_point);
        let _ = fusermount
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Waits until the mount of `session` is gone.
///
/// Do not drop the session: that would unmount any filesystem at its mount point, even after its
/// own mount is gone.
fn ended(mut session: BackgroundSession) -> io::Result<()> {
    let nothing = thread::spawn(|| Ok(()));
    let guard = std::mem::replace(&mut session.guard, nothing);
    std::mem::forget(session);
    let panicked = |_| io::Error::other("a thread panicked");
    guard.join().map_err(panicked)?
}

/// Reports readiness to the parent, and detaches from its terminal. Errors go to `log`.
pub fn tell_parent(log: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(File::options().write(true).open(log)?)?;
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/")
}

/// Starts a process that serves the image at `dir`, and waits until it is mounted.
///
/// Fails if the process cannot be started. The process reports its own errors.
pub fn in_background(
    picked: &ImageAt,
    packs: &PackFiles,
    dir: &Path,
    words: &[String],
) -> Result<ExitCode> {
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
    for pack in &packs.files {
        arguments.extend(["--pack".into(), pack.into()]);
    }
    arguments.extend(["--".into(), image.into(), dir.into()]);
    let stdin = if image.as_os_str() == "-" {
        Stdio::inherit()
    } else {
        Stdio::null()
    };
    Ok(if start(&arguments, stdin)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts this program with `arguments`, and waits until it is ready, see [`tell_parent`]. Returns
/// false if it exits before that, after reporting its error.
pub fn start(arguments: &[OsString], stdin: Stdio) -> Result<bool> {
    let mut child = Command::new("/proc/self/exe")
        .arg0("daxfs")
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::system("", "cannot start a process", "", error))?;
    let mut line = [0];
    let stdout = child.stdout.take();
    let ready = stdout.map(|mut stdout| stdout.read_exact(&mut line));
    let is_ready = matches!(ready, Some(Ok(())));
    if !is_ready {
        let _ = child.wait();
    }
    Ok(is_ready)
}

/// Sorts mount options. Like fusermount3, excludes set-user-ID bits and devices by default.
fn parse(words: &[String]) -> Result<(SessionACL, Owner, MountOptions)> {
    let safe = ["nosuid", "nodev"].map(str::to_owned);
    let options = MountOptions::parse(&[&safe, words].concat());
    let (mut acl, mut owner) = (SessionACL::Owner, Owner::default());
    for (name, value) in &options.filesystem {
        let number = |text| id(text).map_err(|why| Error::refused(format!("{name}={text}"), why));
        match (name.as_str(), value) {
            ("allow_other", None) => acl = SessionACL::All,
            ("allow_root", None) => acl = SessionACL::RootAndOwner,
            ("default_permissions", None) => (),
            ("uid", Some(text)) => owner.uid = Some(number(text)?),
            ("gid", Some(text)) => owner.gid = Some(number(text)?),
            (other, _) => {
                let why = match other {
                    "fsname" | "subtype" => {
                        "is the image's path or daxfs, always; leave the option out"
                    }
                    "auto_unmount" => {
                        "is not supported; leave it out, and unmount with umount, or in a service \
                         with ExecStopPost="
                    }
                    _ => {
                        "unknown mount option; use allow_other, allow_root, uid=, gid= \
                         or generic ones of mount(8), such as noexec"
                    }
                };
                return Err(Error::refused(other, why));
            }
        }
    }
    Ok((acl, owner, options))
}

/// Describes the mount of the image `source` to the kernel, with the open `device`.
fn describe(
    fs: &OwnedFd,
    source: &Path,
    device: &File,
    acl: SessionACL,
    options: &MountOptions,
) -> Result<()> {
    let shown = shortened(source);
    fsconfig_set_string(fs.as_fd(), "source", OsStr::from_bytes(&shown))
        .map_err(|error| explain(fs, "cannot set the source", error))?;
    let pair = |name: &str, value: String| (name.to_owned(), Some(value));
    let flag = |name: &str| (name.to_owned(), None);
    let mut own = vec![
        pair("subtype", "daxfs".into()),
        pair("fd", device.as_raw_fd().to_string()),
        // The root is a directory.
        pair("rootmode", "40000".into()),
        pair("user_id", geteuid().as_raw().to_string()),
        pair("group_id", getegid().as_raw().to_string()),
        flag("default_permissions"),
        flag("ro"),
    ];
    if acl != SessionACL::Owner {
        own.push(flag("allow_other"));
    }
    set(fs, &own)?;
    set(fs, &options.generic)
}

/// Returns options for fusermount3, which ignores those that it does not permit.
fn for_fusermount(source: &Path, options: &MountOptions) -> Vec<MountOption> {
    let words = [
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, "noexec"),
        (MountAttrFlags::MOUNT_ATTR_NOATIME, "noatime"),
        (MountAttrFlags::MOUNT_ATTR_NODIRATIME, "nodiratime"),
        (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
    ];
    let given = words
        .into_iter()
        .filter(|(attribute, _)| options.attributes.contains(*attribute));
    let mut all: Vec<_> = given
        .map(|(_, word)| MountOption::CUSTOM(word.into()))
        .collect();
    // fusermount3 would interpret these characters.
    let name = source.to_string_lossy().replace('\\', r"\\");
    all.extend([
        MountOption::RO,
        MountOption::DefaultPermissions,
        MountOption::FSName(name.replace(',', r"\,")),
        MountOption::Subtype("daxfs".into()),
    ]);
    all
}
