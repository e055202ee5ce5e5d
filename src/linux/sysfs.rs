// SPDX-License-Identifier: GPL-2.0-only

//! Directories in sysfs, with one read-only file for each value.
//!
//! The kobject of a directory is allocated and freed by the kernel (`kobject_create_and_add()`), so
//! no function of the module runs when its last reference goes, which may be after the module. A
//! file's callback runs while kernfs holds an active reference to the file. Removing the directory
//! waits for the callbacks in progress and prevents others: a process that has the file open then
//! reads `ENODEV`.

use crate::bindings;
use core::ptr::NonNull;
use kernel::sync::atomic::{
    Atomic,
    Full, //
};
use kernel::{
    error::to_result,
    prelude::*,
    str::CString, //
};

/// A directory.
///
/// # Invariants
///
/// Owns a reference to `kobject`, which kobject_create_and_add() returned. Only the thread that
/// sets `removed` deletes the kobject.
pub(crate) struct Directory {
    kobject: NonNull<bindings::kobject>,
    removed: Atomic<bool>,
}

// SAFETY: Any thread may drop a reference to a kobject.
unsafe impl Send for Directory {}
// SAFETY: kernfs serializes making and removing files and directories in a directory. By the type
// invariant only one thread deletes the kobject. Nothing else uses it through a shared reference.
unsafe impl Sync for Directory {}

impl Directory {
    /// Makes the directory `name` of /sys/fs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if it exists.
    pub(crate) fn in_fs(name: &CStr) -> Result<Self> {
        // SAFETY: mnt_init() sets this pointer before any initcall. It is null if memory was short,
        // or its kobject stays.
        unsafe { Self::new(name, bindings::fs_kobj) }
    }

    /// # Safety
    ///
    /// `parent` must be a valid kobject, or null for /sys.
    unsafe fn new(name: &CStr, parent: *mut bindings::kobject) -> Result<Self> {
        // SAFETY: The name is copied. The caller guarantees that the parent is valid, or null.
        let made = unsafe { bindings::kobject_create_and_add(name.as_char_ptr(), parent) };
        // INVARIANT: The kobject was created above, with one reference, and is not deleted.
        let directory = |kobject| Directory {
            kobject,
            removed: Atomic::new(false),
        };
        NonNull::new(made).map(directory).ok_or(ENOMEM)
    }

    /// Removes the directory and its files, and waits for callbacks of the files. They do not run
    /// afterwards. Does nothing if somebody else has removed it, or does so now: this then returns
    /// before that wait ends.
    fn remove(&self) {
        // INVARIANT: One caller only finds false here, and deletes the kobject.
        if self.removed.xchg(true, Full) {
            return;
        }
        // SAFETY: By the type invariant the kobject is valid. This is the first and only call.
        unsafe { bindings::kobject_del(self.kobject.as_ptr()) };
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.remove();
        // SAFETY: By the type invariant this owns the reference.
        unsafe { bindings::kobject_put(self.kobject.as_ptr()) };
    }
}

/// The value of a file.
pub(crate) enum Value<'a> {
    /// A number, shown in decimal.
    Number(u64),
    /// A text, shown as it is.
    Text(&'a CStr),
}

/// A file that shows a value of a `T`. A newline follows the value.
pub(crate) struct File<T> {
    /// Name.
    pub(crate) name: &'static CStr,
    /// Permissions.
    pub(crate) mode: u16,
    /// Returns the value. This must not wait for anything: removing the directory waits for it.
    pub(crate) value: fn(&T) -> Value<'_>,
}

/// Something that a directory shows.
pub(crate) trait Shown: Send + Sync + Sized + 'static {
    /// The files of the directory.
    const FILES: &'static [File<Self>];

    /// Name of a file with any number of lines, for root.
    const LINES: &'static CStr;

    /// Returns true if there is such a file.
    fn has_lines(&self) -> bool;

    /// Returns a line of it. This must not wait for anything but memory.
    fn line(&self, index: usize) -> Option<Result<CString>>;
}

/// Bytes of a line with its newline. Shorter ones are padded with blanks, so that a reader finds
/// each at its place.
const WIDTH: usize = 160;

/// The file with lines.
#[repr(C)]
struct Lines<T: Shown> {
    raw: bindings::bin_attribute,
    /// The object of this file.
    shown: NonNull<T>,
}

/// An attribute of a kobject, and its content.
#[repr(C)]
struct Attribute<T: Shown> {
    raw: bindings::kobj_attribute,
    /// The object of this file.
    shown: NonNull<T>,
    file: &'static File<T>,
}

/// A `T` with files in sysfs.
///
/// # Invariants
///
/// `attributes` and `lines` are not moved, and `shown` of each is the content of `shown`. The files
/// of `directory` belong to them.
pub(crate) struct Show<T: Shown> {
    // Dropped first: its files use the others.
    directory: Option<Directory>,
    // Only read by the files.
    attributes: KVec<Attribute<T>>,
    lines: KBox<Lines<T>>,
    shown: KBox<T>,
}

// SAFETY: The pointers in the attributes are to `shown`, which is `Send`.
unsafe impl<T: Shown> Send for Show<T> {}
// SAFETY: Files use `shown` by shared references only, and it is `Sync`.
unsafe impl<T: Shown> Sync for Show<T> {}

