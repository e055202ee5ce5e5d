// SPDX-License-Identifier: GPL-2.0-only

//! A containerd snapshotter: the layers of containers as daxfs images in memory.
//!
//! containerd asks a snapshotter to *prepare* an empty directory, unpacks a layer of a container image
//! into it, and *commits* it. Then it prepares the next layer on top of that, and at last a snapshot
//! for each container. Here a commit is followed by an image in a store (store.rst), which is loaded
//! into memory and mounted; overlayfs puts a directory for a container's writes on top of it.
//!
//! * [`api`]: messages and service of the protocol; [`service`], [`server`]: the service
//! * [`snapshotter`]: implementation of the calls
//! * [`snapshots`], [`record`]: snapshots and the rules for them, on disk
//! * [`files`]: the files of a snapshot; [`tree`]: walks directories that others write to
//! * [`images`]: the store of images; [`loader`]: loads and mounts images, if there is [`room`]
//! * [`idmap`]: user namespaces of containers
//! * [`config`], [`options`]: configuration file and command line

pub mod api;
pub mod config;
pub mod error;
pub mod files;
pub mod idmap;
pub mod images;
pub mod loader;
pub mod options;
pub mod record;
pub mod room;
pub mod server;
pub mod service;
pub mod snapshots;
pub mod snapshotter;
pub mod tree;
