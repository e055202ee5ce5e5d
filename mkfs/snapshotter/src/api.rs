// SPDX-License-Identifier: GPL-2.0-only

//! The protocol: messages of `containerd.services.snapshots.v1` and `containerd.types`, as
//! api/services/snapshots/v1/snapshots.proto and api/types/mount.proto of containerd number their
//! fields. Messages with the same fields share a type; their names are not part of the encoding.

use prost_types::{FieldMask, Timestamp};
use std::collections::HashMap;

/// Labels of a snapshot.
pub type Labels = HashMap<String, String>;

/// Request of `Prepare` and `View`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PrepareSnapshotRequest {
    /// Name of the snapshotter.
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    /// Name of the new snapshot.
    #[prost(string, tag = "2")]
    pub key: String,
    /// Name of the committed snapshot below it; empty if there is none.
    #[prost(string, tag = "3")]
    pub parent: String,
    /// Labels of the new snapshot.
    #[prost(map = "string, string", tag = "4")]
    pub labels: Labels,
}

/// Answer of `Prepare`, `View` and `Mounts`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MountsResponse {
    /// The mounts that make the snapshot, in their order.
    #[prost(message, repeated, tag = "1")]
    pub mounts: Vec<Mount>,
}

/// A mount.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mount {
    /// Type of the filesystem, or `bind`.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// What is mounted.
    #[prost(string, tag = "2")]
    pub source: String,
    /// A path below the place where the snapshot is mounted; empty here.
    #[prost(string, tag = "3")]
    pub target: String,
    /// Options, as of mount(8).
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// Request of `Mounts`, `Remove`, `Stat` and `Usage`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyRequest {
    /// Name of the snapshotter.
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    /// Name of the snapshot.
    #[prost(string, tag = "2")]
    pub key: String,
}

/// Request of `Commit`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CommitSnapshotRequest {
    /// Name of the snapshotter.
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    /// Name of the committed snapshot.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Name of the active snapshot, which ends.
    #[prost(string, tag = "3")]
    pub key: String,
    /// Labels of the committed snapshot.
    #[prost(map = "string, string", tag = "4")]
    pub labels: Labels,
}

/// Kind of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Never sent by this program.
    Unknown = 0,
    /// A read-only view of a committed snapshot.
    View = 1,
    /// A snapshot that can be written to.
    Active = 2,
    /// A layer: it cannot change, and other snapshots can be on top of it.
    Committed = 3,
}

/// Facts about a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Info {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Name of the snapshot below it; empty if there is none.
    #[prost(string, tag = "2")]
    pub parent: String,
    /// Its kind.
    #[prost(enumeration = "Kind", tag = "3")]
    pub kind: i32,
    /// When it was prepared, or committed.
    #[prost(message, optional, tag = "4")]
    pub created_at: Option<Timestamp>,
    /// When its labels changed last.
    #[prost(message, optional, tag = "5")]
    pub updated_at: Option<Timestamp>,
    /// Its labels.
    #[prost(map = "string, string", tag = "6")]
    pub labels: Labels,
}

/// Answer of `Stat` and `Update`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoResponse {
    /// The snapshot.
    #[prost(message, optional, tag = "1")]
    pub info: Option<Info>,
}

/// Request of `Update`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateSnapshotRequest {
    /// Name of the snapshotter.
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    /// The name of the snapshot, and the new labels.
    #[prost(message, optional, tag = "2")]
    pub info: Option<Info>,
    /// The fields to update; all that can be if it is empty.
    #[prost(message, optional, tag = "3")]
    pub update_mask: Option<FieldMask>,
}

/// Request of `List`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListSnapshotsRequest {
    /// Name of the snapshotter.
    #[prost(string, tag = "1")]
    pub snapshotter: String,
    /// Filters, of which one must match; all match if there is none.
    #[prost(string, repeated, tag = "2")]
    pub filters: Vec<String>,
}

/// Part of the answer of `List`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListSnapshotsResponse {
    /// Some of the snapshots.
    #[prost(message, repeated, tag = "1")]
    pub info: Vec<Info>,
}

/// Answer of `Usage`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UsageResponse {
    /// Bytes.
    #[prost(int64, tag = "1")]
    pub size: i64,
    /// Number of inodes.
    #[prost(int64, tag = "2")]
    pub inodes: i64,
}

/// Request of `Cleanup`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CleanupRequest {
    /// Name of the snapshotter.
    #[prost(string, tag = "1")]
    pub snapshotter: String,
}

/// `google.protobuf.Empty`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

include!(concat!(
    env!("OUT_DIR"),
    "/containerd.services.snapshots.v1.Snapshots.rs"
));
