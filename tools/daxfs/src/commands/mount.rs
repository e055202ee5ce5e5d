// SPDX-License-Identifier: GPL-2.0-only

//! `mount.daxfs` and `mount.fuse.daxfs`, which mount(8) calls.

use super::common::ImageAt;
use super::fuse::in_background;
use clap::{ArgAction, Parser};
use daxfs_files::stdout::{written, Out};
use daxfs_files::values::sha256;
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::PackFiles;
use daxfs_image::source::At;
use daxfs_image::text::{human, shown_path};
use daxfs_load::buffer::Kind;
use daxfs_load::catalog::{value, Chosen};
use daxfs_load::mount::{examine, load_on, place, MountOptions, MountSource, Mounting};
use daxfs_store::{mount_packs, Demands, Store};
use rustix::process::geteuid;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Mount a daxfs image; called by mount(8)
///
/// An image file is loaded into a sealed memfd first, as daxfs load does. Of a store, the image of the option image=NAME is
/// mounted, or the active one, and the packs of it that are not in memory are loaded. Everything else is passed back to mount(8).
/// With the type fuse.daxfs (mount.fuse.daxfs), the image is served as by daxfs fuse, with its
/// options and the packs in the files that pack=FILE names, once for each; what root mounts is for
/// all users then.
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
  mount -t daxfs -o image=base-2 /srv/store /mnt"
)]
pub struct Helper {
    /// An image file, a device or a store
    source: PathBuf,
    /// The mount point
    dir: PathBuf,
    /// Mount options
    #[arg(short, value_delimiter = ',')]
    options: Vec<String>,
    /// Ignored, like -w, -s and -n: mounts are always read-only, unknown options always refused, and /etc/mtab not written
    #[arg(short = 'r', short_aliases = ['w', 's', 'n'], action = ArgAction::Count)]
    ignored: u8,
    /// Do everything but mount
    #[arg(short)]
    fake: bool,
    /// Say more; with -f, print the options for the kernel
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

/// Runs `mount.fuse.daxfs`, which mount(8) calls: serve an image through FUSE, in the background. As with other
/// filesystems, what root mounts is for all users, with devices and set-user-ID bits.
pub fn fuse_helper(args: &Helper) -> Result<ExitCode> {
    let (mut given, mut words) = (args.words(), Vec::new());
    if given.iter().any(|word| word == "remount") {
        // FUSE takes none of its own options again, which mount(8) repeats.
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
    match args.fake {
        true => Ok(ExitCode::SUCCESS),
        false => in_background(&image, &packs, &args.dir, &words),
    }
}

/// Runs `mount.daxfs`, which mount(8) calls: loads an image file into a memfd and mounts it, mounts an image
/// of a store, or passes anything else back to mount(8).
pub fn helper(args: &Helper) -> Result<()> {
    // The image of a remount stays in its memory.
    let remount = args.words().iter().any(|word| word == "remount");
    if args.source.is_file() && !remount {
        if args.fake {
            return Ok(());
        }
        return load_on(&args.source, &args.dir, Kind::Memfd, &args.words());
    }
    if args.source.is_dir() && !remount {
        return from_store(args);
    }
    let mut words = args.words();
    let named = words.iter().any(|word| word.starts_with("image="));
    let is_store = args.source.is_dir();
    if remount && named {
        // mount(8) repeats what /proc/mounts shows, and fstab has.
        let again: &[&str] = match is_store {
            true => &["image="],
            false => &["fsoffset=", "fslength="],
        };
        words.retain(|word| !again.iter().any(|start| word.starts_with(start)));
    }
    // A remount without a name keeps the image, whichever one is active now.
    let chosen = match remount && !named || is_store {
        true => None,
        false => Chosen::find(&args.source, &mut words)?,
    };
    if args.fake && args.verbose {
        written(writeln!(Out::open(), "{}", words.join(",")))?;
    }
    match chosen {
        Some(_) if args.fake && !remount => return Ok(()),
        Some(chosen) if !remount => {
            // They stay while the image does.
            let _packs = match value(&words, "phys") {
                None => {
                    let proves =
                        |word: &String| word.starts_with("digest=") || word == "signature=required";
                    mount_packs(&args.source, chosen.offset(), words.iter().any(proves))?
                }
                // Nothing but the kernel can read them.
                Some(_) => Vec::new(),
            };
            examine(&args.dir)?;
            let (memory, options) = (MountSource::Part(chosen), MountOptions::parse(&words));
            let mount = Mounting::new()?.make(&args.source, memory, &options)?;
            return place(mount.as_fd(), &args.dir);
        }
        _ => {}
    }
    Err(pass_on(args, "daxfs", &words))
}

/// Mounts the image of a store that the option `image=` names, or the active one.
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

/// Runs mount(8) without a helper for the filesystem type `kind`. Returns only if that fails.
fn pass_on(args: &Helper, kind: &str, words: &[String]) -> Error {
    let mut mount = std::process::Command::new("mount");
    mount.arg("-i");
    for (given, flag) in [(args.fake, "-f"), (args.verbose, "-v")] {
        if given {
            mount.arg(flag);
        }
    }
    // Of other users mount(8) takes a mount point in fstab, and nothing else.
    if geteuid().is_root() {
        mount.args(["-t", kind]);
        if !words.is_empty() {
            mount.arg("-o").arg(words.join(","));
        }
        mount.arg(&args.source);
    }
    Error::system("", "cannot run mount", "", mount.arg(&args.dir).exec())
}
