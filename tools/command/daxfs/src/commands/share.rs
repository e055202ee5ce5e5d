// SPDX-License-Identifier: GPL-2.0-only

//! `share`: print a hypervisor's arguments, or run it.

use crate::options::ShareArgs;
use crate::record::Versioned;
use crate::share::{self, Backing, Hypervisor};
use crate::show;
use daxfs_command::stdout::{say, written, Out};
use daxfs_image::error::{Error, Result};
use daxfs_image::handle_signals;
use daxfs_load::file::ImageFile;
use serde::Serialize;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Arguments and commands to share an image, as JSON.
#[derive(Serialize)]
struct Recipe<'a> {
    hypervisor: String,
    device: String,
    file: &'a str,
    size: u64,
    arguments: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a serde_json::Value>,
    guest: &'a [String],
}

/// Share an image as `args` say.
///
/// Fail if the image does not suit the device or the hypervisor, if a copy does not fit, or if the
/// command cannot be run.
pub fn share(args: &ShareArgs) -> Result<ExitCode> {
    let guest = share::commands(args.device, args.number);
    let program = args.command.first();
    let hypervisor = args
        .hypervisor
        .unwrap_or_else(|| program.map_or(Hypervisor::Qemu, |program| Hypervisor::of(program)));
    hypervisor.check(args.device)?;
    hypervisor.check_room(args.device, &args.command)?;
    if program.is_some() && hypervisor == Hypervisor::Firecracker {
        let why = "has no argument for this; run daxfs share without a command, \
                   and add what it prints to the configuration";
        return Err(Error::refused(share::name(&hypervisor), why));
    }
    let image = ImageFile::open(&args.image)?;
    if args.guest {
        say(&guest.join("\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let backing = match (&args.copy, args.into) {
        (Some(dir), _) => {
            let interrupt = handle_signals()?;
            let backing = Backing::copy(&image, args.device, hypervisor, dir, &interrupt);
            // Before the command runs or anything is printed.
            interrupt.finish();
            backing?
        }
        (None, Some(kind)) => Backing::sealed(&image, args.device, kind)?,
        (None, None) if args.image.as_os_str() == "-" => {
            let why = "has no path for a hypervisor; use --copy DIR or --into memfd";
            return Err(Error::refused("standard input", why));
        }
        (None, None) => Backing::in_place(&image, args.device, hypervisor)?,
    };
    let arguments = share::arguments(hypervisor, args.device, args.number, &backing);
    let config = share::config(hypervisor, args.number, &backing);
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
        let value = Recipe {
            hypervisor: share::name(&hypervisor),
            device: share::name(&args.device),
            file: &backing.path,
            size: backing.size,
            arguments: &arguments,
            config: config.as_ref(),
            guest: &guest,
        };
        let schema = "daxfs-share-1";
        written(show::pretty(&mut out, &Versioned { schema, value }))?;
    } else if let Some(config) = &config {
        written(show::pretty(&mut out, config))?;
    } else {
        say(&share::words(&arguments))?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}
