// SPDX-License-Identifier: GPL-2.0-only

//! Files and the superblock of an image in JSON.

use daxfs_check::digest::hex;
use daxfs_check::memory::Storage;
use daxfs_image::error::Result;
use daxfs_image::reader::{buffer_for, Reader, Xattr};
use daxfs_image::text::{label, type_name, Bytes};
use daxfs_reader::memory::load;
use daxfs_reader::{layout, Content, Inode, Table};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Seconds since 1970, and nanoseconds within the second.
#[derive(Serialize)]
pub struct Time {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: u32,
}

/// Numbers of a device.
#[derive(Serialize)]
struct Device {
    major: u32,
    minor: u32,
}

/// An extended attribute.
#[derive(Serialize)]
struct NameValue<'a> {
    name: Bytes<'a>,
    value: Bytes<'a>,
}

/// A file.
#[derive(Serialize)]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'static str>,
    path: Bytes<'a>,
    ino: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    nlink: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<NameValue<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// A value, and the schema that describes its JSON form.
#[derive(Serialize)]
pub struct Versioned<T> {
    /// The name of the schema and its version, as in Documentation/daxfs.schema.json.
    pub schema: &'static str,
    /// The value.
    #[serde(flatten)]
    pub value: T,
}

/// Return the file `inode` at `path` in JSON, with the SHA-256 of its content if `sums`. Name its
/// `schema` unless it is part of a larger value.
pub fn file<S: Storage>(
    reader: &Reader<'_, S>,
    path: &[u8],
    inode: &Inode,
    sums: bool,
    schema: Option<&'static str>,
) -> Result<String> {
    let xattrs: Vec<Xattr> = reader.xattrs(inode, path)?;
    let target = reader.target(inode, path)?;
    let sha256 = match inode.content {
        Content::Regular { .. } | Content::MetadataOnly if sums => {
            let mut hash = Sha256::new();
            reader.content(
                inode,
                path,
                &mut vec![0; buffer_for(inode)],
                &mut |_, piece| {
                    hash.update(piece);
                    Ok(())
                },
            )?;
            Some(hex(&hash.finalize()))
        }
        _ => None,
    };
    let file = File {
        schema,
        path: Bytes(path),
        ino: inode.ino,
        kind: type_name(inode.file_type),
        mode: format!("{:04o}", inode.permissions()),
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        size: inode.size,
        mtime: Time {
            sec: inode.mtime_sec,
            nsec: inode.mtime_nsec,
        },
        data_offset: match inode.content {
            Content::Regular { data } if inode.size > 0 => Some(data),
            _ => None,
        },
        target: matches!(inode.content, Content::Symlink { .. }).then_some(Bytes(&target)),
        device: match inode.content {
            Content::Device { major, minor } => Some(Device { major, minor }),
            _ => None,
        },
        xattrs: xattrs
            .iter()
            .map(|xattr| NameValue {
                name: Bytes(&xattr.name),
                value: Bytes(&xattr.value),
            })
            .collect(),
        sha256,
    };
    Ok(serde_json::to_string(&file)?)
}

/// Offset and length of a table.
#[derive(Serialize)]
struct TableRecord {
    offset: u64,
    length: u64,
}

impl From<Table> for TableRecord {
    fn from(table: Table) -> Self {
        TableRecord {
            offset: table.offset,
            length: table.length,
        }
    }
}

/// All tables.
#[derive(Serialize)]
struct Tables {
    inodes: TableRecord,
    dirents: TableRecord,
    names: TableRecord,
    xattrs: TableRecord,
    data: TableRecord,
}

/// The superblock.
#[derive(Serialize)]
pub struct Header<'a> {
    version: u32,
    /// The label without padding.
    pub label: Bytes<'a>,
    /// The UUID in the usual form.
    pub uuid: String,
    build_time: Time,
    block_size: u32,
    total_size: u64,
    /// Bytes of the file or device that holds the image.
    region_size: u64,
    compat: u64,
    /// Features that a reader must know.
    pub incompat: u64,
    root: u32,
    inodes: u64,
    tables: Tables,
    metadata_crc32c: String,
    /// The SHA-256 in the superblock.
    pub sha256: String,
}

impl<'a> Header<'a> {
    /// Create it for the image of `reader`.
    pub fn new<S: Storage>(reader: &Reader<'a, S>) -> Result<Self> {
        let (memory, superblock) = (reader.image.memory(), reader.image.superblock());
        let raw: layout::Superblock = load(memory, 0).map_err(|error| reader.fail(b"", error))?;
        Ok(Header {
            version: raw.version.get(),
            label: Bytes(label(superblock)),
            uuid: Uuid::from_bytes(superblock.uuid).to_string(),
            build_time: Time {
                sec: superblock.build_time.0,
                nsec: superblock.build_time.1,
            },
            block_size: superblock.block_size,
            total_size: superblock.total_size,
            region_size: memory.size(),
            compat: superblock.compat,
            incompat: raw.incompat.get(),
            root: superblock.root,
            inodes: superblock.inode_count(),
            tables: Tables {
                inodes: superblock.inodes.into(),
                dirents: superblock.dirents.into(),
                names: superblock.names.into(),
                xattrs: superblock.xattrs.into(),
                data: superblock.data.into(),
            },
            metadata_crc32c: format!("{:08x}", superblock.metadata_crc),
            sha256: hex(&superblock.sha256),
        })
    }
}
