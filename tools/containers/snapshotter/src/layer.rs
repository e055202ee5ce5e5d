// SPDX-License-Identifier: GPL-2.0-only

//! Makes the image of a layer from the upper directory of an overlay.

use crate::config;
use crate::error::Result;
use crate::record::Layer;
use daxfs_check::digest::hex;
use daxfs_check::Silent;
use daxfs_input::{read, Input, Platform};
use daxfs_reader::layout::XattrPrefix;
use daxfs_writer::options::Options;
use daxfs_writer::tree::{Kind, Tree, ROOT};
use daxfs_writer::{make, Output};
use std::path::Path;

/// overlayfs's records about its upper layer. They are useless in a lower layer, and differ each time. Marks of removed
/// and opaque directories, of renamed directories and of files without content remain.
const UPPER: [&[u8]; 5] = [
    b"overlay.origin",
    b"overlay.impure",
    b"overlay.nlink",
    b"overlay.upper",
    b"overlay.uuid",
];

/// Make the image `image` of the directory `upper`. Call `warn` with a line for each thing that is
/// left out.
///
/// No image remains after an error.
pub fn image(
    upper: &Path,
    image: &Path,
    config: &config::Image,
    warn: &mut dyn FnMut(String),
) -> Result<Layer> {
    let scratch = image.parent().unwrap_or(Path::new("/"));
    let input = daxfs_input::Options {
        output: None,
        one_file_system: true,
        exclude: None,
        scratch,
        platform: &Platform::default(),
    };
    let mut tree = read(&[Input::Directory(upper.into())], &input, &Silent, warn)?;
    forget_upper(&mut tree);
    forget_unpacking(&mut tree, upper);
    // The smallest that this kernel takes. Memory is allocated in larger pieces anyway.
    let block_size = rustix::param::page_size() as u32;
    let options = Options {
        block_size,
        padding: block_size.into(),
        pack: config.pack,
        sums: true,
        ..Options::default()
    };
    let output = Output::create(image)?;
    let summary = make(&tree, &options, &output, &Silent)?;
    output.commit(&Silent)?;
    Ok(Layer {
        size: summary.total_size,
        inodes: summary.inodes,
        sha256: hex(&summary.digest),
    })
}

/// Remove the extended attributes [`UPPER`].
fn forget_upper(tree: &mut Tree) {
    let kept: Vec<u32> = (0..tree.xattrs.len())
        .map(|set| {
            let mut set = tree.xattrs[set].clone();
            set.retain(|xattr| {
                xattr.prefix != XattrPrefix::Trusted || !UPPER.contains(&&*xattr.name)
            });
            tree.keep_xattrs(set)
        })
        .collect();
    for node in &mut tree.nodes {
        let set = &mut node.attributes.xattrs;
        *set = kept[*set as usize];
    }
}

/// Give the root directory the time of its newest entry, if it changed since it was made: few archives
/// have an entry for it, so its time would be the time of unpacking, and differ on each machine.
fn forget_unpacking(tree: &mut Tree, upper: &Path) {
    let changed = |status: std::fs::Metadata| Ok(status.modified()? >= status.created()?);
    // Some filesystems have no birth times.
    if !upper.metadata().and_then(changed).unwrap_or(false) {
        return;
    }
    let Kind::Directory(entries) = &tree.nodes[ROOT as usize].kind else {
        return;
    };
    let times = entries
        .iter()
        .map(|entry| tree.nodes[entry.node as usize].attributes.mtime);
    tree.nodes[ROOT as usize].attributes.mtime = times.max().unwrap_or_default();
}
