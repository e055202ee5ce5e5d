// SPDX-License-Identifier: GPL-2.0-only

//! The file or memfd that hypervisors map.

use super::info_block::{self, info_block};
use super::{name, Device, Layout};
use daxfs_check::digest::hex;
use daxfs_command::signals::Interrupt;
use daxfs_image::error::{Error, Result};
use daxfs_image::source::{self, name_of};
use daxfs_image::text::{human, shown_path};
use daxfs_load::buffer::{Content, Kind};
use daxfs_load::file::ImageFile;
use daxfs_reader::catalog::Table;
use daxfs_reader::Memory;
use daxfs_writer::Mapping;
use rustix::fs::{fchown, fstatfs, linkat, open, AtFlags, Gid, Mode, OFlags, CWD};
use rustix::io::{fcntl_setfd, Errno, FdFlags};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use tempfile::NamedTempFile;

/// `f_type` of hugetlbfs, as in linux/magic.h.
const HUGETLBFS: u64 = 0x9584_58f6;

/// Memory with an image, as a device needs it.
pub struct Backing {
    /// Its absolute path, for the process that maps it.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// A memfd, which lives as long as this and its copies in other processes.
    _memory: Option<OwnedFd>,
}

impl Backing {
    /// Take the file `path` itself, which has an image or a catalogue of images.
    ///
    /// Fail if it is not what `device` needs, or if its path is not UTF-8.
    pub fn in_place(path: &Path, device: Device) -> Result<Self> {
        let source = source::open(path)?;
        let table = Table::load(&source).map_err(|it| Error::image(&name_of(path), b"", it))?;
        let (needed, remedy) = match table {
            Some(table) => (table.size, "make a catalogue in a file that suits it"),
            None => (
                ImageFile::open(path)?.size,
                "let --copy DIR make such a copy",
            ),
        };
        let size = source.size();
        let layout = device.layout(needed, 1);
        let fits = layout.start == 0 && device.layout(size, 1).size == size;
        if !fits {
            let (has, needs) = (human(size), human(layout.size));
            let (device, demand) = (name(&device), device.demand());
            let why = format!(
                "has {size} bytes ({has}), but the memory of {device} must be {demand}, \
                 here {} bytes ({needs}); {remedy}",
                layout.size
            );
            return Err(Error::refused(shown_path(path), why));
        }
        Ok(Backing {
            path: absolute(path)?,
            size,
            _memory: None,
        })
    }

