// SPDX-License-Identifier: GPL-2.0-only

//! Reads and faults of memory whose pieces are verified before their first use.

use crate::backing::Backing;
use crate::inode::{
    failed,
    refuse, //
};
use crate::linux;
use crate::memory::Gate;
use crate::mount::{
    DaxFs,
    Home, //
};
use crate::prelude::*;
use crate::usage::Event;

/// How many bad pieces of an image or a pack to log individually.
const BAD_LOGGED: usize = 16;

impl Home<'_> {
    /// Verifies the piece that contains the byte at `offset`, unless already verified. Returns how
    /// many of `length` bytes are in it; 0 if it is not verified yet and `wait` is not set.
    ///
    /// Errors: [`Problem::Piece`] if the piece does not match its SHA-256, [`Problem::Unreadable`].
    /// Known errors are returned without waiting.
    #[cold]
    pub(crate) fn usable(&self, offset: u64, length: u64, wait: bool) -> image::Result<u64> {
        let Backing {
            region,
            superblock,
            pieces,
        } = self.backing;
        let Some(pieces) = pieces else {
            return Ok(length);
        };
        let index = offset / layout::DIGEST_PIECE;
        let usable = length.min(layout::DIGEST_PIECE - offset % layout::DIGEST_PIECE);
        if pieces.are_verified(offset, usable) {
            return Ok(usable);
        }
        // The result is known, so don't read the whole piece again.
        let piece = layout::piece(index, superblock.total_size);
        let size = piece.end - piece.start;
        let access = region.access();
        if !access.is_ok_and(|access| access.readable(piece.start, size) == size) {
            return Err(image::Error::new(Problem::Unreadable, piece.start, 0));
        }
        pieces.refused(index)?;
        if !wait {
            return Ok(0);
        }
        let image = Image::new(region, superblock);
        let of_user = self.sb.data().of_user.as_ref();
        let lanes = of_user.unwrap_or(&self.sb.shared().lanes);
        pieces.verify(&image, index, lanes, |bad| self.compared(index, bad))?;
        Ok(usable)
    }

    /// Counts a piece that was compared with its SHA-256, and logs it if it is number `bad` of the
    /// bad ones. Other errors cannot suppress that line, and only the first are logged: an ordinary
    /// user chooses the reads.
    fn compared(&self, index: u64, bad: usize) {
        let usage = &self.sb.data().usage;
        if bad == 0 {
            return usage.count(Event::VerifiedPiece);
        }
        usage.count(Event::BadPiece);
        if self.sb.data().of_user.is_some() {
            return;
        }
        if bad <= BAD_LOGGED {
            let Range { start, end } = layout::piece(index, self.backing.superblock.total_size);
            pr_err!("{self}: the piece from {start} to {end} does not match its SHA-256\n");
        }
        if bad == BAD_LOGGED {
            pr_err!("{self}: further pieces that do not match are not logged\n");
        }
    }
}

/// Page faults map only verified pieces.
impl Gate for Home<'_> {
    #[cold]
    fn open(&self, offset: u64, length: u64) -> image::Result<()> {
        let mut done = 0;
        while done < length {
            done += self.usable(offset + done, length - done, true)?;
        }
        Ok(())
    }

    #[inline]
    fn is_open(&self, offset: u64, length: u64) -> bool {
        match &self.backing.pieces {
            None => true,
            Some(pieces) => pieces.are_verified(offset, length),
        }
    }
}

/// Reads `length` bytes of `file`, at `offset` of `home`. Verifies pieces before use; `wait` is as
/// for [`FileOperations::read_iter`].
pub(crate) fn read_pieces(
    file: &INode<DaxFs>,
    home: Home<'_>,
    (offset, length): (u64, usize),
    to: &mut IovIterDest<'_>,
    wait: bool,
) -> Result<usize> {
    let mut done = 0;
    let result = loop {
        let (at, mut part) = (offset + done as u64, length - done);
        if !home.is_open(at, part as u64) {
            // A signal that kills the process ends this.
            if done > 0 && linux::fatal_signal_pending() {
                break Err(EINTR);
            }
            part = match home.usable(at, part as u64, wait) {
                Ok(0) => break Err(EAGAIN),
                Ok(part) => part as usize,
                Err(error) => break Err(refuse(file, error)),
            };
        }
        match home.backing.region.copy_to(at, part, to) {
            Ok(copied) => {
                done += copied;
                if copied < part || done == length {
                    break Ok(());
                }
            }
            Err(error) => break Err(failed(file, at, error)),
        }
    };
    if done == 0 {
        result?;
    }
    Ok(done)
}
