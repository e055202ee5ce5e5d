// SPDX-License-Identifier: GPL-2.0

//! `mkdaxfs`: makes a daxfs image of a directory.

mod bar;
mod interrupt;
mod options;

use bar::Bar;
use clap::Parser;
use daxfs::write::Options;
use daxfs::{make, scan, Output, Progress, Summary};
use interrupt::Cleanup;
use options::Args;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Makes the image; nothing is left of it if that fails.
fn run(args: &Args, bar: &Bar) -> daxfs::Result<Summary> {
    let cleanup = Cleanup::new()?;
    let output = cleanup.guard(|| Output::create(&args.image))?;
    bar.step("scanning", 0);
    let tree = scan::scan(&args.dir, Some(output.directory()?), |warning| {
        bar.suspend(|| eprintln!("mkdaxfs: warning: {warning}"));
    })?;
    let options = Options {
        block_size: args.block_size,
        label: args.label.clone(),
        uuid: args.uuid,
        time: args.time.map(|time| (time.0, time.1)),
        dedupe: !args.no_dedupe,
        pack: args.pack,
        ..Options::default()
    };
    let summary = make(&tree, &options, &output, bar)?;
    bar.step("syncing", 0);
    output.commit()?;
    cleanup.done();
    Ok(summary)
}

/// One line that says what was made.
fn tell(image: &Path, summary: &Summary, took: Duration) {
    let digest = daxfs::digest::hex(&summary.digest);
    // Nobody may be listening; the image is made all the same.
    let _ = writeln!(
        std::io::stdout(),
        "{}: {} bytes, {} inodes, {:.2} s, uuid {}, sha256 {digest}",
        image.display(),
        summary.total_size,
        summary.inodes,
        took.as_secs_f64(),
        summary.uuid,
    );
}

fn main() -> ExitCode {
    let args = Args::parse();
    let start = Instant::now();
    let bar = Bar::new(args.quiet);
    let result = run(&args, &bar);
    bar.clear();
    match result {
        Ok(summary) => {
            if !args.quiet {
                tell(&args.image, &summary, start.elapsed());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mkdaxfs: {error}");
            ExitCode::FAILURE
        }
    }
}
