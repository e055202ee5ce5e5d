// SPDX-License-Identifier: GPL-2.0-only

//! The command lines. Their documentation is the help.

#![allow(missing_docs)]

mod catalog;
mod helpers;
mod share;
mod store;

pub use catalog::Catalog;
pub use helpers::{FsckArgs, HelperArgs};
pub use share::ShareArgs;
pub use store::{Store, StoreAdd};

use crate::diff::Aspect;
use crate::fsck;
use crate::show::Listing;
use clap::{Parser, Subcommand};
use daxfs_files::values;
use daxfs_image::error::Result;
use daxfs_image::source::{At, Opened};
use daxfs_load::buffer::Kind;
use daxfs_load::range::Range;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

const EXIT: &str = "\
Exit status:
  0 done, 1 failed, 2 wrong usage; diff and fsck differ.

Examples:
  daxfs ls -l base.img /etc";

/// Show, check and extract daxfs images, and load them into memory
///
/// IMAGE is an image file, a block device, a DAX device in devdax mode, or - for standard input. A pipe is copied to a
/// temporary file first, in the directory named by TMPDIR, or in /tmp. The image starts at its first byte, unless
/// --offset says where, or --image names it in a catalogue.
/// mount(8) mounts images. Only load, write, and mounts of a store need privileges, and only load and these mounts need
/// the kernel module. No command changes an image; sign adds a signature.
/// daxfs.schema.json in share/doc/daxfs-doc, below /usr or /usr/local, describes what --json prints.
#[derive(Parser)]
#[command(name = "daxfs", version, max_term_width = 100, after_help = EXIT)]
pub struct Args {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// An image, for commands that read one.
#[derive(clap::Args)]
pub struct ImageAt {
    /// The image
    pub image: PathBuf,
    #[command(flatten)]
    pub at: At,
}

impl ImageAt {
    /// Open the image.
    pub fn open(&self) -> Result<Opened> {
        Opened::open_at(&self.image, &self.at)
    }
}

/// The command.
#[derive(Subcommand)]
pub enum Command {
    /// Show the superblock of an image
    #[command(after_help = "\
Examples:
  daxfs info base.img
  daxfs info --image base-2 /dev/pmem0
  daxfs info --json /dev/pmem0 | jq .uuid")]
    Info {
        #[command(flatten)]
        image: ImageAt,
        /// Print JSON
        #[arg(long, conflicts_with = "udev")]
        json: bool,
        /// Print properties for udev rules: ID_FS_TYPE, ID_FS_LABEL, ID_FS_UUID and others
        #[arg(long)]
        udev: bool,
    },
    /// List files of an image
    ///
    /// Names are sorted by their bytes. On a terminal, unusual characters are escaped. Times are
    /// UTC; a + after the mode means that the file has extended attributes.
    #[command(
        disable_help_flag = true,
        after_help = "\
Examples:
  daxfs ls -lh base.img /etc
  daxfs ls -R0 base.img | xargs -0 -n 1"
    )]
    Ls {
        #[command(flatten)]
        image: ImageAt,
        /// The file or directory in it
        #[arg(default_value = "/")]
        path: OsString,
        #[command(flatten)]
        listing: Listing,
        /// Print help
        #[arg(long, action = clap::ArgAction::Help)]
        help: Option<bool>,
    },
    /// Write the content of files of an image to standard output
    #[command(after_help = "\
Examples:
  daxfs cat base.img /etc/os-release")]
    Cat {
        #[command(flatten)]
        image: ImageAt,
        /// The files in it; symbolic links are followed within the image
        #[arg(required = true)]
        paths: Vec<OsString>,
    },
    /// Show all metadata of files
    #[command(after_help = "\
Examples:
  daxfs stat base.img /etc/os-release")]
    Stat {
        #[command(flatten)]
        image: ImageAt,
        /// The files in it
        #[arg(required = true)]
        paths: Vec<OsString>,
        /// Follow a symbolic link
        #[arg(short = 'L', long)]
        follow: bool,
    },
    /// Show where files of mounted images are in memory
    ///
    /// Print the offset of each file's bytes in the memory that was mounted (a device, dma-buf, memfd, or the range of
    /// phys=), their number, and the file's name.
    #[command(after_help = "\
