// SPDX-License-Identifier: GPL-2.0-only

//! `push`: puts images into an image layout.

use crate::layout::{is_digest, Layout};
use crate::manifest::{
    Descriptor, Manifest, ARTIFACT, DIGEST, EMPTY, EMPTY_CONTENT, LABEL, LAYER, LAYER_ZSTD,
    MANIFEST, REF_NAME, SIGNATURE, SIZE, TITLE, UUID,
};
use crate::reference::Reference;
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use daxfs_check::digest::hex;
use daxfs_check::Progress;
use daxfs_command::bar::Bar;
use daxfs_command::signals::Interrupt;
use daxfs_image::digest::digest_until;
use daxfs_image::error::{Error, Result};
use daxfs_image::handle_signals;
use daxfs_image::source::Opened;
use daxfs_image::text::label;
use daxfs_image::text::{is_control, shown, shown_path};
use daxfs_reader::layout::HUGE_SIZE;
use daxfs_reader::{Image, Memory};
use daxfs_signature::attach;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes that are read together.
const PIECE: u64 = 1 << 20;

/// How to store images.
pub struct Options<'a> {
    /// Level for compression with zstd.
    pub zstd: Option<i32>,
    /// Name or digest of a manifest in the same layout that the images belong to.
    pub subject: Option<&'a str>,
    /// Replace what has the name, also if it is not an artifact of daxfs.
    pub force: bool,
}

/// Put `images` into the layout that `reference` names, as one artifact. Return the digest of its manifest.
///
/// After an error, the index of the layout is as before.
pub fn push(reference: &OsStr, images: &[PathBuf], options: &Options<'_>) -> Result<String> {
    let reference = Reference::parse(reference)?;
    let interrupt = handle_signals()?;
    let result = artifact(&reference, images, options, &interrupt);
    if result.is_err() {
        interrupt.obey();
    }
    result
}

fn artifact(
    reference: &Reference,
    images: &[PathBuf],
    options: &Options<'_>,
    interrupt: &Interrupt,
) -> Result<String> {
    let mut titles = BTreeSet::new();
    for image in images {
        if !titles.insert(title(image)?) {
            let why = "has the same file name as another one of the images; rename one";
            return Err(Error::refused(shown_path(image), why));
        }
    }
    if reference.name.as_deref().is_some_and(is_digest) {
        return Err(reference.refuse("has a digest as its name; write oci:DIRECTORY:NAME"));
    }
    let layout = Layout::create(reference, interrupt)?;
    if !options.force {
        layout.replaceable()?;
    }
    let subject = options.subject;
    let subject = subject.map(|name| layout.other(name)).transpose()?;
    let mut layers = Vec::new();
    for image in images {
        layers.push(layer(&layout, image, options.zstd, interrupt)?);
    }
    let mut config = Descriptor::new(EMPTY, layout.put(EMPTY_CONTENT)?, 2);
    config.data = Some(STANDARD.encode(EMPTY_CONTENT));
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.into()),
        artifact_type: Some(ARTIFACT.into()),
        config,
        layers,
        subject,
    })?;
    let digest = layout.put(&manifest)?;
    let mut entry = Descriptor::new(MANIFEST, digest.clone(), manifest.len() as u64);
    entry.artifact_type = Some(ARTIFACT.into());
    if let Some(name) = &reference.name {
        entry.annotations.insert(REF_NAME.into(), name.clone());
    }
    layout.publish(&entry, options.force, interrupt)?;
    Ok(digest)
}

/// Return the file name of an image, which must be UTF-8.
fn title(image: &Path) -> Result<String> {
    let name = match image.as_os_str() == "-" {
        true => Some("image.daxfs"),
        false => image.file_name().and_then(OsStr::to_str),
    };
    match name {
        Some(name) if !name.contains(is_control) => Ok(name.into()),
        _ => {
            let why = "has no file name that an annotation can hold; rename it";
            Err(Error::refused(shown_path(image), why))
        }
    }
}

/// Put the image at `path` into the layout. Return its layer.
fn layer(
    layout: &Layout<'_>,
    path: &Path,
    zstd: Option<i32>,
    interrupt: &Interrupt,
) -> Result<Descriptor> {
    let opened = Opened::open(path)?;
    let digest = digest_until(&opened, interrupt)?;
    let image = Image::new(&opened.source, &opened.superblock);
    let signature = attach::load(&image).map_err(|error| Error::image(&opened.name, b"", error))?;
    let mut size = attach::stored_size(&image);
    // A virtual machine needs a multiple of 2 MiB: keep it.
    let padded = size.next_multiple_of(HUGE_SIZE);
    if opened.source.size() % HUGE_SIZE == 0 && padded <= opened.source.size() {
        size = padded;
    }
    let (media_type, blob, length) = blob(layout, &opened, size, zstd, interrupt)?;
    let mut layer = Descriptor::new(media_type, blob, length);
    let label = shown(label(&opened.superblock));
    let uuid = uuid::Uuid::from_bytes(opened.superblock.uuid);
    layer.annotations.extend(
        [
            (TITLE, Some(title(path)?)),
            (DIGEST, Some(hex(&digest))),
            (UUID, Some(uuid.to_string())),
            (LABEL, Some(label).filter(|label| !label.is_empty())),
            (SIZE, Some(size.to_string())),
            (SIGNATURE, signature.map(|signed| signed.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.into(), value?))),
    );
    Ok(layer)
}

/// Copy `size` bytes of an image to a blob. Return its type, its digest and its size.
fn blob(
    layout: &Layout<'_>,
    image: &Opened,
    size: u64,
    zstd: Option<i32>,
    interrupt: &Interrupt,
) -> Result<(&'static str, String, u64)> {
    let file = layout.temporary()?;
    let failed = |error| Error::system(shown_path(file.path()), "cannot write", "", error);
    let out = Counted {
        file: file.as_file().try_clone().map_err(failed)?,
        hash: Sha256::new(),
        length: 0,
    };
    let (media_type, out) = match zstd {
        None => {
            let mut out = out;
            copy(image, size, &mut out, &failed, interrupt)?;
            (LAYER, out)
        }
        Some(level) => {
            let mut encoder = zstd::Encoder::new(out, level).map_err(failed)?;
            copy(image, size, &mut encoder, &failed, interrupt)?;
            (LAYER_ZSTD, encoder.finish().map_err(failed)?)
        }
    };
    let digest = format!("sha256:{}", hex(&out.hash.finalize()));
    layout.add(file, &digest)?;
    Ok((media_type, digest, out.length))
}

fn copy(
    image: &Opened,
    size: u64,
    out: &mut impl Write,
    failed: &dyn Fn(io::Error) -> Error,
    interrupt: &Interrupt,
) -> Result<()> {
    let bar = Bar::of("copying", size);
    let mut piece = vec![0; PIECE as usize];
    let mut offset = 0;
    while offset < size {
        interrupt.check()?;
        let length = PIECE.min(size - offset);
        let piece = &mut piece[..length as usize];
        image
            .source
            .read(offset, piece)
            .map_err(|error| Error::image(&image.name, b"", error))?;
        out.write_all(piece).map_err(failed)?;
        offset += length;
        bar.advance(length);
    }
    Ok(())
}

/// A file with the digest and the number of the bytes that are written to it.
struct Counted {
    file: std::fs::File,
    hash: Sha256,
    length: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
