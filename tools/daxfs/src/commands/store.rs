// SPDX-License-Identifier: GPL-2.0-only

//! `store`: images in a directory or on a device.

use super::common::print;
use super::fuse::tell_parent;
use crate::record::{pretty, without_nulls};
use clap::{Args, Subcommand};
use daxfs_files::bar::Bar;
use daxfs_files::signals::Cleanup;
use daxfs_files::stdout::{written, Out};
use daxfs_files::{eprintln, notify, scratch, values, Output, Overwrite};
use daxfs_image::error::{Error, Result};
use daxfs_image::text::{human, shown_path};
use daxfs_load::catalog::{Overview, Reuse};
use daxfs_reader::catalog::Listed as Entry;
use daxfs_store::{Device, Exported, Listing, Place, Server, Store};
use mkdaxfs::input::exclude::Exclude;
use mkdaxfs::input::{Input, Platform};
use rustix::fs::Mode;
use rustix::process::umask;
use serde_json::{json, Value};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use uuid::Uuid;

/// A command on a store, and its options.
#[derive(Args)]
pub struct StoreArgs {
    /// Fail instead of waiting for another process that uses the store or exports to the layout
    #[arg(long, global = true)]
    no_wait: bool,
    #[command(subcommand)]
    command: StoreCommand,
}

impl StoreArgs {
    pub fn run(self) -> Result<ExitCode> {
        if !self.no_wait {
            daxfs_store::wait_for_others();
        }
        self.command.run()
    }
}

