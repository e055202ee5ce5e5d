// SPDX-License-Identifier: GPL-2.0-only

//! `load`, `mount` and `umount`, and `mount.daxfs`, which mount(8) calls.

use crate::buffer::Kind;
use crate::catalog::Chosen;
use crate::error::{Error, Result};
use crate::image::ImageFile;
use crate::mount::{self, Memory, Options, Target};
use crate::options::HelperArgs;
use crate::source::cannot_open;
use crate::text::shown_path;
use daxfs_command::stdout::{written, Out};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Load the image file `image` into memory of this kind and mount it on `dir`. `words` are mount
/// options, such as `nosuid` and `check=none`.
///
/// # Errors
///
/// If it is no image, if there is not enough memory, or if it cannot be mounted.
pub fn load(image: &Path, dir: &Path, kind: Kind, words: &[String]) -> Result<()> {
    let options = Options::parse(words);
    let image = ImageFile::open(image)?;
    // What is wrong with the place is said before the image is copied.
    let target = Target::new(dir)?;
    let buffer = kind.make(&image)?;
    mount::mount(&image.path, Memory::Buffer(&buffer), target, &options)
}

/// Mount the image file or the device `image` on `dir`.
///
/// # Errors
///
/// As for [`load`].
pub fn mount(image: &Path, dir: &Path, words: &[String]) -> Result<()> {
    let name = || shown_path(image);
    let status = image.metadata();
    let status = status.map_err(|error| cannot_open(&name(), error))?;
    if status.is_dir() {
        let why =
            "is a directory; name an image file or a device (the directory to mount on is last)";
        return Err(Error::refused(name(), why));
    }
    if status.is_file() {
        return load(image, dir, Kind::Memfd, words);
    }
    let mut words = words.to_vec();
    let memory = Chosen::find(image, &mut words)?.map_or(Memory::Device, Memory::Part);
    mount::mount(image, memory, Target::new(dir)?, &Options::parse(&words))
}

/// Run `mount.daxfs`, which mount(8) calls: load an image file into a memfd and mount it, mount an image
/// of a catalogue, or pass anything else back to mount(8).
///
/// # Errors
///
/// As for [`load`].
pub fn helper(args: &HelperArgs) -> Result<()> {
    // The image of a remount stays in its memory.
    let remount = args.words().iter().any(|word| word == "remount");
    if args.source.is_file() && !remount {
        if args.fake {
            return Ok(());
        }
        return load(&args.source, &args.dir, Kind::Memfd, &args.words());
    }
    let mut words = args.words();
    let named = words.iter().any(|word| word.starts_with("image="));
    if remount && named {
        // mount(8) repeats what /proc/mounts shows.
        words.retain(|word| !word.starts_with("fsoffset=") && !word.starts_with("fslength="));
    }
    // A remount without a name keeps the image, whichever one is active now.
    let chosen = match remount && !named {
        true => None,
        false => Chosen::find(&args.source, &mut words)?,
    };
    if args.fake && args.verbose {
        written(writeln!(Out::open(), "{}", words.join(",")))?;
    }
    match chosen {
        Some(_) if args.fake && !remount => return Ok(()),
        Some(chosen) if !remount => {
            let memory = Memory::Part(chosen);
            let target = Target::new(&args.dir)?;
            return mount::mount(&args.source, memory, target, &Options::parse(&words));
        }
        _ => {}
    }
    // -i: without a helper.
    let mut mount = std::process::Command::new("mount");
    mount.args(["-i", "-t", "daxfs"]);
    for (given, flag) in [
        (args.fake, "-f"),
        (args.no_mtab, "-n"),
        (args.verbose, "-v"),
    ] {
        if given {
            mount.arg(flag);
        }
    }
    if !words.is_empty() {
        mount.arg("-o").arg(words.join(","));
    }
    let error = mount.arg(&args.source).arg(&args.dir).exec();
    Err(Error::system("", "cannot run mount", "", error))
}
