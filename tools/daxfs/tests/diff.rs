// SPDX-License-Identifier: GPL-2.0-only

//! `diff`: its output and its exit status.

use crate::support::fixture;
use daxfs_testing::image_of;

#[test]
fn diff() {
    let place = fixture();
    assert_eq!(place.ok("daxfs diff image image").text(), "");
    place.shell(
        r"cd source; (head -c 9999 /dev/zero | tr '\0' '\7'; printf '\10') >dir/below/deep; rm fifo; : >new; echo more >>file
        rm 'dir/other name'; echo some text >'dir/other name'; ln -sfn elsewhere link; touch -d @1.000000005 dir/empty",
    );
    image_of(&place.path("source"), &place.path("other")).unwrap();
    let differ = |words: &str| {
        let run = place.run(format!("daxfs diff {words}"));
        assert_eq!((run.status, run.stderr.as_str()), (1, ""), "{words}");
        run.text().to_owned()
    };
    let found = differ("image other --ignore mode,links");
    let lines = found.lines().filter(|line| !line.contains(": time "));
    let expected = [
        "/fifo: only in the first",
        "/file: size 10 and 15",
        "/link: target dir/below and elsewhere",
        "/new: only in the second",
        "/dir/below/deep: content from byte 9999",
    ];
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    for part in [
        "/dir/empty: time 20",
        " and 1970-01-01 00:00:01.000000005\n",
    ] {
        assert!(found.contains(part), "{found}");
    }
    assert_eq!(differ("image other -q"), "");
    // Vice versa.
    let found = differ("other image --ignore=time");
    assert!(found.contains("/fifo: only in the second\n"), "{found}");
    // Two names that used to be one file.
    let found = differ("image other");
    let why = "/dir/other name: hard links to other files\n";
    assert!(found.contains(why), "{found}");
}
