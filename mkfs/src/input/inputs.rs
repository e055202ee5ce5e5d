// SPDX-License-Identifier: GPL-2.0-only

//! The inputs of trees, and how to read them.

use crate::input::blob::Raw;
use crate::input::budget::Budget;
use crate::input::options::Options;
use crate::input::scan::scan_into;
use crate::input::{archive, image, marks, oci, stream};
use crate::writer::build::Builder;
use crate::writer::tree::Tree;
use daxfs_files::{shown_path, Error, Result};
use daxfs_reader::layout::MAGIC;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A source of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A directory, a daxfs image or a tar archive, recognized by its content; `-` is standard
    /// input.
    Any(PathBuf),
    /// A directory.
    Directory(PathBuf),
    /// A tar archive, compressed or not.
    Tar(PathBuf),
    /// A daxfs image.
    Image(PathBuf),
    /// A daxfs image with its pack files in any order; no argument selects this. The origins of the
    /// packs follow the image's, in this order.
    Composed(PathBuf, Vec<PathBuf>),
    /// A container image or an artifact of files, in an OCI layout or an archive of one: the path,
    /// and after a colon the image's name if there are several.
    Oci(PathBuf),
}

impl Input {
    /// Parses an argument: a path, optionally preceded by a kind and a colon.
    pub fn parse(text: &OsStr) -> Self {
        type Kind = fn(PathBuf) -> Input;
        let kinds: [(&[u8], Kind); 4] = [
            (b"dir:", Input::Directory),
            (b"tar:", Input::Tar),
            (b"image:", Input::Image),
            (b"oci:", Input::Oci),
        ];
        for (prefix, kind) in kinds {
            if let Some(path) = text.as_bytes().strip_prefix(prefix) {
                return kind(OsStr::from_bytes(path).into());
            }
        }
        Input::Any(text.into())
    }

    /// Returns the file or directory to read, without the name of a container image.
    pub fn file(&self) -> &Path {
        match self {
            Input::Oci(path) => oci::reference(path).0,
            Input::Any(path)
            | Input::Directory(path)
            | Input::Tar(path)
            | Input::Image(path)
            | Input::Composed(path, _) => path,
        }
    }
}

/// Reads `inputs`, each on top of the previous ones: directories are merged, other files replaced.
pub fn read(inputs: &[Input], options: &Options<'_>) -> Result<Tree> {
    let mut reader = Inputs {
        builder: Builder::new(),
        options,
    };
    for input in inputs {
        reader.input(input)?;
    }
    let mut builder = reader.builder;
    builder.replaced.lines().for_each(options.warn);
    if let Some(exclude) = options.exclude {
        builder.prune(|path, directory| exclude.matches(path, directory));
    }
    Ok(builder.finish())
}

/// Returns the remedy for an input that other programs read: a URL, or an image name for skopeo.
fn elsewhere(path: &Path) -> Option<String> {
    let name = shown_path(path);
    let others = [
        "docker:",
        "docker-archive:",
        "docker-daemon:",
        "containers-storage:",
        "oci-archive:",
        "ostree:",
        "sif:",
    ];
    if ["http://", "https://", "ftp://"]
        .iter()
        .any(|start| name.starts_with(start))
    {
        return Some(format!(
            "is a URL; pipe it: curl -L {name} | mkdaxfs - IMAGE"
        ));
    }
    let is_other = others.iter().any(|start| name.starts_with(start));
    is_other.then(|| {
        format!("is not an OCI image layout; make one: skopeo copy {name} oci:DIRECTORY:NAME")
    })
}

struct Inputs<'a> {
    builder: Builder,
    options: &'a Options<'a>,
}

impl Inputs<'_> {
    fn input(&mut self, input: &Input) -> Result<()> {
        match input {
            Input::Any(path) if path.is_dir() => {
                marks::refuse_directory(path)?;
                self.directory(path)
            }
            Input::Directory(path) => self.directory(path),
            Input::Any(path) => {
                if let Some(why) = elsewhere(path).filter(|_| !path.exists()) {
                    return Err(Error::refused(path, why));
                }
                // A pipe may be slow.
                self.options.progress.step("reading", 0);
                let raw = Raw::open(path)?;
                if raw.begins_with(&MAGIC)? {
                    self.image(raw, &[])
                } else {
                    self.tar(&raw, false)
                }
            }
            Input::Tar(path) => self.tar(&Raw::open(path)?, true),
            Input::Image(path) => self.image(Raw::open(path)?, &[]),
            Input::Composed(path, packs) => self.image(Raw::open(path)?, packs),
            Input::Oci(path) => {
                let image = oci::OciImage::find(path, self.options)?;
                let layers = image.layers(self.options.progress)?;
                oci::flatten(&mut self.builder, layers, self.options)
            }
        }
    }

    fn directory(&mut self, path: &Path) -> Result<()> {
        let remedy =
            "let tar read them: tar --format=posix --xattrs -C DIRECTORY -c . | mkdaxfs - IMAGE";
        crate::input::fakeroot::check(path, remedy)?;
        self.options.progress.step("scanning", 0);
        scan_into(&mut self.builder, path, self.options)
    }

    fn tar(&mut self, raw: &Raw, named: bool) -> Result<()> {
        self.options.progress.step("reading", raw.size());
        let stream = stream::Stream::new(raw, self.options)?;
        let rules = archive::Rules {
            named,
            budget: &Budget::default(),
            first: None,
            within: &[],
        };
        archive::read(&mut self.builder, stream, &rules, self.options)
    }

    fn image(&mut self, raw: Raw, packs: &[PathBuf]) -> Result<()> {
        self.options.progress.step("reading", 0);
        let blob = raw.into_blob(self.options.scratch)?;
        image::read(&mut self.builder, &blob, packs)
    }
}
