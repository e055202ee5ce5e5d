// SPDX-License-Identifier: GPL-2.0-only

//! Container images written by umoci.

use crate::support::fixture::{self, Can};
use crate::support::{available, is_root, place};

/// Layers written by umoci: the images `base` and `changed` in `layout`, each also unpacked.
#[test]
fn umoci() {
    if !available("umoci") {
        return;
    }
    let place = place("");
    let can = Can {
        names: true,
        ..Can::default()
    };
    fixture::make(&place, can);
    let rootless = if is_root() { "" } else { "--rootless" };
    // Only root can create the fixture's devices and trusted extended attributes. In its sticky
    // directory, not even root may open a file with O_CREAT (fs.protected_regular).
    place.shell(format!(
        r#"
        umoci init --layout layout; umoci new --image layout:empty
        umoci unpack {rootless} --image layout:empty bundle
        cp -a tree/. bundle/rootfs/; mkdir -p bundle/rootfs/was/dir/in; echo 1 >bundle/rootfs/was/dir/c
        echo 1 >bundle/rootfs/was/dir/in/d; umoci repack --image layout:base bundle; rm -rf bundle
        umoci unpack {rootless} --image layout:base bundle; cd bundle/rootfs
        rm -r dir/sub; echo changed | dd of=dir/one conv=nocreat status=none; rm empty; mkdir empty; echo new >empty/file; ln huge another
        rm -r was/dir; echo file >was/dir; mkdir 'empty dir/new'; rm link; ln -s new link
        cd ../..; umoci repack --image layout:changed bundle; rm -rf bundle
        for name in base changed; do umoci unpack {rootless} --image layout:$name $name; done"#
    ));
    for name in ["base", "changed"] {
        place.ok(format!("mkdaxfs -q --all-root oci:layout:{name} image"));
        place.ok(format!("mkdaxfs -q --all-root {name}/rootfs wanted"));
        place.same("image", "wanted");
    }
}
