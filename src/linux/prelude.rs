// SPDX-License-Identifier: GPL-2.0-only

//! Names of the kernel crate and the core library, for most files.

// Nothing above has these.
pub(in crate::linux) use super::owned::owned;
pub(in crate::linux) use crate::bindings;

pub(crate) use super::{
    atomic::{
        load_acquire,
        read_once, //
    },
    errno::Errno, //
};
pub(crate) use core::{
    marker::{
        PhantomData,
        PhantomPinned, //
    },
    mem,
    ops::{
        Deref,
        Range, //
    },
    ptr::{
        self,
        NonNull, //
    },
    slice, //
};
pub(crate) use kernel::{
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    ffi,
    fmt,
    fs::File,
    iov::IovIterDest,
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    seq_file::SeqFile,
    str::CString,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc,
        ArcBorrow,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    types::Opaque, //
};
