// SPDX-License-Identifier: GPL-2.0-only

//! Memory for an image: memfds and dma-bufs. Contains `unsafe` for ioctls.

#![allow(unsafe_code)]

use crate::file::ImageFile;
use crate::huge::{self, HUGE};
use daxfs_files::Mapping;
use daxfs_image::error::{Error, Result};
use daxfs_image::warning::warn;
use rustix::fs::{
    fcntl_add_seals, ftruncate, memfd_create, open, MemfdFlags, Mode, OFlags, SealFlags,
};
use rustix::io::Errno;
use rustix::ioctl::{ioctl, opcode, Opcode, Updater};
use rustix::param::page_size;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sealed memfd
    Memfd,
    /// A sealed memfd of huge pages; enough of them must be free
    /// (/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages)
    Hugetlb,
    /// A buffer of the system's dma-heap
    Heap,
}

/// Memory that holds an image.
pub struct Buffer {
    /// Its file descriptor.
    pub fd: OwnedFd,
    /// The mount option that accepts it.
    pub option: &'static str,
}

impl Kind {
    /// Returns the kind for the argument `name` of `daxfs load --into`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "memfd" => Some(Kind::Memfd),
            "hugetlb" => Some(Kind::Hugetlb),
            "heap" => Some(Kind::Heap),
            _ => None,
        }
    }

    /// Returns the bytes of memory that an image of `size` bytes needs in memory of this kind.
    pub fn size_of(self, size: u64) -> u64 {
        size.next_multiple_of(match self {
            Kind::Hugetlb => HUGE,
            Kind::Memfd | Kind::Heap => page_size() as u64,
        })
    }

    /// Allocates memory of this kind and copies `image` to it.
    pub fn make(self, image: &ImageFile) -> Result<Buffer> {
        let size = self.size_of(image.size);
        let fail = |what: &str, error: Errno| {
            let operation = format!("cannot {what} of {size} bytes");
            Error::system("", operation, self.remedy(error), error)
        };
        match self {
            Kind::Memfd | Kind::Hugetlb => {
                let fd = if self == Kind::Hugetlb {
                    // The default huge page size may differ, for example 512 MiB.
                    let huge = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
                    let fd = memfd(huge, size).map_err(|error| fail("make a memfd", error))?;
                    // write(2) does not work on such memfds.
                    fill(image, size, fd.as_fd(), self)?;
                    fd
                } else {
                    filled_memfd(image, size)?
                };
                let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
                fcntl_add_seals(&fd, seals).map_err(|error| fail("seal a memfd", error))?;
                Ok(Buffer {
                    fd,
                    option: "memfd",
                })
            }
            Kind::Heap => {
                let fd = heap(size)
                    .map_err(|error| fail("get a buffer from /dev/dma_heap/system", error))?;
                fill(image, size, fd.as_fd(), self)?;
                Ok(Buffer {
                    fd,
                    option: "dmabuf",
                })
            }
        }
    }

    /// Returns the remedy for `error` when memory of this kind is allocated.
    fn remedy(self, error: Errno) -> &'static str {
        match (self, error) {
            (Kind::Hugetlb, Errno::NOMEM) => {
                "; there are too few free huge pages: raise \
                 /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
            }
            _ => "",
        }
    }
}

fn memfd(flags: MemfdFlags, size: u64) -> rustix::io::Result<OwnedFd> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("daxfs", flags)?;
    ftruncate(&fd, size)?;
    Ok(fd)
}

/// Returns a memfd of `size` bytes with `image`, in huge pages except for a last partial one.
fn filled_memfd(image: &ImageFile, size: u64) -> Result<OwnedFd> {
    let fail = |error: Errno| {
        let operation = format!("cannot make a memfd of {size} bytes");
        Error::system("", operation, "", error)
    };
    let full = image.size - image.size % HUGE;
    // The kernel may use huge pages for everything: fill the last one, unless it is the only one.
    let room = match full {
        0 => size,
        _ => size.next_multiple_of(HUGE),
    };
    let fd = memfd(MemfdFlags::empty(), room).map_err(fail)?;
    // Smaller images have no files that are mapped with huge pages.
    if full >= 2 * HUGE && huge::can_map() {
        enlarge_pages(fd.as_fd(), full);
    }
    let file = File::from(fd);
    image.send(&file)?;
    // If the last page is huge, this splits it and frees the part after the image.
    ftruncate(&file, size).map_err(fail)?;
    Ok(file.into())
}

/// Allocates huge pages for the first `size` bytes of the memfd `fd`. Warns on failure.
fn enlarge_pages(fd: BorrowedFd<'_>, size: u64) {
    if let Err(error) = huge::allocate(fd, size) {
        warn(format_args!(
            "no huge pages for all of the image ({error}): files are mapped by pages of 4 KiB; \
             daxfs load --into hugetlb or --into heap may do better"
        ));
    }
}

/// Copies `image` into the `size` bytes of `fd` through a mapping.
fn fill(image: &ImageFile, size: u64, fd: BorrowedFd<'_>, kind: Kind) -> Result<()> {
    // Map everything, which reserves the huge pages.
    let mut mapping = Mapping::new(fd, size).map_err(|error| {
        let remedy = Errno::from_io_error(&error).map_or("", |error| kind.remedy(error));
        let operation = format!("cannot map a buffer of {size} bytes");
        Error::system("", operation, remedy, error)
    })?;
    image.copy(|offset, piece| mapping.write(offset, piece))
}

/// `struct dma_heap_allocation_data` of `linux/dma-heap.h`.
#[repr(C)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

fn heap(size: u64) -> rustix::io::Result<OwnedFd> {
    const ALLOC: Opcode = opcode::read_write::<HeapAllocation>(b'H', 0);
    let heap = open(
        "/dev/dma_heap/system",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut allocation = HeapAllocation {
        len: size,
        fd: 0,
        fd_flags: (OFlags::RDWR | OFlags::CLOEXEC).bits(),
        heap_flags: 0,
    };
    // SAFETY: The request expects this structure; on success, its `fd` is a new descriptor that we
    // own.
    unsafe {
        ioctl(&heap, Updater::<ALLOC, _>::new(&mut allocation))?;
        Ok(OwnedFd::from_raw_fd(allocation.fd as i32))
    }
}
