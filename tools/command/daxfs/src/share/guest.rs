// SPDX-License-Identifier: GPL-2.0-only

//! The commands that mount the image in a guest.

use super::Device;

/// Return the lines of a shell script that mounts the image of device `number` of its kind on /mnt, as root.
pub fn commands(device: Device, number: u8) -> Vec<String> {
    let lines = match device {
        Device::VirtioPmem | Device::Nvdimm => {
            return vec![format!("mount -t daxfs /dev/pmem{number} /mnt")];
        }
        // Windows of addresses are in the order of the devices, names of memories are not: serial numbers tell.
        Device::Cxl => format!(
            "memory=$(grep -l -x {serial:#x} /sys/bus/cxl/devices/mem*/serial)\n\
             memory=$(basename \"$(dirname \"$memory\")\")\n\
             region=$(cxl create-region -t ram -d decoder0.{number} -m \"$memory\" | sed -n 's/.*\"region\":\"\\(.*\\)\",/\\1/p')\n\
             modprobe -a dax_cxl fsdev_dax\n\
             dax=$(basename /sys/bus/cxl/devices/dax_\"$region\"/dax*[0-9])\n\
             driver=/sys/bus/dax/devices/$dax/driver\n\
             [ ! -e \"$driver\" ] || echo \"$dax\" >\"$driver/unbind\"\n\
             echo \"$dax\" >/sys/bus/dax/drivers/fsdev_dax/new_id\n\
             mount -t daxfs \"/dev/$dax\" /mnt",
            serial = u16::from(number) + 1,
        ),
        // The third range of the device is its memory.
        Device::Ivshmem => format!(
            "device=$(grep -l PCI_ID=1AF4:1110 /sys/bus/pci/devices/*/uevent | sed -n {}p)\n\
             device=$(dirname \"$device\")\n\
             echo 1 >\"$device/enable\"\n\
             range=$(sed -n 3p \"$device/resource\")\n\
             start=${{range%% *}} range=${{range#* }} end=${{range%% *}}\n\
             mount -t daxfs -o \"phys=$start,size=$((end - start + 1))\" none /mnt",
            u16::from(number) + 1,
        ),
    };
    lines.lines().map(str::to_owned).collect()
}
