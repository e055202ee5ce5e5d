// SPDX-License-Identifier: GPL-2.0-only

//! Write the images that the corpora of the fuzz targets `image` and `tools` make to one file, for the
//! test `corpus` of the module.
//!
//! The file starts with the number of images (8 bytes, little-endian). Each image is a record: the name
//! of the target and of the input (64 bytes, filled with zeros), the size of the image (8 bytes,
//! little-endian), the number of bytes up to its last one that is not zero (8 bytes), and these bytes.

use daxfs_testing::{overlay, specimen};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Bytes of a name.
const NAME: usize = 64;

fn main() -> std::io::Result<()> {
    let path = std::env::args_os().nth(1).expect("the file to write");
    let mut records = Vec::new();
    let mut images = 0_u64;
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let targets = [
        ("image", specimen::unpadded()),
        ("tools", specimen::specimen()),
    ];
    for (target, specimen) in targets {
        let mut inputs: Vec<_> = fs::read_dir(corpora.join(target))?.collect::<Result<_, _>>()?;
        inputs.sort_by_key(|input| input.file_name());
        for input in inputs {
            let image = overlay::overlaid(&specimen, &fs::read(input.path())?);
            let used = image.iter().rposition(|&byte| byte != 0);
            let used = used.map_or(0, |last| last + 1);
            let input_name = input.file_name();
            let mut name = format!("{target}/{}", input_name.to_string_lossy()).into_bytes();
            assert!(name.len() < NAME, "the name of an input is too long");
            name.resize(NAME, 0);
            records.extend(name);
            records.extend((image.len() as u64).to_le_bytes());
            records.extend((used as u64).to_le_bytes());
            records.extend(&image[..used]);
            images += 1;
        }
    }
    let mut output = File::create(path)?;
    output.write_all(&images.to_le_bytes())?;
    output.write_all(&records)
}
