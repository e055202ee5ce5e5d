// SPDX-License-Identifier: GPL-2.0-only

//! `daxfs`, which is also `mount.daxfs` and `fsck.daxfs` when it is called so.

fn main() -> std::process::ExitCode {
    daxfs::main()
}
