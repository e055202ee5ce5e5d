// SPDX-License-Identifier: GPL-2.0-only

//! `diff`: compares two images.

use clap::{Args, ValueEnum};
use daxfs_files::memory::Storage;
use daxfs_files::stdout::{written, Out};
use daxfs_files::values;
use daxfs_image::error::{Error, Result};
use daxfs_image::packs::PackFiles;
use daxfs_image::reader::{join, Child, Reader};
use daxfs_image::source::{At, Opened};
use daxfs_image::text::{mode, shown, time, type_name};
use daxfs_reader::{Content, FileType, Inode, OwnedXattr};
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Compare two images
///
/// Prints a line for each difference in types, modes, owners, times, devices, targets, content,
/// extended attributes and hard links. To compare with a directory, make an image of it: mkdaxfs
/// --quiet DIR - | daxfs diff base.img -
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0 no difference, 1 differences, 2 trouble.

Examples:
  daxfs diff --ignore time,owner old.img new.img
  mkdaxfs --quiet /srv/base - | daxfs diff base.img -
  daxfs diff --image base-1 --image base-2 /dev/pmem0 /dev/pmem0")]
pub struct Diff {
    /// The first image
    first: PathBuf,
    /// The second image
    second: PathBuf,
    /// Start of the images in their files or devices
    ///
    /// If you give it twice, the first is for the first image, the second for the second.
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    offset: Vec<u64>,
    /// Use the images with these names in the stores on their devices or in their files
    #[arg(long = "image", value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    packs: PackFiles,
    /// Do not compare these
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    ignore: Vec<Aspect>,
    /// Print nothing; only return the exit status
    #[arg(short, long)]
    quiet: bool,
}

impl Diff {
    pub fn run(self) -> Result<ExitCode> {
        let count = self.offset.len().max(self.names.len());
        if count > 2 {
            let why = "there are 2 images; give --offset or --image twice";
            return Err(Error::refused("", why));
        }
        let [of_first, of_second] = [0, 1].map(|index| At {
            offset: self.offset.get(index).copied(),
            name: self.names.get(index).cloned(),
        });
        let mut first = Opened::open_at(&self.first, &of_first)?;
        let mut second = Opened::open_at(&self.second, &of_second)?;
        self.packs.join(&mut [
            (&self.first, &of_first, &mut first),
            (&self.second, &of_second, &mut second),
        ])?;
        let mut out = Out::open();
        let report = &mut |path: &[u8], text: &str| {
            if !self.quiet {
                written(writeln!(out, "{}: {text}", shown(path)))?;
            }
            Ok(())
        };
        let differ = diff(&first.reader(), &second.reader(), &self.ignore, report);
        let finished = out.finish();
        let differ = differ?;
        finished?;
        Ok(ExitCode::from(u8::from(differ)))
    }
}

/// Bytes of content to compare at a time.
const PIECE: usize = 256 << 10;

/// Aspects that a comparison can ignore.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Aspect {
    /// Owner and group
    Owner,
    /// Permission bits
    Mode,
    /// Modification times
    Time,
    /// Extended attributes
    Xattrs,
    /// Which names are hard links of each other
    Links,
}

/// Called with the path of a file and a difference.
type Report<'a> = dyn FnMut(&[u8], &str) -> Result<()> + 'a;

/// Compares two images, and calls `report` for each difference. Returns true if they differ.
pub fn diff<S: Storage>(
    a: &Reader<'_, S>,
    b: &Reader<'_, S>,
    ignore: &[Aspect],
    report: &mut Report<'_>,
) -> Result<bool> {
    let mut comparison = Comparison {
        a,
        b,
        ignore,
        report,
        differ: false,
        there: HashMap::new(),
        back: HashMap::new(),
        buffers: (vec![0; PIECE], vec![0; PIECE]),
    };
    // Directories to compare, with their paths, the next one last.
    let mut pending = vec![(b"/".to_vec(), a.root()?, b.root()?)];
    while let Some((path, first, second)) = pending.pop() {
        if !comparison.pair(&path, &first, &second)? {
            continue;
        }
        let mut inner = Vec::new();
        let mut right = children(b, &second, &path)?.into_iter().peekable();
        for Child { name, inode, .. } in children(a, &first, &path)? {
            while let Some(other) = right.next_if(|other| other.name < name) {
                comparison.only("second", &join(&path, &other.name))?;
            }
            let path = join(&path, &name);
            let Some(other) = right.next_if(|other| other.name == name) else {
                comparison.only("first", &path)?;
                continue;
            };
            let kinds = (inode.file_type, other.inode.file_type);
            if kinds == (FileType::Directory, FileType::Directory) {
                inner.push((path, inode, other.inode));
            } else {
                comparison.pair(&path, &inode, &other.inode)?;
            }
        }
        for other in right {
            comparison.only("second", &join(&path, &other.name))?;
        }
        pending.extend(inner.into_iter().rev());
    }
    a.check_replaced().and(b.check_replaced())?;
    Ok(comparison.differ)
}

/// Returns the entries of the directory `inode`, sorted by name.
fn children<S: Storage>(reader: &Reader<'_, S>, inode: &Inode, path: &[u8]) -> Result<Vec<Child>> {
    match inode.directory() {
        Some(directory) => reader.children(&directory, path),
        None => Ok(Vec::new()),
    }
}

