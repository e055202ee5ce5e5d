// SPDX-License-Identifier: GPL-2.0-only

//! `info`, `ls`, `cat`, `stat` and `dump`: show an image and its files.

use crate::record;
use clap::Args;
use daxfs_files::digest::hex;
use daxfs_files::memory::Storage;
use daxfs_files::stdout::written;
use daxfs_image::error::Result;
use daxfs_image::reader::{Event, Reader, PIECE};
use daxfs_image::text::{human, label, mode, shown, time, type_name};
use daxfs_reader::signature::Section;
use daxfs_reader::{layout, Content, FileType, Inode, Superblock, Table};
use std::io::{self, Write};
use uuid::Uuid;

/// How `info` shows an image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text.
    Text,
    /// JSON.
    Json,
    /// Properties for udev rules.
    Udev,
}

/// Show the superblock.
pub fn info<S: Storage>(reader: &Reader<'_, S>, form: Form, out: &mut impl Write) -> Result<()> {
    let superblock = reader.image.superblock();
    match form {
        Form::Text => {
            let section = Section::find(reader.image.memory(), superblock);
            let signature = section.ok().flatten();
            Ok(written(info_text(superblock, signature, out))?)
        }
        Form::Json => {
            let header = record::header(reader, Some("daxfs-info-1"));
            Ok(written(pretty(out, &header))?)
        }
        Form::Udev => Ok(written(info_udev(superblock, out))?),
    }
}

