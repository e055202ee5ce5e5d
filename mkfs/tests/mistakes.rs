// SPDX-License-Identifier: GPL-2.0-only

//! User mistakes with `mkdaxfs`: each prints one line with the remedy, and loses nothing.

use crate::support::layout::Layout;
use crate::support::{place, Place};

/// `$LONG` is a label of 65 bytes; `-` as an input is empty.
const MISTAKES: &str = r#"
# Arguments that are missing, misspelt, or in the wrong order.
mkdaxfs | 2 | missing <INPUT>... <IMAGE>; see mkdaxfs --help
mkdaxfs tree | 2 | missing <INPUT>...; see mkdaxfs --help
mkdaxfs --lable x tree new | 2 | '--label'
mkdaxfs --no-such tree new | 2 | unexpected argument '--no-such'
mkdaxfs tree -z | 2 | unexpected argument '-z' found; see mkdaxfs --help
mkdaxfs image tree | 1 | tree: is a directory; name a file
mkdaxfs one.tar tree | 1 | tree: is a directory; name a file
mkdaxfs --all-root --uid 1 tree new | 2 | '--all-root' cannot be used with '--uid <ID>'
# Values.
mkdaxfs -b 4 tree new | 2 | use 4K, 8K, 16K, 32K or 64K
mkdaxfs -b 1M tree new | 2 | use 4K, 8K, 16K, 32K or 64K
mkdaxfs --label $LONG tree new | 2 | 64 is the limit
mkdaxfs --uuid 12 tree new | 2 | '12' for '--uuid <UUID>': use 32 hexadecimal digits with or without hyphens
mkdaxfs --uid nobody tree new | 2 | use a number below 4294967295, which id -u NAME prints
mkdaxfs --gid 4294967295 tree new | 2 | use a number
mkdaxfs --time yesterday tree new | 2 | use SECONDS
mkdaxfs --time 1.1234567890 tree new | 2 | use SECONDS
mkdaxfs --padding 5000 tree new | 2 | use a multiple of 4096
mkdaxfs --huge-threshold 10Q tree new | 2 | K, M, G or T
mkdaxfs --exclude-from missing tree new | 1 | missing: cannot read the file: No such file or directory; check
mkdaxfs --exclude-from wrong tree new | 2 | wrong: line 3: the pattern '[x' is wrong
mkdaxfs --exclude-from kept tree new | 2 | kept: line 2: the pattern '!keep.o' starts with '!', but patterns have no exceptions; write '\!'
mkdaxfs --exclude-from <(echo ./x) tree new | 2 | line 1: the pattern './x' has an empty name, '.' or '..', which match nothing
mkdaxfs --exclude-from <(echo 'x ') tree new | 2 | line 1: the pattern 'x ' ends with a blank; remove it, or write '[ ]'
mkdaxfs --exclude '!keep.o' tree new | 2 | starts with '!', but patterns have no exceptions
mkdaxfs --exclude .. tree new | 2 | match nothing; write the path from the root of the image
mkdaxfs --clamp-mtime tree new | 2 | add --mtime or set SOURCE_DATE_EPOCH
mkdaxfs --platform linux oci:layout new | 2 | 'linux'
# Inputs.
mkdaxfs missing two.img | 1 | missing: cannot open the file: No such file or directory; check the path
mkdaxfs ./dir:x new | 1 | ./dir:x: cannot open the file: No such file
mkdaxfs notes new | 1 | notes: is neither a tar archive nor a daxfs image; name a directory, an archive or an image
mkdaxfs dir:one.tar new | 1 | one.tar: not a directory; 
mkdaxfs tar:tree new | 1 | expected an archive, found a directory
mkdaxfs cut.tar.gz new | 1 | cut.tar.gz: 
mkdaxfs image:one.tar new | 1 | one.tar: 
mkdaxfs oci:missing new | 1 | missing
mkdaxfs docker://alpine new | 1 | docker://alpine: is not an OCI image layout; make one: skopeo copy docker://alpine oci:DIRECTORY:NAME
mkdaxfs - new | 1 | standard input
mkdaxfs - new </proc/mounts | 1 | standard input: is empty and not an archive
(dd skip=1M count=0 2>/dev/null; mkdaxfs - new) <one.tar | 1 | standard input: is empty and not an archive
# Outputs.
mkdaxfs tree tree/new | 1 | would be written into the tree
mkdaxfs . new | 1 | would be written into the tree
mkdaxfs tree dangling | 1 | cannot find out where it leads
mkdaxfs tree missing/new | 1 | missing: cannot create a file in the directory: No such file or directory
mkdaxfs tree /dev/null | 1 | neither a block nor a DAX device
TMPDIR=missing mkdaxfs - - <one.tar | 1 | missing: cannot create a temporary file in the directory: No such file or directory; set TMPDIR (now missing) to a directory that you can write to
# Files that are not images are kept.
mkdaxfs one.tar two.tar | 1 | two.tar: holds a tar archive, which would be lost; name another file, or give --force
mkdaxfs one.tar link | 1 | holds a tar archive, which would be lost
mkdaxfs one.tar one.tar.gz | 1 | holds a gzip file, which would be lost
mkdaxfs tree notes | 1 | notes: holds data other than a daxfs image, which would be lost
mkdaxfs one.tar sparse | 1 | holds data other than a daxfs image, which would be lost
# Inputs are kept.
mkdaxfs one.tar one.tar | 1 | is an input as well; name another file for the output, which comes last
mkdaxfs --force tar:one.tar ./one.tar | 1 | is an input as well
mkdaxfs --force one.tar two.tar link | 1 | is an input as well
mkdaxfs one.tar hard two.tar | 1 | is an input as well
mkdaxfs tree link hard | 1 | is an input as well
mkdaxfs --force image image | 1 | is an input as well
mkdaxfs image image-link | 1 | is an input as well
mkdaxfs --force image:image-link one.tar image | 1 | is an input as well
mkdaxfs --force --exclude-from patterns tree patterns | 1 | is an input as well
mkdaxfs --force - one.tar <one.tar | 1 | is an input as well
mkdaxfs one.tar - 1<>one.tar | 1 | is an input as well
# The output was forgotten, and the last input is an image.
mkdaxfs image two.img | 1 | holds a daxfs image, and so does an input; name the output, which comes last, or give --force
mkdaxfs image two.img three.img | 1 | holds a daxfs image, and so does an input
mkdaxfs tree image two.img | 1 | holds a daxfs image, and so does an input
mkdaxfs image:image two.img | 1 | holds a daxfs image, and so does an input
mkdaxfs image one.tar two.img | 1 | holds a daxfs image, and so does an input
mkdaxfs - two.img <image | 1 | holds a daxfs image, and so does an input
(read; mkdaxfs - two.img) <behind | 1 | holds a daxfs image, and so does an input
# Images beside the layers of a container image would become part of it.
mkdaxfs oci:layout layout/image | 1 | is part of an input; write the image to another directory
mkdaxfs --force oci:layout layout/blobs/image | 1 | is part of an input
"#;