    /// Take the copy in the directory `dir`; make it unless it is there.
    ///
    /// Fail if the copy does not fit, if `dir` cannot be written or other users can replace files
    /// in it, if its path is not UTF-8, if the image is damaged, if `interrupt` says
    /// so, or if another file has the name of the copy.
    pub fn copy(
        image: &ImageFile,
        device: Device,
        dir: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let fail = |operation, error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => "; make the directory first",
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space",
                io::ErrorKind::OutOfMemory => {
                    "; there are too few free huge pages: raise /proc/sys/vm/nr_hugepages"
                }
                io::ErrorKind::PermissionDenied => "; name a directory that you may write to",
                _ => "",
            };
            Error::system(shown_path(dir), operation, remedy, error)
        };
        let open = |error| fail("cannot open", error);
        let directory = File::open(dir).map_err(open)?;
        check_directory(&directory.metadata().map_err(open)?, dir)?;
        let status = fstatfs(&directory).map_err(|error| open(error.into()))?;
        let huge = status.f_type as u64 == HUGETLBFS;
        let page = if huge { status.f_bsize as u64 } else { 1 };
        let layout = device.layout(image.size, page);
        let stem = image.path.file_stem().unwrap_or_default();
        let digest = hex(&image.superblock.sha256[..8]);
        let name = format!("{}-{digest}.{}", stem.to_string_lossy(), name(&device));
        let path = dir.join(name);
        let shared = absolute(&path)?;
        if !path
            .try_exists()
            .map_err(|error| fail("cannot examine", error))?
        {
            let made = make(image, device, layout, dir, huge, interrupt);
            // The copy is removed.
            interrupt.check()?;
            let file = made.map_err(|error| match error {
                Failed::Here(error) => fail("cannot make a copy", error),
                Failed::Image(error) => error,
            })?;
            match file.name(&path) {
                Ok(()) => (),
                // Another process was faster. All machines must map the same copy.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
                Err(error) => return Err(fail("cannot name the copy", error)),
            }
        }
        check(image, device, layout, &path)?;
        Ok(Backing {
            path: shared,
            size: layout.size,
            _memory: None,
        })
    }

    /// Make a sealed memfd, which this process and its children have.
    pub fn sealed(image: &ImageFile, device: Device, kind: Kind) -> Result<Self> {
        let page = match kind {
            Kind::Hugetlb => daxfs_load::huge::HUGE,
            _ => 1,
        };
        let layout = device.layout(image.size, page);
        let head = head(image, device, layout);
        let content = Content {
            image,
            start: layout.start,
            size: layout.size,
            head: head.as_deref().map(|block| (info_block::OFFSET, block)),
        };
        let buffer = kind.make_with(&content)?;
        fcntl_setfd(&buffer.fd, FdFlags::empty())
            .map_err(|error| Error::system("", "cannot pass a memfd on", "", error))?;
        Ok(Backing {
            path: format!("/proc/self/fd/{}", buffer.fd.as_raw_fd()),
            size: layout.size,
            _memory: Some(buffer.fd),
        })
    }
}

/// Return what stands before the image.
fn head(image: &ImageFile, device: Device, layout: Layout) -> Option<Vec<u8>> {
    (device == Device::Nvdimm).then(|| info_block(layout.size, &image.superblock.uuid))
}

/// Return the absolute path of `path`, which must be text for the options of hypervisors.
fn absolute(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Error::system(shown_path(path), "cannot find its path", "", error))?;
    absolute.into_os_string().into_string().map_err(|_| {
        let why = "the path is not UTF-8, as the options of hypervisors must be; rename it";
        Error::refused(shown_path(path), why)
    })
}

/// Why a copy cannot be made: because of its place, or because of the image.
enum Failed {
    Here(io::Error),
    Image(Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Failed::Here(error)
    }
}

/// A file that gets its name when it is complete.
enum Draft {
    /// It has none, so it goes away with this process.
    Unnamed(File),
    /// It has another one, because its filesystem has no other files. This remains if the process is killed.
    Named(NamedTempFile),
}

impl Draft {
    /// Make an empty file in `dir`, which only its owner may read.
    fn new(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match open(dir, flags, Mode::RUSR) {
            Ok(file) => Ok(Draft::Unnamed(file.into())),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => tempfile::Builder::new()
                .prefix(".daxfs-share-")
                .permissions(PermissionsExt::from_mode(0o400))
                .tempfile_in(dir)
                .map(Draft::Named),
            Err(error) => Err(error.into()),
        }
    }

    fn file(&self) -> &File {
        match self {
            Draft::Unnamed(file) => file,
            Draft::Named(file) => file.as_file(),
        }
    }

    /// Give the file its name, which must be free.
    fn name(self, path: &Path) -> io::Result<()> {
        match self {
            Draft::Unnamed(file) => {
                let link = format!("/proc/self/fd/{}", file.as_raw_fd());
                Ok(linkat(CWD, link, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
            }
            Draft::Named(file) => match file.persist_noclobber(path) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.error),
            },
        }
    }
}

