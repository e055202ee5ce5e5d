// SPDX-License-Identifier: GPL-2.0-only

//! `diff`: its output, and its exit status.

use crate::support;
use crate::support::{fail, fixture, run, succeed};
use daxfs_testing::image_of;
use std::fs;

#[test]
fn diff() {
    let fixture = fixture();
    let source = fixture.directory.path().join("source");
    let same = succeed(&fixture.with("diff", &[source.to_str().unwrap()]));
    assert_eq!(same.text(), "");
    let set_time = |path: &str, nsec: u32| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1, nsec);
        let file = fs::File::open(source.join(path)).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(time))
            .unwrap();
    };
    fs::write(
        source.join("dir/below/deep"),
        [vec![7; 9999], vec![8]].concat(),
    )
    .unwrap();
    fs::remove_file(source.join("fifo")).unwrap();
    fs::write(source.join("new"), "").unwrap();
    fs::remove_file(source.join("dir/other name")).unwrap();
    fs::write(source.join("dir/other name"), "some text\n").unwrap();
    fs::remove_file(source.join("link")).unwrap();
    std::os::unix::fs::symlink("elsewhere", source.join("link")).unwrap();
    set_time("dir/empty", 5);
    let arguments = fixture.with(
        "diff",
        &[source.to_str().unwrap(), "--ignore", "mode,links"],
    );
    let differ = run(&arguments);
    assert_eq!((differ.status, differ.stderr.as_str()), (1, ""));
    let lines: Vec<_> = differ
        .text()
        .lines()
        .filter(|line| !line.contains(": time "))
        .collect();
    assert_eq!(
        lines,
        [
            "/fifo: only in the first",
            "/link: target dir/below and elsewhere",
            "/new: only in the second",
            "/dir/below/deep: content from byte 9999",
        ]
    );
    assert!(differ.text().contains("/dir/empty: time 20"), "{differ:?}");
    assert!(
        differ
            .text()
            .contains(" and 1970-01-01 00:00:01.000000005\n"),
        "{differ:?}"
    );
    let quiet = run(&fixture.with("diff", &[source.to_str().unwrap(), "-q"]));
    assert_eq!((quiet.status, quiet.text()), (1, ""));
    // Image against image, the other way round.
    let other = fixture.directory.path().join("other");
    image_of(&source, &other).unwrap();
    let run = run(&[
        "diff".as_ref(),
        other.as_os_str(),
        fixture.image.as_os_str(),
        "--ignore=time".as_ref(),
    ]);
    assert_eq!(run.status, 1);
    assert!(
        run.text().contains("/fifo: only in the second\n"),
        "{run:?}"
    );
    // The two names that were one file.
    let links = "hard links to other files";
    let source_first = [&[
        "diff".as_ref(),
        source.as_os_str(),
        fixture.image.as_os_str(),
    ][..]]
    .concat();
    let run = support::run(&source_first);
    assert!(
        run.text().contains(&format!("/dir/other name: {links}\n")),
        "{run:?}"
    );
    fail(
        &["diff".as_ref(), source.as_os_str(), source.as_os_str()],
        2,
    );
    fail(
        &["diff".as_ref(), source.as_os_str(), "/missing".as_ref()],
        2,
    );
}
