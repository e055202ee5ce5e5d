// SPDX-License-Identifier: GPL-2.0-only

//! `mount.daxfs`, which mount(8) calls.

use crate::options::HelperArgs;
use daxfs_command::stdout::{written, Out};
use daxfs_image::error::{Error, Result};
use daxfs_load::buffer::Kind;
use daxfs_load::catalog::Chosen;
use daxfs_load::mount::{attach, load, Memory, MountOptions, Target};
use std::io::Write;
use std::os::unix::process::CommandExt;

/// Run `mount.daxfs`, which mount(8) calls: load an image file into a memfd and mount it, mount an image
/// of a catalogue, or pass anything else back to mount(8).
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
            return attach(&args.source, memory, target, &MountOptions::parse(&words));
        }
        _ => {}
    }
    // -i: without a helper.
    let mut mount = std::process::Command::new("mount");
    mount.args(["-i", "-t", "daxfs"]);
    for (given, flag) in [(args.fake, "-f"), (args.verbose, "-v")] {
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
