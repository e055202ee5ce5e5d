// SPDX-License-Identifier: GPL-2.0-only

//! `mount.daxfs` and `mount.fuse.daxfs`, which mount(8) calls.

use super::common::ImageAt;
use super::fuse::{in_background, start};
use clap::{ArgAction, Parser};
use daxfs_files::stdout::{written, Out};
use daxfs_files::values::sha256;
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::PackFiles;
use daxfs_image::source::{cannot_open, At};
use daxfs_image::text::{human, shown_path};
use daxfs_load::buffer::Kind;
use daxfs_load::catalog::{value, Chosen};
use daxfs_load::mount::{is_for_kernel, load_on, mount_on_device, MountOptions};
use daxfs_load::packs::{attach, Packs};
use daxfs_store::{Demands, Store};
use rustix::process::geteuid;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

/// Mount a daxfs image; called by mount(8)
///
/// An image file is first loaded into a sealed memfd, as with daxfs load. From a store, image=NAME
/// or the active image is mounted, after loading those of its packs that are not in memory. For
/// other images with packs, name the file or device of each with pack=FILE. Everything else goes
/// back to mount(8).
///
/// With the type fuse.daxfs (mount.fuse.daxfs), the image is served like with daxfs fuse, with the
/// same options and pack=FILE. If root mounts it, all users have access.
#[derive(Parser)]
#[command(
    name = "mount.daxfs",
    version,
    after_help = "\
Exit status:
  0 mounted, 1 wrong usage, 32 failed.

Examples:
  mount -t daxfs -o nosuid base.img /mnt
  mount -t daxfs -o image=base-2 /dev/pmem0 /mnt
  mount -t daxfs -o image=base-2 /srv/store /mnt
  mount -t daxfs -o image=base-2,load=demand /srv/store /mnt
  mount -t daxfs -o pack=objects.img index.img /mnt"
)]
pub struct Helper {
    /// Image file, device or store
    source: PathBuf,
    /// Mount point
    dir: PathBuf,
    /// Mount options
    #[arg(short, value_delimiter = ',')]
    options: Vec<String>,
    /// Ignored, like -w, -s and -n: mounts are read-only, options checked, /etc/mtab is not written
    #[arg(short = 'r', short_aliases = ['w', 's', 'n'], action = ArgAction::Count)]
    ignored: u8,
    /// Do everything but mount
    #[arg(short)]
    fake: bool,
    /// Print more; with -f, print the options for the kernel
    #[arg(short)]
    verbose: bool,
    /// Filesystem type
    #[arg(short = 't')]
    kind: Option<String>,
}

impl Helper {
    /// Returns the mount options that are not empty.
    fn words(&self) -> Vec<String> {
        let words = self.options.iter().filter(|word| !word.is_empty());
        words.cloned().collect()
    }
}

/// Runs `mount.fuse.daxfs`, which mount(8) calls: serves an image through FUSE, in the background.
/// As with other filesystems, root mounts for all users, with devices and set-user-ID bits.
pub fn fuse_helper(args: &Helper) -> Result<ExitCode> {
    let (mut given, mut words) = (args.words(), Vec::new());
    if given.iter().any(|word| word == "remount") {
        // mount(8) repeats FUSE's own options, which FUSE does not accept again.
        let own = |word: &String| MountOptions::parse(std::slice::from_ref(word)).filesystem;
        given.retain(|word| word == "remount" || own(word).is_empty());
        given.push("ro".into());
        return Err(pass_on(args, "fuse.daxfs", &given));
    }
    let at = At {
        offset: None,
        name: value(&given, "image").map(str::to_owned),
    };
    if geteuid().is_root() {
        words.extend(["suid", "dev", "allow_other"].map(str::to_owned));
    }
    let packs = given.iter().filter_map(|word| word.strip_prefix("pack="));
    let packs = PackFiles {
        files: packs.map(PathBuf::from).collect(),
    };
    given.retain(|word| !word.starts_with("image=") && !word.starts_with("pack="));
    words.append(&mut given);
    let image = ImageAt {
        image: args.source.clone(),
        at,
    };
    if args.fake {
        Ok(ExitCode::SUCCESS)
    } else {
        in_background(&image, &packs, &args.dir, &words)
    }
}

/// What `mount.daxfs` must do.
enum Task {
    /// Change the options of a mount, whose image stays in its memory
    Remount,
    /// Mount an image file
    File,
    /// Mount an image of the store in a directory
    Store,
    /// Mount an image on a device, which may have a store, or in memory that options name
    Device,
}

