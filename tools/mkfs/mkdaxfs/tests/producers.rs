// SPDX-License-Identifier: GPL-2.0-only

//! Container images written by umoci and skopeo.

use crate::support::fixture::{self, Can};
use crate::support::{available, is_root, place, Place};

/// Have umoci make `layout` with the images `base` and `changed`, and unpack each.
fn umoci_layout() -> Option<Place> {
    if !available("umoci") {
        return None;
    }
    let place = place("");
    let can = Can {
        names: true,
        ..Can::default()
    };
    fixture::make(&place, can);
    let rootless = if is_root() { "" } else { "--rootless" };
    // Only root can create the fixture's devices and trusted extended attributes.
    place.shell(format!(
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
    ));
    Some(place)
}

/// Layers as umoci writes them.
#[test]
fn umoci() {
    let Some(place) = umoci_layout() else {
        return;
    };
    for name in ["base", "changed"] {
        place.ok(format!("mkdaxfs -q --all-root oci:layout:{name} image"));
        place.ok(format!("mkdaxfs -q --all-root {name}/rootfs wanted"));
        place.same("image", "wanted");
    }
}

/// The same image as skopeo copies it: into archives, and with other compression.
#[test]
fn skopeo() {
    if !available("skopeo") {
        return;
    }
    let Some(place) = umoci_layout() else {
        return;
    };
    place.shell(
        r#"
        copy() { skopeo --insecure-policy --tmpdir . copy --quiet "$@"; }
        copy oci:layout:changed docker-archive:docker.tar:example.org/image:changed
        copy oci:layout:changed oci-archive:oci.tar:changed
        copy --dest-compress-format zstd oci:layout:changed oci:zstd:changed
        copy docker-archive:docker.tar oci:back:changed
        grep -q zstd zstd/blobs/sha256/*"#,
    );
    place.ok("mkdaxfs -q --all-root oci:layout:changed wanted");
    for input in [
        "docker:docker.tar",
        "docker:docker.tar:example.org/image:changed",
        "oci:oci.tar:changed",
        "oci:zstd:changed",
        "oci:back",
    ] {
        place.ok(format!("mkdaxfs -q --all-root {input} image"));
        place.same("image", "wanted");
    }
}