/// A command on a store.
#[derive(Subcommand)]
enum StoreCommand {
    /// Make an empty store
    ///
    /// STORE is a directory; a block device such as /dev/pmem0 or a DAX device in devdax mode; or a
    /// file that backs the memory of virtual machines. A device loses its content. Unless you use
    /// --force, only zeros and a daxfs image are overwritten; on a device, the first 2 MiB and the
    /// last MiB are examined.
    #[command(after_help = "\
Examples:
  daxfs store init /srv/store
  daxfs store init /dev/pmem0
  daxfs store init --size 4G images.pmem")]
    Init {
        /// The store
        store: PathBuf,
        /// Create a new file of this size
        #[arg(long, value_parser = values::size)]
        size: Option<u64>,
        /// Overwrite any content of the device or file, even another store
        #[arg(short, long)]
        force: bool,
    },
    #[allow(missing_docs)] // clap takes the description from the type
    Add(StoreAdd),
    /// Write an image and its packs into an OCI layout, for registries
    ///
    /// STORE is a directory. Blobs that the layout already has are not written again. Programs such
    /// as skopeo copy layouts to and from registries, and transfer only what the other side lacks.
    /// Add the image to another store with add STORE NAME oci:DIR; it keeps its SHA-256 and its
    /// signature.
    ///
    /// With --container, the image gets the configuration of a container image in the layout, and
    /// containerd with daxfs-snapshotter runs it like that one.
    #[command(after_help = "\
Examples:
  daxfs store export /srv/store base-2 oci:layout
  skopeo copy oci:layout:base-2 docker://registry.example/base:2
  skopeo copy docker://registry.example/base:2 oci:layout:base-2
  daxfs store add /srv/store base-2 oci:layout:base-2
  daxfs store export --container 2 /srv/store base-2 oci:layout:2-daxfs")]
    Export {
        /// The store
        store: PathBuf,
        /// Name of the image
        name: String,
        /// Layout, which is created if necessary, and the image's name in it [default: NAME]
        #[arg(value_name = "oci:DIR[:REFERENCE]")]
        layout: String,
        /// Use the configuration of the container image with this name in the layout
        #[arg(long, value_name = "REFERENCE")]
        container: Option<String>,
        /// Platform to select from a container image for several platforms [default: this machine's]
        #[arg(long, value_name = "OS/ARCH[/VARIANT]", requires = "container")]
        platform: Option<Platform>,
    },
    /// Choose the image to mount if no name is given
    ///
    /// Existing mounts keep their image. To roll back, activate the old one.
    #[command(after_help = "\
Examples:
  daxfs store activate /srv/store base-2")]
    Activate {
        /// The store
        store: PathBuf,
        /// Name of the image
        name: String,
    },
    /// List the images
    ///
    /// SIZE is an image with all of its packs, OWN what removing it would free: the image and the
    /// packs that no other image needs. On a block device, STATE shows whether this kernel has
    /// mounted the image; other kernels that share the memory are unknown.
    #[command(after_help = "\
Examples:
  daxfs store list /srv/store
  daxfs store list --json /dev/pmem0 | jq -r '.images[] | select(.active) | .name'")]
    List {
        /// The store
        store: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an image
    ///
    /// Existing mounts keep working. If the image was active, none is afterwards. In a directory,
    /// gc removes content that no other image needs; on a device, add reuses the space once it is
    /// unmounted.
    #[command(after_help = "\
Examples:
  daxfs store remove /srv/store base-1 && daxfs store gc /srv/store")]
    Remove {
        /// The store
        store: PathBuf,
        /// Name of the image
        name: String,
    },
    /// Remove packs that no image needs, and the remains of killed commands
    ///
    /// A pack stays as long as an image needs any object in it.
    #[command(after_help = "\
Examples:
  daxfs store gc /srv/store")]
    Gc {
        /// The store
        store: PathBuf,
    },
    /// Load packs of images mounted with load=demand when their files are opened
    ///
    /// mount(8) starts this in the background. Run it yourself to choose when it starts and which
    /// control group is charged for the memory, for example in a systemd service (Type=notify). It
    /// takes over mounts whose server has ended. If it ends, programs continue with the loaded
    /// packs, and opening other files fails with ENOMEDIUM.
    #[command(after_help = "\
Examples:
  daxfs store serve /srv/store &
  mount -t daxfs -o image=base-1,load=demand /srv/store /mnt")]
    Serve {
        /// The store
        store: PathBuf,
        /// Write a line to standard output when it is ready, and end after the last mount
        #[arg(long, hide = true)]
        ready: bool,
    },
    /// Verify all images and packs
    ///
    /// Checks every image and pack against the rules of the format and its SHA-256, and every
    /// object against the SHA-256 in its name.
    #[command(after_help = "\
Examples:
  daxfs store verify /srv/store")]
    Verify {
        /// The store
        store: PathBuf,
    },
}

/// Add an image
///
/// A store in a directory, which is created if necessary, accepts all inputs of mkdaxfs(8) and does
/// not store content again that it already has. It adds an image from export's OCI layout
/// unchanged, with the signature and the packs that the store lacks.
///
/// A device or file accepts a daxfs image, which is copied unchanged, with its signature. If the
/// image is composed, use STORE/images/NAME.daxfs of a store in a directory: the packs that the
/// device lacks are copied as well.
///
/// The image appears once all of it is complete and synced. Prints its SHA-256, and how much was
/// new.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs store add /srv/store base-1 rootfs
  daxfs store add /srv/store web-2 oci:layout:web-2
  daxfs store add --activate /dev/pmem0 base-1 base-1.img
  daxfs store add /dev/pmem0 base-2 /srv/store/images/base-2.daxfs")]
pub struct StoreAdd {
    /// The store
    store: PathBuf,
    /// Name of the image: 1 to 63 letters, digits and . _ - + : @
    name: String,
    /// Directories, archives, container images or daxfs images; later ones replace files of earlier
    /// ones
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<OsString>,
    /// Make it the image to mount if no name is given
    #[arg(short, long)]
    activate: bool,
    /// When to overwrite removed images of a device [default: unmounted]
    #[arg(long, value_enum, value_name = "WHEN")]
    reuse: Option<Reuse>,
    /// Leave out files that match, and everything below them, like mkdaxfs(8); may be repeated
    #[arg(long, short = 'e', value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave mount points empty: do not descend into other filesystems
    #[arg(long, short = 'x')]
    one_file_system: bool,
    /// Store the files that symlinks of directories lead to, like mkdaxfs(8)
    #[arg(long)]
    dereference: bool,
    /// Read on after the end of an archive, like mkdaxfs(8)
    #[arg(long)]
    ignore_zeros: bool,
    /// Platform to select from a container image for several platforms [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

impl StoreCommand {
    fn run(self) -> Result<ExitCode> {
        match self {
            Self::Add(args) => return add(&args),
            Self::Export {
                store,
                name,
                layout,
                container,
                platform,
            } => return export(&store, &name, &layout, container.as_deref(), platform),
            Self::List { store, json } => return list(&store, json),
            Self::Init { store, size, force } => Place::init(&store, size, force)?,
            Self::Activate { store, name } => Place::new(&store).activate(&name)?,
            Self::Remove { store, name } => Place::new(&store).remove(&name)?,
            Self::Gc { store } => {
                let mut problems = Problems::default();
                let freed = Place::new(&store).gc(&mut |error| problems.report(&error))?;
                let (packs, remains) = (freed.packs, freed.remains);
                let bytes = human(freed.bytes);
                print(&format!(
                    "removed {packs} packs, {remains} unfinished files ({bytes})"
                ))?;
                return Ok(problems.status());
            }
            Self::Serve { store, ready } => serve(&store, ready)?,
            Self::Verify { store } => return verify(&store),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Problems found.
#[derive(Default)]
struct Problems(usize);

impl Problems {
    fn report(&mut self, error: &Error) {
        self.0 += 1;
        eprintln!("daxfs: {error}");
    }

    fn status(&self) -> ExitCode {
        match self.0 {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

/// Loads packs of `store` on demand; in the background if `ready`.
fn serve(store: &Path, ready: bool) -> Result<()> {
    let server = Server::start(store, Box::new(|_| Ok(())))?;
    if !ready && server.is_none() {
        let why = "another process serves it already (daxfs store serve)";
        return Err(Error::refused(shown_path(store), why));
    }
    let told = if ready {
        tell_parent("/dev/kmsg")
    } else {
        notify()
    };
    told.map_err(|error| Error::system("", "cannot say that it is ready", "", error))?;
    server.iter().for_each(|server| server.run(!ready));
    Ok(())
}

fn add(args: &StoreAdd) -> Result<ExitCode> {
    match &Place::new(&args.store) {
        Place::Device(device) => add_to_device(args, device),
        Place::Directory(_) => add_tree(args),
    }
}

/// Writes an image of a store in a directory to an OCI layout.
fn export(
    store: &Path,
    name: &str,
    layout: &str,
    container: Option<&str>,
    platform: Option<Platform>,
) -> Result<ExitCode> {
    let rest = layout.strip_prefix("oci:");
    if let Some(rest) = rest.filter(|rest| rest.contains(':') && Path::new(rest).is_dir()) {
        let why = "has a colon, after which skopeo and others look for the image's name; use another directory";
        return Err(Error::refused(shown_path(Path::new(rest)), why));
    }
    // Like skopeo.
    let parts = rest.map(|rest| rest.split_once(':').unwrap_or((rest, name)));
    let (dir, reference) = match parts {
        Some((dir, reference)) if !dir.is_empty() && !reference.is_empty() => (dir, reference),
        _ => {
            let why = "is not an OCI layout; name one as oci:DIR or oci:DIR:REFERENCE";
            return Err(Error::refused(shown_path(Path::new(layout)), why));
        }
    };
    if let Place::Device(_) = Place::new(store) {
        let why = "is not a directory; export the image from the store that has it in a directory";
        return Err(Error::refused(shown_path(store), why));
    }
    if container == Some(reference) {
        let why = "is the name of the container image; give the image for daxfs another one, as in oci:DIR:2-daxfs";
        return Err(Error::refused(reference, why));
    }
    let cleanup = cleanup()?;
    let bar = Bar::new(false);
    let create = |path: &Path| cleanup.guard(|| Output::over(path, Overwrite::new(true)));
    let store = Store::open(store)?;
    let dir = Path::new(dir);
    let container = container.map(|container| (container, platform));
    let published = store.export(name, dir, reference, container, &create, &bar)?;
    cleanup.done();
    bar.clear();
    let (new, known) = (published.new, published.known);
    print(&format!(
        "{}  {reference}: {} blobs ({}) are new, {} ({}) were present",
        published.sha256,
        new.objects,
        human(new.bytes),
        known.objects,
        human(known.bytes)
    ))
}

fn cleanup() -> Result<Cleanup> {
    Cleanup::new().map_err(|error| Error::system("", "cannot handle signals", "", error))
}

/// Fails if there are options for reading inputs.
fn refuse_options(args: &StoreAdd, why: &'static str) -> Result<()> {
    for (option, given) in [
        ("--exclude", !args.exclude.is_empty()),
        ("--one-file-system", args.one_file_system),
        ("--dereference", args.dereference),
        ("--ignore-zeros", args.ignore_zeros),
        ("--platform", args.platform.is_some()),
    ] {
        if given {
            return Err(Error::refused(option, why));
        }
    }
    Ok(())
}

/// Returns another store's image if it is the only input.
fn exported(
    inputs: &[OsString],
    options: &mkdaxfs::input::Options<'_>,
) -> Result<Option<Exported>> {
    let [text] = inputs else {
        return Ok(None);
    };
    match &Input::parse(text) {
        input @ Input::Oci(path) if input.file().is_dir() => Exported::find(path, options),
        _ => Ok(None),
    }
}

fn add_to_device(args: &StoreAdd, device: &Device) -> Result<ExitCode> {
    let why = "is for stores in directories; a device takes an image as it is";
    refuse_options(args, why)?;
    let [input] = &args.inputs[..] else {
        let why = "takes one daxfs image; use mkdaxfs, or add the inputs to a store in a directory and give STORE/images/NAME.daxfs";
        return Err(Error::refused(shown_path(&args.store), why));
    };
    let options = mkdaxfs::input::Options::new(&args.store);
    if exported(&args.inputs, &options)?.is_some() {
        let why = "is an image of a store; add it to one in a directory, and give STORE/images/NAME.daxfs";
        return Err(Error::refused(shown_path(Path::new(input)), why));
    }
    let reuse = args.reuse.unwrap_or(Reuse::Unmounted);
    let copied = device.add(&args.name, Path::new(input), reuse)?;
    let status = print(&format!(
        "{}  {}: {} packs are new, {} were present; {} copied",
        copied.sha256,
        args.name,
        copied.new,
        copied.known,
        human(copied.bytes)
    ))?;
    if args.activate {
        device.activate(&args.name)?;
    }
    Ok(status)
}

/// Adds an image of the inputs to a store in a directory.
fn add_tree(args: &StoreAdd) -> Result<ExitCode> {
    if args.reuse.is_some() {
        let why = "is for devices; daxfs store gc frees the space of a store in a directory";
        return Err(Error::refused("--reuse", why));
    }
    // Others must never change a store, whatever the umask is.
    let written = Mode::WGRP | Mode::WOTH;
    umask(umask(written) | written);
    let exclude = Exclude::new(args.exclude.clone());
    let exclude = exclude.map_err(|why| Error::refused("--exclude", why.to_string()))?;
    let cleanup = cleanup()?;
    let store = Store::create(&args.store)?;
    // Report an invalid name before reading anything.
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
        progress: &bar,
        warn: &|warning| bar.suspend(|| eprintln!("daxfs: warning: {warning}")),
    };
    let create = |path: &Path| cleanup.guard(|| Output::over(path, Overwrite::new(true)));
    let added = if let Some(exported) = exported(&args.inputs, &options)? {
        let why = "is for files; the image of another store is added as it is";
        refuse_options(args, why)?;
        store.import(&args.name, &exported, &create, &bar)?
    } else {
        let inputs: Vec<_> = args.inputs.iter().map(|text| Input::parse(text)).collect();
        let tree = mkdaxfs::input::read(&inputs, &options)?;
        store.add(&args.name, tree, &create, &bar)?
    };
    cleanup.done();
    bar.clear();
    let (new, known) = (added.new, added.known);
    let status = print(&format!(
        "{}  {}: {} objects ({}) are new, {} ({}) were present; {} packs",
        added.sha256,
        args.name,
        new.objects,
        human(new.bytes),
        known.objects,
        human(known.bytes),
        added.packs
    ))?;
    if args.activate {
        store.activate(&args.name)?;
    }
    Ok(status)
}

fn list(path: &Path, json: bool) -> Result<ExitCode> {
    let mut problems = Problems::default();
    let listing = Place::new(path).list(&mut |error| problems.report(&error))?;
    let mut out = Out::open();
    written(if json {
        pretty(&mut out, &report(path, &listing))
    } else {
        text(&listing, &mut out)
    })?;
    out.finish()?;
    Ok(problems.status())
}

/// Returns the store for `list --json`.
fn report(path: &Path, listing: &Listing) -> Value {
    let device = listing.device.as_ref();
    let images = listing.images.iter().map(|image| {
        let entry = image.entry.as_ref();
        without_nulls(json!({
            "name": image.name,
            "sha256": image.sha256,
            "size": image.size,
            "own": image.own,
            "packs": image.packs.iter().map(|pack| pack.sha256.as_str()).collect::<Vec<_>>(),
            "active": image.active,
            "uuid": entry.map(|entry| Uuid::from_bytes(entry.uuid).to_string()),
            "offset": entry.map(|entry| entry.range.start),
            "length": entry.map(Entry::length),
            "removed": entry.map(|entry| entry.removed),
            // Absent if unknown, as for a file.
            "mounted": entry.and_then(|entry| device?.is_mounted(entry)),
        }))
    });
    without_nulls(json!({
        "schema": "daxfs-store-1",
        "store": shown_path(path),
        "images": images.collect::<Vec<_>>(),
        "generation": device.map(|device| device.table.generation),
        "size": device.map(|device| device.table.size),
        "free": device.map(Overview::free),
        "damaged": device.and_then(|device| Some(device.table.damaged?.to_string())),
    }))
}

fn text(listing: &Listing, out: &mut impl Write) -> io::Result<()> {
    let device = listing.device.as_ref();
    if let Some(damaged) = device.and_then(|device| device.table.damaged) {
        writeln!(
            out,
            "A copy of the store's table is damaged, and the next change writes it: {damaged}"
        )?;
    }
    let names = listing.images.iter().map(|image| image.name.len());
    let width = names.max().unwrap_or(0).max(4);
    writeln!(
        out,
        "{:width$}  {:15}  {:>5}  {:>5}  {:>5}  SHA-256",
        "NAME", "STATE", "SIZE", "OWN", "PACKS"
    )?;
    for image in &listing.images {
        let entry = image.entry.as_ref();
        let is_mounted = entry.and_then(|entry| device?.is_mounted(entry));
        let states = [
            ("active", image.active),
            ("removed", entry.is_some_and(|entry| entry.removed)),
            ("mounted", is_mounted == Some(true)),
        ];
        let states = states.iter().filter(|state| state.1).map(|state| state.0);
        writeln!(
            out,
            "{:width$}  {:15}  {:>5}  {:>5}  {:>5}  {}",
            image.name,
            states.collect::<Vec<_>>().join(","),
            human(image.size),
            human(image.own),
            image.packs.len(),
            image.sha256.as_deref().unwrap_or("-")
        )?;
    }
    match device {
        Some(device) => writeln!(out, "Largest free range: {}", human(device.free())),
        None => Ok(()),
    }
}

fn verify(path: &Path) -> Result<ExitCode> {
    let bar = Bar::new(false);
    let mut problems = Problems::default();
    let verified = Place::new(path).verify(&bar, &mut |error| {
        bar.suspend(|| problems.report(&error));
    })?;
    bar.clear();
    print(&format!(
        "{} images, {} packs, {} objects: {} problems",
        verified.images, verified.packs, verified.objects, problems.0
    ))?;
    Ok(problems.status())
}
