// SPDX-License-Identifier: GPL-2.0-only

//! DAX character devices, and their bus.

use super::device::{make_and_kill, Device};
use super::holder::{Held, Holder};
use crate::bindings;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::{
    error::to_result,
    fs::File,
    prelude::*,
    sync::{aref::ARef, Arc},
    types::Opaque,
};

/// The major number of DAX character devices; 0 until it is known.
static MAJOR: AtomicU32 = AtomicU32::new(0);

/// Return the major number of DAX character devices.
fn major() -> Result<u32> {
    let known = MAJOR.load(Ordering::Relaxed);
    if known != 0 {
        return Ok(known);
    }
    let major = make_and_kill()?;
    MAJOR.store(major, Ordering::Relaxed);
    Ok(major)
}

/// An open DAX character device.
///
/// # Invariants
///
/// The file is open, and is such a device. Its inode has a character device, whose parent is on the
/// DAX bus.
pub(crate) struct Node(ARef<File>);

impl Node {
    /// Return true if `number` may belong to a DAX character device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn is_number(number: bindings::dev_t) -> Result<bool> {
        Ok(number >> bindings::MINORBITS == major()?)
    }

    /// Use `file`, if it is a DAX character device that is open for reading.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(file: ARef<File>) -> Result<Option<Self>> {
        let node = Node(file);
        let raw = node.0.as_ptr().cast::<bindings::file>();
        // SAFETY: The mode of an open file does not change in this bit.
        let opened = unsafe { (*raw).f_mode } & bindings::FMODE_READ != 0;
        // SAFETY: The open file keeps its inode.
        let kind = unsafe { (*node.inode()).i_mode } & bindings::S_IFMT;
        // INVARIANT: The DAX core has this major number, and opens only devices of its bus.
        let is_dax = opened && kind == bindings::S_IFCHR && Self::is_number(node.number())?;
        Ok(is_dax.then_some(node))
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: An open file has an inode, which does not change.
        unsafe { (*self.0.as_ptr().cast::<bindings::file>()).f_inode }
    }

    /// Return the device number.
    pub(crate) fn number(&self) -> bindings::dev_t {
        // SAFETY: The open file keeps its inode.
        unsafe { (*self.inode()).i_rdev }
    }

    /// Return the device of the DAX bus.
    fn bus_device(&self) -> *mut bindings::device {
        // SAFETY: By the type invariant the inode has a character device with such a parent.
        unsafe { bindings::cdev_parent(self.inode()) }
    }

    /// Return what identifies the device on the DAX bus.
    pub(crate) fn bus_device_id(&self) -> BusDeviceId {
        BusDeviceId(self.bus_device() as usize)
    }

    /// Get the DAX device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn device(&self) -> Result<ARef<Device>> {
        // For the number of a device that does not exist the DAX core makes an object without a
        // device. The open file keeps it.
        // SAFETY: This takes any number.
        let device = unsafe { bindings::dax_dev_get(self.number()) };
        // SAFETY: The function returns a reference, or null.
        unsafe { Device::take(device) }.ok_or(ENOMEM)
    }

    /// Make `holder` the holder of the device, as [`Held::of_bus`] does.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, the errors of [`Held::of_bus`].
    pub(crate) fn hold<T: Holder>(&self, holder: Arc<T>) -> Result<Held<T>> {
        // SAFETY: By the type invariant the device is on the bus.
        unsafe { Held::of_bus(&*self.device()?, holder) }
    }
}

/// Identity of a device on the DAX bus. It is only compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BusDeviceId(pub(crate) usize);

/// Says what happens before a device of the DAX bus is unbound from its driver.
pub(crate) trait Unbinding: 'static {
    /// Stop all use of the device. Called under the lock of the device.
    fn unbinding(device: BusDeviceId);
}

/// A notifier of the DAX bus. Dropping it unregisters the notifier.
///
/// # Invariants
///
/// The block is registered with the bus, which belongs to the DAX core. This module uses functions
/// of that, so it stays loaded.
pub(crate) struct BusNotifier<T> {
    block: KBox<Opaque<bindings::notifier_block>>,
    bus: NonNull<bindings::bus_type>,
    calls: PhantomData<T>,
}

// SAFETY: A notifier may be unregistered by any thread.
unsafe impl<T> Send for BusNotifier<T> {}

impl<T: Unbinding> BusNotifier<T> {
    /// Register the notifier with the bus of `node`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(node: &Node) -> Result<Self> {
        let block = bindings::notifier_block {
            notifier_call: Some(Self::notify),
            ..pin_init::zeroed()
        };
        let block = KBox::new(Opaque::new(block), GFP_KERNEL)?;
        // SAFETY: The node keeps the device, whose bus does not change.
        let bus = unsafe { (*node.bus_device()).bus };
        let bus = NonNull::new(bus.cast_mut()).ok_or(ENODEV)?;
        // SAFETY: The bus is valid. The box lives until `drop` unregisters the block.
        to_result(unsafe { bindings::bus_register_notifier(bus.as_ptr(), block.get()) })?;
        // INVARIANT: The block was registered above.
        Ok(BusNotifier {
            block,
            bus,
            calls: PhantomData,
        })
    }

    /// # Safety
    ///
    /// None: the pointers are only compared.
    unsafe extern "C" fn notify(
        _block: *mut bindings::notifier_block,
        action: kernel::ffi::c_ulong,
        device: *mut kernel::ffi::c_void,
    ) -> kernel::ffi::c_int {
        if action == bindings::BUS_NOTIFY_UNBIND_DRIVER {
            T::unbinding(BusDeviceId(device as usize));
        }
        // NOTIFY_DONE
        0
    }
}

impl<T> Drop for BusNotifier<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the block is registered. This waits for its callback.
        unsafe { bindings::bus_unregister_notifier(self.bus.as_ptr(), self.block.get()) };
    }
}
