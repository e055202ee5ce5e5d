// SPDX-License-Identifier: GPL-2.0-only

//! Generates the messages and services from containerd's own descriptions in `proto`, without
//! protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let services = ["snapshots", "diff"].map(|name| {
        format!("github.com/containerd/containerd/api/services/{name}/v1/{name}.proto")
    });
    let files = protox::compile(services, ["proto"])?;
    let mut config = tonic_prost_build::Config::new();
    // The comments contain examples that are not Rust.
    config.disable_comments(["."]).include_file("api.rs");
    tonic_prost_build::configure().compile_fds_with_config(files, config)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
