// SPDX-License-Identifier: GPL-2.0-only

//! A kernel without CONFIG_DAXFS_FS_VERIFICATION proves nothing, and refuses to mount if it must.

use crate::image::{
    Image,
    Memory,
    Superblock, //
};
use crate::linux::fs::{
    refusal,
    Refusal, //
};
use crate::linux::Errno;
use crate::signature::{
    self,
    Keyring, //
};
use kernel::{
    prelude::*,
    seq_file::SeqFile, //
};

/// True if a signature is demanded.
#[derive(Clone, Copy, Default)]
pub(crate) struct Proof(bool);

pub(crate) enum Pieces {}

impl Pieces {
    pub(crate) fn new(_image: &Image<'_, impl Memory>) -> Result<Self, Refusal> {
        Err(refusal!(
            Errno::NotSupported,
            "packs need a daxfs with CONFIG_DAXFS_FS_VERIFICATION"
        ))
    }

    pub(crate) fn count(&self) -> (usize, usize) {
        match *self {}
    }
}

pub(crate) struct Lanes;

impl Lanes {
    pub(crate) fn new() -> Result<Self> {
        Ok(Lanes)
    }
}

pub(crate) fn parse_digest(_text: &[u8]) -> Option<[u8; 32]> {
    None
}

impl Proof {
    pub(crate) fn parse(&mut self, _key: &[u8], _text: &[u8]) -> Result<(), &'static str> {
        Err("nothing")
    }

    pub(crate) fn demanding(&self, always: bool) -> Self {
        Proof(always)
    }

    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        Ok(())
    }

    pub(crate) fn check_signature(
        &self,
        image: &Image<'_, impl Memory>,
        keyring: &Keyring,
    ) -> Result<(), Refusal> {
        if self.0 {
            signature::verify(image, keyring)?;
        }
        Ok(())
    }

    pub(crate) fn has_digest(&self) -> bool {
        self.0
    }

    pub(crate) fn prove(&self, _image: &Image<'_, impl Memory>) -> Result<(), Refusal> {
        Ok(())
    }

    pub(crate) fn pieces(
        &self,
        _image: &Image<'_, impl Memory>,
    ) -> Result<Option<Pieces>, Refusal> {
        Ok(None)
    }

    pub(crate) fn remounted(
        &self,
        _first: &Proof,
        _pieces: Option<&Pieces>,
        _superblock: &Superblock,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    pub(crate) fn again(
        &self,
        _first: &Proof,
        _pieces: Option<&Pieces>,
        _image: &Image<'_, impl Memory>,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    pub(crate) fn show(&self, _seq: &SeqFile, _superblock: &Superblock, _is_lazy: bool) {}
}
