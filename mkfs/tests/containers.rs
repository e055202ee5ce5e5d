// SPDX-License-Identifier: GPL-2.0-only

//! Container images: layers from every kind of layout and archive.

use crate::support::layout::{named, oci, platform, Layout};
use crate::support::{available, place, Place};
use serde_json::json;
use sha2::Digest;
use std::fs;

/// Three layers and, in `flat`, their merged files.
const LAYERS: &str = r#"
    mkdir one two three flat
    cd one; mkdir -p a/b/c d usr/lib opaque/sub keep
    echo 1 >a/one; echo 1 >a/b/two; echo 1 >a/b/c/three; echo 1 >d/file; echo 1 >opaque/sub/old; echo 1 >opaque/old
    ln -s usr/lib lib; echo 1 >usr/lib/libc; ln d/file d/hard; echo 1 >keep/x; echo 1 >gone; echo 1 >swap
    cd ../two; mkdir -p a/b opaque lib keep swap
    >a/.wh.one; >a/b/.wh.c; echo 2 >a/b/new; >opaque/.wh..wh..opq; echo 2 >opaque/new; rmdir lib
    >.wh.gone; echo 2 >keep/y; echo 2 >swap/inside; >d; rm d; mkdir -p .wh..wh.plnk; echo x >.wh..wh.plnk/1
    cd ../three; mkdir -p a/one d keep; echo 3 >a/one/dir; >keep/.wh.missing; echo 3 >d/other
    cd ../flat; mkdir -p a/b a/one d usr/lib opaque keep swap
    echo 3 >a/one/dir; echo 1 >a/b/two; echo 2 >a/b/new; echo 1 >d/file; ln d/file d/hard; echo 3 >d/other
    echo 2 >opaque/new; mkdir lib; echo 1 >usr/lib/libc; echo 2 >lib/libm; echo 1 >keep/x; echo 2 >keep/y
    echo 2 >swap/inside; ln d/file linked
    cd ..; mkdir -p extra/lib; echo 2 >extra/lib/libm
    find . -exec touch -h -d @1600000000 {} +
    pack() { tar --format=posix --sort=name --owner=0 --group=0 --numeric-owner -C "$1" -cf $1.tar .; }
    pack one; pack two; pack three
    # A file below what is a symlink in the layer below, and a hard link into that layer: the archive has no entry for its parent.
    tar --format=posix --owner=0 --group=0 --no-recursion -C extra -rf two.tar lib lib/libm
    python3 - <<-'END'
	import tarfile
	with tarfile.open('two.tar', 'a', format=tarfile.PAX_FORMAT) as archive:
	    info = tarfile.TarInfo('linked'); info.type = tarfile.LNKTYPE; info.linkname = 'd/file'
	    archive.addfile(info)
END
    mkdaxfs -q --all-root flat flat.img; mkdaxfs -q one.tar one.img
"#;

const TARS: [&str; 3] = ["one.tar", "two.tar", "three.tar"];

/// The processor of this machine.
const HERE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else {
    "arm64"
};

/// Returns the layers, the image of all of them, and an empty layout.
fn layers() -> Option<(Place, Layout)> {
    let place = available("python3").then(|| place(LAYERS))?;
    let layout = Layout::new(&place.path(""));
    Some((place, layout))
}

/// Builds an image of `input` and compares it with another image.
#[track_caller]
fn gives(place: &Place, input: &str, image: &str) {
    place.ok(format!("rm -f out; mkdaxfs -q {input} out"));
    place.same("out", image);
}

/// Directories that became a file and a symlink, as written by umoci repack: every file that they
/// contained is marked.
#[test]
fn marks_below_what_is_no_directory() {
    let place = place(
        r#"
        mkdir one flat; mkdir -p one/a/b/d one/etc one/a/s; cd one; echo 1 >a/b/c; echo 1 >a/b/d/e; echo 1 >etc/c; echo 1 >a/s/c
        ln -s etc lower; echo 1 >etc/gone
        cd ../flat; mkdir -p a etc lower; echo 2 >a/b; ln -s ../etc a/s; echo 1 >etc/c; echo 1 >etc/gone
        cd ..; mkdir -p two/a; cp -P flat/a/b flat/a/s two/a; mkdir -p marks/a/b/d marks/a/s marks/lower
        >marks/a/b/.wh.c; >marks/a/b/.wh.d; >marks/a/b/d/.wh.e; >marks/a/s/.wh.c; >marks/lower/.wh.gone
        find . -exec touch -h -d @1600000000 {} +
        pack() { tar --format=posix --no-recursion --owner=0 --group=0 --numeric-owner -C "$1" "$2"f two.tar "${@:3}"; }
        tar --format=posix --owner=0 --group=0 -C one -cf one.tar .
        pack two -c ./a ./a/b ./a/s
        pack marks -r ./a/b/.wh.c ./a/b/.wh.d ./a/b/d/.wh.e ./a/s/.wh.c ./lower ./lower/.wh.gone
        mkdaxfs -q --all-root flat flat.img"#,
    );
    let layout = Layout::new(&place.path(""));
    layout.index(&[layout.image(&["one.tar", "two.tar"])]);
    gives(&place, "oci:layout", "flat.img");
}

