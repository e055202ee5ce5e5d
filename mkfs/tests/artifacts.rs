// SPDX-License-Identifier: GPL-2.0-only

//! Artifacts of files in OCI layouts: models as packed by ModelPack, Docker and oras.

use crate::memory_use::make_within;
use crate::support::layout::{named, oci, Layout};
use crate::support::{available, is_root, place, Place};
use serde_json::{json, Value};
use std::fs;

const TITLE: &str = "org.opencontainers.image.title";
const PATH: &str = "org.cncf.model.filepath";
const METADATA: &str = "org.cncf.model.file.metadata+json";

/// A model with archives of its directories, and its image.
const MODEL: &str = r#"
    mkdir -p model/a/b; cd model; seq 9999 >weights.gguf; echo '{}' >a/config.json; echo 1 >a/b/one; cp a/b/one same; : >a/b/__init__.py
    cd ..; find model -exec touch -d @1600000000.5 {} +; chmod 600 model/a/config.json
    pack() { tar --format=posix --owner=0 --group=0 --numeric-owner -C model -cf "$@"; }
    pack all.tar weights.gguf a same; pack a.tar a; pack b.tar a/b
    mkdaxfs -q --all-root model model.img
"#;

/// Metadata of the model's files, one in another time zone.
const TIMES: [&str; 2] = [
    "2020-09-13T12:26:40.5Z",
    "2020-09-13T14:26:40.500000000+02:00",
];

/// Returns a place with a model, and an empty layout.
fn model() -> (Place, Layout) {
    let place = place(MODEL);
    let layout = Layout::new(&place.path(""));
    (place, layout)
}

/// Returns a layer of these bytes with annotations.
fn layer(layout: &Layout, kind: &str, bytes: impl AsRef<[u8]>, annotations: Value) -> Value {
    let mut layer = layout.blob(&format!("application/{kind}"), bytes.as_ref());
    layer["annotations"] = annotations;
    layer
}

/// Returns the layer with the model's file `path`, unchanged.
fn raw(place: &Place, layout: &Layout, path: &str) -> Value {
    let file = place.path("model").join(path);
    let mode = if path == "a/config.json" {
        0o600
    } else {
        0o100_644
    };
    let metadata = json!({"mode": mode, "mtime": TIMES[path.len() % 2], "uid": 0, "gid": 0, "typeflag": 0, "size": 1});
    let annotations = json!({PATH: path, METADATA: metadata.to_string()});
    layer(
        layout,
        "vnd.cncf.model.weight.v1.raw",
        fs::read(file).unwrap(),
        annotations,
    )
}

/// Returns the layer of a file with these bytes, named by its title.
fn file(layout: &Layout, path: &str, bytes: impl AsRef<[u8]>) -> Value {
    layer(layout, "octet-stream", bytes, json!({ TITLE: path }))
}

/// Returns the layer of the archive `tar`, of the type `kind`.
fn archive(layout: &Layout, tar: &str, kind: &str) -> Value {
    let mut layer = layout.layer(tar, "");
    layer["mediaType"] = json!(format!("application/vnd.{kind}"));
    layer
}

/// The files of the archive a.tar, as [`shown`] lists them.
const A: &str = "a:755:0 a/b:755:0 a/b/__init__.py:644:0 a/b/one:644:2 a/config.json:600:3";

/// Adds an artifact of `layers` to the layout.
fn artifact(layout: &Layout, layers: &[Value]) {
    let config = layout.blob(&oci("empty.v1+json"), b"{}");
    layout.index(&[layout.configured(&config, layers)]);
}

/// Builds an image of the artifact in each kind of layout, and compares it with the model's image.
#[track_caller]
fn gives_model(place: &Place) {
    place.shell("tar -C layout -cf oci.tar .; gzip -kf oci.tar");
    for input in [
        "oci:layout",
        "oci:oci.tar",
        "oci:oci.tar.gz",
        "oci:- <oci.tar",
    ] {
        place.ok(format!("rm -f out; mkdaxfs -q {input} out"));
        place.same("out", "model.img");
    }
    place.ok("cat oci.tar | mkdaxfs -q oci:- piped");
    place.same("piped", "model.img");
    place.ok("rm piped");
}

/// Builds an image of the artifact, and returns its files with their content, on one line.
#[track_caller]
fn shown(place: &Place) -> String {
    place.ok("rm -f out; mkdaxfs -q oci:layout out");
    let listing = place.listing("out");
    let shown = listing.iter().filter(|(name, _)| !name.is_empty());
    let shown = shown.map(|(name, entry)| {
        let name = String::from_utf8_lossy(name);
        format!("{name}:{:o}:{}", entry.mode & 0o7777, entry.size)
    });
    shown.collect::<Vec<_>>().join(" ")
}

