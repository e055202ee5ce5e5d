// SPDX-License-Identifier: GPL-2.0-only

//! The completions complete, in each shell that this machine has.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Prints what is in `my-base.img`.
const DAXFS: &str = "\
#!/bin/sh
case $* in
'ls -p -- my-base.img /' | 'ls -p --offset 0 -- my-base.img /') printf '%s\\n' 'ho$(exit)' host etc/ ;;
'ls -p '*'-- my-base.img '*/etc/) echo os-x ;;
esac
";

/// Unfinished paths inside that image, and their completions.
const PATHS: [(&str, &str); 3] = [
    ("ho", "ho$(exit)\nhost\n"),
    ("e", "etc/\n"),
    ("/etc/os-", "/etc/os-x\n"),
];

/// Write the completions to a directory, and [`DAXFS`].
fn completions() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("daxfs"), DAXFS).unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path().join("daxfs"), mode).unwrap();
    for (name, text) in manual::completions() {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let path = directory.path().into();
    (directory, path)
}

/// Run `script` in `shell` with these arguments and with the programs in `directory`. Return its output, or `None`
/// without this shell.
fn run(
    directory: &Path,
    shell: &str,
    options: &[&str],
    script: &str,
    arguments: &[&str],
) -> Option<String> {
    let path = format!("{}:{}", directory.display(), env::var("PATH").unwrap());
    let output = Command::new(shell)
        .args(options)
        .args(["-c", script])
        .args(arguments)
        .env("TERM", "dumb")
        .env("PATH", path)
        .output();
    let Ok(output) = output else {
        println!("SKIP: no {shell}");
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "{shell} {arguments:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Required completions of a command line, whose last word is unfinished.
const LINES: [(&[&str], &[&str]); 6] = [
    (&["daxfs", "um"], &["umount"]),
    (&["daxfs", "m"], &["mount"]),
    (&["daxfs", "info", "--j"], &["--json"]),
    (&["mkdaxfs", "--pa"], &["--pack", "--padding"]),
    (&["mkfs.daxfs", "--dr"], &["--dry-run"]),
    (&["fsck.daxfs", "--ver"], &["--version"]),
];

fn file(directory: &Path, shell: &str, program: &str) -> String {
    let name = match shell {
        "fish" => format!("{program}.fish"),
        _ => program.into(),
    };
    let path = directory.join(shell).join(name);
    path.to_str().unwrap().into()
}

#[test]
fn bash() {
    let (_directory, path) = completions();
    // Imitate the shell after TAB.
    let script = r#"
        source "$0"
        specification=$(complete -p "$1") function=${specification#*-F } function=${function%% *}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        "$function" "$1" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    for (words, expected) in LINES {
        let completion = file(&path, "bash", words[0]);
        let arguments = [&[completion.as_str()], words].concat();
        let Some(found) = run(&path, "bash", &["--norc"], script, &arguments) else {
            return;
        };
        let found: Vec<_> = found.lines().collect();
        assert_eq!(found, expected, "{words:?}");
    }
    // Names are not run.
    for (word, expected) in PATHS {
        let completion = file(&path, "bash", "daxfs");
        for options in [&["cat"][..], &["ls", "-l", "--offset", "0"]] {
            let arguments = [&[&completion, "daxfs"], options, &["my-base.img", word]].concat();
            let found = run(&path, "bash", &["--norc"], script, &arguments);
            assert_eq!(found.as_deref(), Some(expected), "{options:?}");
        }
    }
}

#[test]
fn fish() {
    let (_directory, path) = completions();
    for (words, expected) in LINES {
        let completion = file(&path, "fish", words[0]);
        let script = format!("source {completion}; complete -C '{}'", words.join(" "));
        let Some(found) = run(&path, "fish", &["--no-config"], &script, &[]) else {
            return;
        };
        // fish also lists words that have the letters of the last one with others between them,
        // such as `--json` for `--s`. TAB inserts none of these where others begin with the word.
        let last = words.last().unwrap();
        let found: Vec<_> = found
            .lines()
            .map(|line| line.split('\t').next().unwrap())
            .filter(|word| word.starts_with(last))
            .collect();
        assert_eq!(found, expected, "{words:?}");
    }
    let completion = file(&path, "fish", "daxfs");
    for (word, expected) in PATHS {
        for options in ["cat", "ls -l"] {
            let line = format!("complete -C 'daxfs {options} my-base.img {word}'");
            let script = format!("source {completion}; {line}");
            let found = run(&path, "fish", &["--no-config"], &script, &[]);
            assert_eq!(found.as_deref(), Some(expected));
        }
    }
    let script = format!(
        "cd {}; source {completion}; complete -C 'daxfs ls -l da'",
        path.display()
    );
    let found = run(&path, "fish", &["--no-config"], &script, &[]);
    assert_eq!(found.as_deref(), Some("daxfs\n"));
}

#[test]
fn zsh() {
    let (_directory, path) = completions();
    let functions = path.join("zsh");
    // Press TAB in an interactive shell on a terminal. The widget prints the line
    // as it is then.
    let script = r#"
        zmodload zsh/zpty
        zpty -b shell zsh -f -i
        zpty -w shell "fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; PS1=; unsetopt zle_bracketed_paste"
        zpty -w shell 'unsetopt list_beep; setopt no_auto_list; bindkey "^I" complete-word'
        zpty -w shell 'line() { print -r -- "<$BUFFER>"; zle .kill-buffer }; zle -N line; bindkey "^X" line; print READY'
        zpty -r shell output '*READY*READY*'
        zpty -w -n shell "$2"$'\t\x18'
        zpty -r shell output '*<*>*'
        print -r -- "${${output##*<}%%>*}"
        zpty -d shell"#;
    let functions = functions.to_str().unwrap();
    // TAB inserts what all completions have in common.
    for (line, expected) in [
        ("daxfs um", "daxfs umount "),
        ("mkfs.daxfs --dr", "mkfs.daxfs --dry-run "),
        ("fsck.daxfs --ver", "fsck.daxfs --version "),
        ("daxfs cat my-base.img hos", "daxfs cat my-base.img host "),
        ("daxfs cat my-base.img et", "daxfs cat my-base.img etc/"),
        (
            "daxfs ls -l my-base.img /etc/os-",
            "daxfs ls -l my-base.img /etc/os-x ",
        ),
    ] {
        let Some(found) = run(&path, "zsh", &["-f"], script, &["zsh", functions, line]) else {
            return;
        };
        assert_eq!(found.trim_end_matches('\n'), expected, "{line}");
    }
}
