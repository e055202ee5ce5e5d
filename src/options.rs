// SPDX-License-Identifier: GPL-2.0-only

//! Mount options.

use crate::memory::Descriptor;
use crate::packs::{
    Domain,
    Given,
    Pack,
    PackRef, //
};
use crate::prelude::*;
use crate::verify::{
    parse_digest,
    Proof, //
};

#[derive(Default)]
pub(crate) struct Options {
    /// Start of a range of physical memory that holds the image.
    pub(crate) phys: Option<u64>,
    /// Length of the range that `phys=` starts, in bytes.
    pub(crate) size: Option<u64>,
    /// Memory behind a file descriptor, and the name of the option. Without this and `phys=`, the
    /// mount's source is a device that holds the image.
    pub(crate) descriptor: Option<(&'static str, KBox<dyn Descriptor>)>,
    /// The part of the source that may hold the image.
    pub(crate) part: Part,
    /// The checks to make at mount.
    pub(crate) checks: Checks,
    /// The domain in which the image shares packs.
    pub(crate) domain: Option<Domain>,
    /// Packs supplied by the mount.
    pub(crate) packs: KVVec<Given>,
    /// The ordinary user who mounts, or `None` for root.
    pub(crate) user: Option<User>,
}

/// How a mount specifies the memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// By its source, which is a device.
    Device,
    /// By `phys=` and `size=`: address and length in bytes.
    Phys(u64, u64),
    /// By a file descriptor, with the option of this name.
    Descriptor(&'static str),
}

/// The checks to make at mount.
#[derive(Clone, Copy, Default)]
pub(crate) struct Checks {
    /// Compare all metadata, everything before the file data, with their checksum, or not. The
    /// default is to do so at the first mount.
    pub(crate) metadata: Option<bool>,
    /// The options that must prove the content of the image.
    pub(crate) proof: Proof,
}

/// Options with a file descriptor: the required kind of file, and how to open its memory.
#[allow(clippy::type_complexity)]
const DESCRIPTORS: &[(&str, &str, fn(i32, &File) -> Result<KBox<dyn Descriptor>>)] = &[
    #[cfg(CONFIG_DAXFS_FS_DMABUF)]
    ("dmabuf", "a dma-buf", crate::memory::dmabuf::get),
    #[cfg(CONFIG_DAXFS_FS_MEMFD)]
    (
        "memfd",
        "a memfd that is open for reading",
        crate::memory::memfd::get,
    ),
];

/// Returns the option of Kconfig that `key` needs, if daxfs was built without it.
fn lacks(key: &[u8]) -> Option<&'static str> {
    let (option, exists) = match key {
        b"phys" | b"size" => ("PHYS", cfg!(CONFIG_DAXFS_FS_PHYS)),
        b"dmabuf" => ("DMABUF", cfg!(CONFIG_DAXFS_FS_DMABUF)),
        b"memfd" => ("MEMFD", cfg!(CONFIG_DAXFS_FS_MEMFD)),
        b"signature" => (
            "SIGNATURES and SYSTEM_DATA_VERIFICATION",
            cfg!(CONFIG_DAXFS_FS_SIGNATURES),
        ),
        _ => return None,
    };
    (!exists).then_some(option)
}

impl Options {
    /// Returns how the options specify the memory. Without `size=`, the length after `phys=` is 0.
    pub(crate) fn named(&self) -> Named {
        match (self.phys, &self.descriptor) {
            (Some(start), _) => Named::Phys(start, self.size.unwrap_or(0)),
            (None, Some((name, _))) => Named::Descriptor(name),
            (None, None) => Named::Device,
        }
    }

