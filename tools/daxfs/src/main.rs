// SPDX-License-Identifier: GPL-2.0-only

//! `daxfs`, which is also `mount.daxfs` and `fsck.daxfs`, depending on the name it is called by.

fn main() -> std::process::ExitCode {
    daxfs::main()
}
