// SPDX-License-Identifier: GPL-2.0-only

//! Common parts of the command lines of `mkdaxfs` and `daxfs`.
//!
//! * [`bar`]: the progress bar on a terminal
//! * `notify`: tell systemd that a service is ready
//! * [`signals`]: clean up before a signal ends the program
//! * [`stdout`]: standard output that may be a closed pipe or a full disk
//! * [`values`]: values of options: labels, sizes, times
//! * `usage`: wrong command lines, and requests for help
//!
//! Values of options are parsed to typed values, and errors name the accepted forms:
//!
//! ```
//! use daxfs_command::values;
//!
//! assert_eq!(values::size("2M")?, 2 << 20);
//! assert!(values::block_size("1000").is_err());
//! # Ok::<(), &str>(())
//! ```

pub mod bar;
mod notify;
pub mod signals;
pub mod stdout;
mod usage;
pub mod values;

pub use notify::notify;
pub use usage::usage;