#[test]
fn flattened() {
    let Some((place, layout)) = layers() else {
        return;
    };
    for program in ["", "gzip", "zstd"] {
        if !program.is_empty() && !available(program) {
            continue;
        }
        layout.index(&[layout.manifest(&TARS.map(|tar| layout.layer(tar, program)))]);
        gives(&place, "oci:layout", "flat.img");
        // As an archive, a compressed archive, and from a pipe.
        place.shell("tar -C layout -cf oci.tar .; gzip -kf oci.tar");
        for input in ["oci:oci.tar", "oci:oci.tar.gz", "oci:- <oci.tar"] {
            gives(&place, input, "flat.img");
        }
        place.ok("cat oci.tar | mkdaxfs -q oci:- piped");
        place.same("piped", "flat.img");
    }
    // Other inputs go on top.
    place.ok("mkdaxfs -q --all-root one.tar oci:layout out");
}

#[test]
fn which_image() {
    let Some((place, layout)) = layers() else {
        return;
    };
    let all = TARS.map(|tar| layout.layer(tar, ""));
    let (whole, first) = (layout.manifest(&all), layout.manifest(&all[..1]));
    layout.index(&[
        named(whole.clone(), "whole"),
        named(first.clone(), "example.org:5000/first:tag"),
    ]);
    gives(&place, "oci:layout:whole", "flat.img");
    gives(&place, "oci:layout:example.org:5000/first:tag", "one.img");
    let digest = whole["digest"].as_str().unwrap();
    gives(&place, &format!("oci:layout:{digest}"), "flat.img");
    place.mistakes(
        "mkdaxfs oci:layout new | 1 | has several images; name one after a colon: whole, example.org:5000/first:tag
         mkdaxfs oci:layout:other new | 1 | has no image called 'other'; it has: whole, example",
    );
    // For several processors, in a nested index.
    let both = [
        platform(whole.clone(), HERE),
        platform(first.clone(), "s390x"),
        platform(first.clone(), "unknown"),
    ];
    layout.index(&[named(layout.nested(&both), "multi")]);
    gives(&place, "oci:layout", "flat.img");
    gives(&place, "--platform linux/s390x oci:layout:multi", "one.img");
    let why = "no image for linux/mips; choose one with --platform: linux/";
    place.fails("mkdaxfs --platform linux/mips oci:layout new", why);
    layout.index(&both);
    gives(&place, "oci:layout", "flat.img");
    // The index lacks the platform.
    layout.index(&[first]);
    gives(&place, "--platform linux/riscv64 oci:layout", "one.img");
    place.fails("mkdaxfs --platform linux/mips oci:layout new", why);
    // Two names of one image.
    layout.index(&[named(both[0].clone(), "one"), named(both[0].clone(), "two")]);
    gives(&place, "oci:layout", "flat.img");
    place.fails("mkdaxfs --platform linux/mips oci:layout new", why);
    layout.index(&[]);
    for name in ["", ":latest"] {
        let why = "has no image; skopeo copy makes a layout with one";
        place.fails(format!("mkdaxfs oci:layout{name} new"), why);
    }
}

