// SPDX-License-Identifier: GPL-2.0-only

//! `mkdaxfs`: makes daxfs images from directories, archives and container images.

use clap::error::ErrorKind;
use clap::Parser;
use daxfs_files::bar::Bar;
use daxfs_files::signals::{survive_limits, Cleanup};
use daxfs_files::stdout::{obey_pipe, or_pipe, say};
use daxfs_files::{eprintln, scratch, shown_path, usage, Error, Output, Overwrite, Progress};
use mkdaxfs::input::exclude::{pattern, Exclude};
use mkdaxfs::input::{self as input, Input};
use mkdaxfs::options::Args;
use mkdaxfs::writer::options::Options;
use mkdaxfs::writer::tree::Tree;
use mkdaxfs::writer::{make, measure};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Any error, for main to print.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Exit status: wrong usage.
const USAGE: u8 = 2;

/// Options for the content of the image.
struct Wishes {
    inputs: Vec<Input>,
    exclude: Option<Exclude>,
    /// Modification time of all files, or its maximum.
    mtime: Option<(i64, u32)>,
    options: Options,
}

impl Wishes {
    fn new(args: &Args) -> Result<Self> {
        let mut patterns = args.exclude.clone();
        for path in &args.exclude_from {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Error::io(path, "read the file", error))?;
            // Editors on other systems write a byte order mark.
            let lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines();
            for (number, line) in (1..).zip(lines) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                patterns.push(pattern(line).map_err(|why| {
                    let why = Error::refused(path, format!("line {number}: {why}"));
                    clap::Error::raw(ErrorKind::ValueValidation, why)
                })?);
            }
        }
        let exclude = Exclude::new(patterns)?;
        let time = args.time.map(|time| (time.0, time.1));
        let mut mtime = args.mtime.map(|time| (time.0, time.1));
        if args.clamp_mtime {
            mtime = mtime.or(time);
            if mtime.is_none() {
                let why = "--clamp-mtime needs a time; add --mtime or set SOURCE_DATE_EPOCH";
                return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, why).into());
            }
        }
        let padding = args.padding.next_multiple_of(args.block_size.into());
        let options = Options {
            block_size: args.block_size,
            label: args.label.clone(),
            uuid: args.uuid,
            time,
            dedupe: !args.no_dedupe,
            tails: args.tails,
            huge_threshold: args.huge_threshold,
            padding,
            sums: args.sums,
            ..Options::default()
        };
        Ok(Wishes {
            inputs: args.inputs.iter().map(|text| Input::parse(text)).collect(),
            exclude,
            mtime,
            options,
        })
    }

    /// Returns what the output may overwrite: with --force anything but the inputs.
    fn overwrite(&self, args: &Args) -> Overwrite {
        let mut overwrite = Overwrite::new(args.force);
        for input in &self.inputs {
            match input {
                Input::Oci(_) => overwrite.container(input.file()),
                // The scan of a directory refuses to overwrite an image inside it.
                _ => overwrite.content(input.file()),
            }
        }
        for file in &args.exclude_from {
            overwrite.input(file);
        }
        overwrite
    }

    /// Reads the inputs, with temporary files in `scratch`.
    fn read(
        &self,
        args: &Args,
        scratch: &Path,
        output: Option<&Output>,
        bar: &Bar,
    ) -> Result<Tree> {
        let options = input::Options {
            output: output.map(Output::directory).transpose()?.flatten(),
            one_file_system: args.one_file_system,
            dereference: args.dereference,
            ignore_zeros: args.ignore_zeros,
            exclude: self.exclude.as_ref(),
            scratch,
            platform: args.platform.clone(),
            progress: bar,
            warn: &|warning| bar.suspend(|| eprintln!("mkdaxfs: warning: {warning}")),
        };
        let mut tree = input::read(&self.inputs, &options)?;
        for node in &mut tree.nodes {
            let attributes = &mut node.attributes;
            if args.all_root {
                (attributes.uid, attributes.gid) = (0, 0);
            }
            attributes.uid = args.uid.unwrap_or(attributes.uid);
            attributes.gid = args.gid.unwrap_or(attributes.gid);
            attributes.mtime = match self.mtime {
                Some(mtime) if args.clamp_mtime => mtime.min(attributes.mtime),
                Some(mtime) => mtime,
                None => attributes.mtime,
            };
        }
        Ok(tree)
    }
}

/// Reports the size of the image without writing it.
fn dry_run(args: &Args, wishes: &Wishes, bar: &Bar) -> Result<()> {
    let tree = wishes.read(args, &scratch(Path::new("/tmp")), None, bar)?;
    let (size, inodes) = measure(&tree, &wishes.options, bar)?;
    bar.clear();
    let told = format!("would have {size} bytes, {inodes} inodes");
    tell(args, &told, false)
}

/// Prints a line about the image, on standard error if the image goes to standard output.
///
/// If standard output cannot be written, the image is complete nevertheless.
fn tell(args: &Args, told: &str, on_stdout: bool) -> Result<()> {
    let text = format!("{}: {told}", shown_path(&args.image));
    if args.quiet {
        return Ok(());
    }
    if on_stdout {
        // Errors have no other place to go.
        let _ = writeln!(std::io::stderr(), "{text}");
        return Ok(());
    }
    Ok(say(&text)?)
}

/// Builds the image. On failure, no file remains.
fn run(args: &Args, bar: &Bar) -> Result<()> {
    let start = Instant::now();
    let wishes = Wishes::new(args)?;
    if args.dry_run {
        return dry_run(args, &wishes, bar);
    }
    let image = or_pipe(&args.image).map_err(|error| Error::output(&args.image, "open", error))?;
    let cleanup =
        Cleanup::new().map_err(|error| Error::io(Path::new("mkdaxfs"), "handle signals", error))?;
    let output = cleanup.guard(|| Output::over(&image, wishes.overwrite(args)))?;
    let tree = wishes.read(args, &output.scratch(), Some(&output), bar)?;
    let summary = make(&tree, &wishes.options, &output, bar)?;
    bar.step("syncing", 0);
    let on_stdout = output.is_stdout();
    output.commit(bar)?;
    let told = format!(
        "{} bytes, {} inodes, {:.2} s, uuid {}, sha256 {}",
        summary.total_size,
        summary.inodes,
        start.elapsed().as_secs_f64(),
        summary.uuid,
        daxfs_files::digest::hex(&summary.digest),
    );
    bar.clear();
    tell(args, &told, on_stdout)?;
    cleanup.done();
    Ok(())
}

/// Prefixes operands that begin with a hyphen with `./`, because clap would treat them as options.
fn words(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut operands = false;
    arguments.map(move |word| match word.as_bytes() {
        [b'-', _, ..] if operands => [OsStr::new("./"), word.as_os_str()].into_iter().collect(),
        bytes => {
            operands |= bytes == b"--";
            word
        }
    })
}

fn main() -> ExitCode {
    survive_limits();
    let args = match Args::try_parse_from(words(std::env::args_os())) {
        Ok(args) => args,
        Err(error) => return usage("mkdaxfs", &error, USAGE),
    };
    let bar = Bar::new(args.quiet);
    let result = run(&args, &bar);
    bar.clear();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(error) = error.downcast_ref() {
                return usage("mkdaxfs", error, USAGE);
            }
            obey_pipe(&*error);
            eprintln!("mkdaxfs: {error}");
            ExitCode::FAILURE
        }
    }
}
