// SPDX-License-Identifier: GPL-2.0-only

//! The commands.

use crate::buffer::Kind;
use crate::diff::{diff, Directory, Ignore};
use crate::error::{Error, Result};
use crate::extract::{self, to_directory, to_tar};
use crate::image::ImageFile;
use crate::options::{Args, Aspect, Command, FsckArgs, HelperArgs};
use crate::reader::Reader;
use crate::show::{self, Form, Listing};
use crate::source::{Opened, Source};
use crate::text::shown_path;
use crate::{fsck, fuse, mount};
use clap::Parser;
use daxfs_command::signals::Interrupt;
use daxfs_command::stdout::{self, written, Out};
use daxfs_command::usage;
use daxfs_writer::Overwrite;
use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
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
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default();
    if name == "mount.daxfs" {
        let args = match HelperArgs::try_parse() {
            Ok(args) => args,
            Err(error) => return usage("daxfs", &error, MOUNT_USAGE),
        };
        return match helper(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("mount.daxfs: {why}");
                ExitCode::from(MOUNT_FAILED)
            }
        };
    }
    if name == "fsck.daxfs" {
        return match FsckArgs::try_parse_from(FsckArgs::normalize(std::env::args_os())) {
            Ok(args) => fsck_helper(&args),
            Err(error) => usage("daxfs", &error, fsck::USAGE),
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
    let options = fsck::Options {
        verbose: args.verbose,
        quiet: false,
        progress: args.progress,
    };
    ExitCode::from(status | fsck::fsck(&args.images, options))
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Info { image, json, udev } => {
            let form = match (json, udev) {
                (true, _) => Form::Json,
                (_, true) => Form::Udev,
                _ => Form::Text,
            };
            on_image(&image, |reader, out| show::info(reader, form, out))
        }
        Command::Ls {
            image,
            path,
            long,
            human_readable,
            recursive,
            directory,
            inode,
            zero,
            help: _,
        } => on_image(&image, |reader, out| {
            let options = Listing {
                long,
                human: human_readable,
                recursive,
                directory,
                inode,
                zero,
                terminal: out.terminal && !zero,
            };
            show::ls(reader, path.as_bytes(), options, out)
        }),
        Command::Cat { image, paths } => on_image(&image, |reader, out| {
            let mut paths = paths.iter();
            paths.try_for_each(|path| show::cat(reader, path.as_bytes(), out))
        }),
        Command::Stat {
            image,
            paths,
            follow,
            json,
        } => on_image(&image, |reader, out| {
            let mut paths = paths.iter();
            paths.try_for_each(|path| show::stat(reader, path.as_bytes(), follow, json, out))
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
            ignore,
            quiet,
        } => compare(&first, &second, &ignore, quiet),
        Command::Fsck { repair: true, .. } => {
            eprintln!(
                "daxfs: images cannot be repaired, because they have no redundancy; \
                 restore the image from a copy, or make it again"
            );
            Ok(ExitCode::from(fsck::USAGE))
        }
        Command::Fsck {
            images,
            verbose,
            quiet,
            ..
        } => {
            let options = fsck::Options {
                verbose,
                quiet,
                progress: None,
            };
            Ok(ExitCode::from(fsck::fsck(&images, options)))
        }
        Command::Digest { image } => {
            let sum = fsck::sum(&image)?;
            let mut out = Out::open();
            written(writeln!(out, "{sum}"))?;
            out.finish()?;
            Ok(ExitCode::SUCCESS)
        }
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
        } => {
            let options = fuse::Options {
                image: &image,
                dir: &dir,
                words: &options,
                ready,
            };
            fuse::serve(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Load {
            image,
            dir,
            into,
            options,
        } => load(&image, &dir, into, &options).map(|()| ExitCode::SUCCESS),
        Command::Write {
            image,
            device,
            force,
        } => {
            ImageFile::open(&image)?.write(&device, force)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Open `image` and call `action`, which writes to standard output.
fn on_image(
    image: &Path,
    action: impl FnOnce(&Reader<'_, Source>, &mut Out) -> Result<()>,
) -> Result<ExitCode> {
    let image = Opened::open(image)?;
    let mut out = Out::open();
    let done = action(&image.reader(), &mut out);
    // Output before an error is useful, too.
    let finished = out.finish();
    done?;
    finished?;
    Ok(ExitCode::SUCCESS)
}

/// What to unpack to.
struct Target<'a> {
    path: &'a Path,
    /// A tar archive rather than a directory.
    tar: bool,
    /// Replace an archive that exists.
    force: bool,
    /// Restore owners.
    owner: bool,
}

fn unpack(path: &Path, target: &Target<'_>, start: &OsStr) -> Result<ExitCode> {
    let image = Opened::open(path)?;
    let reader = image.reader();
    let start = reader.find(start.as_bytes(), true)?;
    let interrupt =
        Interrupt::new().map_err(|error| Error::system("", "cannot handle signals", "", error))?;
    let done = if target.tar {
        let mut overwrite = Overwrite::new(target.force);
        overwrite.input(path);
        archive(&reader, &start, target.path, &overwrite, &interrupt)
    } else {
        if target.owner {
            let remedy = "let tar set them: daxfs extract --tar IMAGE - | \
                          tar --xattrs --xattrs-include='*' -C DIRECTORY -xp; or give --no-same-owner";
            daxfs_input::fakeroot::check(target.path, remedy)?;
        }
        let options = extract::Options {
            owner: target.owner && rustix::process::geteuid().is_root(),
        };
        to_directory(&reader, &start, target.path, options, &interrupt)
    };
    interrupt.obey();
    for line in done?.lines() {
        eprintln!("daxfs: warning: {line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Write a tar archive: to standard output, to a file that appears when it is complete, or to a
/// device.
fn archive(
    reader: &Reader<'_, Source>,
    start: &daxfs_reader::Inode,
    target: &Path,
    overwrite: &Overwrite,
    interrupt: &Interrupt,
) -> Result<extract::Losses> {
    if target.as_os_str() == "-" {
        let mut out = Out::open();
        if out.terminal {
            let why = "is a terminal; name a file, or pipe the archive on";
            return Err(Error::refused("standard output", why));
        }
        let failed = |error| stdout::Error::new(error).into();
        let losses = to_tar(reader, start, &mut out, &failed, interrupt)?;
        out.finish()?;
        return Ok(losses);
    }
    let name = shown_path(target);
    let failed = |error: std::io::Error| extract::unwritten(&name, error);
    if target.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let why = "is not a regular file; name a file, or - and redirect";
        return Err(Error::refused(name, why));
    }
    let free = || match target.exists() {
        true => overwrite.check_new(target),
        false => Ok(()),
    };
    free()?;
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".daxfs-")
        .suffix(".tmp")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(|error| failed(extract::plain(error)))?;
    let mut out = BufWriter::with_capacity(256 << 10, file.as_file_mut());
    let losses = to_tar(reader, start, &mut out, &failed, interrupt)?;
    drop(out);
    interrupt.check()?;
    file.as_file().sync_all().map_err(failed)?;
    free()?;
    file.persist(target).map_err(|error| failed(error.error))?;
    Ok(losses)
}

fn compare(first: &Path, second: &Path, aspects: &[Aspect], quiet: bool) -> Result<ExitCode> {
    let ignore = Ignore {
        owner: aspects.contains(&Aspect::Owner),
        mode: aspects.contains(&Aspect::Mode),
        time: aspects.contains(&Aspect::Time),
        xattrs: aspects.contains(&Aspect::Xattrs),
        links: aspects.contains(&Aspect::Links),
    };
    if !ignore.owner {
        for directory in [first, second].into_iter().filter(|path| path.is_dir()) {
            let remedy = "run it without fakeroot, or with --ignore owner";
            daxfs_input::fakeroot::check(directory, remedy)?;
        }
    }
    let mut out = Out::open();
    let mut nowhere = std::io::sink();
    let sink: &mut dyn Write = if quiet { &mut nowhere } else { &mut out };
    let differ = match (first.is_dir(), second.is_dir()) {
        (true, true) => {
            let why = "both are directories; diff -r compares those";
            return Err(Error::refused(shown_path(first), why));
        }
        (true, false) => {
            let image = Opened::open(second)?;
            pair(&Directory(first.into()), &image.reader(), ignore, sink)
        }
        (false, true) => {
            let image = Opened::open(first)?;
            pair(&image.reader(), &Directory(second.into()), ignore, sink)
        }
        (false, false) => {
            let (first, second) = (Opened::open(first)?, Opened::open(second)?);
            pair(&first.reader(), &second.reader(), ignore, sink)
        }
    };
    let finished = out.finish();
    let differ = differ?;
    finished?;
    Ok(ExitCode::from(u8::from(differ)))
}

fn pair<A: crate::diff::Side, B: crate::diff::Side>(
    a: &A,
    b: &B,
    ignore: Ignore,
    mut out: &mut dyn Write,
) -> Result<bool> {
    diff(a, b, ignore, &Interrupt::none(), &mut out)
}

/// Load `image` into memory and mount it on `dir`.
fn load(image: &Path, dir: &Path, kind: Kind, words: &[String]) -> Result<()> {
    let options = mount::Options::parse(words);
    let image = ImageFile::open(image)?;
    let buffer = kind.make(&image)?;
    mount::mount(&image.path, &buffer, dir, &options)
}

/// Run `mount.daxfs`, which mount(8) calls: load an image file into a memfd and mount it, or pass
/// anything else back to mount(8).
fn helper(args: &HelperArgs) -> Result<()> {
    // The image of a remount stays in its memory.
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
    Err(Error::system("", "cannot run mount", "", error))
}
