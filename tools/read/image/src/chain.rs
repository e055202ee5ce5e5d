// SPDX-License-Identifier: GPL-2.0-only

//! Images of layers of container images. `mkdaxfs --layers=chain-id` names their files
//! `CHAINID.daxfs` and gives them the chain ID as label, as the OCI image specification defines it.

use daxfs_check::digest::is_hex;
use std::ffi::OsStr;

/// Return whether `text` is a chain ID: a SHA-256 in 64 lower-case hexadecimal digits.
pub fn is_chain_id(text: &str) -> bool {
    is_hex(text, 32)
}

/// Return the name of the image file of the layer `chain_id`.
pub fn file_name(chain_id: &str) -> String {
    format!("{chain_id}.daxfs")
}

/// Return the chain ID in a file name of this kind.
pub fn of_file_name(name: &OsStr) -> Option<&str> {
    let chain_id = name.to_str()?.strip_suffix(".daxfs")?;
    is_chain_id(chain_id).then_some(chain_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(of_file_name(OsStr::new(&file_name(&id))), Some(&*id));
        for other in [
            "base.daxfs",
            &id,
            &format!("{}.daxfs", &id[1..]),
            &format!("0{id}.daxfs"),
            &format!("{}.daxfs", id.to_uppercase()),
        ] {
            assert_eq!(of_file_name(OsStr::new(other)), None, "{other}");
        }
    }
}
