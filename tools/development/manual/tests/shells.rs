// SPDX-License-Identifier: GPL-2.0-only

//! The completions complete, in each shell that this machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Write the completions to a directory.
fn completions() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in manual::completions() {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let path = directory.path().into();
    (directory, path)
}

/// Run `script` in `shell` with these arguments. Return its output, or `None` without this shell.
fn run(shell: &str, options: &[&str], script: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(shell)
        .args(options)
        .args(["-c", script])
        .args(arguments)
        .env("TERM", "dumb")
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
const LINES: [(&[&str], &[&str]); 5] = [
    (&["daxfs", "loa"], &["load"]),
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
        let Some(found) = run("bash", &["--norc"], script, &arguments) else {
            return;
        };
        let found: Vec<_> = found.lines().collect();
        assert_eq!(found, expected, "{words:?}");
    }
}

#[test]
fn fish() {
    let (_directory, path) = completions();
    for (words, expected) in LINES {
        let completion = file(&path, "fish", words[0]);
        let script = format!("source {completion}; complete -C '{}'", words.join(" "));
        let Some(found) = run("fish", &["--no-config"], &script, &[]) else {
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
        ("daxfs loa", "daxfs load "),
        ("mkfs.daxfs --dr", "mkfs.daxfs --dry-run "),
        ("fsck.daxfs --ver", "fsck.daxfs --version "),
    ] {
        let Some(found) = run("zsh", &["-f"], script, &["zsh", functions, line]) else {
            return;
        };
        assert_eq!(found.trim_end_matches('\n'), expected, "{line}");
    }
}
