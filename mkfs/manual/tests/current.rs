// SPDX-License-Identifier: GPL-2.0-only

//! The pages in `Documentation/` say what the programs say.

use std::fs;
use std::path::Path;

#[test]
fn pages_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Documentation");
    let pages = manual::pages().unwrap();
    for (name, page) in &pages {
        let stored = fs::read_to_string(directory.join(name)).unwrap_or_default();
        let page = std::str::from_utf8(page).unwrap();
        assert!(
            stored == page,
            "Documentation/{name} is out of date: make documentation"
        );
    }
    // Nor is there a page of a program that is no more.
    for entry in fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = pages.iter().any(|(page, _)| *page == name);
        assert!(
            known || !name.ends_with(".8"),
            "Documentation/{name} belongs to no program"
        );
    }
}

#[test]
fn every_shell_gets_every_program() {
    let files = manual::completions();
    assert_eq!(files.len(), 15);
    let known = |name: &str| files.iter().any(|(file, _)| file == name);
    assert!(known("bash/mkfs.daxfs") && known("zsh/_mkfs.daxfs") && known("fish/mkfs.daxfs.fish"));
    for (name, text) in files {
        assert!(!text.is_empty(), "{name}");
    }
}
