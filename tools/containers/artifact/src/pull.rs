// SPDX-License-Identifier: GPL-2.0-only

//! `pull`: takes images out of an image layout, and checks them before they get their names.

use crate::blob::{Counted, Fault, Head};
use crate::layout::{sync, temporary, Layout};
use crate::manifest::{
    Descriptor, Manifest, ARTIFACT, DIGEST, LABEL, LAYER, LAYER_ZSTD, SIGNATURE, SIZE, TITLE, UUID,
};
use crate::reference::Reference;
use daxfs_check::digest::{hex, parse_hex};
use daxfs_check::Progress;
use daxfs_command::bar::Bar;
use daxfs_command::signals::Interrupt;
use daxfs_image::chain;
use daxfs_image::digest::digest_until;
use daxfs_image::error::{Error, Result};
use daxfs_image::handle_signals;
use daxfs_image::sign;
use daxfs_image::source::{open_now, Opened};
use daxfs_image::text::label;
use daxfs_image::text::{is_control, shown, shown_path};
use daxfs_reader::layout::{self, HUGE_SIZE, SIGNATURE_MAX};
use daxfs_reader::{Image, Superblock};
use daxfs_signature::{attach, Certificate, Signed};
use daxfs_writer::parent_of;
use sha2::Digest;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Most layers of an artifact.
const LAYERS: usize = 256;

/// Bytes that are written together. Pieces of zeros become holes.
const PIECE: usize = 64 << 10;

/// Conditions for the images of an artifact.
pub struct Demands<'a> {
    /// One of the owners of these certificates has signed each image, unless there are none.
    pub certs: &'a [PathBuf],
    /// The SHA-256 of the image.
    pub digest: Option<&'a str>,
    /// Limit of the bytes of all images.
    pub max_size: Option<u64>,
}

/// Take the images of the artifact `reference` out of its layout, to a file, or to an existing directory under
/// the names that the artifact gives them. Return the SHA-256 and the path of each.
///
/// Leave no file after an error: a damaged, incomplete or untrusted artifact, or a file that
/// exists.
pub fn pull(
    reference: &OsStr,
    target: &Path,
    demands: &Demands<'_>,
) -> Result<Vec<(String, PathBuf)>> {
    let reference = Reference::parse(reference)?;
    let certs = sign::certificates(demands.certs)?;
    let interrupt = handle_signals()?;
    let layout = Layout::open(&reference)?;
    let artifact = Artifact {
        layout: &layout,
        certs: &certs,
        digest: demands.digest,
        max_size: demands.max_size,
        interrupt: &interrupt,
    };
    let result = artifact.pull(target);
    if result.is_err() {
        interrupt.obey();
    }
    result
}

/// An artifact, and further conditions for its images.
struct Artifact<'a> {
    layout: &'a Layout<'a>,
    /// If not empty, one of their owners must have signed.
    certs: &'a [Certificate],
    /// The SHA-256 of the image.
    digest: Option<&'a str>,
    /// Limit of the bytes of all images.
    max_size: Option<u64>,
    interrupt: &'a Interrupt,
}

