// SPDX-License-Identifier: GPL-2.0-only

//! The command lines of `daxfs store`.

use clap::{Args, Subcommand};
use daxfs_files::values;
use daxfs_load::catalog::Reuse;
use mkdaxfs::input::Platform;
use std::ffi::OsString;
use std::path::PathBuf;

/// A command on a store.
#[derive(Subcommand)]
pub enum Store {
    #[allow(missing_docs)] // clap takes the description from the type
    Add(StoreAdd),
    /// List the images
    ///
    /// SIZE is an image with all of its packs, OWN what removing it would free: its metadata and the
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
    /// Mount an image
    ///
    /// Load the image and its packs into memory, each once in a machine: what another mount has
    /// loaded is used. Nothing is loaded from a device to which copy has copied the image. The kernel verifies all
    /// content before its first use, but the content of a device only with --digest or --signed. Only root can mount.
    #[command(after_help = "\
Examples:
  daxfs store mount /srv/store base-2 /mnt
  daxfs store mount --signed -o nosuid,nodev /srv/store base-2 /mnt
  daxfs store mount /dev/pmem0 base-2 /mnt")]
    Mount {
        /// The store, or a device
        #[arg(value_name = "STORE|DEVICE")]
        store: PathBuf,
        /// Name of the image
        name: String,
        /// The mount point
        dir: PathBuf,
        /// The SHA-256 that the image must have, as add prints it
        #[arg(long, value_parser = values::sha256)]
        digest: Option<String>,
        /// Demand a signature that a keyring of the kernel trusts
        ///
        /// daxfs sign signs the file STORE/images/NAME.daxfs.
        #[arg(long)]
        signed: bool,
        /// Mount options for all filesystems, as for mount(8)
        #[arg(short, long, value_delimiter = ',')]
        options: Vec<String>,
    },
    /// Copy an image and its packs to a device with a catalogue
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
    /// Unmount an image, and free the memory that no other mount uses
    #[command(after_help = "\
Examples:
  daxfs store umount /mnt")]
    Umount {
        /// The mount point
        dir: PathBuf,
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
    pub store: PathBuf,
    /// Name of the image: 1 to 63 letters, digits and . _ - + : @
    pub name: String,
    /// Directories, archives, container images or daxfs images; later ones replace files of earlier
    /// ones
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<OsString>,
    /// Leave out files that match, and everything below them, as mkdaxfs(8) does; may be repeated
    #[arg(long, short = 'e', value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Leave mount points empty: do not descend into other filesystems
    #[arg(long, short = 'x')]
    pub one_file_system: bool,
    /// Store the files that symlinks of directories lead to, as mkdaxfs(8) does
    #[arg(long)]
    pub dereference: bool,
    /// Read on after the end of an archive, as mkdaxfs(8) does
    #[arg(long)]
    pub ignore_zeros: bool,
    /// Platform to select from a container image for several platforms [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
}
