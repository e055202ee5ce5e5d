// SPDX-License-Identifier: GPL-2.0-only

//! `share`: print QEMU's arguments, or run it.

use crate::options::ShareArgs;
use crate::share::{self, Backing};
use crate::show;
use daxfs_command::stdout::{say, written, Out};
use daxfs_image::error::{Error, Result};
use daxfs_image::handle_signals;
use daxfs_image::text::shown_path;
use daxfs_load::file::ImageFile;
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Share an image as `args` say.
///
/// Fail if the image does not suit the device, if a copy does not fit, or if the
/// command cannot be run.
pub fn share(args: &ShareArgs) -> Result<ExitCode> {
    let guest = share::mount(args.number);
    let program = args.command.first();
    if args.guest {
        say(&guest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let backing = match (&args.copy, args.into) {
        (Some(dir), _) => {
            let image = ImageFile::open(&args.image)?;
            let interrupt = handle_signals()?;
            let backing = Backing::copy(&image, args.device, dir, &interrupt);
            // Before the command runs or anything is printed.
            interrupt.finish();
            backing?
        }
        (None, Some(kind)) => Backing::sealed(&ImageFile::open(&args.image)?, args.device, kind)?,
        (None, None) if args.image.as_os_str() == "-" => {
            let why = "has no path for a hypervisor; use --copy DIR or --into memfd";
            return Err(Error::refused("standard input", why));
        }
        (None, None) => Backing::in_place(&args.image, args.device)?,
    };
    let arguments = share::arguments(args.device, args.number, &backing);
    if let Some(program) = program {
        let mut command = Command::new(program);
        let error = command.args(&args.command[1..]).args(&arguments).exec();
        let name = program.to_string_lossy();
        return Err(Error::system(
            name,
            "cannot run it",
            "; check the path",
            error,
        ));
    }
    let mut out = Out::open();
    if args.json {
        let value = json!({
            "schema": "daxfs-share-1",
            "device": share::name(&args.device),
            "file": backing.path,
            "size": backing.size,
            "arguments": arguments,
            "guest": [guest],
        });
        written(show::pretty(&mut out, &value))?;
    } else if args.libvirt {
        if arguments.iter().any(|word| word.contains(char::is_control)) {
            let why = "XML cannot have control characters; rename the image";
            return Err(Error::refused(shown_path(&args.image), why));
        }
        say(&share::libvirt(&arguments))?;
    } else {
        say(&share::words(&arguments))?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}
