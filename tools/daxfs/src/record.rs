// SPDX-License-Identifier: GPL-2.0-only

//! Files and the superblock of an image in JSON.

use daxfs_files::digest::{hex, sha256};
use daxfs_files::memory::Storage;
use daxfs_image::error::Result;
use daxfs_image::reader::Reader;
use daxfs_image::text::{label, type_name, Bytes};
use daxfs_reader::{layout, Content, Inode, Table};
use serde_json::{json, Value};
use std::io::{self, Write};
use uuid::Uuid;

/// Writes `value` in JSON on several lines.
pub fn pretty(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Returns `value` without null members, which our JSON leaves out.
pub fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

/// Returns the file `inode` at `path` in JSON, with the SHA-256 of its content if `sums`.
pub fn file<S: Storage>(
    reader: &Reader<'_, S>,
    path: &[u8],
    inode: &Inode,
    sums: bool,
) -> Result<Value> {
    let xattrs = reader.xattrs(inode, path)?;
    let xattrs = xattrs
        .iter()
        .map(|xattr| json!({"name": Bytes(&xattr.whole_name()), "value": Bytes(&xattr.value)}));
    let xattrs: Vec<_> = xattrs.collect();
    let target = reader.target(inode, path)?;
    let sha256 = match inode.content {
        Content::Regular { .. } | Content::InPack { .. } if sums => {
            let sum = sha256(|add| {
                reader.content(inode, path, &mut |piece| {
                    add(piece);
                    Ok(())
                })
            });
            Some(hex(&sum?))
        }
        _ => None,
    };
    let (data, device) = match inode.content {
        Content::Regular { data } if inode.size > 0 => (Some(data), None),
        Content::Device { major, minor } => (None, Some(json!({"major": major, "minor": minor}))),
        _ => (None, None),
    };
    let in_pack = match inode.content {
        Content::InPack { pack, original } => Some(json!({"number": pack + 1, "ino": original})),
        _ => None,
    };
    Ok(without_nulls(json!({
        "path": Bytes(path),
        "ino": inode.ino,
        "type": type_name(inode.file_type),
        "mode": format!("{:04o}", inode.permissions()),
        "nlink": inode.nlink,
        "uid": inode.uid,
        "gid": inode.gid,
        "size": inode.size,
        "mtime": {"sec": inode.mtime_sec, "nsec": inode.mtime_nsec},
        "data_offset": data,
        "pack": in_pack,
        "target": matches!(inode.content, Content::Symlink { .. }).then_some(Bytes(&target)),
        "device": device,
        "xattrs": (!xattrs.is_empty()).then_some(xattrs),
        "sha256": sha256,
    })))
}

/// Returns the superblock of the image of `reader` in JSON. Pass the `schema` unless it is part of
/// a larger value.
pub fn header<S: Storage>(reader: &Reader<'_, S>, schema: Option<&'static str>) -> Result<Value> {
    let superblock = reader.image.superblock();
    let table = |table: Table| json!({"offset": table.offset, "length": table.length});
    let (sec, nsec) = superblock.build_time;
    let mut tables = json!({
        "inodes": table(superblock.inodes),
        "dirents": table(superblock.dirents),
        "names": table(superblock.names),
        "xattrs": table(superblock.xattrs),
        "data": table(superblock.data),
    });
    let packs = reader.packs()?;
    if !packs.is_empty() {
        tables["packs"] = table(superblock.packs);
    }
    let packs = packs.iter().map(|pack| {
        let size = pack.total_size.get();
        json!({"sha256": hex(&pack.sha256), "total_size": size})
    });
    let packs: Vec<_> = packs.collect();
    Ok(without_nulls(json!({
        "schema": schema,
        "version": layout::VERSION,
        "label": Bytes(label(superblock)),
        "uuid": Uuid::from_bytes(superblock.uuid).to_string(),
        "build_time": {"sec": sec, "nsec": nsec},
        "block_size": superblock.block_size,
        "total_size": superblock.total_size,
        "region_size": reader.image.memory().size(),
        "compat": superblock.compat,
        "incompat": superblock.incompat,
        "root": superblock.root,
        "inodes": superblock.inode_count(),
        "tables": tables,
        "packs": (!packs.is_empty()).then_some(packs),
        "metadata_crc32c": format!("{:08x}", superblock.metadata_crc),
        "sha256": hex(&superblock.sha256),
    })))
}
