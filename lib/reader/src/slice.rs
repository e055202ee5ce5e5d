// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Images in byte slices.

use crate::hash::name_hash;
use crate::image::{Error, Memory, Problem, Result};

impl Memory for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(into.len())?))
            .ok_or(Error::new(Problem::Unreadable, offset, into.len() as u64))?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc, bytes)
    }

    fn name_hash(name: &[u8]) -> u32 {
        name_hash(name)
    }
}

/// Defines the hashes of an implementation of [`Memory`], which are the same for any memory.
#[macro_export]
macro_rules! hashes {
    () => {
        fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
            <&[u8] as $crate::Memory>::crc32c(crc, bytes)
        }

        fn name_hash(name: &[u8]) -> u32 {
            <&[u8] as $crate::Memory>::name_hash(name)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_within_the_slice() {
        let memory: &[u8] = &[1, 2, 3, 4];
        let mut into = [0; 2];
        assert_eq!(memory.read(2, &mut into), Ok(()));
        assert_eq!(into, [3, 4]);
        for offset in [3, 4, u64::MAX] {
            let error = memory.read(offset, &mut into).unwrap_err();
            assert_eq!(error, Error::new(Problem::Unreadable, offset, 2));
        }
    }

    #[test]
    fn crc32c_is_castagnoli() {
        // The check value of the catalog of CRC algorithms.
        let crc32c = <&[u8] as Memory>::crc32c;
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
    }
}
