// SPDX-License-Identifier: GPL-2.0

//! `mkdaxfs`: makes a daxfs image of a directory.

use clap::Parser;
use daxfs::write::Options;
use daxfs::{make, Output, Silent};

mod options;

fn run(args: &options::Args) -> daxfs::Result<()> {
    let output = Output::create(&args.image)?;
    let tree = daxfs::scan::scan(&args.dir, Some(output.directory()?), |warning| {
        eprintln!("mkdaxfs: warning: {warning}");
    })?;
    let options = Options {
        block_size: args.block_size,
        label: args.label.clone(),
        uuid: args.uuid,
        time: args.time.map(|t| (t.0, t.1)),
    };
    let summary = make(&tree, &options, &output, &Silent)?;
    output.commit()?;
    println!(
        "{} {} {} {}",
        args.image.display(),
        summary.total_size,
        summary.inodes,
        summary.uuid
    );
    Ok(())
}

fn main() {
    let args = options::Args::parse();
    if let Err(error) = run(&args) {
        eprintln!("mkdaxfs: {error}");
        std::process::exit(1);
    }
}
