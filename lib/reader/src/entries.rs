// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The entries of a directory, one at a time. The kernel passes them to a function instead.

use crate::image::{Directory, Dirent, Image, Memory, Result};
use std::collections::VecDeque;

impl<'a, M: Memory> Image<'a, M> {
    /// Returns the entries of `directory`, starting with entry `start`.
    pub fn entries(&self, directory: &Directory, start: u32) -> Entries<'a, M> {
        Entries {
            image: Image::new(self.memory(), self.superblock()),
            directory: *directory,
            position: start,
            loaded: VecDeque::new(),
            taken: Vec::new(),
        }
    }
}

/// The entries of a directory, one at a time.
pub struct Entries<'a, M> {
    image: Image<'a, M>,
    directory: Directory,
    /// Number of the next entry to load.
    position: u32,
    loaded: VecDeque<Result<(Dirent, Vec<u8>)>>,
    /// The name returned last.
    taken: Vec<u8>,
}

impl<M: Memory> Entries<'_, M> {
    /// Number of entries to load at a time.
    const PART: usize = 256;

    /// Returns the next entry and its name, or `None` after the last one. Each call advances, even
    /// if it fails.
    #[allow(clippy::should_implement_trait)] // The name borrows from this.
    pub fn next(&mut self) -> Option<Result<(Dirent, &[u8])>> {
        if self.loaded.is_empty() {
            self.load();
        }
        Some(self.loaded.pop_front()?.map(|(entry, name)| {
            self.taken = name;
            (entry, self.taken.as_slice())
        }))
    }

    /// Loads entries up to the first invalid one.
    fn load(&mut self) {
        let listing = self.image.list(&self.directory, self.position);
        let loaded = &mut self.loaded;
        let result = listing.each(
            |error| error,
            || Ok(()),
            |entry, name| {
                loaded.push_back(Ok((entry, name.to_vec())));
                Ok(loaded.len() < Self::PART)
            },
        );
        loaded.extend(result.err().map(Err));
        self.position = self.position.saturating_add(loaded.len() as u32);
    }
}
