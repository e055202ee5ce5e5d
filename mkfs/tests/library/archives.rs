// SPDX-License-Identifier: GPL-2.0-only

//! Archives and container images from any bytes, including those found by the fuzz target.

use daxfs_testing::feed::feed;
use daxfs_testing::scratch;
use proptest::prelude::*;

/// Tests each kind of member, alone and after every other kind.
#[test]
fn members() {
    let directory = scratch();
    for mode in [0, 2, 5, 6] {
        let texts: &[u8] = match mode {
            5.. => &[0, 0],
            _ => &[],
        };
        let all: Vec<u8> = (0..28).flat_map(|member| [member, 0]).collect();
        feed(&[&[mode], texts, &all].concat(), directory.path());
        for (first, second) in (0..28).flat_map(|first| (0..28).map(move |second| (first, second)))
        {
            feed(
                &[&[mode], texts, &[first, 0, second, 0]].concat(),
                directory.path(),
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn anything(input: Vec<u8>) {
        let directory = scratch();
        feed(&input, directory.path());
    }
}
