// SPDX-License-Identifier: GPL-2.0-only

//! `store`: images that share the content of their files.

use super::print;
use crate::options::{Store as Command, StoreAdd};
use crate::show::pretty;
use daxfs_files::bar::Bar;
use daxfs_files::signals::Cleanup;
use daxfs_files::stdout::{written, Out};
use daxfs_files::{scratch, Output, Overwrite};
use daxfs_image::error::{Error, Result};
use daxfs_image::text::{human, shown_path};
use daxfs_store::{copy, gc, mount, unmount, Demands, Listed, Loaded, Origin, Store};
use mkdaxfs::input::exclude::Exclude;
use mkdaxfs::input::Input;
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Run `daxfs store`.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Add(args) => return add(&args),
        Command::List { store, json } => return list(&store, json),
        Command::Mount {
            store,
            name,
            dir,
            digest,
            signed,
            options,
        } => {
            let demands = Demands {
                digest,
                signed,
                options,
            };
            if is_device(&store) {
                let origin = Origin::Device(&store);
                let (mounted, _) = mount(origin, &name, &dir, &demands, &|_| Ok(()))?;
                return done(&name, "mounted", &mounted, "were mounted");
            }
            let store = Store::open(&store)?;
            let (loaded, _) = mount(Origin::Store(&store), &name, &dir, &demands, &|_| Ok(()))?;
            return done(&name, "loaded", &loaded, "were in memory");
        }
        Command::Copy {
            store,
            name,
            device,
            reuse,
        } => {
            let copied = copy(&Store::open(&store)?, &name, &device, reuse)?;
            return done(&name, "copied", &copied, "were there");
        }
        Command::Umount { dir } => {
            let freed = unmount(&dir, false)?;
            let (images, bytes) = (freed.images, human(freed.bytes));
            return print(&format!("freed {images} images ({bytes})"));
        }
        Command::Remove { store, name } => Store::change(&store)?.remove(&name)?,
        Command::Gc { store } => {
            let mut problems = Problems::default();
            let mut report = |error| problems.report(&error);
            let (what, freed) = match is_device(&store) {
                true => ("packs", gc(&store, &mut report)?),
                false => ("files", Store::change(&store)?.gc(&mut report)?),
            };
            let (files, bytes) = (freed.files, human(freed.bytes));
            print(&format!("removed {files} {what} ({bytes})"))?;
            return Ok(problems.status());
        }
        Command::Verify { store } => return verify(&store),
    }
    Ok(ExitCode::SUCCESS)
}

/// Return whether `path` is a device, or a file with a catalogue, instead of a store.
fn is_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| !found.is_dir())
}

/// Print how many images of `name` were mounted or copied.
fn done(name: &str, done: &str, images: &Loaded, there: &str) -> Result<ExitCode> {
    print(&format!(
        "{name}: {done} {} images ({}), {} {there}",
        images.images,
        human(images.bytes),
        images.shared
    ))
}

/// Problems that were found.
#[derive(Default)]
struct Problems(usize);

impl Problems {
    /// Print a problem, and count it.
    fn report(&mut self, error: &Error) {
        self.0 += 1;
        eprintln!("daxfs: {error}");
    }

    /// Return the status of the command.
    fn status(&self) -> ExitCode {
        match self.0 {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

fn add(args: &StoreAdd) -> Result<ExitCode> {
    let exclude = Exclude::new(args.exclude.clone());
    let exclude = exclude.map_err(|why| Error::refused("--exclude", why.to_string()))?;
    let cleanup =
        Cleanup::new().map_err(|error| Error::system("", "cannot handle signals", "", error))?;
    let store = Store::create(&args.store)?;
    // Report a wrong name before anything is read.
    store.image(&args.name)?;
    let bar = Bar::new(false);
    let options = mkdaxfs::input::Options {
        output: Some(store.identity()?),
        one_file_system: args.one_file_system,
        dereference: args.dereference,
        ignore_zeros: args.ignore_zeros,
        exclude: exclude.as_ref(),
        scratch: &scratch(&args.store),
        platform: args.platform.clone(),
    };
    let inputs: Vec<_> = args.inputs.iter().map(|text| Input::parse(text)).collect();
    let mut warn = |warning| bar.suspend(|| eprintln!("daxfs: warning: {warning}"));
    let tree = mkdaxfs::input::read(&inputs, &options, &bar, &mut warn)?;
    let create = |path: &Path| cleanup.guard(|| Output::over(path, Overwrite::new(true)));
    let added = store.add(&args.name, tree, &create, &bar)?;
    cleanup.done();
    bar.clear();
    let (new, known) = (added.new, added.known);
    print(&format!(
        "{}  {}: {} objects ({}) are new, {} ({}) were there; {} packs",
        added.sha256,
        args.name,
        new.objects,
        human(new.bytes),
        known.objects,
        human(known.bytes),
        added.packs
    ))
}

fn list(path: &Path, json: bool) -> Result<ExitCode> {
    let mut problems = Problems::default();
    let images = Store::open(path)?.list(&mut |error| problems.report(&error))?;
    let mut out = Out::open();
    written(match json {
        false => text(&images, &mut out),
        true => {
            let images = images.iter().map(|image| {
                json!({
                    "name": image.name,
                    "sha256": image.sha256,
                    "size": image.size,
                    "own": image.own,
                    "packs": image.packs.iter().map(|pack| pack.id.as_str()).collect::<Vec<_>>(),
                })
            });
            let report = json!({
                "schema": "daxfs-store-1",
                "store": shown_path(path),
                "images": images.collect::<Vec<_>>(),
            });
            pretty(&mut out, &report)
        }
    })?;
    out.finish()?;
    Ok(problems.status())
}

fn text(images: &[Listed], out: &mut impl Write) -> io::Result<()> {
    let width = images.iter().map(|image| image.name.len()).max();
    let width = width.unwrap_or(0).max(4);
    writeln!(
        out,
        "{:width$}  {:>5}  {:>5}  {:>5}  SHA-256",
        "NAME", "SIZE", "OWN", "PACKS"
    )?;
    for image in images {
        writeln!(
            out,
            "{:width$}  {:>5}  {:>5}  {:>5}  {}",
            image.name,
            human(image.size),
            human(image.own),
            image.packs.len(),
            image.sha256
        )?;
    }
    Ok(())
}

fn verify(path: &Path) -> Result<ExitCode> {
    let bar = Bar::new(false);
    let mut problems = Problems::default();
    let verified = Store::keep(path)?.verify(&bar, &mut |error| {
        bar.suspend(|| problems.report(&error));
    })?;
    bar.clear();
    print(&format!(
        "{} images, {} packs, {} objects: {} problems",
        verified.images, verified.packs, verified.objects, problems.0
    ))?;
    Ok(problems.status())
}
