// SPDX-License-Identifier: GPL-2.0-only

//! Directories in sysfs, with one read-only file for each value.
//!
//! The kernel allocates and frees the kobject of a directory (`kobject_create_and_add()`), so none
//! of our functions runs when its last reference goes, which may be after the module. A file's
//! callback runs while kernfs holds an active reference to the file. Removing the directory waits
//! for the callbacks in progress and prevents others: a process that keeps the file open then reads
//! `ENODEV`.

use crate::linux::prelude::*;

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
    /// Creates the directory `name` in /sys/fs.
    ///
    /// Errors: `ENOMEM`, even if the directory exists.
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

/// Formats a file's content from a `T`. It may wait only for memory, because removing the directory
/// waits for it.
pub(crate) enum Content<T> {
    /// A value, and a newline.
    Value(fn(&T) -> Result<CString>),
    /// Any number of lines of [`WIDTH`] bytes, padded with blanks, so that a reader finds each at
    /// its place. Without lines there is no file.
    Lines(fn(&T, usize) -> Option<Result<CString>>),
}

/// A file that shows a property of a `T`: its name, permissions and content.
pub(crate) struct File<T>(
    pub(crate) &'static CStr,
    pub(crate) u16,
    pub(crate) Content<T>,
);

/// Bytes of a line with its newline.
const WIDTH: usize = 160;

/// An attribute of a kobject, and its content.
#[repr(C)]
struct Attribute<T: 'static> {
    raw: bindings::bin_attribute,
    /// The object of this file.
    shown: NonNull<T>,
    content: &'static Content<T>,
}

/// A `T` with files in sysfs.
///
/// # Invariants
///
/// `attributes` are not moved, and `shown` of each is the content of `shown`. The files of
/// `directory` belong to them.
pub(crate) struct Show<T: 'static> {
    // Dropped first: its files use the others.
    directory: Option<Directory>,
    // Only read by the files.
    attributes: KVec<Attribute<T>>,
    shown: KBox<T>,
}

// SAFETY: The pointers in the attributes are to `shown`, which is `Send`.
unsafe impl<T: Send + Sync + 'static> Send for Show<T> {}
// SAFETY: Files use `shown` by shared references only, and it is `Sync`.
unsafe impl<T: Send + Sync + 'static> Sync for Show<T> {}

impl<T: Send + Sync + 'static> Show<T> {
    /// Prepares `files` of `shown`.
    pub(crate) fn new(shown: T, files: &'static [File<T>]) -> Result<Self> {
        let shown = KBox::new(shown, GFP_KERNEL_ACCOUNT)?;
        let mut attributes = KVec::with_capacity(files.len(), GFP_KERNEL_ACCOUNT)?;
        for File(name, mode, content) in files {
            let mut raw: bindings::bin_attribute = pin_init::zeroed();
            // SAFETY: The place is valid for writing.
            unsafe { bindings::attr_init(&mut raw.attr) };
            (raw.attr.name, raw.attr.mode) = (name.as_char_ptr(), *mode);
            raw.read = Some(Self::read);
            let attribute = Attribute {
                raw,
                shown: NonNull::from(&*shown),
                content,
            };
            attributes.push(attribute, GFP_KERNEL_ACCOUNT)?;
        }
        // INVARIANT: A vector that does not grow does not move them, nor does a box.
        Ok(Show {
            directory: None,
            attributes,
            shown,
        })
    }

    /// Shows the files in the directory `name` of `parent`, until this is removed or dropped.
    ///
    /// Errors: `ENOMEM`, even if the directory exists; the errors of sysfs_create_bin_file(), such
    /// as `EEXIST` for two files of one name.
    pub(crate) fn publish(&mut self, parent: &Directory, name: &CStr) -> Result {
        // SAFETY: By the invariant of `parent` its kobject is valid.
        let directory = unsafe { Directory::new(name, parent.kobject.as_ptr()) }?;
        let kobject = self.directory.insert(directory).kobject.as_ptr();
        for attribute in self.attributes.iter() {
            if matches!(attribute.content, Content::Lines(line) if line(&self.shown, 0).is_none()) {
                continue;
            }
            // SAFETY: The kobject is in sysfs. The attribute lives until the directory is removed.
            to_result(unsafe { bindings::sysfs_create_bin_file(kobject, &attribute.raw) })?;
        }
        Ok(())
    }

    /// Removes the directory, and waits for readers of its files. A second caller at the same time
    /// returns before that wait ends.
    pub(crate) fn remove(&self) {
        self.directory.iter().for_each(Directory::remove);
    }

    /// Writes `count` bytes of a file, from `position` on, to `buffer`. Returns how many.
    ///
    /// # Safety
    ///
    /// `raw` must be the attribute of a file that exists, and `buffer` valid for writing `count`
    /// bytes.
    unsafe extern "C" fn read(
        _file: *mut bindings::file,
        _kobject: *mut bindings::kobject,
        raw: *const bindings::bin_attribute,
        buffer: *mut ffi::c_char,
        position: bindings::loff_t,
        count: usize,
    ) -> isize {
        // SAFETY: `new` makes such files only; their attributes are the first fields of these. By
        // the type invariant the object lives until the directory is removed, which waits for this.
        // The buffer belongs to this call.
        let (content, shown, buffer) = unsafe {
            buffer.cast::<u8>().write_bytes(0, count);
            let buffer = slice::from_raw_parts_mut(buffer.cast::<u8>(), count);
            let attribute = raw.cast::<Attribute<T>>();
            ((*attribute).content, (*attribute).shown.as_ref(), buffer)
        };
        from_result(|| content.read(shown, position as usize, buffer))
    }
}

impl<T> Content<T> {
    /// Writes what is shown of `shown`, from `position` on, to `buffer`. Returns how many bytes.
    fn read(&self, shown: &T, position: usize, buffer: &mut [u8]) -> Result<isize> {
        let mut done = 0;
        let mut put = |bytes: &[u8]| {
            let length = bytes.len().min(buffer.len() - done);
            buffer[done..done + length].copy_from_slice(&bytes[..length]);
            done += length;
            done
        };
        match self {
            Content::Value(value) => {
                let text = CString::try_from_fmt(fmt!("{}\n", &*value(shown)?))?;
                put(text.to_bytes().get(position..).unwrap_or_default());
            }
            Content::Lines(line) => {
                let mut at = position;
                while let Some(text) = line(shown, at / WIDTH) {
                    let (text, mut padded) = (text?, [b' '; WIDTH]);
                    let places = padded.iter_mut().zip(text.to_bytes());
                    places.for_each(|(to, from)| *to = *from);
                    padded[WIDTH - 1] = b'\n';
                    let next = position + put(&padded[at % WIDTH..]);
                    if next % WIDTH != 0 || next == at {
                        break;
                    }
                    at = next;
                }
            }
        }
        Ok(done as isize)
    }
}

impl<T: 'static> Deref for Show<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shown
    }
}
