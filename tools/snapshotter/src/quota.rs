// SPDX-License-Identifier: GPL-2.0-only

//! Limits for the files of snapshots, by project quotas of the disk's filesystem: a project for each snapshot. Contains
//! `unsafe` for calls that rustix does not have.

#![allow(unsafe_code)]

use crate::error::{Error, Result};
use crate::record::Snapshot;
use crate::tree::remove_tree;
use rustix::ioctl::{ioctl, opcode, Getter, Setter};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The project of the directory 0. Those below are for kubelets, which begin at 2^20, and administrators.
const FIRST: u32 = 1 << 30;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attributes {
    flags: u32,
    others: [u32; 2],
    project: u32,
    more: [u32; 3],
}

/// `FS_XFLAG_PROJINHERIT`: new files get the project of their directory.
const INHERIT: u32 = 0x200;

/// Returns the project of the snapshot in `dir`.
fn project(dir: &Path) -> u32 {
    let number = dir.file_name().and_then(|name| name.to_str()?.parse().ok());
    FIRST | number.unwrap_or(0u64) as u32 & (FIRST - 1)
}

fn attributes(file: &File) -> io::Result<Attributes> {
    // SAFETY: The request writes such a structure.
    let read = unsafe {
        ioctl(
            file,
            Getter::<{ opcode::read::<Attributes>(b'X', 31) }, _>::new(),
        )
    };
    Ok(read?)
}

fn set_attributes(file: &File, attributes: Attributes) -> io::Result<()> {
    const SET: u32 = opcode::write::<Attributes>(b'X', 32);
    // SAFETY: The request reads such a structure.
    Ok(unsafe { ioctl(file, Setter::<SET, _>::new(attributes)) }?)
}

/// Lets files of `project` on the filesystem of `file` take this many bytes, or any number if it is 0.
fn set_limit(file: &File, project: u32, bytes: u64) -> io::Result<()> {
    // SAFETY: It consists of integers.
    let mut limits: libc::dqblk = unsafe { std::mem::zeroed() };
    limits.dqb_bhardlimit = bytes.div_ceil(1024);
    limits.dqb_bsoftlimit = limits.dqb_bhardlimit;
    limits.dqb_valid = libc::QIF_BLIMITS;
    const PROJECT_QUOTA: libc::c_int = 2;
    let command = libc::QCMD(libc::Q_SETQUOTA, PROJECT_QUOTA);
    let (number, file) = (libc::SYS_quotactl_fd, file.as_raw_fd());
    // SAFETY: The call reads such a structure.
    match unsafe { libc::syscall(number, file, command, project, &raw const limits) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Limits the files that the new directories of `snapshot` will have to `bytes` together.
pub fn limit(snapshot: &Snapshot, bytes: u64) -> Result<()> {
    let (dir, project) = (&snapshot.dir, project(&snapshot.dir));
    // The record does not count.
    for (dir, flags) in [
        (dir, 0),
        (&snapshot.upper(), INHERIT),
        (&snapshot.work(), INHERIT),
    ] {
        let limited = File::open(dir).and_then(|file| {
            let mut attributes = attributes(&file)?;
            (attributes.project, attributes.flags) = (project, attributes.flags | flags);
            set_attributes(&file, attributes)
        });
        limited.map_err(Error::io(dir, "limit its size"))?;
    }
    let limited = File::open(dir).and_then(|file| set_limit(&file, project, bytes));
    limited.map_err(Error::io(dir, "limit its size"))
}

/// Removes the directory `dir` of a snapshot with its limit, if it has one.
pub fn remove(dir: &Path) -> Result<()> {
    let project = project(dir);
    let file = File::open(dir).ok();
    let is_limited = |file: &File| attributes(file).is_ok_and(|it| it.project == project);
    let limited = file.filter(is_limited);
    remove_tree(dir)?;
    // The filesystem may be mounted without quotas now.
    let _ = limited.map(|file| set_limit(&file, project, 0));
    Ok(())
}