struct Comparison<'a, S> {
    a: &'a Reader<'a, S>,
    b: &'a Reader<'a, S>,
    ignore: &'a [Aspect],
    report: &'a mut Report<'a>,
    differ: bool,
    /// Files with several names on one side, and their counterparts on the other.
    there: HashMap<u32, u32>,
    back: HashMap<u32, u32>,
    buffers: (Vec<u8>, Vec<u8>),
}

impl<S: Storage> Comparison<'_, S> {
    fn say(&mut self, path: &[u8], text: &str) -> Result<()> {
        self.differ = true;
        (self.report)(path, text)
    }

    fn ignores(&self, aspect: Aspect) -> bool {
        self.ignore.contains(&aspect)
    }

    fn only(&mut self, side: &str, path: &[u8]) -> Result<()> {
        self.say(path, &format!("only in the {side}"))
    }

    /// Compares two files; returns whether they are of the same type.
    fn pair(&mut self, path: &[u8], a: &Inode, b: &Inode) -> Result<bool> {
        let kind = a.file_type;
        if kind != b.file_type {
            let what = format!("type {} and {}", type_name(kind), type_name(b.file_type));
            return self.say(path, &what).map(|()| false);
        }
        let permissions = (a.permissions(), b.permissions());
        // A symlink's mode has no meaning.
        if permissions.0 != permissions.1
            && !self.ignores(Aspect::Mode)
            && kind != FileType::Symlink
        {
            let (a, b) = (mode(kind, permissions.0), mode(kind, permissions.1));
            self.say(path, &format!("mode {a} and {b}"))?;
        }
        if (a.uid, a.gid) != (b.uid, b.gid) && !self.ignores(Aspect::Owner) {
            let text = format!("owner {}:{} and {}:{}", a.uid, a.gid, b.uid, b.gid);
            self.say(path, &text)?;
        }
        let times = [a, b].map(|inode| (inode.mtime_sec, inode.mtime_nsec));
        if times[0] != times[1] && !self.ignores(Aspect::Time) {
            let [a, b] = times.map(|(sec, nsec)| time(sec, nsec));
            self.say(path, &format!("time {a} and {b}"))?;
        }
        if !self.ignores(Aspect::Xattrs) {
            self.xattrs(path, a, b)?;
        }
        if kind != FileType::Directory && !self.ignores(Aspect::Links) {
            self.links(path, a, b)?;
        }
        match (&a.content, &b.content) {
            (
                Content::Device { major, minor },
                Content::Device {
                    major: other_major,
                    minor: other_minor,
                },
            ) if (major, minor) != (other_major, other_minor) => {
                let text = format!("device {major}:{minor} and {other_major}:{other_minor}");
                self.say(path, &text)?;
            }
            (Content::Symlink { .. }, _) => {
                let (a, b) = (self.a.target(a, path)?, self.b.target(b, path)?);
                if a != b {
                    let text = format!("target {} and {}", shown(&a), shown(&b));
                    self.say(path, &text)?;
                }
            }
            _ if kind == FileType::Regular && a.size != b.size => {
                self.say(path, &format!("size {} and {}", a.size, b.size))?;
            }
            _ if kind == FileType::Regular => self.content(path, a, b)?,
            _ => (),
        }
        Ok(true)
    }

    fn xattrs(&mut self, path: &[u8], first: &Inode, second: &Inode) -> Result<()> {
        let (a, b) = (self.a.xattrs(first, path)?, self.b.xattrs(second, path)?);
        let same = |one: &OwnedXattr, other: &OwnedXattr| {
            (one.prefix, &one.name) == (other.prefix, &other.name)
        };
        let in_first = a.iter().map(|xattr| {
            let how = match b.iter().find(|other| same(xattr, other)) {
                None => Some("only in the first"),
                Some(other) => (other.value != xattr.value).then_some("differs"),
            };
            (xattr, how)
        });
        let in_second = b.iter().map(|xattr| {
            let missing = !a.iter().any(|other| same(xattr, other));
            (xattr, missing.then_some("only in the second"))
        });
        for (xattr, how) in in_first.chain(in_second) {
            if let Some(how) = how {
                let name = shown(&xattr.whole_name());
                self.say(path, &format!("extended attribute {name} {how}"))?;
            }
        }
        Ok(())
    }

    /// Checks that hard links on one side are hard links on the other.
    fn links(&mut self, path: &[u8], a: &Inode, b: &Inode) -> Result<()> {
        let same = (a.nlink, b.nlink) == (1, 1)
            || *self.there.entry(a.ino).or_insert(b.ino) == b.ino
                && *self.back.entry(b.ino).or_insert(a.ino) == a.ino;
        if same {
            Ok(())
        } else {
            self.say(path, "hard links to other files")
        }
    }

    /// Compares the content of two files of the same size.
    fn content(&mut self, path: &[u8], first: &Inode, second: &Inode) -> Result<()> {
        let mut offset = 0;
        while offset < first.size {
            let length = (first.size - offset).min(PIECE as u64) as usize;
            let (a, b) = (&mut self.buffers.0[..length], &mut self.buffers.1[..length]);
            self.a.read(first, path, offset, a)?;
            self.b.read(second, path, offset, b)?;
            if let Some(at) = a.iter().zip(&*b).position(|(a, b)| a != b) {
                return self.say(path, &format!("content from byte {}", offset + at as u64));
            }
            offset += length as u64;
        }
        Ok(())
    }
}