/// Returns a place with two archives, images, a layout and some other files.
fn files() -> Place {
    let place = place(
        "mkdir tree; echo text >tree/file; tar -cf one.tar tree; tar -cf two.tar tree; ln -s nowhere dangling
         head -c 100000 /dev/urandom >tree/large; tar -czf whole.tar.gz tree; head -c 9000 whole.tar.gz >cut.tar.gz
         rm whole.tar.gz; gzip -k one.tar; ln -s two.tar link; ln two.tar hard; echo '*.o' >patterns; printf '#\n*.o\n[x' >wrong; printf '*.o\n!keep.o\n' >kept
         yes notes | head -n 1000 >notes; truncate -s 1M zeros; : >empty; ln -s image image-link
         truncate -s 4M sparse; printf x | dd of=sparse bs=1 seek=3M conv=notrunc
         for image in image two.img three.img; do mkdaxfs -q tree $image; done; (echo; cat image) >behind",
    );
    let layout = Layout::new(&place.path(""));
    layout.index(&[layout.image(&["one.tar"])]);
    place
}

#[test]
fn mistakes() {
    let long = "x".repeat(65);
    files().mistakes(&MISTAKES.replace("$LONG", &long));
}

/// These files are worthless, or the user insists.
#[test]
fn what_is_overwritten() {
    let place = files();
    for name in ["zeros", "empty", "new"] {
        // Another image may replace an image, even a damaged one.
        place.ok(format!(
            "mkdaxfs -q tree {name}; mkdaxfs -q tree {name}; truncate -s 100 {name}"
        ));
        place.ok(format!("mkdaxfs -q tree {name}"));
    }
    for name in ["notes", "link", "sparse", "one.tar.gz"] {
        place.ok(format!("mkdaxfs -qf tree {name}"));
        assert_eq!(&place.read(name)[1..6], b"daxfs");
    }
    // The same output again, and another one.
    for words in [
        "tree three.img",
        "one.tar three.img",
        "-f image three.img",
        "image other",
    ] {
        place.ok(format!("mkdaxfs -q {words}"));
    }
}
