// SPDX-License-Identifier: GPL-2.0

//! What a mounted image is used for, in numbers: a directory in debugfs for each.

use crate::image::Superblock;
use crate::memory::{Files, Region};
use crate::vfs::Tally;
use kernel::{
    debugfs::{Dir, Scope},
    fmt,
    prelude::*,
    str::CString,
};

/// What is counted.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A read; its amount is that of bytes.
    Read,
    /// A fault that mapped a page, or some side by side.
    Fault,
    /// A fault that mapped 2 MiB.
    HugeFault,
    /// A fault that ended in a signal.
    FailedFault,
    /// A record that was not valid, or memory that could not be read.
    Error,
}

impl Event {
    /// Every event, in the order of their numbers, with what it is called.
    const ALL: [(Event, &'static str); 5] = [
        (Event::Read, "reads"),
        (Event::Fault, "faults"),
        (Event::HugeFault, "huge_faults"),
        (Event::FailedFault, "failed_faults"),
        (Event::Error, "errors"),
    ];
}

/// What one mounted image shows of itself.
pub(crate) struct Usage {
    source: CString,
    mapping: &'static str,
    size: u64,
    inodes: u64,
    tally: Tally<{ Event::ALL.len() }>,
}

impl Usage {
    /// The image in `region`, which was mounted from `source`; nothing has happened yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(source: &CStr, region: &Region, superblock: &Superblock) -> Result<Self> {
        Ok(Usage {
            source: CString::try_from_fmt(fmt!("{}", source))?,
            mapping: match region.files() {
                Files::Dax(_) => "dax",
                Files::Pages => "pages",
                Files::Frames { io: false, .. } => "frames",
                Files::Frames { io: true, .. } => "io",
            },
            size: superblock.total_size,
            inodes: superblock.inode_count(),
            tally: Tally::new()?,
        })
    }

    /// Counts an event of this amount, which matters for reads only.
    #[inline]
    pub(crate) fn count(&self, event: Event, amount: u64) {
        self.tally.add(event as usize, amount);
    }

    fn write_image(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("source {}\n", &*self.source))?;
        writeln!(f, "mapping {}", self.mapping)?;
        writeln!(f, "size {}", self.size)?;
        writeln!(f, "inodes {}", self.inodes)
    }

    fn write_counters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (event, name) in Event::ALL {
            let (count, amount) = self.tally.sum(event as usize);
            writeln!(f, "{} {}", name, count)?;
            if matches!(event, Event::Read) {
                writeln!(f, "read_bytes {}", amount)?;
            }
        }
        Ok(())
    }

    /// Shows it in a directory `name` below `parent`, as long as the scope lives.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn show(self, parent: &Dir, name: &CStr) -> Result<Pin<KBox<Scope<Self>>>> {
        let scope = parent.scope(self, name, |usage, dir| {
            dir.read_callback_file(c"image", usage, &Self::write_image);
            dir.read_callback_file(c"counters", usage, &Self::write_counters);
        });
        KBox::pin_init(scope, GFP_KERNEL)
    }
}