const FILES: [&str; 5] = [
    "a/b/__init__.py",
    "a/b/one",
    "a/config.json",
    "same",
    "weights.gguf",
];

/// ModelPack: unchanged files, archives, and both.
#[test]
fn modelpack() {
    let (place, layout) = model();
    artifact(&layout, &FILES.map(|file| raw(&place, &layout, file)));
    gives_model(&place);
    // Annotations before the prefix changed.
    let old = FILES.map(|file| {
        let text = raw(&place, &layout, file).to_string();
        serde_json::from_str(&text.replace("cncf.model", "cnai.model")).unwrap()
    });
    artifact(&layout, &old);
    gives_model(&place);
    for program in ["", "gzip", "zstd"] {
        if !program.is_empty() && !available(program) {
            continue;
        }
        let part = |tar: &str, kind: &str| {
            let plus = if program.is_empty() { "" } else { "+" };
            let mut layer = layout.layer(tar, program);
            layer["mediaType"] = json!(format!(
                "application/vnd.cncf.model.{kind}.v1.tar{plus}{program}"
            ));
            // The members carry the names.
            layer["annotations"] = json!({PATH: "a/config.json", TITLE: "a/config.json"});
            layer
        };
        artifact(&layout, &[part("all.tar", "weight")]);
        gives_model(&place);
        let files = ["weights.gguf", "same"].map(|file| raw(&place, &layout, file));
        artifact(
            &layout,
            &[files[0].clone(), part("a.tar", "code"), files[1].clone()],
        );
        gives_model(&place);
    }
}