    /// Parses one option; of a remount, if it has the domain of the mounted image.
    ///
    /// Errors: `ENOPARAM` if it is unknown, `EINVAL` if its value is invalid; those of
    /// [`Pack::of_file`].
    pub(crate) fn parse(
        &mut self,
        param: &Param<'_>,
        remount: Option<Domain>,
    ) -> Result<(), Refusal> {
        let refuse = |reason: fmt::Arguments<'_>| Err(Refusal::new(EINVAL, reason));
        if remount.is_some() {
            match (param.key.to_bytes(), &param.value) {
                // mount(8) repeats what /proc/mounts shows, which hides addresses and descriptors.
                (b"phys" | b"dmabuf" | b"memfd", Value::Flag) => return Ok(()),
                (b"dmabuf" | b"memfd", _) => {
                    return refuse(fmt!("a remount cannot change the image's memory"))
                }
                _ => {}
            }
        }
        if let Some(option) = lacks(param.key.to_bytes()) {
            let key = param.key;
            refuse!(Errno::NotSupported => "{key} needs a daxfs with CONFIG_DAXFS_FS_{option}");
        }
        let text = match &param.value {
            Value::Text(text) => text.to_bytes(),
            _ => b"",
        };
        let takes = |what: &str| refusal!(EINVAL => "{}= takes {what}", param.key);
        let number = |what| parse_bytes(text).ok_or_else(|| takes(what));
        match param.key.to_bytes() {
            b"check" => {
                self.checks.metadata = Some(match text {
                    b"metadata" => true,
                    b"none" => false,
                    _ => return Err(takes("'metadata' or 'none'")),
                });
            }
            // The kernel's parser logs unknown parts of a signature, so only root may use this.
            b"signature" if self.user.is_some() => {
                refuse!(EPERM => "only root uses signature=";
                    "verify it by daxfs verify, and mount it with digest=")
            }
            key @ (b"digest" | b"signature" | b"verify") => {
                self.checks.proof.parse(key, text).map_err(takes)?;
            }
            key @ (b"fsoffset" | b"fslength") => {
                let value = number("a number of bytes, such as 0x200000 or 2M")?;
                self.part.parse(key, value);
            }
            b"size" => self.size = Some(number("a length in bytes, such as 0x4000000 or 64M")?),
            b"phys" => {
                let start = number("an address in bytes, such as 0x100000000 or 4G")?;
                self.refuse_another()?;
                self.phys = Some(start);
            }
            b"domain" => {
                let named = Domain::named(text, self.user);
                let domain = named.ok_or_else(|| takes("1 to 63 of A-Z, a-z, 0-9, '._:-'"))?;
                if self.domain.or(remount).is_some_and(|known| known != domain) {
                    return refuse(fmt!("domain= cannot change"));
                }
                self.domain = Some(domain);
            }
            b"pack" => {
                if self.packs.len() >= layout::PACKS_MAX as usize {
                    return refuse(fmt!("an image has at most {} packs", layout::PACKS_MAX));
                }
                let pack = if let Value::Descriptor(fd, file) = &param.value {
                    let refuse = |refusal: Refusal| refusal.of(fmt!("pack (file descriptor {fd})"));
                    Given::New(Pack::of_file(file, self.user).map_err(refuse)?)
                } else {
                    let pack = self.parse_pack(text, remount);
                    pack.ok_or_else(|| takes("SHA256, or SHA256:OFFSET:LENGTH"))??
                };
                self.packs.push(pack, GFP_KERNEL_ACCOUNT)?;
            }
            b"image" => {
                return refuse(fmt!(
                    "image= is an option of mount.daxfs, which looks the image up in the \
                     store; the kernel takes fsoffset= and fslength="
                ))
            }
            key @ (b"dmabuf" | b"memfd") => {
                let name = param.key;
                let Value::Descriptor(fd, file) = &param.value else {
                    return refuse(fmt!("{name} takes a file descriptor (FSCONFIG_SET_FD)"));
                };
                let known = DESCRIPTORS.iter().find(|known| known.0.as_bytes() == key);
                let (key, kind, get) = known.ok_or(ENOPARAM)?;
                let Ok(descriptor) = get(*fd, file) else {
                    return refuse(fmt!("{name}: file descriptor {fd} is not {kind}"));
                };
                self.refuse_another()?;
                self.descriptor = Some((key, descriptor));
            }
            _ => return Err(ENOPARAM.into()),
        }
        Ok(())
    }

