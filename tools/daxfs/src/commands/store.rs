// SPDX-License-Identifier: GPL-2.0-only

//! `store`: images that share the content of their files.

use super::print;
use crate::record::pretty;
use clap::{Args, Subcommand};
use daxfs_files::bar::Bar;
use daxfs_files::signals::Cleanup;
use daxfs_files::stdout::{written, Out};
use daxfs_files::{scratch, Output, Overwrite};
use daxfs_image::error::{Error, Result};
use daxfs_image::text::{human, shown_path};
use daxfs_load::catalog::Reuse;
use daxfs_store::{copy, gc, Listed, Loaded, Store};
use mkdaxfs::input::exclude::Exclude;
use mkdaxfs::input::{Input, Platform};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A command on a store.
#[derive(Subcommand)]
pub enum StoreCommand {
    #[allow(missing_docs)] // clap takes the description from the type
    Add(StoreAdd),
    /// List the images
    ///
    /// SIZE is an image with all of its packs, OWN what removing it would free: the image itself and the
    /// packs that no other image needs.
    #[command(after_help = "\
Examples:
  daxfs store list /srv/store
  daxfs store list --json /srv/store | jq -r '.images[].name'")]
    List {
        /// The store
        store: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy an image and its packs to a device with a catalog
    ///
    /// Packs that the device has are not copied again. Virtual machines and other kernels that have the device mount the
    /// image, without the store. The device is one that daxfs catalog takes, such as a file that machines share.
    #[command(after_help = "\
Examples:
  daxfs catalog init --size 8G images
  daxfs store copy /srv/store base-1 images
  daxfs share images -- qemu-system-x86_64 ...")]
    Copy {
        /// The store
        store: PathBuf,
        /// Name of the image
        name: String,
        /// The device
        device: PathBuf,
        /// When to overwrite removed images
        #[arg(long, value_enum, value_name = "WHEN", default_value_t = Reuse::Unmounted)]
        reuse: Reuse,
    },
    /// Remove an image
    ///
    /// Mounts of it are not affected. Content that no other image needs is removed by gc.
    #[command(after_help = "\
Examples:
  daxfs store remove /srv/store base-1 && daxfs store gc /srv/store")]
    Remove {
        /// The store
        store: PathBuf,
        /// Name of the image
        name: String,
    },
    /// Remove packs that no image needs, and the remains of commands that were killed
    ///
    /// A pack is kept as long as an image needs any object of it. daxfs catalog remove removes images of a device.
    #[command(after_help = "\
Examples:
  daxfs store gc /srv/store
  daxfs catalog remove /dev/pmem0 base-1 && daxfs store gc /dev/pmem0")]
    Gc {
        /// The store, or a device
        #[arg(value_name = "STORE|DEVICE")]
        store: PathBuf,
    },
    /// Verify all files of a store
    ///
    /// Check every image and every pack against the rules of the format and its SHA-256, and every
    /// object against the SHA-256 that is its name.
    #[command(after_help = "\
Examples:
  daxfs store verify /srv/store")]
    Verify {
        /// The store
        store: PathBuf,
    },
}

/// Add an image of directories, archives or container images
///
/// The inputs are read as mkdaxfs(8) reads them. Content that the store has is not stored again. The
/// image appears when all of it is complete and synced. Print its SHA-256, and how much was new.
///
/// The store is made if the directory does not exist.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs store add /srv/store base-1 rootfs
  daxfs store add /srv/store web-2 oci:layout:web-2")]
pub struct StoreAdd {
    /// The store
    store: PathBuf,
    /// Name of the image: 1 to 63 letters, digits and . _ - + : @
    name: String,
    /// Directories, archives, container images or daxfs images; later ones replace files of earlier
    /// ones
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<OsString>,
    /// Leave out files that match, and everything below them, as mkdaxfs(8) does; may be repeated
    #[arg(long, short = 'e', value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave mount points empty: do not descend into other filesystems
    #[arg(long, short = 'x')]
    one_file_system: bool,
    /// Store the files that symlinks of directories lead to, as mkdaxfs(8) does
    #[arg(long)]
    dereference: bool,
    /// Read on after the end of an archive, as mkdaxfs(8) does
    #[arg(long)]
    ignore_zeros: bool,
    /// Platform to select from a container image for several platforms [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

impl StoreCommand {
    pub fn run(self) -> Result<ExitCode> {
        match self {
            Self::Add(args) => return add(&args),
            Self::List { store, json } => return list(&store, json),
            Self::Copy {
                store,
                name,
                device,
                reuse,
            } => {
                let copied = copy(&Store::open(&store)?, &name, &device, reuse)?;
                return done(&name, "copied", &copied, "were present");
            }
            Self::Remove { store, name } => Store::change(&store)?.remove(&name)?,
            Self::Gc { store } => {
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
            Self::Verify { store } => return verify(&store),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Return whether `path` is a device, or a file with a catalog, instead of a store.
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
        "{}  {}: {} objects ({}) are new, {} ({}) were present; {} packs",
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
                    "packs": image.packs.iter().map(|pack| pack.sha256.as_str()).collect::<Vec<_>>(),
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
