// SPDX-License-Identifier: GPL-2.0-only

//! User mistakes with `daxfs`: each prints one line with the remedy, and loses nothing. `AT/` is
//! the directory of the files. tests/load covers those that need a kernel with the module.

use crate::support::fixture;
use daxfs_testing::specimen::specimen;

const MISTAKES: &str = r#"
# Arguments that are missing, misspelt, or in the wrong order.
daxfs info | 2 | daxfs: missing <IMAGE>; see daxfs info --help
daxfs inof AT/image | 2 | unrecognized subcommand 'inof'; a similar subcommand exists: 'info'; see daxfs --help
daxfs AT/image | 2 | unrecognized subcommand
daxfs info --jsn AT/image | 2 | '--json'
daxfs ls /etc AT/image | 1 | /etc: is a directory; name an image or a device
daxfs extract AT/image | 2 | <TARGET>; see daxfs extract --help
daxfs load --into ram AT/image AT/dir | 2 | memfd
daxfs load AT/image | 2 | name the mount point after the image
mount.daxfs AT/missing AT/dir | 32 | missing: cannot open: No such file or directory; check the path
daxfs store list AT/missing | 1 | missing: does not exist; check the path, or make a store
daxfs store list AT/image | 1 | image: is not a store but an image
daxfs load --into phys=0x100000000,size=1M --serve AT/socket AT/image | 2 | takes no mount point, options or --serve
daxfs diff AT/source AT/image | 2 | AT/source: is a directory; name an image or a device
daxfs diff AT/image AT/missing | 2 | missing
fsck.daxfs | 16 | see fsck.daxfs --help
mount.daxfs AT/image | 1 | <DIR>; see mount.daxfs --help
mount.daxfs --nonsense | 1 | '--nonsense'
mount.fuse.daxfs AT/image | 1 | mount.fuse.daxfs: missing <DIR>; see mount.fuse.daxfs --help
mount.daxfs AT/image AT/missing | 32 | make the directory first
daxfs fsck | 16 | see daxfs fsck --help
daxfs fsck --nonsense AT/image | 16 | '--nonsense'
# Files that are not images.
daxfs locate AT/image | 1 | AT/image: is not on a mounted image; findmnt -t daxfs lists those
daxfs info AT/missing | 1 | No such file or directory; check the path
daxfs info AT/notes | 1 | AT/notes: not a daxfs image; mkdaxfs makes images
daxfs info AT/squash | 1 | AT/squash: not a daxfs image (it looks like a SquashFS image); mkdaxfs makes images
daxfs digest -j | 2 | unexpected argument '-j' found; see daxfs digest --help
daxfs info AT/empty | 1 | AT/empty: not a daxfs image (it is empty); mkdaxfs makes images
daxfs info AT/zeros | 1 | AT/zeros: not a daxfs image (it starts with zeros); mkdaxfs makes images
daxfs info AT/short | 1 | AT/short: not a daxfs image; mkdaxfs makes images
daxfs ls AT/cut | 1 | copy all of it
daxfs ls /dev/null | 1 | cannot be read in any order; name an image file or device, or pipe it to '-'
daxfs ls - | 1 | standard input: not a daxfs image
daxfs digest AT/changed | 1 | restore it from a copy
# A FIFO is refused at once, where opening it would wait for a writer.
timeout 60 daxfs info AT/fifo | 1 | name an image file
timeout 60 daxfs load AT/fifo / | 1 | name an image file
daxfs load AT/notes AT/dir | 1 | mkdaxfs makes images
daxfs fsck AT/missing | 8 | No such file or directory; check the path
# Where nothing can be mounted: said before the image is copied, and before who may mount.
daxfs load AT/image AT/missing | 1 | make the directory first
daxfs load AT/image AT/notes | 1 | name a directory
# Virtual machines.
daxfs share AT/notes | 1 | mkdaxfs makes images
daxfs share AT/image -- AT/missing | 1 | cannot run it: No such file or directory; install it, or give its path
# Counters.
daxfs top --json | 2 | unexpected argument '--json'
# Files in an image.
daxfs cat AT/image /etc/none | 1 | no such file in the image; 'daxfs ls' lists them
daxfs cat AT/image /dir | 1 | /dir: is a directory; only files have content
daxfs cat AT/image /loop | 1 | /loop: too many symbolic links; they lead in circles
daxfs cat AT/image /file/x | 1 | /file/x: not a directory on the way; check the path
daxfs cat AT/parts /other/elsewhere | 1 | AT/parts: /other/elsewhere: its content is in the pack
daxfs extract AT/parts AT/new | 1 | AT/parts: /other/elsewhere: its content is in the pack
daxfs diff AT/parts AT/parts | 2 | AT/parts: /other/elsewhere: its content is in the pack
daxfs ls AT/image /file/ | 1 | /file/: not a directory; leave out the slash at its end
# Outputs.
daxfs extract AT/image AT/dir | 1 | AT/dir: 
daxfs extract AT/image AT/missing/new | 1 | No such file or directory; create its parent directory first
daxfs extract AT/image AT/image | 1 | cannot extract to it: Not a directory; a file is there or on the way: name another place
daxfs extract --tar AT/image AT/image/x | 1 | cannot write: Not a directory; a file is there or on the way: name another place
ulimit -f 1; daxfs extract AT/image AT/new | 1 | File too large; raise the limit (ulimit -f)
ulimit -f 1; daxfs extract --tar AT/image AT/new | 1 | File too large; raise the limit (ulimit -f)
ulimit -f 1; daxfs store init --size 8M AT/new | 1 | File too large; raise the limit (ulimit -f)
(ulimit -f 1; daxfs cat AT/image /dir/below/deep >AT/new); r=$?; rm AT/new; exit $r | 1 | File too large; raise the limit (ulimit -f)
daxfs extract --path=/file AT/image AT/new | 1 | AT/image: /file: is not a directory
daxfs extract --tar --path=/file AT/image AT/new | 1 | AT/image: /file: is not a directory
daxfs fuse AT/image AT/missing | 1 | make the directory first
"#;

#[test]
fn mistakes() {
    let place = fixture();
    place.shell(
        "mkdir dir; echo content >dir/precious; yes notes | head -n 1000 >notes; printf x >short
         printf 'hsqs, and more' >squash; head -c $(($(stat -c %s image) / 2)) image >cut; mkfifo fifo; : >empty; truncate -s 1M zeros",
    );
    place.write("parts", specimen());
    let mut bytes = place.read("image");
    *bytes.last_mut().unwrap() ^= 1;
    place.write("changed", &bytes);
    place.mistakes(&MISTAKES.replace("AT/", ""));
}