/// Runs `mount.daxfs`, which mount(8) calls: loads an image file into a memfd and mounts it, mounts
/// an image of a store, attaches packs, or passes everything else back to mount(8).
pub fn helper(args: &Helper) -> Result<()> {
    let mut words = args.words();
    let task = match &args.source {
        _ if words.iter().any(|word| word == "remount") => Task::Remount,
        source if source.is_file() => Task::File,
        source if source.is_dir() => Task::Store,
        _ => Task::Device,
    };
    let is_loading = words.iter().any(|word| word.starts_with("load="));
    if is_loading && matches!(task, Task::File | Task::Device) {
        let why = "has no packs to load on demand; leave load= out, or mount an image of a store in a directory";
        return Err(Error::refused(shown_path(&args.source), why));
    }
    match task {
        Task::File if args.fake => return Ok(()),
        Task::File => return load_on(&args.source, &args.dir, Kind::Memfd, &words),
        Task::Store => return from_store(args),
        Task::Remount => {
            let packs = MountOptions::parse(&words).packs;
            // mount(8) repeats the options in /proc/mounts and fstab. Without a name the image
            // stays, whichever is active.
            if value(&words, "image").is_some() && args.source.is_dir() {
                words.retain(|word| !word.starts_with("image="));
            } else if value(&words, "image").is_some() {
                let is_place =
                    |word: &str| word.starts_with("fsoffset=") || word.starts_with("fslength=");
                words.retain(|word| !is_place(word));
                Chosen::find(&args.source, &mut words)?;
            }
            words.retain(|word| word != "load=demand");
            // The kernel does not accept places again.
            let is_given = |pack: &str| !is_for_kernel(pack) || pack.contains(':');
            words.retain(|word| !word.strip_prefix("pack=").is_some_and(is_given));
            if !args.fake && !packs.is_empty() {
                attach(&args.dir, &packs)?;
            }
        }
        Task::Device => {
            // With phys=, the source is an arbitrary word.
            let missing = args.source.symlink_metadata().err();
            match missing.filter(|error| error.kind() == ErrorKind::NotFound) {
                Some(error) if value(&words, "phys").is_none() => {
                    return Err(cannot_open(&shown_path(&args.source), error));
                }
                _ => {}
            }
            let chosen = Chosen::find(&args.source, &mut words)?;
            let packs = match chosen {
                Some(_) => Packs::default(),
                None => Packs::of_device(&args.source, &words),
            };
            if args.fake && args.verbose {
                written(writeln!(Out::open(), "{}", words.join(",")))?;
            }
            if chosen.is_some() || !packs.is_empty() {
                if args.fake {
                    return Ok(());
                }
                return mount_on_device(&args.source, chosen, &packs, &args.dir, &words);
            }
        }
    }
    Err(pass_on(args, "daxfs", &words))
}

/// Starts a background server that loads packs of the store in `dir` on demand.
fn start_server(dir: &Path) -> Result<()> {
    let arguments = ["store", "serve", "--ready", "--"].map(OsString::from);
    if !start(&[&arguments[..], &[dir.into()]].concat(), Stdio::null())? {
        let why = "its server (daxfs store serve) did not start; its error is above";
        return Err(Error::refused(shown_path(dir), why));
    }
    Ok(())
}

/// Mounts the store's image from the option `image=`, or the active one.
fn from_store(args: &Helper) -> Result<()> {
    let mut demands = Demands::default();
    let mut image = None;
    for word in args.words() {
        match word.split_once('=') {
            Some(("image", name)) => image = Some(name.to_owned()),
            Some(("digest", digest)) => {
                let refuse = |why| Error::refused(format!("digest={digest}"), why);
                demands.digest = Some(sha256(digest).map_err(refuse)?);
            }
            Some(("signature", "required")) => demands.signed = true,
            Some(("load", "demand")) => demands.on_demand = Some(start_server),
            _ => demands.options.push(word),
        }
    }
    let store = Store::open(&args.source)?;
    let active = image.map_or_else(|| store.active(), |image| Ok(Some(image)));
    let Some(image) = active? else {
        let why =
            "has no active image; name one with image=, or activate one (daxfs store activate)";
        return Err(Error::refused(shown_path(&args.source), why));
    };
    if args.fake {
        return Ok(());
    }
    let loaded = daxfs_store::mount(&store, &image, &args.dir, &demands, &|_| Ok(()))?;
    if args.verbose {
        let (images, bytes, shared) = (loaded.images, human(loaded.bytes), loaded.shared);
        let text = format!("{image}: loaded {images} images ({bytes}), {shared} were in memory");
        written(writeln!(Out::open(), "{text}"))?;
    }
    Ok(())
}

/// Runs mount(8) for the filesystem type `kind` without a helper. Returns only on failure.
fn pass_on(args: &Helper, kind: &str, words: &[String]) -> Error {
    let mut mount = std::process::Command::new("mount");
    mount.arg("-i");
    for (given, flag) in [(args.fake, "-f"), (args.verbose, "-v")] {
        if given {
            mount.arg(flag);
        }
    }
    // From other users, mount(8) accepts only a mount point in fstab.
    if geteuid().is_root() {
        mount.args(["-t", kind]);
        if !words.is_empty() {
            mount.arg("-o").arg(words.join(","));
        }
        mount.arg(&args.source);
    }
    Error::system("", "cannot run mount", "", mount.arg(&args.dir).exec())
}