/// Write `value` in JSON on several lines.
pub fn pretty(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn info_text(
    superblock: &Superblock,
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
    for (name, table) in [
        ("Inode table:", superblock.inodes),
        ("Dirent table:", superblock.dirents),
        ("Names:", superblock.names),
        ("Xattrs:", superblock.xattrs),
        ("Data:", superblock.data),
    ] {
        writeln!(
            out,
            "{name:15} {} bytes from {:#x}",
            table.length, table.offset
        )?;
    }
    if superblock.incompat & layout::INCOMPAT_METADATA_ONLY != 0 {
        writeln!(out, "File data:      in other images")?;
    }
    writeln!(
        out,
        "Metadata:       CRC-32C {:08x}",
        superblock.metadata_crc
    )?;
    writeln!(out, "SHA-256:        {}", hex(&superblock.sha256))?;
    if let Some(sums) = superblock.sums() {
        let (length, offset) = (sums.length, sums.offset);
        writeln!(out, "Piece sums:     {length} bytes from {offset:#x}")?;
    }
    if let Some(signature) = signature {
        let Table { length, offset } = signature.table;
        // The last second that a certificate can have.
        let end = signature.line().expires.min(253_402_300_799);
        let end = time(end as i64, 0);
        writeln!(
            out,
            "Signature:      {length} bytes from {offset:#x}, expires {end} UTC"
        )?;
    }
    Ok(())
}

/// Return the properties that udev's own probes set, so that `/dev/disk/by-label` and `by-uuid`
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

/// How `ls` lists.
#[derive(Args, Clone, Copy, Default)]
pub struct Listing {
    /// Show mode, links, owner, group, size and time, too
    #[arg(short, long)]
    pub long: bool,
    /// With --long, print sizes with a unit: 1.5K, 23M
    #[arg(short = 'h', long)]
    pub human_readable: bool,
    /// List all files below, with their full paths
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// List the directory itself instead of its content
    #[arg(short, long)]
    pub directory: bool,
    /// Show inode numbers, too
    #[arg(short, long)]
    pub inode: bool,
    /// Append / to the names of directories
    #[arg(short = 'p', long)]
    pub slash: bool,
    /// End each name with NUL instead of a newline
    #[arg(short = '0', long)]
    pub zero: bool,
    /// Escape unusual characters in names, for a terminal.
    #[arg(skip)]
    pub terminal: bool,
}

/// List `path`.
pub fn ls<S: Storage>(
    reader: &Reader<'_, S>,
    path: &[u8],
    options: Listing,
    out: &mut impl Write,
) -> Result<()> {
    let mut list =
        |inode: &Inode, path: &[u8], name: &[u8]| line(reader, inode, path, name, options, out);
    let start = reader.find(
        path,
        !options.directory && !options.long || path.ends_with(b"/"),
    )?;
    if options.recursive && !options.directory {
        return reader.walk(&start, path, &mut |path, _, event| match event {
            Event::Enter(inode) | Event::File(inode) => list(inode, path, path),
            Event::Leave(_) => Ok(()),
        });
    }
    match start.content {
        Content::Directory(directory) if !options.directory => {
            for child in reader.children(&directory, path)? {
                let whole = daxfs_image::reader::join(path, &child.name);
                list(&child.inode, &whole, &child.name)?;
            }
            Ok(())
        }
        _ => list(&start, path, path),
    }
}

/// Print the line of a listing for one file, with the name `name`.
fn line<S: Storage>(
    reader: &Reader<'_, S>,
    inode: &Inode,
    path: &[u8],
    name: &[u8],
    options: Listing,
    out: &mut impl Write,
) -> Result<()> {
    let target = if options.long {
        reader.target(inode, path)?
    } else {
        Vec::new()
    };
    let mut write = || {
        if options.inode {
            write!(out, "{:>7} ", inode.ino)?;
        }
        if options.long {
            let size = match inode.content {
                Content::Device { major, minor } => format!("{major}, {minor}"),
                _ if options.human_readable => human(inode.size),
                _ => inode.size.to_string(),
            };
            let plus = if inode.xattrs == 0 { ' ' } else { '+' };
            let mode = mode(inode.file_type, inode.permissions());
            let time = time(inode.mtime_sec, inode.mtime_nsec);
            let (nlink, uid, gid) = (inode.nlink, inode.uid, inode.gid);
            write!(
                out,
                "{mode}{plus} {nlink:>3} {uid:>5} {gid:>5} {size:>10} {time} "
            )?;
        }
        put_name(out, name, options.terminal)?;
        if options.slash && inode.file_type == FileType::Directory {
            out.write_all(b"/")?;
        }
        if !target.is_empty() {
            out.write_all(b" -> ")?;
            put_name(out, &target, options.terminal)?;
        }
        out.write_all(if options.zero { b"\0" } else { b"\n" })
    };
    Ok(written(write())?)
}

fn put_name(out: &mut impl Write, name: &[u8], terminal: bool) -> io::Result<()> {
    if terminal {
        out.write_all(shown(name).as_bytes())
    } else {
        out.write_all(name)
    }
}

/// Write the content of the file `path`.
pub fn cat<S: Storage>(reader: &Reader<'_, S>, path: &[u8], out: &mut impl Write) -> Result<()> {
    let inode = reader.find(path, true)?;
    if inode.file_type != FileType::Regular {
        let kind = type_name(inode.file_type);
        return Err(reader.refuse(path, format!("is a {kind}; only files have content")));
    }
    let mut buffer = vec![0; inode.size.clamp(1, PIECE as u64) as usize];
    reader.content(&inode, path, &mut buffer, &mut |_, piece| {
        Ok(written(out.write_all(piece))?)
    })
}

/// Show all metadata of `path`.
pub fn stat<S: Storage>(
    reader: &Reader<'_, S>,
    path: &[u8],
    follow: bool,
    out: &mut impl Write,
) -> Result<()> {
    let inode = reader.find(path, follow)?;
    let target = reader.target(&inode, path)?;
    let xattrs = reader.xattrs(&inode, path)?;
    let mut write = || {
        let permissions = inode.permissions();
        write!(out, "  File: {}", shown(path))?;
        if !target.is_empty() {
            write!(out, " -> {}", shown(&target))?;
        }
        writeln!(out)?;
        let kind = type_name(inode.file_type);
        writeln!(
            out,
            "  Type: {kind}  Size: {}  Inode: {}  Links: {}",
            inode.size, inode.ino, inode.nlink
        )?;
        let text = mode(inode.file_type, permissions);
        writeln!(
            out,
            "  Mode: {permissions:04o}/{text}  Uid: {}  Gid: {}",
            inode.uid, inode.gid
        )?;
        writeln!(
            out,
            "Modify: {} UTC",
            time(inode.mtime_sec, inode.mtime_nsec)
        )?;
        match inode.content {
            Content::Regular { data } if inode.size > 0 => {
                let huge = if inode.is_huge() {
                    ", by huge pages"
                } else {
                    ""
                };
                writeln!(out, "  Data: from {data:#x} of the image{huge}")?;
            }
            Content::MetadataOnly => writeln!(out, "  Data: in another image")?,
            Content::Device { major, minor } => writeln!(out, "Device: {major}:{minor}")?,
            Content::Directory(directory) => writeln!(out, "Names:  {}", directory.entries)?,
            _ => (),
        }
        for xattr in &xattrs {
            writeln!(
                out,
                " Xattr: {}={}",
                shown(&xattr.whole_name()),
                shown(&xattr.value)
            )?;
        }
        Ok(())
    };
    Ok(written(write())?)
}

/// Write the superblock and every file in JSON, in the order of paths; with the SHA-256 of each
/// file's content if `sums`.
pub fn dump<S: Storage>(reader: &Reader<'_, S>, sums: bool, out: &mut impl Write) -> Result<()> {
    let header = record::header(reader, None);
    let root = reader.root()?;
    written(write!(
        out,
        "{{\"schema\":\"daxfs-dump-1\",\"superblock\":{header},\n\"files\":["
    ))?;
    let mut separator = "\n";
    reader.walk(&root, b"/", &mut |path, _, event| {
        let (Event::Enter(inode) | Event::File(inode)) = event else {
            return Ok(());
        };
        let record = record::file(reader, path, inode, sums)?;
        written(write!(out, "{separator}{record}"))?;
        separator = ",\n";
        Ok(())
    })?;
    Ok(written(writeln!(out, "\n]}}"))?)
}
