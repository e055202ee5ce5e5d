// SPDX-License-Identifier: GPL-2.0-only

//! A containerd snapshotter: the layers of containers as daxfs images in memory.
//!
//! containerd asks a snapshotter to *prepare* an empty directory, unpacks a layer of a container image
//! into it, and *commits* it. Then it prepares the next layer on top of that, and at last a snapshot
//! for each container. Here a commit makes a daxfs image of the directory, loads it into memory and
//! mounts it; overlayfs stacks the images, and a directory for a container's writes.
//!
//! * [`api`]: messages and service of the protocol; [`service`], [`server`]: the service
//! * [`snapshotter`]: implementation of the calls
//! * [`store`], [`record`]: snapshots and the rules for them, on disk
//! * [`files`]: the files of a snapshot; [`tree`]: walks directories that others write to
//! * [`layer`]: makes images; [`ready`]: takes those that others made; [`memory`]: loads and mounts them, into
//!   memory of the machine ([`room`]) or on a device ([`device`]), which both are a [`place`]
//! * [`filter`]: containerd's filters
//! * [`config`], [`options`]: configuration file and command line

pub mod api;
pub mod config;
pub mod device;
pub mod error;
pub mod files;
pub mod filter;
pub mod layer;
pub mod memory;
pub mod options;
pub mod place;
pub mod ready;
pub mod record;
pub mod room;
pub mod server;
pub mod service;
pub mod snapshotter;
pub mod store;
pub mod tree;
