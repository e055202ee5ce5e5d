// SPDX-License-Identifier: GPL-2.0-only

//! The commands.

mod catalog;
mod extract;
mod mount;
mod share;
mod store;

use crate::diff::{diff, Aspect};
use crate::options::{Args, Command, FsckArgs, HelperArgs, ImageAt, Into};
use crate::top::top;
use crate::{fsck, fuse, mounted, show};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use daxfs_files::digest::hex;
use daxfs_files::signals::survive_limits;
use daxfs_files::stdout::{written, Out};
use daxfs_files::usage;
use daxfs_image::error::{Error, Result};
use daxfs_image::reader::Reader;
use daxfs_image::sign::{sign, verify, By};
use daxfs_image::source::{At, Opened, Source};
use daxfs_image::text::shown;
use daxfs_load::range;
use extract::{unpack, Target};
use mount::{fuse_helper, helper};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// mount(8)'s exit status for a failed mount.
const MOUNT_FAILED: u8 = 32;

/// mount(8)'s exit status for wrong usage.
const MOUNT_USAGE: u8 = 1;

/// Exit status for wrong usage.
const USAGE: u8 = 2;

/// Exit status of `diff` for trouble.
const TROUBLE: u8 = 2;

/// Run the program under the name by which it was called.
pub fn main() -> ExitCode {
    daxfs_image::warning::send_to(|warning| eprintln!("daxfs: warning: {warning}"));
    survive_limits();
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default();
    if name == "mount.daxfs" || name == "mount.fuse.daxfs" {
        let args = match HelperArgs::try_parse() {
            Ok(args) => args,
            Err(error) => return usage("mount.daxfs", &error, MOUNT_USAGE),
        };
        let done = match name == "mount.daxfs" {
            true => helper(&args).map(|()| ExitCode::SUCCESS),
            false => fuse_helper(&args),
        };
        return match done {
            Ok(status) if status == ExitCode::FAILURE => ExitCode::from(MOUNT_FAILED),
            Ok(status) => status,
            Err(why) => {
                eprintln!("mount.daxfs: {why}");
                ExitCode::from(MOUNT_FAILED)
            }
        };
    }
    if name == "fsck.daxfs" {
        return match FsckArgs::try_parse() {
            Ok(args) => fsck_helper(&args),
            Err(error) => usage("fsck.daxfs", &error, fsck::USAGE),
        };
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let fsck = std::env::args_os()
                .nth(1)
                .is_some_and(|word| word == "fsck");
            return usage("daxfs", &error, if fsck { fsck::USAGE } else { USAGE });
        }
    };
    let trouble = if matches!(args.command, Command::Diff { .. }) {
        TROUBLE
    } else {
        1
    };
    match run(args.command) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("daxfs: {why}");
            ExitCode::from(trouble)
        }
    }
}

