// SPDX-License-Identifier: GPL-2.0-only

//! `sign`: signs an image.

use super::common::{print, USAGE};
use clap::Args;
use daxfs_image::error::Result;
use daxfs_image::sign::{sign, By};
use std::path::PathBuf;
use std::process::ExitCode;

/// Sign an image
///
/// The signature, a CMS message (PKCS#7) of the image's SHA-256, follows the image in its file and
/// replaces an earlier signature. The image and its SHA-256, which is printed, do not change.
/// Damaged images, and images that other data follows, are refused.
///
/// openssl(1) makes the signature. The key must be RSA of 2048 to 4096 bits, or ECDSA on the curve
/// P-256 or P-384, because the kernel supports no others. Sign a file, not a device; daxfs load and
/// mount(8) copy the signature with the image.
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs sign --key key.pem --cert cert.pem base.img
  daxfs sign --key key.pem --cert cert.pem --expires $(date -d '1 year' +%s) base.img
  printf 'daxfs sha256 %s expires 1893456000\\n' $(daxfs digest base.img) |
    openssl cms -sign -binary -noattr -md sha256 -outform DER -inkey key.pem \\
      -signer cert.pem -out base.cms
  daxfs sign --attach base.cms --expires 1893456000 base.img")]
pub struct Sign {
    /// The image file
    image: PathBuf,
    /// The private key
    #[arg(short, long, required_unless_present = "attach", requires = "cert")]
    key: Option<PathBuf>,
    /// Its certificate, in PEM or DER
    #[arg(short, long, requires = "key")]
    cert: Option<PathBuf>,
    /// Certificate of an authority between the signer and the authorities that verifiers trust; may
    /// be repeated
    #[arg(long, value_name = "CERT", requires = "key")]
    chain: Vec<PathBuf>,
    /// Attach this CMS message in DER, made by another program
    ///
    /// The message must sign the line of the image and SECOND, and contain the signer's
    /// certificate. Certificates are not verified.
    #[arg(long, value_name = "CMS", conflicts_with = "key", requires = "expires")]
    attach: Option<PathBuf>,
    /// Last second, since 1970, in which the signature is valid
    ///
    /// The signature covers it. With --key, the default and the maximum is the end of the
    /// certificates in the signature.
    #[arg(long, value_name = "SECOND")]
    expires: Option<u64>,
}

impl Sign {
    pub fn run(self) -> Result<ExitCode> {
        let by = match (&self.attach, self.expires, &self.key, &self.cert) {
            (Some(file), Some(expires), ..) => By::Message(file, expires),
            (None, _, Some(key), Some(cert)) => By::Key(key, cert, &self.chain, self.expires),
            // The options require each other.
            _ => return Ok(ExitCode::from(USAGE)),
        };
        print(&sign(&self.image, by)?)
    }
}
