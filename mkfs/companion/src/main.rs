// SPDX-License-Identifier: GPL-2.0

//! `daxfs`: puts an image into memory and mounts it there. Called as `mount.daxfs` it is what mount(8) looks for.

mod buffer;
mod image;
mod mount;
mod options;

use buffer::Kind;
use clap::Parser;
use image::ImageFile;
use options::{Args, Command, HelperArgs};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

/// What went wrong, in one line.
type Result<T> = std::result::Result<T, String>;

/// mount(8)'s exit status for a failed mount.
const MOUNT_FAILED: u8 = 32;

/// Puts `image` into memory and mounts it on `dir`.
fn load(image: &Path, dir: &Path, kind: Kind, words: &[String]) -> Result<()> {
    let options = mount::Options::parse(words);
    let image = ImageFile::open(image)?;
    let buffer = kind.make(&image)?;
    mount::mount(&image.path, &buffer, dir, &options)
}

/// Writes `image` to `device`.
fn write(image: &Path, device: &Path) -> Result<()> {
    let image = ImageFile::open(image)?;
    buffer::write_device(&image, device)
}

/// What mount(8) calls as `mount.daxfs`: a new mount of an image file goes into a memfd, everything else back to
/// mount(8).
fn helper(args: &HelperArgs) -> Result<()> {
    // A file that is mounted already stays where it is.
    let remount = args.words().iter().any(|word| word == "remount");
    if args.source.is_file() && !remount {
        if args.fake {
            return Ok(());
        }
        return load(&args.source, &args.dir, Kind::Memfd, &args.words());
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
    if !args.words().is_empty() {
        mount.arg("-o").arg(args.words().join(","));
    }
    let error = mount.arg(&args.source).arg(&args.dir).exec();
    Err(format!("cannot run mount: {error}"))
}

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let is_helper = Path::new(&name)
        .file_name()
        .is_some_and(|name| name == "mount.daxfs");
    let (name, result) = if is_helper {
        ("mount.daxfs", helper(&HelperArgs::parse()))
    } else {
        let result = match Args::parse().command {
            Command::Load {
                image,
                dir,
                into,
                options,
            } => load(&image, &dir, into, &options),
            Command::Write { image, device } => write(&image, &device),
        };
        ("daxfs", result)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{name}: {why}");
            if is_helper {
                ExitCode::from(MOUNT_FAILED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