Examples:
  daxfs locate /mnt/model.bin")]
    Locate {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the superblock and all files of an image in JSON
    ///
    /// Print one object with the members superblock and files. Files are sorted by path, one on
    /// each line. Names and values are strings if they are UTF-8, and objects with the member
    /// base64 otherwise.
    #[command(after_help = "\
Examples:
  daxfs dump base.img | jq -r '.files[] | select(.type == \"file\") | .path'
  daxfs dump --sums base.img >base.json")]
    Dump {
        #[command(flatten)]
        image: ImageAt,
        /// Add the SHA-256 of each file's content
        #[arg(long)]
        sums: bool,
    },
    /// Extract an image to a directory or a tar archive
    ///
    /// Owners (as root), modes, times, extended attributes, hard links, devices and holes are
    /// restored. A line on standard error names what cannot be restored. TARGET must not exist or
    /// be an empty directory. It appears when it is complete; a failure leaves nothing. No image
    /// can make this command write outside TARGET.
    ///
    /// An existing tar archive is replaced only with --force.
    ///
    /// Tar archives are in PAX format with extended attributes (SCHILY.xattr), access control lists
    /// (SCHILY.acl), nanoseconds and sparse files. GNU tar restores all of that with --xattrs
    /// --xattrs-include='*' --numeric-owner -p. Sockets are left out.
    #[command(after_help = "\
Examples:
  daxfs extract base.img rootfs
  daxfs extract --path /etc base.img etc
  daxfs extract --tar base.img base.tar
  daxfs extract --tar base.img - | zstd >base.tar.zst")]
    Extract {
        #[command(flatten)]
        image: ImageAt,
        /// The directory, or with --tar the archive; - is standard output
        target: PathBuf,
        /// Write a tar archive
        #[arg(short, long)]
        tar: bool,
        /// Replace an existing archive or other file; the new one keeps its owner and mode
        #[arg(short, long, requires = "tar")]
        force: bool,
        /// Extract only this directory of the image
        #[arg(short, long, default_value = "/")]
        path: OsString,
        /// Do not restore owners, even as root
        #[arg(long, conflicts_with = "tar")]
        no_same_owner: bool,
    },
    /// Compare two images
    ///
    /// Print a line for each difference. Types, modes, owners, times, devices, targets, content,
    /// extended attributes and hard links are compared.
    #[command(after_help = "\
Exit status:
  0 no difference, 1 differences, 2 trouble.

Examples:
  daxfs diff --ignore time,owner old.img new.img
  mkdaxfs --quiet /srv/base - | daxfs diff base.img -
  daxfs diff --image base-1 --image base-2 /dev/pmem0 /dev/pmem0")]
    Diff {
        /// The first image
        first: PathBuf,
        /// The second image
        second: PathBuf,
        /// The images start at these bytes of their files or devices
        ///
        /// Given twice, the first one is for the first image, the second for the second.
        #[arg(long, value_name = "BYTES", value_parser = values::size)]
        offset: Vec<u64>,
        /// The images have these names in the catalogues of their files or devices
        #[arg(long = "image", value_name = "NAME")]
        names: Vec<String>,
        /// Do not compare these
        #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
        ignore: Vec<Aspect>,
        /// Print nothing; only return the exit status
        #[arg(short, long)]
        quiet: bool,
    },
    /// Check images against every rule of the format
    ///
    /// Check the structure, all checksums, and the SHA-256 of the whole image. Images cannot be
    /// repaired: restore a damaged image from a copy.
    #[command(after_help = format!("{FSCK_EXIT}\n\nExamples:\n  daxfs fsck base.img /dev/pmem0"))]
    Fsck {
        /// The images
        #[arg(required = true)]
        images: Vec<PathBuf>,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        options: fsck::FsckOptions,
    },
    /// Print the SHA-256 of an image, for the mount option digest=
    ///
    /// The SHA-256 covers all bytes of the image, with the superblock's fields for the SHA-256 and
    /// the checksum taken as zero. It is an error if the superblock has another SHA-256: the image
    /// is damaged.
    #[command(after_help = "\
Examples:
  mount -t daxfs -o digest=$(daxfs digest base.img) /dev/pmem0 /mnt")]
    Digest {
        #[command(flatten)]
        image: ImageAt,
    },
    /// Sign an image
    ///
    /// The signature is a CMS message (PKCS#7) of the SHA-256 of the image. It follows the image in
    /// its file, in place of another one. Neither the image nor its SHA-256 changes. Print the
    /// SHA-256. It is an error if the image is damaged, or if other data follow it.
    ///
    /// openssl(1) makes it. KEY is a private key that openssl reads: RSA of 2048 to 4096 bits, or ECDSA on the curve
    /// P-256 or P-384, because the kernel knows no other ones. Sign a file, not a device; daxfs load and mount(8)
    /// copy the signature with the image.
    #[command(after_help = "\
Examples:
  daxfs sign --key key.pem --cert cert.pem base.img
  daxfs sign --key key.pem --cert cert.pem --expires $(date -d '1 year' +%s) base.img
  printf 'daxfs sha256 %s expires 1893456000\\n' $(daxfs digest base.img) |
    openssl cms -sign -binary -noattr -md sha256 -outform DER -inkey key.pem \\
      -signer cert.pem -out base.cms
  daxfs sign --attach base.cms --expires 1893456000 base.img")]
    Sign {
        /// The image file
        image: PathBuf,
        /// The private key
        #[arg(short, long, required_unless_present = "attach", requires = "cert")]
        key: Option<PathBuf>,
        /// Its certificate, in PEM or DER
        #[arg(short, long, requires = "key")]
        cert: Option<PathBuf>,
        /// A certificate of an authority between the signer and those that verifiers trust; may be
        /// repeated
        #[arg(long, value_name = "CERT", requires = "key")]
        chain: Vec<PathBuf>,
        /// Use this CMS message in DER, which another program has made
        ///
        /// It must sign the line of the image and SECOND, and contain the certificate of the signer. Certificates are
        /// not verified.
        #[arg(long, value_name = "CMS", conflicts_with = "key", requires = "expires")]
        attach: Option<PathBuf>,
        /// Last second in which the signature counts, since 1970
        ///
        /// The signature covers it. With --key the default is the end of the certificates in the signature, and it
        /// cannot be later.
        #[arg(long, value_name = "SECOND")]
        expires: Option<u64>,
    },
    /// Verify the signature and the content of an image
    ///
    /// The owner of CERT must have signed, or the owner of a certificate that the owner of CERT has issued, if need be
    /// through others that are in the signature. All these certificates must be valid now, and the signature must not
    /// have expired. Then the whole image is compared with the signed SHA-256. Print the SHA-256. openssl(1) verifies
    /// the signature; revocation lists and the key usage in certificates are ignored.
    #[command(after_help = "\
Examples:
  daxfs verify --cert cert.pem base.img")]
    Verify {
        #[command(flatten)]
        image: ImageAt,
        /// A certificate that is trusted, in PEM or DER; may be repeated
        #[arg(short, long, required = true)]
        cert: Vec<PathBuf>,
    },
    /// Serve an image through FUSE, without the kernel module
    ///
    /// Users other than root need the program fusermount3. Files look as they do with the module,
    /// but reads go through this process and the page cache. Unmount with umount or fusermount3 -u. In fstab(5), use the
    /// type fuse.daxfs. In a service of systemd, use --foreground: it says when the image is mounted (Type=notify).
    /// If the process is killed, the mount stays, and all access fails with ENOTCONN until it is unmounted.
    #[command(after_help = "\
Examples:
  daxfs fuse base.img mnt; ls mnt; fusermount3 -u mnt
  mount -t fuse.daxfs base.img mnt")]
    Fuse {
        #[command(flatten)]
        image: ImageAt,
        /// The mount point
        dir: PathBuf,
        /// Stay in the foreground
        #[arg(short, long)]
        foreground: bool,
        /// Mount options: allow_other, allow_root, and generic ones of mount(8); the default is nosuid,nodev
        #[arg(short, long, value_delimiter = ',')]
        options: Vec<String>,
        /// Write a line to standard output when the image is mounted
        #[arg(long, hide = true)]
        ready: bool,
    },
    /// Show counters of all mounted images
    ///
    /// They count from the mount on. READS and BYTES count reads. FAULTS counts page faults that mapped something, and
    /// PMD those that mapped a huge page by a PMD entry: 2 MiB with pages of 4 KiB. SIGBUS and ERRORS are failed faults,
    /// and errors in the image. --prometheus shows all counters, which are those in /sys/fs/daxfs, see daxfs(5).
    #[command(after_help = "\
Examples:
  watch -d daxfs top
  cd /var/lib/prometheus/node-exporter
  daxfs top --prometheus >daxfs.new && mv daxfs.new daxfs.prom")]
    Top {
        /// Print the text format of Prometheus
        #[arg(long)]
        prometheus: bool,
    },
    /// Load an image file into memory and mount it
    ///
    /// The memory belongs to the mount and is freed with it. A memfd is sealed: its content can
    /// never change.
    ///
    /// With --into phys=ADDRESS,size=BYTES, write the image to this physical memory, which other kernels can mount, too,
    /// and print the command that mounts it. It is memory that was reserved at boot (memmap=SIZE$ADDRESS), where the
    /// kernel lets programs map /dev/mem, or a part of a pmem device or of a DAX device in devdax mode.
    #[command(after_help = "\
Examples:
  daxfs load base.img /mnt
  daxfs load --into heap base.img /mnt
  daxfs load --into phys=0x240000000,size=1G base.img
  mkdaxfs --quiet /srv/base - | daxfs load --into heap - /mnt")]
    Load {
        /// The image file; - is standard input
        image: PathBuf,
        /// The mount point
        dir: Option<PathBuf>,
        /// The kind of memory: memfd, hugetlb, heap, or phys=ADDRESS,size=BYTES
        ///
        /// memfd is a sealed memfd. hugetlb is one of huge pages, of which there must be enough
        /// (/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages). heap is a buffer of the system's dma-heap.
        #[arg(long, value_name = "MEMORY", default_value = "memfd")]
        into: Into,
        /// Overwrite whatever the physical memory holds
        ///
        /// Without this option, nothing but an image and zeros is overwritten.
        #[arg(short, long)]
        force: bool,
        /// Mount options, as for mount(8)
        #[arg(short, long, value_delimiter = ',')]
        options: Vec<String>,
    },
    /// Share an image among virtual machines, none of which can write it
    ///
    /// Print the arguments that give a machine a virtio-pmem device with the image, quoted for a shell, or run COMMAND
    /// with them. All machines that are started with the same file hold one copy. QEMU maps it read-only. In the guest,
    /// mount /dev/pmem0. Of a file with a catalogue, machines see the images that daxfs catalog adds to it while they run.
    #[command(after_help = "\
Examples:
  daxfs share base.img -- qemu-system-x86_64 -m 1G,maxmem=4G ...
  args=$(daxfs share base.img) && eval \"qemu-system-x86_64 -m 1G,maxmem=4G $args\"
  daxfs share images -- qemu-system-x86_64 -m 1G,maxmem=4G ...")]
    Share(ShareArgs),
    /// Keep several images on one device
    ///
    /// A catalogue at the start of the device says where each image is. mount(8) mounts the active image,
    /// and others with the option image=NAME. catalogue.rst in share/doc/daxfs-doc describes the format.
    ///
    /// DEVICE is a block device such as /dev/pmem0, a DAX device in devdax mode, or a file, for
    /// example one that virtual machines map. All changes survive power loss: afterwards the catalogue
    /// is as it was before or after the change.
    #[command(
        subcommand,
        after_help = "\
Exit status:
  0 done, 1 failed, 2 wrong usage.

Examples:
  daxfs catalog init /dev/pmem0
  daxfs catalog add --activate /dev/pmem0 base-1 base-1.img
  mount -t daxfs /dev/pmem0 /mnt
  daxfs catalog add /dev/pmem0 base-2 base-2.img
  daxfs catalog activate /dev/pmem0 base-2
  daxfs catalog remove /dev/pmem0 base-1"
    )]
    Catalog(Catalog),
    /// Keep images in a store, in which each file's content is once
    ///
    /// Images of a store share the content of equal files, on disk and in memory. A store is a
    /// directory of files, of which one process at a time can change something.
    #[command(
        subcommand,
        after_help = "\
Examples:
  daxfs store add /srv/store base-1 rootfs
  daxfs store mount /srv/store base-1 /mnt"
    )]
    Store(Store),
}

/// Memory for an image, as `load --into` names it.
#[derive(Clone, Copy, Debug)]
pub enum Into {
    /// Memory of the mount.
    Kind(Kind),
    /// Physical memory.
    Range(Range),
}

impl FromStr for Into {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match Kind::named(text) {
            Some(kind) => Ok(Into::Kind(kind)),
            None if text.contains('=') => text.parse().map(Into::Range),
            None => Err("use memfd, hugetlb, heap or phys=ADDRESS,size=BYTES".into()),
        }
    }
}

const FSCK_EXIT: &str = "\
Exit status:
  0 clean, 4 errors found, 8 the check itself failed, 16 wrong usage, or a sum of these.";
