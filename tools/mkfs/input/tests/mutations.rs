// SPDX-License-Identifier: GPL-2.0-only

//! Whatever an archive or a description holds, reading it ends with a tree or with an error.

use daxfs_check::Silent;
use daxfs_input::{read, Input, Options, Platform};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A change to some bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Copy(prop::sample::Index, prop::sample::Index, usize),
    Digits(prop::sample::Index, String),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (index(), 1..=255u8).prop_map(|(at, bits)| Change::Flip(at, bits)),
        1 => index().prop_map(Change::Cut),
        2 => (index(), index(), 1..600usize).prop_map(|(from, to, n)| Change::Copy(from, to, n)),
        3 => (index(), "[0-9,\n =]{1,12}").prop_map(|(at, text)| Change::Digits(at, text)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match change {
        Change::Flip(at, bits) => bytes[at.index(length)] ^= bits,
        Change::Cut(at) => bytes.truncate(at.index(length)),
        Change::Copy(from, to, count) => {
            let (from, to) = (from.index(length), to.index(length));
            let count = (*count).min(length - from).min(length - to);
            bytes.copy_within(from..from + count, to);
        }
        Change::Digits(at, text) => {
            let at = at.index(length);
            let end = (at + text.len()).min(length);
            bytes[at..end].copy_from_slice(&text.as_bytes()[..end - at]);
        }
    }
}

/// Make the checksums of headers right, where there seem to be headers.
fn seal(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
}

/// Archives of a tree with something of everything.
fn archives() -> &'static [Vec<u8>] {
    static ARCHIVES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ARCHIVES.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let script = r#"
            set -e; cd "$1"; mkdir -p tree/dir; cd tree; echo 1 >dir/file; ln dir/file hard; ln -s dir link; mkfifo fifo
            echo x >"$(printf 'n%.0s' {1..150})"; truncate -s 1M sparse; printf a | dd of=sparse bs=1 seek=500000 conv=notrunc
            for n in {1..30}; do printf b | dd of=sparse bs=1 seek=$((n * 16384)) conv=notrunc; done
            setfattr -n user.a -v 1 dir/file || :
            n=0; for f in "posix --xattrs -S" "posix -S --sparse-version=0.1" "posix -S --sparse-version=0.0" "gnu -S"; do
                tar -b 1 --format=$f -cf ../$n.tar .; n=$((n + 1)); done"#;
        let output = Command::new("bash").args(["-c", script, "-"]).arg(directory.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        let read = |n: usize| fs::read(directory.path().join(format!("{n}.tar"))).unwrap();
        (0..4).map(read).collect()
    })
}

/// Read it, which must end.
fn reads(input: Input, scratch: &Path) -> bool {
    let platform = Platform::default();
    let options = Options::new(scratch, &platform);
    match read(&[input], &options, &Silent, &mut |_| ()) {
        Ok(_) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n') && !text.is_empty(), "{text}");
            false
        }
    }
}

#[test]
fn archives_are_valid() {
    let scratch = daxfs_testing::scratch();
    for archive in archives() {
        let path = scratch.path().join("archive");
        fs::write(&path, archive).unwrap();
        assert!(reads(Input::Tar(path), scratch.path()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn archives_of_any_bytes(
        which in 0..4usize,
        changes in prop::collection::vec(change(), 1..6),
        sealed in prop::bool::weighted(0.9),
    ) {
        let scratch = daxfs_testing::scratch();
        let mut bytes = archives()[which].clone();
        for change in &changes {
            apply(&mut bytes, change);
        }
        if sealed {
            seal(&mut bytes);
        }
        let path = scratch.path().join("archive");
        fs::write(&path, bytes).unwrap();
        reads(Input::Any(path), scratch.path());
    }

    #[test]
    fn descriptions_of_any_bytes(changes in prop::collection::vec(change(), 1..6), which in 0..3usize) {
        let scratch = daxfs_testing::scratch();
        let at = |name: &str| -> PathBuf { scratch.path().join(name) };
        fs::create_dir_all(at("blobs/sha256")).unwrap();
        let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        fs::write(at("blobs/sha256").join(digest), "{}").unwrap();
        let manifest = r#"{"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2, "digest": "sha256:DIGEST",
            "platform": {"os": "linux", "architecture": "amd64", "variant": "v1"},
            "annotations": {"org.opencontainers.image.ref.name": "name"}}"#.replace("DIGEST", digest);
        let mut files = [
            ("oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#.to_string()),
            ("index.json", format!(r#"{{"schemaVersion": 2, "manifests": [{manifest}, {manifest}]}}"#)),
            ("manifest.json", r#"[{"Config": "index.json", "RepoTags": ["a:b"], "Layers": ["index.json"]}]"#.to_string()),
        ].map(|(name, text)| (name, text.into_bytes()));
        for change in &changes {
            apply(&mut files[which].1, change);
        }
        for (name, bytes) in files {
            fs::write(at(name), bytes).unwrap();
        }
        reads(Input::Oci(scratch.path().into()), scratch.path());
        reads(Input::Docker(scratch.path().into()), scratch.path());
    }
}
