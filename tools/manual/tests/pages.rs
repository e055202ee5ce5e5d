// SPDX-License-Identifier: GPL-2.0-only

//! Manual pages are complete and well-formed.

use std::fs;
use std::process::Command;

#[test]
fn every_shell_gets_every_program() {
    let files = manual::completions();
    assert_eq!(files.len(), 18);
    let known = |name: &str| files.iter().any(|(file, _)| file == name);
    assert!(known("bash/mkfs.daxfs") && known("zsh/_mkfs.daxfs") && known("fish/mkfs.daxfs.fish"));
    for (name, text) in files {
        assert!(!text.is_empty(), "{name}");
    }
}

/// The programs that format manual pages report nothing.
#[test]
fn pages_are_clean() {
    let directory = tempfile::tempdir().unwrap();
    for (name, page) in manual::pages().unwrap() {
        // It refers to a page that is installed elsewhere.
        if name == "mkfs.daxfs.8" {
            continue;
        }
        let path = directory.path().join(&name);
        fs::write(&path, page).unwrap();
        for (program, options) in [
            ("groff", &["-man", "-ww", "-z", "-Tutf8"][..]),
            ("mandoc", &["-T", "lint", "-W", "warning"]),
        ] {
            let output = Command::new(program).args(options).arg(&path).output();
            let Ok(output) = output else {
                println!("SKIP: no {program}");
                continue;
            };
            let said = [output.stdout, output.stderr].concat();
            assert_eq!(String::from_utf8_lossy(&said), "", "{name}");
        }
    }
}

/// The help of every command ends with an example.
#[test]
fn help_ends_with_an_example() {
    for (name, page) in manual::pages().unwrap() {
        if name == "mkfs.daxfs.8" {
            continue;
        }
        let page = String::from_utf8(page).unwrap();
        let before = page.split(".SH \"SEE ALSO\"").next().unwrap();
        assert!(before.ends_with(".EE\n"), "{name}");
        // Files are named by their installed places.
        assert!(!page.contains("Documentation/"), "{name}");
        assert!(before.contains("\n.SH \"EXAMPLES\"\n"), "{name}");
    }
}
