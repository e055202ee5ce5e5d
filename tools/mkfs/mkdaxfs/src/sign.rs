// SPDX-License-Identifier: GPL-2.0-only

//! Signs images as they are made.

use crate::options::Args;
use daxfs_check::memory::FileMemory;
use daxfs_reader::{Image, Superblock};
use daxfs_signature::attach::{self, Signer};
use daxfs_signature::files::{self, FileError, Why};
use daxfs_signature::Signed;
use daxfs_writer::tree::{Identity, Kind, Place, Tree};
use daxfs_writer::{Error, Output, Result};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Who signs.
pub struct Hand {
    signer: Signer,
    /// The file with the certificate.
    cert: PathBuf,
    /// The file with the private key.
    key: Identity,
    /// The image is padded to a multiple of this many bytes.
    padding: u64,
}

impl Hand {
    /// Return the signer that the options name, or `None` if the image is not to be signed. The
    /// output is to be a multiple of `padding` bytes.
    pub fn new(args: &Args, padding: u64) -> Result<Option<Self>> {
        let (Some(key), Some(cert)) = (&args.sign_key, &args.sign_cert) else {
            return Ok(None);
        };
        let file = fs::metadata(key).map_err(|error| Error::io(key, "open the file", error))?;
        let signer =
            files::signer(key, cert, &args.sign_chain, args.sign_expires).map_err(refuse)?;
        let cert = cert.clone();
        let hand = Hand {
            signer,
            cert,
            key: Identity {
                dev: file.dev(),
                ino: file.ino(),
            },
            padding,
        };
        // Do not make an image first that cannot be signed.
        hand.message(&[0; 32])?;
        Ok(Some(hand))
    }

    fn message(&self, digest: &[u8; 32]) -> Result<Signed> {
        let message = self.signer.sign(digest);
        message.map_err(|error| Error::refused(&self.cert, error))
    }

    /// Refuse to make an image of a tree that contains the file of the private key, or a hard link to
    /// it. A copy, and a member of an archive, are not found.
    ///
    /// Return [`Error::Refused`] for the file of the tree.
    pub fn check(&self, tree: &Tree) -> Result<()> {
        for (id, node) in (0..).zip(&tree.nodes) {
            let Kind::Regular { place, .. } = node.kind else {
                continue;
            };
            if matches!(place, Place::File { identity, .. } if identity == self.key) {
                let why = "is the private key of --sign-key, which all users of the image could \
                           read; move it elsewhere, or leave it out with --exclude";
                return Err(Error::refused(&tree.path(id), why));
            }
        }
        Ok(())
    }

    /// Sign the image in `output`, which has the SHA-256 `digest` and is complete. Read the signature
    /// back. Return the number of bytes of the output.
    pub fn sign(&self, output: &Output, digest: &[u8; 32]) -> Result<u64> {
        let (file, path) = (output.file(), output.path());
        let failed = |error| Error::output(path, "write the signature", error);
        let signed = self.message(digest)?;
        let superblock = {
            let memory = FileMemory::new(file).map_err(failed)?;
            Superblock::load(&memory).map_err(|error| Error::image(path, error))?
        };
        attach::write::<FileMemory<'_>>(file, &superblock, &signed, self.padding)
            .map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        // A device may be too small for it.
        output.reserve(size)?;
        let memory = FileMemory::new(file).map_err(failed)?;
        match attach::load(&Image::new(&memory, &superblock)) {
            Ok(Some(found)) if found == signed => Ok(size),
            Ok(_) => {
                let what =
                    "the signature reads back differently; the disk or the memory may be faulty";
                Err(Error::image(path, what))
            }
            Err(error) => Err(Error::image(path, error)),
        }
    }
}

fn refuse(FileError { path, why }: FileError) -> Error {
    match why {
        Why::Open(error) => Error::io(&path, "open the file", error),
        Why::Read(error) => Error::io(&path, "read the file", error),
        Why::Content(error) => Error::refused(&path, error),
    }
}
