// SPDX-License-Identifier: GPL-2.0-only

//! A containerd snapshotter: container layers as daxfs images in memory.
//!
//! containerd asks a snapshotter to *prepare* an empty directory, unpacks a layer of a container
//! image into it, and *commits* it. Then it prepares the next layer on top, and finally a snapshot
//! for each container. After a commit, this snapshotter adds an image to a store (store.rst), loads
//! it into memory and mounts it. For a container, overlayfs stacks a writable directory on top.
//!
//! * [`api`]: messages and services of the protocol; [`service`], [`server`]: the services
//! * [`snapshotter`]: implementation of the calls
//! * [`snapshots`], [`record`]: snapshots and their rules, on disk
//! * [`files`]: the files of a snapshot; [`tree`]: walks directories that others write to
//! * [`images`]: the store of images; [`loader`]: loads and mounts images, if there is [`room`]
//! * [`idmap`]: containers' user namespaces
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