/// Names and attributes of files without metadata, and with parts of it.
#[test]
fn metadata() {
    let (place, layout) = model();
    let doc = "vnd.cncf.model.doc.v1.raw";
    let described = |path: &str, metadata: &str| {
        let annotations = json!({PATH: path, METADATA: metadata});
        layer(&layout, doc, "x", annotations)
    };
    let plain = layer(&layout, doc, "x", json!({PATH: "plain"}));
    let set = r#"{"mode": 2541, "uid": 7, "gid": 8, "mtime": "1969-12-31T23:59:59.25Z"}"#;
    let none = r#"{"mode": 0, "mtime": "0001-01-01T00:00:00Z", "files": 1}"#;
    let files = [plain, described("d/set", set), described("none", none)];
    artifact(&layout, &files);
    assert_eq!(shown(&place), "d:755:0 d/set:4755:1 none:644:1 plain:644:1");
    let listing = place.listing("out");
    let set = &listing[&b"d/set"[..]];
    assert_eq!((set.uid, set.gid, set.mtime), (7, 8, (-1, 250_000_000)));
    for name in ["none", "plain", ""] {
        assert_eq!(listing[name.as_bytes()].mtime, (0, 0), "{name}");
    }
    for (metadata, why) in [
        ("{", "the metadata of 'x' is not understood: EOF"),
        (r#"{"mode": -1}"#, "the metadata of 'x' is not understood"),
        (r#"{"mtime": "yesterday"}"#, "'yesterday' is not a time"),
    ] {
        artifact(&layout, &[described("x", metadata)]);
        place.fails("mkdaxfs oci:layout new", why);
    }
}

/// Docker's models: docker/model-runner's names, if the layers have none.
#[test]
fn docker() {
    let (place, layout) = model();
    let layer = |kind: &str, bytes: &str, annotations: Value| {
        layer(
            &layout,
            &format!("vnd.docker.ai.{kind}"),
            bytes,
            annotations,
        )
    };
    let config = layout.blob("application/vnd.docker.ai.model.config.v0.1+json", b"{}");
    let show = |layers: &[Value]| {
        layout.index(&[layout.configured(&config, layers)]);
        shown(&place)
    };
    // Archives, and files with names.
    let archive = |kind: &str| archive(&layout, "a.tar", &format!("docker.ai.{kind}"));
    let mixed = [
        layer("safetensors", "w", json!({PATH: "unet/model.safetensors"})),
        layer("model.file", "{}", json!({PATH: "unet/config.json"})),
        archive("dir.tar"),
    ];
    let wanted = format!("{A} unet:755:0 unet/config.json:644:2 unet/model.safetensors:644:1");
    assert_eq!(show(&mixed), wanted);
    assert_eq!(show(&[archive("vllm.config.tar")]), A);
    let unnamed = layer("gguf.v3", "x", Value::Null);
    layout.index(&[layout.configured(&config, &[unnamed])]);
    let why = "a layer of the type application/vnd.docker.ai.gguf.v3 without the name of a file; put blobs/sha256/2d71";
    place.fails("mkdaxfs oci:layout new", why);
}

/// oras: the title is the name, whatever the type; directories are archives.
#[test]
fn oras() {
    let (place, layout) = model();
    let mut packed = layout.layer("a.tar", "gzip");
    packed["annotations"] = json!({TITLE: "a", "io.deis.oras.content.unpack": "true"});
    let file = |kind: &str, path: &str| {
        let bytes = fs::read(place.path("model").join(path)).unwrap();
        layer(&layout, kind, bytes, json!({TITLE: path}))
    };
    let (weights, same) = (
        file("octet-stream", "weights.gguf"),
        file("vnd.oci.image.layer.v1.tar", "same"),
    );
    artifact(&layout, &[packed.clone(), weights.clone(), same.clone()]);
    assert_eq!(
        shown(&place),
        format!("{A} same:644:2 weights.gguf:644:48888")
    );
    // An archive that must stay one.
    let mut kept = packed.clone();
    kept["annotations"] = json!({TITLE: "kept.tgz"});
    artifact(&layout, &[kept]);
    assert!(shown(&place).starts_with("kept.tgz:644:"));
    // oras push of "." and of files in another directory.
    for title in [".", "./a/", "a//."] {
        packed["annotations"][TITLE] = json!(title);
        artifact(&layout, &[packed.clone()]);
        assert_eq!(shown(&place), A, "{title}");
    }
    packed["annotations"][TITLE] = json!("a/b");
    artifact(&layout, &[packed]);
    place.fails(
        "mkdaxfs oci:layout new",
        "'a/' is not below 'a/b', where the layer belongs (member at byte 0)",
    );
}

/// Names that lead out of the image, or are invalid.
#[test]
fn names() {
    let (place, layout) = model();
    for (name, why) in [
        ("../x", "the name '../x' leads out of the tree"),
        ("a/../../x", "the name 'a/../../x' leads out of the tree"),
        ("/etc/passwd", "the name '/etc/passwd' is absolute; "),
        (".", "the root of the tree is not a directory"),
        ("a\0b", "contains NUL"),
    ] {
        for (kind, unpack) in [
            ("octet-stream", "false"),
            ("vnd.cncf.model.doc.v1.raw", ""),
            ("octet-stream", "true"),
        ] {
            if unpack == "true" && name == "." {
                continue;
            }
            let annotations = json!({TITLE: name, "io.deis.oras.content.unpack": unpack});
            artifact(&layout, &[layer(&layout, kind, "x", annotations)]);
            let said = place.fails("mkdaxfs oci:layout new", why);
            assert!(said.contains("layout/blobs/sha256/2d71"), "{said}");
        }
    }
    let outside = archive(&layout, "b.tar", "cncf.model.doc.v1.tar");
    let long = file(&layout, &"x".repeat(300), "x");
    artifact(&layout, &[outside, long]);
    let why = "has a name of more than 255 bytes";
    place.fails("mkdaxfs oci:layout new", why);
}

/// Files of two layers with one name, or one below the other.
#[test]
fn clashes() {
    let (place, layout) = model();
    // Archives, and files with their content after "=".
    let layers = |words: &str| -> Vec<Value> {
        let layer = |word: &str| match word.split_once('=') {
            Some((path, bytes)) => file(&layout, path, bytes),
            None => archive(&layout, word, "cncf.model.code.v1.tar"),
        };
        words.split(' ').map(layer).collect()
    };
    let also = "is also in layout/blobs/sha256/";
    let not = "is not a directory, but a file in layout/blobs/sha256/";
    for (words, name, why, digest) in [
        ("x=1 ./x=2", "x", also, "6b86"),
        ("x=1 x/y=2", "x", not, "6b86"),
        ("x/y=1 x=2", "x", also, "6b86"),
        ("a.tar a/b/one=1", "one", also, ""),
        ("a/b/one=1 a.tar", "one", also, "6b86"),
        ("a/b=1 a.tar", "b", also, "6b86"),
        ("a=1 b.tar", "a", not, "6b86"),
        ("a.tar b.tar", "__init__.py", also, ""),
    ] {
        artifact(&layout, &layers(words));
        let why = format!("'{name}' {why}{digest}");
        let said = place.fails("mkdaxfs oci:layout new", &why);
        assert_eq!(said.matches("blobs/sha256/").count(), 2, "{said}");
    }
    // The same layer twice, and the same file under two names.
    artifact(&layout, &layers("x=1 x=1 a.tar a.tar y=1"));
    assert!(shown(&place).ends_with("x:644:1 y:644:1"));
    // An earlier input is replaced.
    place.ok("mkdir -p below/x; echo 1 >below/y; echo 1 >below/z; rm out; mkdaxfs -q below oci:layout out");
    let listing = place.listing("out");
    assert_eq!((listing[&b"y"[..]].size, listing[&b"z"[..]].size), (1, 2));
    assert_eq!(listing[&b"x"[..]].size, 1);
}

/// Unknown and damaged layers, and layers of containers.
#[test]
fn others() {
    let (place, layout) = model();
    let ollama = "vnd.ollama.image.model";
    let kit = "vnd.kitops.modelkit.model.v1.tar+gzip";
    for kind in [ollama, kit, "vnd.cncf.model.weight.v1.raw"] {
        let layers = [layer(&layout, kind, "x", Value::Null)];
        let why = format!(
            "has a layer of the type application/{kind} without the name of a file; put blobs/sha256/2d71"
        );
        artifact(&layout, &layers);
        let said = place.fails("mkdaxfs oci:layout new", &why);
        assert!(
            said.ends_with(", and name the directory instead\n") && !said.contains("oras"),
            "{said}"
        );
        // Like ollama's model, which has a container's configuration.
        layout.index(&[layout.manifest(&layers)]);
        place.fails("mkdaxfs oci:layout new", &why);
    }
    // A container's titled layers are still layers, although for oras other layers have names.
    let mut titled = layout.layer("a.tar", "");
    titled["annotations"] = json!({TITLE: "a.tar"});
    layout.index(&[layout.manifest(&[titled.clone()])]);
    assert_eq!(shown(&place), A);
    let file = file(&layout, "x", "x");
    layout.index(&[layout.manifest(&[titled, file.clone()])]);
    place.fails("mkdaxfs oci:layout new", "application/octet-stream, which is not a tar archive; make a directory of the image with oras pull");
    // An old image, whose configuration has no type.
    let config = layout.blob("application/octet-stream", b"{}");
    place.ok(
        "mkdir marks; : >marks/.wh.one; tar -C marks -cf marks.tar .wh.one --transform 's,^,a/b/,'",
    );
    let layers = ["a.tar", "marks.tar"].map(|tar| layout.layer(tar, ""));
    layout.index(&[layout.configured(&config, &layers)]);
    assert_eq!(shown(&place), A.replace(" a/b/one:644:2", ""));
    // A model's archive has no whiteouts.
    let models = ["a.tar", "marks.tar"];
    let models = models.map(|tar| archive(&layout, tar, "cncf.model.code.v1.tar"));
    artifact(&layout, &models);
    assert_eq!(
        shown(&place),
        A.replace("a/b/__init__", "a/b/.wh.one:644:0 a/b/__init__")
    );
    // A container's changes would replace files.
    let changes = layout.layer("b.tar", "");
    artifact(&layout, &[file.clone(), changes]);
    place.fails(
        "mkdaxfs oci:layout new",
        "has layers of a container beside files",
    );
    // Next to an image, selected by name.
    let image = named(layout.image(&["b.tar"]), "image");
    let mut model = named(layout.configured(&config, &[file.clone()]), "model");
    model["artifactType"] = json!("application/vnd.cncf.model.manifest.v1+json");
    layout.index(&[model.clone(), image]);
    let why = "has several images; name one after a colon: model, image\n";
    place.fails("mkdaxfs oci:layout new", why);
    place.ok("rm -f out; mkdaxfs -q oci:layout:model out");
    assert_eq!(place.listing("out").len(), 2);
    place.ok("rm out; mkdaxfs -q oci:layout:image out");
    assert!(place.listing("out").contains_key(&b"a/b/one"[..]));
    place.fails("mkdaxfs oci:layout:other new", "it has: model, image\n");
    layout.index(&[model]);
    assert_eq!(shown(&place), "x:644:1");
    fs::write(layout.file(&file), "y").unwrap();
    let why = "does not have its digest sha256:2d71";
    place.fails("mkdaxfs oci:layout new", why);
    fs::remove_file(layout.file(&file)).unwrap();
    place.fails("mkdaxfs oci:layout new", "has no 'blobs/sha256/2d71");
}

/// Files are not copied, and may exceed the initial limit on open files.
#[test]
fn many_and_large() {
    let (place, layout) = model();
    artifact(&layout, &[file(&layout, "large", vec![7; 128 << 20])]);
    make_within(20 << 20, &place, "oci:layout");
    let many = (0..300).map(|n| file(&layout, &n.to_string(), n.to_string()));
    let many: Vec<_> = many.collect();
    artifact(&layout, &many);
    place.ok("ulimit -Sn 100; mkdaxfs -q --force oci:layout image");
    assert_eq!(place.listing("image").len(), 301);
    if !is_root() {
        return;
    }
    let line = "ulimit -n 100; mkdaxfs -q oci:layout new";
    place.fails(line, "Too many open files");
}
