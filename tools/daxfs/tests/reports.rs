// SPDX-License-Identifier: GPL-2.0-only

//! Public reports from users of other tools, and how daxfs handles their data.
//!
//! Each file `reports/*.txt` is an area. Each line is a case with fields separated by bars:
//!
//! ```text
//! SOURCE | what people have | shell lines that make it and run the programs | exit status | output
//! ```
//!
//! SOURCE is the report, as REPOSITORY#NUMBER. The output, both streams with their words on one
//! line, must contain the last field, or equal the text after "=" if the field starts with it. The
//! shell lines may use the functions of `reports/lib.sh`, the programs `mkdaxfs` and `daxfs`, an
//! empty directory, and bars. `DAXFS_REPORTS=moby#18226` runs only the cases of that source.

use crate::support::place;
use daxfs_testing::can_mount;
use daxfs_testing::place::available;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A line of a file.
struct Case {
    /// File and line.
    at: String,
    text: String,
}

/// Returns why the case failed.
fn run(case: &Case, reports: &Path, mkdaxfs: &Path) -> Option<String> {
    let fields = |text: &str| -> Option<[String; 5]> {
        let (source, rest) = text.split_once(" | ")?;
        let (what, rest) = rest.split_once(" | ")?;
        let (rest, output) = rest.rsplit_once(" | ")?;
        let (script, status) = rest.rsplit_once(" | ")?;
        Some([source, what, script, status, output].map(str::to_string))
    };
    let Some([source, what, script, status, wanted]) = fields(&case.text) else {
        return Some(format!("{}: has not five fields", case.at));
    };
    let place = place("").with(mkdaxfs);
    let mut command = place.command("timeout");
    command.args(["120", "bash", "-c", &format!("exec 2>&1; {script}")]);
    command.env("BASH_ENV", reports.join("lib.sh"));
    let run = command.output().unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    let output = output.split_whitespace().collect::<Vec<_>>().join(" ");
    let right = match wanted.strip_prefix('=') {
        Some(whole) => output == whole,
        None => output.contains(&wanted),
    };
    let found = run.status.code().unwrap_or(-1);
    (!right || found.to_string() != status).then(|| {
        format!(
            "{}: {source}: {what}\n  wanted {status}: {wanted}\n  found {found}: {output}",
            case.at
        )
    })
}

/// Returns the path of mkdaxfs.
pub fn mkdaxfs() -> PathBuf {
    let mkdaxfs = Path::new(env!("CARGO_BIN_EXE_daxfs")).with_file_name("mkdaxfs");
    assert!(
        mkdaxfs.exists(),
        "{} is missing; build it: scripts/cargo build -p mkdaxfs",
        mkdaxfs.display()
    );
    mkdaxfs
}

#[test]
fn public_reports() {
    let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports");
    let mkdaxfs = mkdaxfs();
    let only = std::env::var("DAXFS_REPORTS").unwrap_or_default();
    let mut cases = Vec::new();
    for entry in fs::read_dir(&reports).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        for (index, text) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if !text.starts_with('#') && text.starts_with(&only) {
                let (at, text) = (format!("{name}:{}", index + 1), text.to_string());
                cases.push(Case { at, text });
            }
        }
    }
    println!("{} public reports", cases.len());
    assert!(!cases.is_empty());
    let (queue, failed) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some(case) = next() {
                    failed.lock().unwrap().extend(run(case, &reports, &mkdaxfs));
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

/// Images of random layers look like an overlay of them. `DAXFS_SEED` and `DAXFS_SETS` select
/// others.
#[test]
fn random_layers() {
    if !available("python3") || !can_mount("reports::random_layers") {
        return;
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let place = place("").with(&mkdaxfs());
    let script = r#"
        mkdir overlay; mount -t tmpfs tmpfs overlay
        layers() { python3 "$TESTS/support/layers.py" "$@"; }
        (cd overlay; layers "${DAXFS_SEED:-1}" "${DAXFS_SETS:-300}"; layers show merged >../wanted; mv [123].tar ..)
        layout 1.tar 2.tar 3.tar; mkdaxfs -q oci:layout image 2>warnings; daxfs extract image out
        layers show out >found; umount -R overlay; [ "$(wc -l <wanted)" -gt 100 ]; diff wanted found"#;
    let mut command = place.command("bash");
    command.args(["-ec", script]).env("TESTS", &tests);
    let run = command
        .env("BASH_ENV", tests.join("reports/lib.sh"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
}