impl Artifact<'_> {
    fn pull(&self, target: &Path) -> Result<Vec<(String, PathBuf)>> {
        let layers = self.layers()?;
        let paths = self.paths(&layers, target)?;
        let mut images = Vec::new();
        let mut left = self.max_size.unwrap_or(u64::MAX);
        for (layer, path) in layers.iter().zip(&paths) {
            if let Some(signed) = self.signature(layer)? {
                self.signed(layer, &signed)?;
            }
            left = left.checked_sub(self.size(layer)?).ok_or_else(|| {
                let limit = self.max_size.unwrap_or(u64::MAX);
                let why = format!("the images have more than {limit} bytes; raise --max-size");
                self.layout.refuse(why)
            })?;
            let (file, digest) = self.image(layer, path)?;
            images.push((digest, file, path));
        }
        self.interrupt.check()?;
        // All are complete and verified. Give them their names.
        let mut done: Vec<(String, PathBuf)> = Vec::new();
        let mut created = Vec::new();
        for (layer, (digest, file, path)) in layers.iter().zip(images) {
            match file.persist_noclobber(path) {
                Ok(_) => created.push(path),
                Err(error) => {
                    let exists_already = error.error.kind() == io::ErrorKind::AlreadyExists;
                    if !(exists_already && target.is_dir() && self.same(layer, path, &digest)) {
                        for path in created {
                            // The error is more important.
                            let _ = std::fs::remove_file(path);
                        }
                        return Err(match exists_already {
                            true => exists(path),
                            false => {
                                Error::system(shown_path(path), "cannot create", "", error.error)
                            }
                        });
                    }
                }
            }
            done.push((digest, path.clone()));
        }
        let parents: BTreeSet<&Path> = paths.iter().map(|path| parent_of(path)).collect();
        parents.into_iter().try_for_each(sync)?;
        Ok(done)
    }

    /// Is the file `path` an image with this SHA-256 that could have come from `layer`? Its signature
    /// may be another one of an owner who is trusted: two with the same ECDSA key are different.
    fn same(&self, layer: &Descriptor, path: &Path, digest: &str) -> bool {
        let regular = path.symlink_metadata().is_ok_and(|status| status.is_file());
        let file = || open_now(path).ok();
        let found = |file| self.check(layer, file, path, None).ok();
        regular && file().and_then(found).is_some_and(|found| found == digest)
    }

    /// Return the layers of the artifact.
    fn layers(&self) -> Result<Vec<Descriptor>> {
        let descriptor = self.layout.manifest()?;
        let manifest: Manifest = self.layout.read(&descriptor)?;
        let kind = manifest.artifact_type.as_deref();
        if kind != Some(ARTIFACT) {
            return Err(self.layout.refuse(format!(
                "is of the type {}, not {ARTIFACT}; mkdaxfs makes images of container images",
                kind.unwrap_or(&manifest.config.media_type).escape_debug()
            )));
        }
        for layer in &manifest.layers {
            if layer.media_type != LAYER && layer.media_type != LAYER_ZSTD {
                return Err(self.layout.refuse(format!(
                    "the layer {} is of the type {}; {LAYER} and {LAYER_ZSTD} are supported",
                    layer.digest.escape_debug(),
                    layer.media_type.escape_debug()
                )));
            }
        }
        if manifest.layers.len() > LAYERS {
            let why = format!("has more than {LAYERS} layers; push fewer images together");
            return Err(self.layout.refuse(why));
        }
        if manifest.layers.is_empty() {
            return Err(self.layout.refuse("has no layers, and so no image"));
        }
        if self.digest.is_some() && manifest.layers.len() > 1 {
            let why = "has several images; --digest is for artifacts of one";
            return Err(self.layout.refuse(why));
        }
        Ok(manifest.layers)
    }

    /// Return the path of each image. Files exist only in a directory; they are compared later.
    fn paths(&self, layers: &[Descriptor], target: &Path) -> Result<Vec<PathBuf>> {
        let paths = match (layers, target.is_dir()) {
            ([_], false) => vec![target.to_path_buf()],
            (_, false) => {
                let why = format!("has {} images; name an existing directory", layers.len());
                return Err(self.layout.refuse(why));
            }
            (_, true) => {
                let paths = layers.iter().map(|layer| {
                    let title = layer.annotation(TITLE).unwrap_or_default();
                    let bad = |c: char| c == '/' || is_control(c);
                    // A name that starts with a dot is hidden, or means something to a shell.
                    let usable = !title.is_empty() && !title.starts_with('.');
                    if usable && !title.contains(bad) && title.len() <= 255 {
                        return Ok(target.join(title));
                    }
                    Err(self.layout.refuse(format!(
                        "the layer {} has the file name '{}', which cannot be used; \
                         name a file instead of a directory",
                        layer.digest.escape_debug(),
                        title.escape_debug()
                    )))
                });
                paths.collect::<Result<Vec<_>>>()?
            }
        };
        let mut names = BTreeSet::new();
        for path in &paths {
            if !target.is_dir() && path.symlink_metadata().is_ok() {
                return Err(exists(path));
            }
            if !names.insert(path) {
                let why = "is the name of two images of the artifact; it is malformed";
                return Err(Error::refused(shown_path(path), why));
            }
        }
        Ok(paths)
    }

    /// Return the signature in the annotations of `layer`. Other programs do not write it.
    fn signature(&self, layer: &Descriptor) -> Result<Option<Signed>> {
        let Some(text) = layer.annotation(SIGNATURE) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(signed) => Ok(Some(signed)),
            Err(error) => Err(self.layout.refuse(format!(
                "the annotation {SIGNATURE} of {}: {error}",
                name(layer)
            ))),
        }
    }

    /// Verify the signature in the annotations before anything is copied.
    fn signed(&self, layer: &Descriptor, signed: &Signed) -> Result<()> {
        if self.certs.is_empty() {
            return Ok(());
        }
        let digest = layer
            .annotation(DIGEST)
            .and_then(parse_hex)
            .ok_or_else(|| {
                let why = format!("{} has no annotation {DIGEST} to verify", name(layer));
                self.layout.refuse(why)
            })?;
        daxfs_signature::verify(signed, &digest, self.certs, daxfs_signature::now())
            .map_err(|error| self.layout.refuse(format!("{}: {error}", name(layer))))
    }

    /// Copy the image of `layer` to a temporary file beside `path`, and check it. Return the file
    /// and the SHA-256 of the image.
    fn image(&self, layer: &Descriptor, path: &Path) -> Result<(NamedTempFile, String)> {
        let file = temporary(path)?;
        self.copy(layer, &file)?;
        let clone = file.as_file().try_clone();
        let clone =
            clone.map_err(|error| Error::system(name(layer), "cannot open again", "", error))?;
        let digest = self.check(layer, clone, path, self.signature(layer)?)?;
        let failed = |error| Error::system(shown_path(path), "cannot write", "", error);
        file.as_file().sync_all().map_err(failed)?;
        Ok((file, digest))
    }

    /// Return the number of bytes of `layer` when it is not compressed, as it says.
    fn size(&self, layer: &Descriptor) -> Result<u64> {
        let size = layer.annotation(SIZE).map(str::parse::<u64>);
        match (size, layer.media_type == LAYER_ZSTD) {
            (Some(Ok(size)), _) => Ok(size),
            (None, false) => Ok(layer.size),
            _ => Err(self.layout.refuse(format!(
                "{} has no number of bytes in the annotation {SIZE}; \
                 push it again with daxfs push, or without compression",
                name(layer)
            ))),
        }
    }

    /// Refuse a blob that starts with `bytes` and should have `size` of them, before it fills the
    /// disk: an image ends soon after what its superblock says.
    fn plausible(&self, bytes: &[u8], size: u64) -> std::result::Result<(), Fault> {
        let superblock = Superblock::load(&Head(bytes)).map_err(Fault::Image)?;
        let signature = (size_of::<layout::Signature>() as u64) + u64::from(SIGNATURE_MAX);
        let end = superblock.signature_offset().saturating_add(signature);
        let end = end.max(superblock.stored_size());
        match end.checked_next_multiple_of(HUGE_SIZE) {
            Some(most) if size > most => Err(Fault::Long(most)),
            _ => Ok(()),
        }
    }

    /// Copy the blob of `layer` to `file`, and compare it with its digest.
    fn copy(&self, layer: &Descriptor, file: &NamedTempFile) -> Result<()> {
        let blob = self.layout.blob(layer)?;
        let limit = self.size(layer)?;
        let mut blob = Counted::new(blob, layer.size);
        let bar = Bar::of("copying", limit);
        let result = match layer.media_type == LAYER_ZSTD {
            false => self.pieces(&mut blob, limit, file, &bar),
            true => zstd::Decoder::new(&mut blob)
                .map_err(Fault::Read)
                .and_then(|mut decoder| self.pieces(&mut decoder, limit, file, &bar)),
        };
        let length = blob.length;
        let digest = &layer.digest;
        result.map_err(|fault| match fault {
            Fault::Read(error) => self.layout.refuse(format!(
                "the blob {digest} cannot be read at byte {length}: {error}; copy it again"
            )),
            Fault::Size(found) => self.layout.refuse(format!(
                "the blob {digest} holds {} {limit} bytes that {SIZE} says; push it again",
                match found {
                    Some(found) => format!("{found} bytes instead of the"),
                    None => "more than the".into(),
                }
            )),
            Fault::Image(error) => self.layout.refuse(format!(
                "the blob {digest} starts with no superblock: {error}; copy it again"
            )),
            Fault::Long(most) => self.layout.refuse(format!(
                "the blob {digest} holds {limit} bytes, its superblock says at most {most}; \
                 push it again"
            )),
            Fault::Other(error) => error,
        })?;
        // The decoder may have left bytes.
        let rest = io::copy(&mut blob, &mut io::sink());
        rest.map_err(|error| Error::system(digest, "cannot read", "", error))?;
        let found = format!("sha256:{}", hex(&blob.hash.finalize()));
        if blob.length != layer.size || found != *digest {
            return Err(self.layout.refuse(format!(
                "the blob {digest} is damaged: its {} bytes have the digest {found}; copy it again",
                blob.length
            )));
        }
        Ok(())
    }

    /// Copy `limit` bytes to `file`, with holes for zeros.
    fn pieces(
        &self,
        from: &mut dyn Read,
        limit: u64,
        file: &NamedTempFile,
        bar: &Bar,
    ) -> std::result::Result<(), Fault> {
        let failed = |error| {
            let remedy = "; the directory must have room for the image";
            Fault::Other(Error::system(
                shown_path(file.path()),
                "cannot write",
                remedy,
                error,
            ))
        };
        let mut piece = Vec::with_capacity(PIECE);
        let mut offset = 0;
        loop {
            self.interrupt
                .check()
                .map_err(|error| Fault::Other(error.into()))?;
            piece.clear();
            let read = (&mut *from).take(PIECE as u64).read_to_end(&mut piece);
            let length = read.map_err(Fault::Read)?;
            if offset == 0 {
                self.plausible(&piece, limit)?;
            }
            if length as u64 > limit - offset {
                return Err(Fault::Size(None));
            }
            if piece.iter().any(|&byte| byte != 0) {
                file.as_file()
                    .write_all_at(&piece, offset)
                    .map_err(failed)?;
            }
            offset += length as u64;
            bar.advance(length as u64);
            if length < PIECE {
                break;
            }
        }
        if offset != limit {
            return Err(Fault::Size(Some(offset)));
        }
        file.as_file().set_len(limit).map_err(failed)
    }

    /// Check the image in `file` against its superblock, the annotations of `layer`, its name `path`, and the trusted
    /// certificates. Its signature must be `annotated`, if that is given. Return its SHA-256.
    fn check(
        &self,
        layer: &Descriptor,
        file: File,
        path: &Path,
        annotated: Option<Signed>,
    ) -> Result<String> {
        let opened = Opened::of_file(file, format!("{}: {}", self.layout.name(), name(layer)))?;
        let digest = hex(&digest_until(&opened, self.interrupt)?);
        let uuid = uuid::Uuid::from_bytes(opened.superblock.uuid).to_string();
        let label = shown(label(&opened.superblock));
        for (annotation, found) in [(DIGEST, &digest), (UUID, &uuid), (LABEL, &label)] {
            match layer.annotation(annotation) {
                Some(value) if value != found => {
                    return Err(self.layout.refuse(format!(
                        "{} has {found}, its annotation {annotation} says {}; push it again",
                        name(layer),
                        value.escape_debug()
                    )))
                }
                _ => (),
            }
        }
        // No signature covers the name, but one covers the label.
        match path.file_name().and_then(chain::of_file_name) {
            Some(chain_id) if chain_id != label => {
                return Err(self.layout.refuse(format!(
                    "{} has the label '{label}', so it is not the image of the layer {chain_id}; \
                     make it with mkdaxfs --layers=chain-id",
                    name(layer)
                )));
            }
            _ => (),
        }
        if let Some(wanted) = self.digest.filter(|wanted| **wanted != digest) {
            return Err(self.layout.refuse(format!(
                "the SHA-256 of {} is {digest}, not {wanted}; it is another image",
                name(layer)
            )));
        }
        let image = Image::new(&opened.source, &opened.superblock);
        let signed =
            attach::load(&image).map_err(|error| Error::image(&opened.name, b"", error))?;
        if annotated.is_some() && signed != annotated {
            return Err(self.layout.refuse(format!(
                "the signature of {} differs from its annotation {SIGNATURE}; push it again",
                name(layer)
            )));
        }
        if !self.certs.is_empty() {
            let signed = signed.ok_or_else(|| {
                self.layout.refuse(format!(
                    "the image {} is not signed; sign it with daxfs sign and push it again",
                    name(layer)
                ))
            })?;
            let sha256 = &opened.superblock.sha256;
            daxfs_signature::verify(&signed, sha256, self.certs, daxfs_signature::now())
                .map_err(|error| self.layout.refuse(format!("{}: {error}", name(layer))))?;
        }
        Ok(digest)
    }
}

/// Return the name of a layer in messages.
fn name(layer: &Descriptor) -> String {
    let name = layer.annotation(TITLE).unwrap_or(&layer.digest);
    name.escape_debug().to_string()
}

fn exists(path: &Path) -> Error {
    let why = "exists; remove it, or name another file";
    Error::refused(shown_path(path), why)
}