#[test]
fn damaged_layouts() {
    let Some((place, layout)) = layers() else {
        return;
    };
    let refused = |why: &str| place.fails("mkdaxfs oci:layout new", why);
    refused("has no 'index.json'; it is not a complete OCI image layout");
    let layer = layout.layer(TARS[0], "gzip");
    layout.index(&[layout.manifest(&[layer.clone()])]);
    let digest = layer["digest"].as_str().unwrap();
    let blob = layout.path.join("blobs/sha256").join(&digest[7..]);
    // One bit, one byte more, missing.
    let bytes = fs::read(&blob).unwrap();
    let mut wrong = bytes.clone();
    wrong[20] ^= 4;
    fs::write(&blob, &wrong).unwrap();
    refused("does not have its digest sha256:");
    wrong.push(0);
    fs::write(&blob, &wrong).unwrap();
    let (found, size) = (wrong.len(), bytes.len());
    refused(&format!("has {found} bytes instead of {size}"));
    fs::remove_file(&blob).unwrap();
    refused("has no 'blobs/sha256/");
    fs::write(&blob, &bytes).unwrap();
    let strange = layout.blob("application/x-encrypted", b"x");
    layout.index(&[layout.manifest(&[strange])]);
    refused("has a layer of the type application/x-encrypted, which is not a tar archive; ");
    let evil = json!({"mediaType": oci("manifest.v1+json"), "digest": "sha256:../../../../etc/passwd", "size": 5});
    layout.index(&[evil]);
    refused(
        "names a part 'sha256:../../../../etc/passwd', which is not a SHA-256 or SHA-512 digest",
    );
    place.write("layout/index.json", "{");
    refused("index.json is not understood");
}

/// A FIFO in a directory is refused, without waiting for its writer.
#[test]
fn fifos_in_layouts() {
    let place = place("");
    let layout = Layout::new(&place.path(""));
    let manifest = layout.manifest(&[]);
    layout.index(&[manifest.clone()]);
    let digest = &manifest["digest"].as_str().unwrap()[7..];
    for name in [
        "oci-layout",
        "index.json",
        &format!("blobs/sha256/{digest}"),
    ] {
        place.shell(format!("mv layout/{name} kept; mkfifo layout/{name}"));
        let why = format!("{name}: is not a regular file\n");
        place.fails("timeout 60 mkdaxfs oci:layout new", &why);
        place.shell(format!("mv kept layout/{name}"));
    }
}

/// Layouts of small images, whose only file is named after the image.
fn small(names: &[&str]) -> (Place, Layout, Vec<serde_json::Value>) {
    let place = place("");
    let layout = Layout::new(&place.path(""));
    let images = names.iter().map(|name| {
        place.shell(format!(
            "touch -d @1600000000 {name}; tar -cf {name}.tar {name}"
        ));
        layout.image(&[&format!("{name}.tar")])
    });
    let images = images.collect();
    (place, layout, images)
}

/// Builds an image of `input`, which contains only the file `name`.
#[track_caller]
fn has(place: &Place, input: &str, name: &str) {
    place.ok(format!("rm -f out; mkdaxfs -q {input} out"));
    let listing = place.listing("out");
    let names: Vec<_> = listing.keys().filter(|name| !name.is_empty()).collect();
    assert_eq!(names, [name.as_bytes()], "{input}");
}

/// Processor variants follow containerd's rules. The plain variant is the default.
#[test]
fn variants() {
    let names = ["v3", "plain", "v5", "v7", "arm64", "s390x"];
    let (place, layout, images) = small(&names);
    let processors = ["amd64/v3", "amd64", "arm/v5", "arm/v7", "arm64", "s390x"];
    let all = images.into_iter().zip(processors);
    let all: Vec<_> = all.map(|(image, is)| platform(image, is)).collect();
    layout.index(&all);
    place.shell("tar -C layout -cf oci.tar .");
    for (wanted, name) in [
        ("amd64", "plain"),
        ("x86_64", "plain"),
        ("amd64/v1", "plain"),
        ("amd64/v2", "plain"),
        ("amd64/v4", "v3"),
        ("arm", "v7"),
        ("arm/v6", "v5"),
        ("arm64/v8", "arm64"),
        ("aarch64", "arm64"),
    ] {
        let input = format!("--platform linux/{wanted} oci:layout");
        has(&place, &input, name);
    }
    for input in ["oci:layout", "oci:oci.tar", "oci:- <oci.tar"] {
        has(&place, input, &HERE.replace("amd64", "plain"));
    }
    // A variant that the processor may not run is not chosen automatically.
    layout.index(&[all[0].clone(), all[5].clone()]);
    let why =
        "has no image for linux/amd64; choose one with --platform: linux/amd64/v3, linux/s390x";
    place.fails("mkdaxfs --platform linux/amd64 oci:layout new", why);
    has(&place, "--platform linux/amd64/v3 oci:layout", "v3");
    // Features of the system, such as a layer's format.
    let mut erofs = platform(all[3].clone(), "amd64");
    erofs["platform"]["os.features"] = json!(["erofs"]);
    layout.index(&[erofs, all[1].clone()]);
    has(&place, "--platform linux/amd64 oci:layout", "plain");
    let why = "--platform: 'linux(+erofs)/amd64', linux/amd64";
    place.fails("mkdaxfs --platform linux/mips oci:layout new", why);
    has(&place, "--platform 'linux(+erofs)/amd64' oci:layout", "v7");
}