/// Make a copy in `dir` without its name.
fn make(
    image: &ImageFile,
    device: Device,
    layout: Layout,
    dir: &Path,
    huge: bool,
    interrupt: &Interrupt,
) -> std::result::Result<Draft, Failed> {
    let draft = Draft::new(dir)?;
    let file = draft.file();
    file.set_len(layout.size)?;
    // write(2) does not work on hugetlbfs.
    let mut mapping = match huge {
        true => Some(Mapping::new(file, layout.size)?),
        false => None,
    };
    let mut outcome = Ok(());
    let mut put = |offset, piece: &[u8]| match &mut mapping {
        Some(mapping) => mapping.write(offset, piece),
        None => file.write_all_at(piece, offset),
    };
    if let Some(head) = head(image, device, layout) {
        put(info_block::OFFSET, &head)?;
    }
    // The name of the copy says which image it is.
    let copied = image.copy_checked(true, |offset, piece| {
        if interrupt.check().is_err() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        put(layout.start + offset, piece).inspect_err(|error| {
            // The error is the directory's, not the image's.
            let code = error.raw_os_error();
            outcome = Err(code.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error));
        })
    });
    outcome?;
    copied.map_err(Failed::Image)?;
    // The copy is readable only by those who can read the image.
    file.set_permissions(PermissionsExt::from_mode(readers(image, file)?))?;
    if !huge {
        file.sync_all()?;
    }
    Ok(draft)
}

/// Give a copy the group of the image, and return its permission bits. If it gets another group, these bits are
/// for all users or for the owner only.
fn readers(image: &ImageFile, copy: &File) -> io::Result<u32> {
    let group = Gid::from_raw(image.group);
    let same = copy.metadata()?.gid() == image.group || fchown(copy, None, Some(group)).is_ok();
    // If its group and others may read it, all may.
    let all = image.readers & 0o044 == 0o044;
    Ok(image.readers & if same || all { 0o444 } else { 0o400 })
}

/// Return whether only root and this user own the file with `status` and may write to it.
fn is_safe(status: &Metadata) -> bool {
    let me = rustix::process::geteuid().as_raw();
    [0, me].contains(&status.uid()) && status.mode() & 0o022 == 0
}

/// Check that other users cannot replace the files of the directory `dir` with `status`: the hypervisor opens the copy
/// by its name.
fn check_directory(status: &Metadata, dir: &Path) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    let sticky = status.mode() & 0o1000 != 0 && [0, me].contains(&status.uid());
    if is_safe(status) || sticky {
        return Ok(());
    }
    let why = "other users can replace files in this directory; use one of your own, \
               which nobody else may write to, or with the sticky bit";
    Err(Error::refused(shown_path(dir), why))
}

/// Check that `path` is a copy of `image` that only root and this user can change: the superblock, which has the digest,
/// what follows the image, and the info block must be the same.
fn check(image: &ImageFile, device: Device, layout: Layout, path: &Path) -> Result<()> {
    let name = shown_path(path);
    let fail = |operation, error: io::Error| Error::system(&name, operation, "", error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(code) if code == Errno::LOOP.raw_os_error() => {
                Error::refused(&name, "is a symbolic link, not a copy; remove it")
            }
            _ => fail("cannot open", error),
        })?;
    let status = file.metadata();
    let status = status.map_err(|error| fail("cannot examine", error))?;
    if !is_safe(&status) {
        let why = "other users can change this copy; use a directory of your own";
        return Err(Error::refused(name, why));
    }
    let has = |offset, bytes: &[u8]| {
        let mut found = vec![0; bytes.len()];
        let read = file.read_exact_at(&mut found, offset);
        read.map_err(|error| fail("cannot read", error))?;
        Ok::<_, Error>(found == bytes)
    };
    let same = status.is_file()
        && status.len() == layout.size
        && has(layout.start, &image.block)?
        && has(layout.start + image.superblock.total_size, &image.rest()?)?
        && has(
            info_block::OFFSET,
            &head(image, device, layout).unwrap_or_default(),
        )?;
    if !same {
        let image = shown_path(&image.path);
        let why = format!("is not the copy of {image} that it should be; remove it");
        return Err(Error::refused(name, why));
    }
    Ok(())
}
