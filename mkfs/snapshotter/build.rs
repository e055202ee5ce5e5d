// SPDX-License-Identifier: GPL-2.0-only

//! Generates the server and the client of the gRPC service from the list of its calls. This needs no
//! protoc.

use tonic_build::manual::{Builder, Method, Service};

/// The calls: name in Rust, name in the protocol, request and answer.
const CALLS: &[(&str, &str, &str, &str)] = &[
    (
        "prepare",
        "Prepare",
        "PrepareSnapshotRequest",
        "MountsResponse",
    ),
    ("view", "View", "PrepareSnapshotRequest", "MountsResponse"),
    ("mounts", "Mounts", "KeyRequest", "MountsResponse"),
    ("commit", "Commit", "CommitSnapshotRequest", "Empty"),
    ("remove", "Remove", "KeyRequest", "Empty"),
    ("stat", "Stat", "KeyRequest", "InfoResponse"),
    ("update", "Update", "UpdateSnapshotRequest", "InfoResponse"),
    (
        "list",
        "List",
        "ListSnapshotsRequest",
        "ListSnapshotsResponse",
    ),
    ("usage", "Usage", "KeyRequest", "UsageResponse"),
    ("cleanup", "Cleanup", "CleanupRequest", "Empty"),
];

fn main() {
    let mut service = Service::builder()
        .name("Snapshots")
        .package("containerd.services.snapshots.v1")
        .comment("The service `containerd.services.snapshots.v1.Snapshots`.");
    for (name, route, request, answer) in CALLS {
        let mut method = Method::builder()
            .name(*name)
            .route_name(*route)
            .input_type(format!("crate::api::{request}"))
            .output_type(format!("crate::api::{answer}"))
            .codec_path("tonic_prost::ProstCodec");
        if *name == "list" {
            method = method.server_streaming();
        }
        service = service.method(method.build());
    }
    Builder::new().compile(&[service.build()]);
    println!("cargo::rerun-if-changed=build.rs");
}
