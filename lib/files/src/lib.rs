// SPDX-License-Identifier: GPL-2.0-only

//! Files and devices, as all daxfs tools use them.
//!
//! * [`memory`]: memory with holes, as [`daxfs_reader`] reads it; [`region`]:
//!   images in files and devices; [`digest`](mod@digest): their SHA-256
//! * [`Output`]: a file, a device or standard output. Nothing unfinished appears under its name.
//!   [`Overwrite`] decides which files it may replace, [`device`] writes to devices, and
//!   [`replace`] keeps the access rights of a file that is replaced.
//! * [`Error`]: one line, with the file, the operation and the remedy
//! * [`Progress`] and [`bar`]: progress reports, and the bar that shows them on a terminal
//! * [`spool`](mod@spool): nameless temporary files, and copies of pipes in them
//! * [`signals`]: cleanup before a signal ends the program; `notify`: reports to systemd that a
//!   service is ready
//! * [`stdout`]: standard output that may be a closed pipe or a full disk; `usage`: wrong command
//!   lines, and requests for help; [`values`]: values of options
//!
//! ```
//! use daxfs_files::values;
//!
//! assert_eq!(values::size("2M")?, 2 << 20);
//! assert!(values::block_size("1000").is_err());
//! # Ok::<(), &str>(())
//! ```

pub mod bar;
mod descriptor;
pub mod device;
pub mod digest;
mod error;
mod identity;
mod losses;
mod mapping;
pub mod memory;
mod notify;
mod output;
mod overwrite;
mod progress;
pub mod region;
pub mod replace;
mod room;
pub mod signals;
pub mod spool;
pub mod stdout;
mod usage;
pub mod values;

pub use error::{cause, remedy, shown, shown_path, Error, Reason, Result};
pub use identity::{identity, mtime, Identity, Seen};
pub use losses::Losses;
pub use mapping::Mapping;
pub use notify::notify;
pub use output::{scratch, Output};
pub use overwrite::{decompress_first, decompressor, occupant, Overwrite, HEAD};
pub use progress::{Progress, Silent};
pub use replace::{parent_of, plain};
pub use room::make_room;
pub use usage::usage;