/// Each name that an error suggests selects an image.
#[test]
fn offered_names() {
    let (place, layout, images) = small(&["a", "b"]);
    let whole = |image: usize, name: &str| {
        let mut image = named(images[image].clone(), "latest");
        image["annotations"]["io.containerd.image.name"] = json!(name);
        image
    };
    let offered = |input: &str| -> Vec<String> {
        let why = place.fails(format!("mkdaxfs {input} new"), "name one after a colon: ");
        let (_, names) = why.trim_end().rsplit_once("colon: ").unwrap();
        names.split(", ").map(str::to_string).collect()
    };
    // docker save of two images.
    let names = ["docker.io/library/a:latest", "example.org/b:latest"];
    layout.index(&[whole(0, names[0]), whole(1, names[1])]);
    for input in ["oci:layout", "oci:layout:latest"] {
        assert_eq!(offered(input), names);
    }
    for name in ["docker.io/library/a:latest", "library/a:latest", "a:latest"] {
        has(&place, &format!("oci:layout:{name}"), "a");
    }
    has(&place, "oci:layout:b:latest", "b");
    place.shell("tar -C layout -cf saved.tar .");
    has(&place, "oci:saved.tar:b:latest", "b");
    has(&place, "oci:-:b:latest <saved.tar", "b");
    // Ambiguous names, and images below an index.
    let both = [
        platform(images[0].clone(), "amd64"),
        platform(images[1].clone(), "amd64"),
    ];
    layout.index(&both.clone().map(|image| named(image, "latest")));
    let twins = offered("oci:layout:latest");
    layout.index(&[named(layout.nested(&both), "latest")]);
    assert_eq!(offered("oci:layout"), twins);
    for (name, file) in twins.iter().zip(["a", "b"]) {
        has(&place, &format!("oci:layout:{name}"), file);
    }
    // One name is the end of another.
    layout.index(&[
        named(images[0].clone(), "x/b"),
        named(images[1].clone(), "b"),
    ]);
    assert_eq!(offered("oci:layout"), ["x/b", "b"]);
    has(&place, "oci:layout:b", "b");
    // Attestations and other attachments are no images.
    let mut about = platform(images[1].clone(), "unknown");
    about["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let mut artifact = images[1].clone();
    artifact["artifactType"] = json!("application/spdx+json");
    for other in [about, artifact] {
        layout.index(&[platform(images[0].clone(), "mips"), other]);
        has(&place, "oci:layout", "a");
    }
}

/// Layers without changes: of 0 bytes, plain or compressed.
#[test]
fn empty_layers() {
    let (place, layout, _) = small(&["a"]);
    place.shell("touch empty; gzip -kn empty");
    let some = layout.layer("a.tar", "");
    let gzip = fs::read(place.path("empty.gz")).unwrap();
    for empty in [
        layout.layer("empty", ""),
        layout.blob(&oci("layer.v1.tar+gzip"), &gzip),
    ] {
        layout.index(&[layout.manifest(&[empty.clone(), some.clone(), empty.clone()])]);
        place.shell("tar -C layout -cf oci.tar .");
        for input in ["oci:layout", "oci:oci.tar"] {
            has(&place, input, "a");
        }
        layout.index(&[layout.manifest(&[empty])]);
        place.ok("rm out; mkdaxfs -q oci:layout out");
        assert_eq!(place.listing("out").len(), 1);
    }
    for input in ["empty", "tar:empty", "oci:empty"] {
        let why = "empty: is empty and not an archive";
        place.fails(format!("mkdaxfs {input} new"), why);
    }
}

/// A layout with the parts of only one platform.
#[test]
fn one_platform_of_several() {
    let (place, layout, images) = small(&["a", "b", "c"]);
    let platforms = ["amd64", "arm64", "mips"];
    let all = images.iter().zip(platforms);
    let all: Vec<_> = all.map(|(image, is)| platform(image.clone(), is)).collect();
    layout.index(&[layout.nested(&all)]);
    // One image lacks the manifest, another a layer.
    fs::remove_file(layout.file(&all[1])).unwrap();
    fs::remove_file(layout.file(&layout.layer("c.tar", ""))).unwrap();
    place.shell("tar -C layout -cf oci.tar .");
    for input in ["oci:layout", "oci:oci.tar"] {
        has(&place, &format!("--platform linux/amd64 {input}"), "a");
        for missing in ["arm64", "mips"] {
            let line = format!("mkdaxfs --platform linux/{missing} {input} new");
            let why = "and has all for linux/amd64; choose";
            let said = place.fails(line, why);
            assert!(said.contains(&format!("lacks parts of the image for linux/{missing}")));
        }
    }
}

/// Layers that are not archives of files: the error names the program that makes a directory.
#[test]
fn other_layers() {
    let (place, layout, _) = small(&["a"]);
    let encrypted = "vnd.oci.image.layer.v1.tar+gzip+encrypted";
    for (kind, remedy) in [
        ("vnd.erofs.layer.v1", "fsck.erofs --extract="),
        ("vnd.stacker.image.layer.squashfs+zstd", "unsquashfs -d"),
        (encrypted, "--decryption-key"),
    ] {
        let kind = format!("application/{kind}");
        layout.index(&[layout.manifest(&[layout.blob(&kind, b"x")])]);
        let why = format!("the type {kind}, which is not");
        let said = place.fails("mkdaxfs oci:layout new", &why);
        assert!(said.contains(remedy), "{said}");
    }
}

/// Images with null for an empty list, another kind of digest, or as hard links in an archive.
#[test]
fn other_writers() {
    let (place, layout, images) = small(&["a"]);
    let config = br#"{"os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:0"]}}"#;
    let config = layout.blob(&oci("config.v1+json"), config);
    let manifest = json!({"config": config, "layers": null}).to_string();
    layout.index(&[layout.blob(&oci("manifest.v1+json"), manifest.as_bytes())]);
    let why = "has an image with 0 of its 1 layers";
    place.fails("mkdaxfs oci:layout new", why);
    place.write("layout/index.json", r#"{"manifests": null}"#);
    place.fails("mkdaxfs oci:layout new", "has no image");
    // An index may contain an unknown platform.
    let mut image = images[0].clone();
    image["platform"] = json!({"os": "", "architecture": ""});
    layout.index(&[image]);
    has(&place, "--platform linux/riscv64 oci:layout", "a");
    let config = layout.blob(&oci("config.v1+json"), b"{}");
    let manifest = json!({"config": config, "layers": []}).to_string();
    layout.index(&[layout.blob(&oci("manifest.v1+json"), manifest.as_bytes())]);
    let why = "has an image that does not say its platform; leave out --platform";
    place.fails("mkdaxfs --platform linux/amd64 oci:layout new", why);
    let bytes = fs::read(layout.file(&images[0])).unwrap();
    let digest = daxfs_files::digest::hex(&sha2::Sha512::digest(&bytes));
    fs::create_dir(layout.path.join("blobs/sha512")).unwrap();
    let file = format!("layout/blobs/sha512/{digest}");
    place.write(&file, &bytes);
    let mut image = images[0].clone();
    image["digest"] = json!(format!("sha512:{digest}"));
    layout.index(&[image]);
    has(&place, "oci:layout", "a");
    has(&place, &format!("oci:layout:sha512:{digest}"), "a");
    place.write(&file, String::from_utf8(bytes).unwrap().to_uppercase());
    place.fails("mkdaxfs oci:layout new", "does not have its digest sha512:");
    place.shell("tar -C layout -cf layout.tar .");
    place.fails("mkdaxfs oci:layout.tar new", "; get the archive again");
    layout.index(&images);
    place.shell("mkdir other; ln layout/blobs/sha256/* other; tar -cf oci.tar other -C layout blobs index.json oci-layout");
    has(&place, "oci:oci.tar", "a");
}

/// A layer with overlayfs's attributes, like a directory that was an overlay's upper directory.
#[test]
fn opaque_attributes() {
    let place = place(
        r"mkdir -p d; echo 1 >d/x; tar -cf 1.tar d; rm d/x; echo 2 >d/n
        tar --format=posix --pax-option=SCHILY.xattr.trusted.overlay.opaque:=y -cf 2.tar d",
    );
    let layout = Layout::new(&place.path(""));
    layout.index(&[layout.image(&["1.tar", "2.tar"])]);
    place.ok("mkdaxfs -q oci:layout image");
    let listing = place.listing("image");
    let names: Vec<_> = listing.keys().map(|name| &name[..]).collect();
    assert_eq!(names, [&b""[..], b"d", b"d/n"]);
    assert!(listing.values().all(|entry| entry.xattrs.is_empty()));
}
