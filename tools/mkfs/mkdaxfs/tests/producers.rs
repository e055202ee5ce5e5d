// SPDX-License-Identifier: GPL-2.0-only

//! Container images written by umoci and skopeo.

use crate::support::fixture::{self, Can};
use crate::support::{available, is_root, mkdaxfs, run, shell, skip};
use daxfs_testing::{assert_same, listing_of};
use std::fs;
use std::path::Path;

/// Have umoci make `layout` in `at`, with the images `base` and `changed`, and unpack each. Return
/// whether that succeeded.
fn umoci_layout(at: &Path) -> bool {
    if !available("umoci") {
        skip("no umoci");
        return false;
    }
    fixture::make(
        &at.join("tree"),
        Can {
            names: true,
            ..Can::default()
        },
    );
    let rootless = if is_root() { "" } else { "--rootless" };
    // Only root can create the fixture's devices and trusted extended attributes.
    shell(
        at,
        &format!(
            r#"
        umoci init --layout layout; umoci new --image layout:empty
        umoci unpack {rootless} --image layout:empty bundle
        cp -a tree/. bundle/rootfs/; mkdir -p bundle/rootfs/was/dir/in; echo 1 >bundle/rootfs/was/dir/c
        echo 1 >bundle/rootfs/was/dir/in/d; umoci repack --image layout:base bundle; rm -rf bundle
        umoci unpack {rootless} --image layout:base bundle; cd bundle/rootfs
        rm -r dir/sub; echo changed >dir/one; rm empty; mkdir empty; echo new >empty/file; ln huge another
        rm -r was/dir; echo file >was/dir; mkdir 'empty dir/new'; rm link; ln -s new link
        cd ../..; umoci repack --image layout:changed bundle; rm -rf bundle
        for name in base changed; do umoci unpack {rootless} --image layout:$name $name; done"#
        ),
    );
    true
}

/// Layers as umoci writes them.
#[test]
fn umoci() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    if !umoci_layout(at) {
        return;
    }
    for name in ["base", "changed"] {
        let image = at.join(format!("{name}.img"));
        let input = format!("oci:{}:{name}", at.join("layout").display());
        let output = run(mkdaxfs().args(["-q", "--all-root"]).arg(&input).arg(&image));
        assert_eq!((output.status, output.stderr.as_str()), (0, ""));
        let wanted = at.join(format!("{name}.wanted"));
        let rootfs = at.join(name).join("rootfs");
        let output = run(mkdaxfs()
            .args(["-q", "--all-root"])
            .arg(&rootfs)
            .arg(&wanted));
        assert_eq!(output.status, 0, "{output:?}");
        assert_same(&listing_of(&image), &listing_of(&wanted));
        assert!(
            fs::read(&image).unwrap() == fs::read(&wanted).unwrap(),
            "{name}"
        );
    }
}

/// The same image as skopeo copies it: into archives, and with other compression.
#[test]
fn skopeo() {
    if !available("skopeo") {
        return skip("no skopeo");
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    if !umoci_layout(at) {
        return;
    }
    shell(
        at,
        r#"
        copy() { skopeo --insecure-policy --tmpdir . copy --quiet "$@"; }
        copy oci:layout:changed docker-archive:docker.tar:example.org/image:changed
        copy oci:layout:changed oci-archive:oci.tar:changed
        copy --dest-compress-format zstd oci:layout:changed oci:zstd:changed
        copy docker-archive:docker.tar oci:back:changed
        grep -q zstd zstd/blobs/sha256/*"#,
    );
    let image = |input: &str| {
        let image = at.join("image");
        let (kind, path) = input.split_once(':').unwrap();
        let input = format!("{kind}:{}", at.join(path).display());
        let output = run(mkdaxfs().args(["-q", "--all-root"]).arg(input).arg(&image));
        assert_eq!((output.status, output.stderr.as_str()), (0, ""));
        fs::read(&image).unwrap()
    };
    let expected = image("oci:layout:changed");
    for input in [
        "docker:docker.tar",
        "docker:docker.tar:example.org/image:changed",
        "oci:oci.tar:changed",
        "oci:zstd:changed",
        "oci:back",
    ] {
        assert!(image(input) == expected, "{input}");
    }
}