fn fsck_helper(args: &FsckArgs) -> ExitCode {
    let mut status = 0;
    if args.version {
        status |= fsck::say(concat!("fsck.daxfs ", env!("CARGO_PKG_VERSION")));
    }
    let options = fsck::FsckOptions::default();
    ExitCode::from(status | fsck::fsck(&args.images, &At::default(), options))
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Info { image, json, udev } => {
            let form = match (json, udev) {
                (true, _) => show::Form::Json,
                (_, true) => show::Form::Udev,
                _ => show::Form::Text,
            };
            on_image(&image, |reader, out| show::info(reader, form, out))
        }
        Command::Ls {
            image,
            path,
            mut listing,
            help: _,
        } => on_image(&image, |reader, out| {
            listing.terminal = out.terminal && !listing.zero;
            show::ls(reader, path.as_bytes(), listing, out)
        }),
        Command::Cat { image, paths } => on_image(&image, |reader, out| {
            let mut paths = paths.iter();
            paths.try_for_each(|path| show::cat(reader, path.as_bytes(), out))
        }),
        Command::Locate { files } => {
            let places = files.iter().map(|file| mounted::place(file));
            print(&places.collect::<Result<Vec<_>>>()?.join("\n"))
        }
        Command::Stat {
            image,
            paths,
            follow,
        } => on_image(&image, |reader, out| {
            let mut paths = paths.iter();
            paths.try_for_each(|path| show::stat(reader, path.as_bytes(), follow, out))
        }),
        Command::Dump { image, sums } => {
            on_image(&image, |reader, out| show::dump(reader, sums, out))
        }
        Command::Extract {
            image,
            target,
            tar,
            force,
            path,
            no_same_owner,
        } => {
            let target = Target {
                path: &target,
                tar,
                force,
                owner: !no_same_owner,
            };
            unpack(&image, &target, &path)
        }
        Command::Diff {
            first,
            second,
            offset,
            names,
            ignore,
            quiet,
        } => {
            let places = places(&offset, &names);
            compare(&first, &second, places, &ignore, quiet)
        }
        Command::Fsck {
            images,
            at,
            options,
        } => Ok(ExitCode::from(fsck::fsck(&images, &at, options))),
        Command::Digest { image } => print(&hex(&image.open()?.digest()?)),
        Command::Sign {
            image,
            key,
            cert,
            chain,
            attach,
            expires,
        } => {
            let by = match (&attach, expires, &key, &cert) {
                (Some(file), Some(expires), ..) => By::Message(file, expires),
                (None, _, Some(key), Some(cert)) => By::Key(key, cert, &chain, expires),
                // The options require one another.
                _ => return Ok(ExitCode::from(USAGE)),
            };
            print(&sign(&image, by)?)
        }
        Command::Verify { image, cert } => print(&verify(&image.image, &image.at, &cert)?),
        Command::Fuse {
            image,
            dir,
            foreground: false,
            options,
            ready: false,
        } => fuse::in_background(&image, &dir, &options),
        Command::Fuse {
            image,
            dir,
            options,
            ready,
            ..
        } => fuse::serve(&image, &dir, &options, ready).map(|()| ExitCode::SUCCESS),
        Command::Load {
            image,
            dir,
            into,
            force,
            options,
        } => match (into, dir) {
            (Into::Kind(kind), Some(dir)) if !force => {
                daxfs_load::load(&image, &dir, kind, &options).map(|()| ExitCode::SUCCESS)
            }
            (Into::Range(range), None) if options.is_empty() => {
                print(&range::write(&image, range, force)?)
            }
            (Into::Kind(_), _) => wrong_usage("name the mount point; only phys= takes --force"),
            (Into::Range(_), _) => {
                wrong_usage("phys= is not mounted, and takes no mount point or options")
            }
        },
        Command::Share(args) => share::share(&args),
        Command::Top { prometheus } => top(prometheus).map(|()| ExitCode::SUCCESS),
        Command::Store(command) => store::run(command),
        Command::Catalog(command) => catalog::run(&command).map(|()| ExitCode::SUCCESS),
    }
}

/// Say `why` a command line is refused.
fn wrong_usage(why: &str) -> Result<ExitCode> {
    let error = Args::command().error(ErrorKind::ArgumentConflict, why);
    Ok(usage("daxfs", &error, USAGE))
}

/// Print a line.
pub fn print(line: &str) -> Result<ExitCode> {
    let mut out = Out::open();
    written(writeln!(out, "{line}"))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Open the image and call `action`, which writes to standard output.
fn on_image(
    image: &ImageAt,
    action: impl FnOnce(&Reader<'_, Source>, &mut Out) -> Result<()>,
) -> Result<ExitCode> {
    let image = image.open()?;
    let mut out = Out::open();
    let done = action(&image.reader(), &mut out);
    // Output before an error is useful, too.
    let finished = out.finish();
    done?;
    finished?;
    Ok(ExitCode::SUCCESS)
}

/// Return the places of the images that `diff` compares, in their order.
fn places(offsets: &[u64], names: &[String]) -> Vec<At> {
    let count = offsets.len().max(names.len());
    let places = (0..count).map(|index| At {
        offset: offsets.get(index).copied(),
        name: names.get(index).cloned(),
    });
    places.collect()
}

/// Compare the images `first` and `second` at `places`.
fn compare(
    first: &Path,
    second: &Path,
    places: Vec<At>,
    ignore: &[Aspect],
    quiet: bool,
) -> Result<ExitCode> {
    let mut places = places.into_iter();
    let mut open = |path| Opened::open_at(path, &places.next().unwrap_or_default());
    let (first, second) = (open(first)?, open(second)?);
    if places.next().is_some() {
        let why = "there are 2 images; give --offset or --image twice";
        return Err(Error::refused("", why));
    }
    let mut out = Out::open();
    let report = &mut |path: &[u8], text: &str| {
        if !quiet {
            written(writeln!(out, "{}: {text}", shown(path)))?;
        }
        Ok(())
    };
    let differ = diff(&first.reader(), &second.reader(), ignore, report);
    let finished = out.finish();
    let differ = differ?;
    finished?;
    Ok(ExitCode::from(u8::from(differ)))
}