impl<T: Shown> Show<T> {
    /// Prepares the files of `shown`.
    pub(crate) fn new(shown: T) -> Result<Self> {
        let shown = KBox::new(shown, GFP_KERNEL_ACCOUNT)?;
        let mut attributes = KVec::with_capacity(T::FILES.len(), GFP_KERNEL_ACCOUNT)?;
        for file in T::FILES {
            let mut raw = pin_init::zeroed();
            let name = file.name.as_char_ptr();
            // SAFETY: The place is valid for writing, and the name is static.
            unsafe { bindings::kobj_attribute_init(&mut raw, name, file.mode, Some(Self::show)) };
            let shown = NonNull::from(&*shown);
            attributes.push(Attribute { raw, shown, file }, GFP_KERNEL_ACCOUNT)?;
        }
        let mut raw: bindings::bin_attribute = pin_init::zeroed();
        // SAFETY: The attribute is valid for writing.
        unsafe { bindings::sysfs_bin_attr_init(&mut raw) };
        raw.attr.name = T::LINES.as_char_ptr();
        raw.attr.mode = 0o400;
        raw.read = Some(Self::read);
        let shown_lines = NonNull::from(&*shown);
        let lines = KBox::new(
            Lines {
                raw,
                shown: shown_lines,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        // INVARIANT: A vector that does not grow does not move them, nor does a box.
        Ok(Show {
            directory: None,
            attributes,
            lines,
            shown,
        })
    }

    /// Shows the files in the directory `name` of `parent`, until this is removed or dropped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if the directory exists; the errors of sysfs_create_file(), such as `EEXIST`
    /// for two files of one name.
    pub(crate) fn publish(&mut self, parent: &Directory, name: &CStr) -> Result {
        // SAFETY: By the invariant of `parent` its kobject is valid.
        let directory = unsafe { Directory::new(name, parent.kobject.as_ptr()) }?;
        let kobject = self.directory.insert(directory).kobject.as_ptr();
        for attribute in self.attributes.iter() {
            // SAFETY: The kobject is in sysfs. The attribute lives until the directory is removed.
            to_result(unsafe { bindings::sysfs_create_file(kobject, &attribute.raw.attr) })?;
        }
        if self.shown.has_lines() {
            // SAFETY: As above.
            to_result(unsafe { bindings::sysfs_create_bin_file(kobject, &self.lines.raw) })?;
        }
        Ok(())
    }

    /// Removes the directory, and waits for readers of its files. A second caller at the same time
    /// returns before that wait ends.
    pub(crate) fn remove(&self) {
        self.directory.iter().for_each(Directory::remove);
    }

    /// Writes the value of a file to `buffer`. Returns its length.
    ///
    /// # Safety
    ///
    /// `raw` must be the attribute of a file that exists, and `buffer` the page that sysfs passes.
    unsafe extern "C" fn show(
        _kobject: *mut bindings::kobject,
        raw: *mut bindings::kobj_attribute,
        buffer: *mut kernel::ffi::c_char,
    ) -> isize {
        // SAFETY: `new` makes such files only; their attributes are the first fields of these. By
        // the type invariant the object lives until the directory is removed, which waits for this.
        let (file, shown) = unsafe {
            let attribute = raw.cast::<Attribute<T>>();
            ((*attribute).file, (*attribute).shown.as_ref())
        };
        let value = (file.value)(shown);
        // SAFETY: The caller passes a page of sysfs. The formats take a number, and a string.
        let length = unsafe {
            match value {
                Value::Number(number) => {
                    bindings::sysfs_emit(buffer, c"%llu\n".as_char_ptr(), number)
                }
                Value::Text(text) => {
                    bindings::sysfs_emit(buffer, c"%s\n".as_char_ptr(), text.as_char_ptr())
                }
            }
        };
        length as isize
    }
}

impl<T: Shown> Show<T> {
    /// Writes `count` bytes of the lines, from `position` on, to `buffer`. Returns how many.
    ///
    /// # Safety
    ///
    /// `raw` must be the attribute of such a file, and `buffer` valid for writing `count` bytes.
    unsafe extern "C" fn read(
        _file: *mut bindings::file,
        _kobject: *mut bindings::kobject,
        raw: *const bindings::bin_attribute,
        buffer: *mut kernel::ffi::c_char,
        position: bindings::loff_t,
        count: usize,
    ) -> isize {
        // SAFETY: `new` makes such a file only; its attribute is the first field of this. By the
        // type invariant the object lives until the directory is removed, which waits for this. The
        // buffer belongs to this call.
        let (shown, buffer) = unsafe {
            buffer.cast::<u8>().write_bytes(0, count);
            let buffer = core::slice::from_raw_parts_mut(buffer.cast::<u8>(), count);
            ((*raw.cast::<Lines<T>>()).shown.as_ref(), buffer)
        };
        let mut done = 0;
        while done < count {
            let at = position as usize + done;
            let text = match shown.line(at / WIDTH) {
                None => break,
                Some(Err(error)) => return error.to_errno() as isize,
                Some(Ok(text)) => text,
            };
            let mut line = [b' '; WIDTH];
            line.iter_mut()
                .zip(text.to_bytes())
                .for_each(|(to, from)| *to = *from);
            line[WIDTH - 1] = b'\n';
            let part = &line[at % WIDTH..];
            let length = part.len().min(count - done);
            buffer[done..done + length].copy_from_slice(&part[..length]);
            done += length;
        }
        done as isize
    }
}

impl<T: Shown> core::ops::Deref for Show<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shown
    }
}
