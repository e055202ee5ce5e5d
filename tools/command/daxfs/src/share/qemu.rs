// SPDX-License-Identifier: GPL-2.0-only

//! QEMU's arguments.

use super::{Backing, Device};

/// Return the arguments that give a machine `device` with the memory `backing`, which it cannot write.
///
/// With `readonly=on`, QEMU opens the file for reading only and makes its memory ROM for the guest.
pub fn arguments(device: Device, number: u8, backing: &Backing) -> Vec<String> {
    let Backing { path, size, .. } = backing;
    // A comma ends a value, two commas mean one.
    let path = path.replace(',', ",,");
    let id = format!("daxfs-pmem{number}");
    // Aligned as huge pages are, here as in the guest.
    let backend = format!(
        "memory-backend-file,id={id},mem-path={path},size={size},share=on,readonly=on,align=2M"
    );
    let mut words = vec![("-object", backend)];
    match device {
        Device::VirtioPmem => words.push(("-device", format!("virtio-pmem-pci,memdev={id}"))),
        Device::Nvdimm => {
            words.insert(0, ("-machine", "nvdimm=on".into()));
            // The guest then knows that it cannot write.
            words.push(("-device", format!("nvdimm,memdev={id},unarmed=on")));
        }
    }
    let words = words.into_iter();
    words
        .flat_map(|(option, value)| [option.into(), value])
        .collect()
}

/// Join `arguments` to a line that a shell reads as these words.
pub fn words(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|word| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=,./:@%+".contains(&byte);
        match !word.is_empty() && word.bytes().all(plain) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', "'\\''")),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Return the element of a domain of libvirt that has `arguments`. Its own memory devices open their file for writing.
pub fn libvirt(arguments: &[String]) -> String {
    let argument = |word: &String| {
        let word = word.replace('&', "&amp;").replace('<', "&lt;");
        format!("  <qemu:arg value=\"{}\"/>\n", word.replace('"', "&quot;"))
    };
    let lines: String = arguments.iter().map(argument).collect();
    let space = "http://libvirt.org/schemas/domain/qemu/1.0";
    format!("<qemu:commandline xmlns:qemu=\"{space}\">\n{lines}</qemu:commandline>")
}
