// SPDX-License-Identifier: GPL-2.0-only

//! `info`: shows the superblock of an image.

use super::common::{on_image, ImageAt};
use crate::record::{header, pretty};
use clap::Args;
use daxfs_files::digest::hex;
use daxfs_files::memory::Storage;
use daxfs_files::stdout::written;
use daxfs_image::error::Result;
use daxfs_image::reader::Reader;
use daxfs_image::text::{label, shown, time};
use daxfs_reader::signature::Section;
use daxfs_reader::{layout, Superblock, Table};
use std::io::{self, Write};
use std::process::ExitCode;
use uuid::Uuid;

/// Show label, UUID, size and more of an image
#[derive(Args)]
#[command(after_help = "\
Examples:
  daxfs info base.img
  daxfs info --image base-2 /dev/pmem0
  daxfs info --json /dev/pmem0 | jq .uuid")]
pub struct Info {
    #[command(flatten)]
    image: ImageAt,
    /// Print JSON
    #[arg(long, conflicts_with = "udev")]
    json: bool,
    /// Print properties for udev rules: ID_FS_TYPE, ID_FS_LABEL, ID_FS_UUID and others
    #[arg(long)]
    udev: bool,
}

impl Info {
    pub fn run(self) -> Result<ExitCode> {
        let form = match (self.json, self.udev) {
            (true, _) => Form::Json,
            (_, true) => Form::Udev,
            _ => Form::Text,
        };
        on_image(&self.image.open()?, |reader, out| info(reader, form, out))
    }
}

/// Output format of `info`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text.
    Text,
    /// JSON.
    Json,
    /// Properties for udev rules.
    Udev,
}

/// Shows the superblock.
pub fn info<S: Storage>(reader: &Reader<'_, S>, form: Form, out: &mut impl Write) -> Result<()> {
    let superblock = reader.image.superblock();
    match form {
        Form::Text => {
            let section = Section::find(reader.image.memory(), superblock);
            let signature = section.ok().flatten();
            Ok(written(info_text(
                superblock,
                &reader.packs()?,
                signature,
                out,
            ))?)
        }
        Form::Json => {
            let header = header(reader, Some("daxfs-info-1"))?;
            Ok(written(pretty(out, &header))?)
        }
        Form::Udev => Ok(written(info_udev(superblock, out))?),
    }
}

fn info_text(
    superblock: &Superblock,
    packs: &[layout::Pack],
    signature: Option<Section>,
    out: &mut impl Write,
) -> io::Result<()> {
    let (sec, nsec) = superblock.build_time;
    writeln!(out, "Format version: {}", layout::VERSION)?;
    writeln!(out, "Label:          {}", shown(label(superblock)))?;
    let uuid = Uuid::from_bytes(superblock.uuid);
    writeln!(out, "UUID:           {uuid}")?;
    writeln!(out, "Build time:     {} UTC", time(sec, nsec))?;
    writeln!(out, "Image size:     {} bytes", superblock.total_size)?;
    writeln!(out, "Block size:     {} bytes", superblock.block_size)?;
    writeln!(out, "Inodes:         {}", superblock.inode_count())?;
    writeln!(
        out,
        "Features:       compatible {:#x}, incompatible {:#x}",
        superblock.compat, superblock.incompat
    )?;
    let composed = (!packs.is_empty()).then_some(("Pack table:", superblock.packs));
    let tables = [
        ("Inode table:", superblock.inodes),
        ("Dirent table:", superblock.dirents),
        ("Names:", superblock.names),
        ("Xattrs:", superblock.xattrs),
    ];
    let data = ("Data:", superblock.data);
    for (name, table) in tables.into_iter().chain(composed).chain([data]) {
        writeln!(
            out,
            "{name:15} {} bytes from {:#x}",
            table.length, table.offset
        )?;
    }
    writeln!(
        out,
        "Metadata:       CRC-32C {:08x}",
        superblock.metadata_crc
    )?;
    writeln!(out, "SHA-256:        {}", hex(&superblock.sha256))?;
    for pack in packs {
        let (sha256, size) = (hex(&pack.sha256), pack.total_size);
        writeln!(out, "Pack:           {sha256}, {size} bytes")?;
    }
    if let Some(sums) = superblock.sums() {
        let (length, offset) = (sums.length, sums.offset);
        writeln!(out, "Piece sums:     {length} bytes from {offset:#x}")?;
    }
    if let Some(signature) = signature {
        let Table { length, offset } = signature.table;
        // The latest second that a certificate can contain.
        let end = signature.line().expires.min(253_402_300_799);
        let end = time(end as i64, 0);
        writeln!(
            out,
            "Signature:      {length} bytes from {offset:#x}, expires {end} UTC"
        )?;
    }
    Ok(())
}

/// Writes the properties that udev's own probes set, so that `/dev/disk/by-label` and `by-uuid`
/// lead here.
fn info_udev(superblock: &Superblock, out: &mut impl Write) -> io::Result<()> {
    let uuid = Uuid::from_bytes(superblock.uuid);
    writeln!(out, "ID_FS_TYPE=daxfs")?;
    writeln!(out, "ID_FS_USAGE=filesystem")?;
    writeln!(out, "ID_FS_VERSION={}", layout::VERSION)?;
    writeln!(out, "ID_FS_UUID={uuid}")?;
    writeln!(out, "ID_FS_UUID_ENC={uuid}")?;
    let label = label(superblock);
    if !label.is_empty() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte);
        let (mut safe, mut encoded) = (String::new(), String::new());
        for chunk in label.utf8_chunks() {
            for c in chunk.valid().chars() {
                let known = u8::try_from(c).is_ok_and(plain) || (!c.is_ascii() && !c.is_control());
                if known {
                    safe.push(c);
                    encoded.push(c);
                } else {
                    safe.push('_');
                    let mut bytes = [0; 4];
                    for byte in c.encode_utf8(&mut bytes).bytes() {
                        encoded += &format!("\\x{byte:02x}");
                    }
                }
            }
            for byte in chunk.invalid() {
                safe.push('_');
                encoded += &format!("\\x{byte:02x}");
            }
        }
        writeln!(out, "ID_FS_LABEL={safe}")?;
        writeln!(out, "ID_FS_LABEL_ENC={encoded}")?;
    }
    Ok(())
}
