// SPDX-License-Identifier: GPL-2.0-only

//! The command lines of `push` and `pull`.

use clap::Args;
use daxfs_command::values;
use std::ffi::OsString;
use std::path::PathBuf;

/// Put images into an OCI image layout, as an artifact
///
/// REFERENCE is oci:DIRECTORY:NAME. The directory is made if it does not exist. The artifact has
/// a layer for each image, and replaces another artifact of that name in the index of the layout.
/// Print the digest of its manifest. skopeo(1), oras and the like copy artifacts between a
/// layout and a registry. A damaged image is refused.
///
/// Sums and signatures are copied with an image. /usr/share/doc/daxfs-doc/containers.rst describes the
/// types and annotations.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs push oci:layout:base-1 base.img
  skopeo copy oci:layout:base-1 docker://registry.example/base:1")]
pub struct Push {
    /// Where to put the images: oci:DIRECTORY:NAME
    pub reference: OsString,
    /// The images
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Compress the images with zstd
    ///
    /// The level is 1 to 22, and 3 by default.
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "3", value_parser = clap::value_parser!(i32).range(1..=22))]
    pub zstd: Option<i32>,
    /// Name or digest of a manifest in the same layout that the images belong to
    ///
    /// It becomes the subject of the artifact, so that registries list the artifact among the
    /// referrers of the container image.
    #[arg(long, value_name = "NAME")]
    pub subject: Option<String>,
    /// Replace the entry with the name, even if it is not an artifact of daxfs
    #[arg(short, long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Take images out of an OCI image layout
///
/// REFERENCE is oci:DIRECTORY:NAME; the name may be a digest, and is needed only if there are
/// several artifacts. TARGET is a file that does not exist, or a directory for files with the
/// names that the artifact has for them. The digest of each blob, the SHA-256 of each image and
/// the annotations are compared before a file gets its name. In a directory, a file that exists
/// stays if it is the same image. A failure or a signal leaves nothing. Print the SHA-256 of each image, and for a directory its path.
#[derive(Args)]
#[command(after_help = "\
Examples:
  skopeo copy docker://registry.example/base:1 oci:layout:base-1
  daxfs pull --cert cert.pem oci:layout:base-1 base.img")]
pub struct Pull {
    /// Which artifact: oci:DIRECTORY:NAME
    pub reference: OsString,
    /// A file, or a directory
    pub target: PathBuf,
    /// A certificate that is trusted, in PEM or DER; may be repeated
    ///
    /// Refuse images without a signature that daxfs verify accepts with these certificates.
    #[arg(short, long)]
    pub cert: Vec<PathBuf>,
    /// Refuse an image with another SHA-256 than this one, which daxfs digest prints
    #[arg(long, value_name = "SHA256", value_parser = values::sha256)]
    pub digest: Option<String>,
    /// Refuse images that have together more than SIZE bytes when they are not compressed
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub max_size: Option<u64>,
    /// Print a line of JSON for each image
    #[arg(long)]
    pub json: bool,
}
