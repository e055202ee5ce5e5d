// SPDX-License-Identifier: GPL-2.0-only

//! Runs the program as a user would.

pub use daxfs_testing::place::{available, chmod, is_root, skip, who, Place};
use daxfs_testing::{image_with, options};
use std::path::Path;

/// The program.
const DAXFS: &str = env!("CARGO_BIN_EXE_daxfs");

/// Creates a directory, runs `script` in it, and makes the program available under all its names.
pub fn place(script: &str) -> Place {
    Place::new(
        DAXFS,
        &["daxfs", "fsck.daxfs", "mount.daxfs", "mount.fuse.daxfs"],
        script,
    )
}

/// Returns a place with a small tree, `source`, and its image.
pub fn fixture() -> Place {
    let place = place("mkdir source");
    tree(&place.path("source"));
    let mut options = options();
    options.label = "a label".into();
    image_with(&place.path("source"), &place.path("image"), &options).unwrap();
    place
}

/// The first and last second of a certificate's validity.
pub const DECADES: &str = "20000101000000Z 20990101000000Z";

/// Returns a script that creates `name.key` and `name.pem`, signed by `issuer` or by its owner.
pub fn certificate(name: &str, issuer: &str, times: &str) -> String {
    let (start, end) = times.split_once(' ').unwrap();
    let by = if issuer == name {
        String::new()
    } else {
        format!("-CA {issuer}.pem -CAkey {issuer}.key")
    };
    format!(
        "openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key
         openssl req -x509 -new -key {name}.key -subj /CN={name} -not_before {start} -not_after {end} {by} -out {name}.pem"
    )
}

/// Returns the digest of the image in `place`.
pub fn digest(place: &Place) -> String {
    place.ok("daxfs digest image").text().trim_end().into()
}

/// Creates a small tree: two names of one file, an empty one, directories, a symlink, a FIFO.
pub fn tree(path: &Path) {
    use std::fs::{create_dir_all, hard_link, write};
    create_dir_all(path.join("dir/below")).unwrap();
    write(path.join("file"), "some text\n").unwrap();
    hard_link(path.join("file"), path.join("dir/other name")).unwrap();
    write(path.join("dir/empty"), "").unwrap();
    write(path.join("dir/below/deep"), vec![7; 10_000]).unwrap();
    std::os::unix::fs::symlink("dir/below", path.join("link")).unwrap();
    std::os::unix::fs::symlink("/dir/../file", path.join("dir/absolute")).unwrap();
    std::os::unix::fs::symlink("loop", path.join("loop")).unwrap();
    let (cwd, mode) = (rustix::fs::CWD, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(cwd, path.join("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
}
