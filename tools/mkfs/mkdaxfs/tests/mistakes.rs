// SPDX-License-Identifier: GPL-2.0-only

//! Mistakes that people make with `mkdaxfs`: each gives one line that says what to do, and nothing
//! is lost.

use crate::support::{mkdaxfs, run, shell};
use daxfs_testing::mistakes::make;
use daxfs_testing::{scratch, snapshot};
use std::process::Command;

/// `LONG` is a label of 65 bytes, `-` as an input is empty.
const MISTAKES: &str = r#"
# Arguments that are missing, misspelt, or in the wrong order.
 | 2 | arguments were not provided: <INPUT>... <IMAGE>; see mkdaxfs --help
tree | 2 | see mkdaxfs --help
--lable x tree new | 2 | '--label'
--no-such tree new | 2 | unexpected argument '--no-such'
tree -z | 2 | unexpected argument '-z' found; see mkdaxfs --help
one.tar two.tar | 1 | two.tar: holds a tar archive
one.tar one.tar | 1 | is an input as well
image tree | 1 | tree: is a directory; name a file
tree notes | 1 | notes: holds data other than a daxfs image
one.tar tree | 1 | tree: is a directory; name a file
--quiet --json tree new | 2 | '--quiet' cannot be used with '--json'
--all-root --uid 1 tree new | 2 | '--all-root' cannot be used with '--uid <ID>'
# Values.
--jobs 0 tree new | 2 | at least 1
--jobs many tree new | 2 | use a number of threads
-b 4 tree new | 2 | use 4K, 8K, 16K, 32K or 64K
-b 1M tree new | 2 | use 4K, 8K, 16K, 32K or 64K
--label LONG tree new | 2 | 64 is the limit
--uuid 12 tree new | 2 | '12' for '--uuid <UUID>': use 32 hexadecimal digits with or without hyphens, random, or clear
--uid nobody-at-all tree new | 2 | a name that getent passwd finds
--gid nobody-at-all tree new | 2 | a name that getent group finds
--time yesterday tree new | 2 | use SECONDS
--time 1.1234567890 tree new | 2 | use SECONDS
--padding 5000 tree new | 2 | use a multiple of 4096
--max-size 10Q tree new | 2 | K, M, G or T
--max-size 4K tree new | 1 | leave something out or raise the limit
--mode rwx tree new | 2 | 'rwx'
--exclude [ tree new | 2 | '['
--exclude-from missing tree new | 1 | missing: cannot read the file: No such file or directory; check
--map-uid 5 tree new | 2 | '5'
--clamp-mtime tree new | 1 | add --mtime or set SOURCE_DATE_EPOCH
--platform linux oci:layout new | 2 | 'linux'
# Inputs.
missing new | 1 | missing: cannot open the file: No such file or directory; check the path
notes new | 1 | notes: is neither a tar archive nor a daxfs image
dir:one.tar new | 1 | one.tar: not a directory; 
tar:tree new | 1 | expected an archive, found a directory
cut.tar.gz new | 1 | cut.tar.gz: 
image:one.tar new | 1 | one.tar: 
oci:missing new | 1 | missing
docker:one.tar new | 1 | one.tar: 
docker://alpine new | 1 | docker://alpine: is in a registry; run skopeo copy docker://alpine oci:DIRECTORY:NAME
- new | 1 | standard input
# Outputs.
tree tree/new | 1 | would be written into the tree
. new | 1 | would be written into the tree
tree dangling | 1 | cannot find out where it leads
tree missing/new | 1 | missing: cannot create a file in the directory: No such file or directory
tree /dev/null | 1 | neither a block nor a DAX device
"#;

#[test]
fn mistakes() {
    let directory = scratch();
    let at = directory.path();
    shell(
        at,
        "mkdir tree; echo text >tree/file; tar -cf one.tar tree; tar -cf two.tar tree; ln -s nowhere dangling
         head -c 100000 /dev/urandom >tree/large; tar -czf whole.tar.gz tree; head -c 9000 whole.tar.gz >cut.tar.gz
         yes notes | head -n 1000 >notes",
    );
    crate::support::make(["-q"], &at.join("tree"), &at.join("image"));
    let long = "x".repeat(65);
    make(at, MISTAKES, |words| {
        let words = words.iter().map(|word| word.replace("LONG", &long));
        let output = mkdaxfs().current_dir(at).args(words).output().unwrap();
        assert!(output.stderr.starts_with(b"mkdaxfs: "), "{output:?}");
        output
    });
}

/// A limit of file sizes stands for a full disk, and a file for a directory of temporary files.
#[test]
fn no_room() {
    let directory = scratch();
    let at = directory.path();
    shell(
        at,
        "mkdir tree; head -c 100000 /dev/urandom >tree/large; tar -cf one.tar tree",
    );
    let before = snapshot(at);
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" tree new";
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(mkdaxfs().get_program());
    let full = run(command.current_dir(at));
    let nowhere = run(mkdaxfs()
        .args(["-", "-"])
        .stdin(std::fs::File::open(at.join("one.tar")).unwrap())
        .env("TMPDIR", at.join("missing"))
        .current_dir(at));
    for (run, part) in [(full, "; raise the limit"), (nowhere, "missing")] {
        assert_eq!((run.status, run.stderr.lines().count()), (1, 1), "{run:?}");
        assert!(run.stderr.contains(part), "{run:?}");
    }
    assert!(snapshot(at) == before);
}
