// SPDX-License-Identifier: GPL-2.0-only

//! `share`: print QEMU's arguments, or run it.

use crate::options::ShareArgs;
use crate::share::{arguments, words};
use daxfs_files::stdout::say;
use daxfs_image::error::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Share an image as `args` say.
///
/// Fail if the image does not suit the device, or if the command cannot be run.
pub fn share(args: &ShareArgs) -> Result<ExitCode> {
    let arguments = arguments(&args.image, args.number)?;
    if let Some(program) = args.command.first() {
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
    say(&words(&arguments))?;
    Ok(ExitCode::SUCCESS)
}