    /// Parses `SHA256`, of a pack that is loaded into the domain, or `SHA256:OFFSET:LENGTH`, of one
    /// on the image's device. Returns `None` if it is neither.
    ///
    /// Errors: `ENOMEDIUM` if it is not loaded, `EINVAL` without a domain.
    fn parse_pack(&self, text: &[u8], domain: Option<Domain>) -> Option<Result<Given, Refusal>> {
        let mut parts = text.splitn(3, |&byte| byte == b':');
        let sum = parse_digest(parts.next()?)?;
        if let Some(start) = parts.next() {
            let (start, length) = (parse_bytes(start)?, parse_bytes(parts.next()?)?);
            let range = Part::new(start, length).of(Some(u64::MAX)).transpose()?;
            return Some(range.map(|range| Given::At(sum, range)));
        }
        let Some(domain) = self.domain.or(domain) else {
            return Some(Err(
                refusal!(EINVAL => "pack=SHA256 needs domain= before it"),
            ));
        };
        let found = PackRef::find(domain, &sum).map(Given::Loaded);
        Some(found.ok_or_else(|| {
            refusal!(Errno::NoMedium => "the pack {} is not loaded", Hex(&sum);
                "pass its memory as a file descriptor")
        }))
    }

    /// Refuses options that specify memory twice.
    fn refuse_another(&self) -> Result<(), Refusal> {
        if self.named() == Named::Device {
            Ok(())
        } else {
            Err(refusal!(EINVAL => "phys=, dmabuf and memfd exclude one another"))
        }
    }
}

/// Parses a number of bytes: decimal, or hexadecimal after `0x`, with an optional suffix K, M, G or
/// T for a power of 1024.
fn parse_bytes(text: &[u8]) -> Option<u64> {
    let (number, shift) = match text.split_last()? {
        (b'k' | b'K', number) => (number, 10),
        (b'm' | b'M', number) => (number, 20),
        (b'g' | b'G', number) => (number, 30),
        (b't' | b'T', number) => (number, 40),
        _ => (text, 0),
    };
    let (digits, radix) = match number {
        [b'0', b'x' | b'X', digits @ ..] => (digits, 16),
        _ => (number, 10),
    };
    let digits = core::str::from_utf8(digits).ok()?;
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix)
        .ok()?
        .checked_mul(1 << shift)
}

/// The part of the source that may hold the image, while options are parsed.
#[derive(Default)]
pub(crate) struct Part {
    /// Where the image starts on the source.
    offset: Option<u64>,
    /// How many bytes from there on.
    length: Option<u64>,
}

impl Part {
    /// Returns the part of `length` bytes from `offset` on.
    pub(crate) fn new(offset: u64, length: u64) -> Self {
        Part {
            offset: Some(offset),
            length: Some(length),
        }
    }

    /// Stores the value of the option `key`.
    pub(crate) fn parse(&mut self, key: &[u8], value: u64) {
        match key {
            b"fsoffset" => self.offset = Some(value),
            _ => self.length = Some(value),
        }
    }

    /// Returns false if the options name another part than `part`.
    pub(crate) fn may_be(&self, part: Option<&Range<u64>>) -> bool {
        let part = part.map(|part| (part.start, part.end - part.start));
        (self.offset, self.length) == (None, None) || part == self.offset.zip(self.length)
    }

    /// Returns the part of a source with `size` bytes, if the options are given. Without a size,
    /// the source must be mounted whole.
    ///
    /// Errors: `EINVAL` if the part is invalid.
    pub(crate) fn of(&self, size: Option<u64>) -> Result<Option<Range<u64>>, Refusal> {
        let (start, length) = match (self.offset, self.length) {
            (None, None) => return Ok(None),
            (Some(start), Some(length)) => (start, length),
            _ => {
                refuse!(EINVAL => "fsoffset= and fslength= need each other");
            }
        };
        let refuse = |reason| {
            let refusal = Refusal::new(EINVAL, reason);
            Err(refusal.of(fmt!("fsoffset={start:#x},fslength={length:#x}")))
        };
        let most = size.unwrap_or(u64::MAX);
        match start.checked_add(length) {
            _ if (start | length) % PAGE_SIZE as u64 != 0 || length == 0 => refuse(fmt!(
                "both must be multiples of the page size, {PAGE_SIZE}, and the length not 0"
            )),
            Some(end) if end <= most => match size {
                Some(_) => Ok(Some(start..end)),
                None => refuse(fmt!(
                    "they need a device or phys=; a descriptor is mounted whole"
                )),
            },
            _ => refuse(fmt!(
                "the part ends after the memory, which has {most:#x} bytes"
            )),
        }
    }
}
