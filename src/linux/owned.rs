// SPDX-License-Identifier: GPL-2.0-only

//! Values of Rust that own a C object or a reference to one.

/// Defines a type for a C object that is its own, or for a reference to one. Dropping it calls the
/// function.
///
/// # Invariants
///
/// Whoever creates a value passes it the object, or a reference. Any thread may use the object by
/// the functions of the kernel that the type's methods call, several at the same time.
macro_rules! owned {
    ($(#[$meta:meta])* $vis:vis struct $name:ident($object:ident, $put:ident);) => {
        $(#[$meta])*
        $vis struct $name(core::ptr::NonNull<$crate::bindings::$object>);

        // SAFETY: By the invariant of the macro any thread may use and put the object.
        unsafe impl Send for $name {}
        // SAFETY: By the invariant of the macro threads may share it.
        unsafe impl Sync for $name {}

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: By the invariant of the macro this owns the object or the reference.
                unsafe { $crate::bindings::$put(self.0.as_ptr()) };
            }
        }
    };
}
pub(crate) use owned;
