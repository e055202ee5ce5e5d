// SPDX-License-Identifier: GPL-2.0-only

//! `verify`: verifies the signature and the content of an image.

use super::common::{print, ImageAt};
use clap::Args;
use daxfs_image::error::Result;
use daxfs_image::packs::PackFiles;
use daxfs_image::sign::verify;
use std::path::PathBuf;
use std::process::ExitCode;

/// Verify the signature and the content of an image
///
/// Use the certificate of the signer, or of an authority that leads to the signer's through
/// certificates in the signature. All of them must be valid now, and the signature must not have
/// expired. Then the whole image is compared with the signed SHA-256, which is printed, and all
/// packs with theirs: those in the image's store, or those that you name. openssl(1) verifies the
/// signature, and ignores revocation lists and the key usage in certificates.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs verify --cert cert.pem base.img")]
pub struct Verify {
    #[command(flatten)]
    image: ImageAt,
    #[command(flatten)]
    packs: PackFiles,
    /// Trusted certificate, in PEM or DER; may be repeated
    #[arg(short, long, required = true)]
    cert: Vec<PathBuf>,
}

impl Verify {
    pub fn run(self) -> Result<ExitCode> {
        print(&verify(&self.image.open_with(&self.packs)?, &self.cert)?)
    }
}
