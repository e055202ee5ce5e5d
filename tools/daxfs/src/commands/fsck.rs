// SPDX-License-Identifier: GPL-2.0-only

//! `fsck`: check an image against every rule of the format, and its bytes against its SHA-256.

use clap::{ArgAction, Args, Parser};
use daxfs_check::{check_with_packs, Finding, Paths};
use daxfs_files::bar::Bar;
use daxfs_files::digest::{combine, hex, sums, wrong_sum};
use daxfs_files::memory::Storage;
use daxfs_files::region::Region;
use daxfs_files::{eprintln, Progress};
use daxfs_image::attach;
use daxfs_image::error::Error;
use daxfs_image::packs::{check_used, PackFiles};
use daxfs_image::source::{self, superblock, At, Opened};
use daxfs_image::text::shown;
use daxfs_reader::{Error as ImageError, Image, Problem, Superblock};
use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;

/// Exit status: errors were found and remain.
pub const UNCORRECTED: u8 = 4;
/// Exit status: the check itself failed.
pub const OPERATIONAL: u8 = 8;
/// Exit status: wrong usage.
pub const USAGE: u8 = 16;

const EXIT: &str = "\
Exit status:
  0 clean, 4 errors found, 8 the check itself failed, 16 wrong usage, or a sum of these.";

/// Check images against every rule of the format
///
/// Checks the structure, all checksums, and the SHA-256 of the whole image and of its packs. Images
/// cannot be repaired: restore a damaged image from a copy, or make it again.
#[derive(Args)]
#[command(after_help = format!("{EXIT}\n\nExamples:\n  daxfs fsck base.img /dev/pmem0"))]
pub struct Fsck {
    /// The images
    #[arg(required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    packs: PackFiles,
    /// Print nothing about clean images
    #[arg(short, long)]
    quiet: bool,
}

impl Fsck {
    pub fn run(self) -> ExitCode {
        ExitCode::from(fsck(&self.images, &self.at, &self.packs, self.quiet))
    }
}

/// Check daxfs images; called by fsck(8)
///
/// The same as daxfs fsck. Images are never repaired, so options for repairs are ignored.
#[derive(Parser)]
#[command(name = "fsck.daxfs", disable_version_flag = true)]
#[command(after_help = format!("{EXIT}\n\nExamples:\n  fsck -t daxfs /dev/pmem0"))]
pub struct Helper {
    /// The images or devices
    #[arg(required_unless_present = "version")]
    images: Vec<PathBuf>,
    /// Ignored, like -p, -n, -y, -r, -f and -v: images are checked, never repaired
    #[arg(short = 'a', short_aliases = ['p', 'n', 'y', 'r', 'f', 'v'], action = ArgAction::Count)]
    ignored: u8,
    /// Print the version
    #[arg(short = 'V', long)]
    version: bool,
}

impl Helper {
    pub fn run(self) -> ExitCode {
        let mut status = 0;
        if self.version {
            status |= say(concat!("fsck.daxfs ", env!("CARGO_PKG_VERSION")));
        }
        ExitCode::from(status | fsck(&self.images, &At::default(), &PackFiles::default(), false))
    }
}

/// Checks the images at `at` in each of `paths`, and returns fsck's exit status.
fn fsck(paths: &[PathBuf], at: &At, packs: &PackFiles, quiet: bool) -> u8 {
    let mut packs = match packs.open() {
        Ok(given) => Packs {
            given,
            checked: HashMap::new(),
        },
        Err(why) => return failed(&why),
    };
    let mut status = 0;
    for path in paths {
        status |= one(path, at, &mut packs, quiet);
    }
    let names: Vec<_> = paths.iter().map(|path| at.name_in(path)).collect();
    let is_used = |sha256: &[u8; 32]| packs.checked.contains_key(sha256);
    if let (0, Err(why)) = (status, check_used(&packs.given, is_used, &names)) {
        status |= failed(&why);
    }
    status
}

struct Packs {
    /// Packs that the user named.
    given: Vec<Arc<Opened>>,
    /// The exit status for each pack checked so far, by SHA-256.
    checked: HashMap<[u8; 32], u8>,
}

impl Packs {
    /// Checks each pack of `image`. Returns the exit status, and the number of bad packs.
    fn check(&mut self, image: &Opened) -> (u8, usize) {
        let (mut status, mut bad) = (0, 0);
        for pack in &image.packs {
            let found = match pack {
                Ok(None) => 0,
                Ok(Some(pack)) => *self
                    .checked
                    .entry(pack.superblock.sha256)
                    .or_insert_with(|| report(&pack.source, &[], 0, &pack.name, true)),
                Err(why) => bad_pack(why),
            };
            status |= found;
            bad += usize::from(found != 0);
        }
        (status, bad)
    }
}

/// Prints `why` a pack is damaged or unreadable. Returns the exit status.
fn bad_pack(why: &Error) -> u8 {
    eprintln!("{why}");
    match why {
        Error::System { .. } if !why.is_damage() => OPERATIONAL,
        _ => UNCORRECTED,
    }
}

/// Prints `why` the check itself failed. Returns the exit status.
fn failed(why: &Error) -> u8 {
    eprintln!("fsck.daxfs: {why}");
    OPERATIONAL
}

/// Checks the image at `at` in `path`, and its packs. Returns the exit status.
fn one(path: &Path, at: &At, packs: &mut Packs, quiet: bool) -> u8 {
    let name = at.name_in(path);
    let source = match source::open_at(path, at) {
        Ok(source) => source,
        Err(why) => return failed(&why),
    };
    // The kind of file is more helpful than an offset and a value.
    let superblock = match superblock(&source, &name) {
        Err(why @ Error::Foreign { .. }) => {
            eprintln!("fsck.daxfs: {why}");
            return UNCORRECTED;
        }
        Err(_) => return report(&source, &[], 0, &name, quiet),
        Ok(superblock) => superblock,
    };
    let mut image = Opened {
        source,
        superblock,
        name: name.clone(),
        packs: Vec::new(),
    };
    image.find_packs(path, at, &packs.given);
    let (status, bad) = packs.check(&image);
    let open = image.packs.iter().map(|pack| match pack {
        Ok(Some(pack)) => Some(pack.image()),
        _ => None,
    });
    status | report(&image.source, &open.collect::<Vec<_>>(), bad, &name, quiet)
}

/// Checks the image `name` in `source`, prints the findings, and returns the exit status. `bad` is
/// the number of its damaged or unreadable packs.
fn report(
    source: &Region,
    packs: &[Option<Image<'_, Region>>],
    bad: usize,
    name: &str,
    quiet: bool,
) -> u8 {
    let bar = Bar::of("checking", 0);
    let mut count = 0;
    let mut status = 0;
    let outcome = examine(source, packs, &bar, &mut |violation| {
        count += 1;
        status |= if violation.unreadable {
            OPERATIONAL
        } else {
            UNCORRECTED
        };
        bar.suspend(|| eprintln!("{name}: {violation}"));
    });
    drop(bar);
    if bad > 0 {
        let all = packs.len();
        eprintln!("{name}: {bad} of {all} packs damaged or unreadable; restore from copies");
    }
    match outcome {
        Some(superblock) if status == 0 => {
            if bad == 0 && !quiet {
                let (inodes, size) = (superblock.inode_count(), superblock.total_size);
                let missing = match packs.iter().filter(|pack| pack.is_none()).count() {
                    0 => String::new(),
                    missing => format!(", without {missing} of {} packs", packs.len()),
                };
                status |= say(&format!("{name}: clean, {inodes} inodes, {size} bytes{missing}"));
            }
        }
        _ => eprintln!(
            "{name}: {count} error{}, nothing was changed; restore the image from a copy, or make it again",
            if count == 1 { "" } else { "s" }
        ),
    }
    status
}

/// Prints `text` to standard output. Returns the exit status: 0, or that printing failed.
fn say(text: &str) -> u8 {
    match daxfs_files::stdout::say(text) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("fsck.daxfs: {error}");
            OPERATIONAL
        }
    }
}

/// A violation of a rule.
pub struct Violation<'a> {
    /// Path of the file, if known.
    pub path: Option<&'a [u8]>,
    /// Whether the image is unreadable there.
    pub unreadable: bool,
    /// The problem.
    pub text: String,
}

impl fmt::Display for Violation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.path {
            write!(f, "{}: ", shown(path))?;
        }
        f.write_str(&self.text)
    }
}

/// Checks the image in `source` against every rule, and its files against `packs`, in the order of
/// the table. Calls `report` for each violation. Returns the superblock if it is valid.
pub fn examine<S: Storage + Sync>(
    source: &S,
    packs: &[Option<Image<'_, S>>],
    progress: &dyn Progress,
    report: &mut (dyn FnMut(&Violation<'_>) + Send),
) -> Option<Superblock> {
    let superblock = Superblock::load(source).ok();
    let report = Mutex::new(report);
    let submit = |violation: &Violation<'_>| {
        if let Ok(mut report) = report.lock() {
            report(violation);
        }
    };
    // Problems with the bytes of the whole image.
    let whole = |text: String, unreadable| Violation {
        path: None,
        unreadable,
        text,
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            // Create this only for the first finding, since most images have none.
            let mut paths = None;
            check_with_packs(source, packs, &mut |finding| {
                let unreadable =
                    matches!(finding, Finding::Reader(error) if error.problem == Problem::Unreadable);
                let path = superblock.as_ref().and_then(|superblock| {
                    let image = Image::new(source, superblock);
                    let paths = paths.get_or_insert_with(|| Paths::new(&image));
                    paths.find(finding.offset())
                });
                submit(&Violation {
                    path: path.as_deref(),
                    unreadable,
                    text: finding.to_string(),
                });
                ControlFlow::Continue(())
            });
        });
        if let Some(superblock) = &superblock {
            progress.step("checking", superblock.total_size);
            let image = Image::new(source, superblock);
            let result = sums(&image, progress).and_then(|sums| {
                let digest = combine(sums.iter().copied());
                if digest != superblock.sha256 {
                    let (found, stored) = (hex(&digest), hex(&superblock.sha256));
                    let text = format!("SHA-256 is {found}, the superblock says {stored}");
                    submit(&whole(text, false));
                }
                let end = superblock
                    .sums()
                    .map_or(superblock.total_size, |table| table.end());
                if end > source.size() {
                    let error = ImageError::new(Problem::Truncated, superblock.total_size, end);
                    submit(&whole(error.to_string(), false));
                } else if let Some((index, stored)) = wrong_sum(&image, &sums)? {
                    let (found, stored) = (hex(&sums[index as usize]), hex(&stored));
                    let text =
                        format!("SHA-256 of piece {index} is {found}, the table says {stored}");
                    submit(&whole(text, false));
                }
                match attach::load(&image) {
                    Err(error) if error.problem == Problem::Signature => {
                        submit(&whole(error.to_string(), false));
                        Ok(())
                    }
                    result => result.map(|_| ()),
                }
            });
            if let Err(error) = result {
                submit(&whole(error.to_string(), true));
            }
        }
    });
    superblock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fsck_passes_what_it_likes() {
        let parse = |words: &[&str]| Helper::try_parse_from(words).unwrap();
        let args = parse(&["fsck.daxfs", "-apnyrfav", "/dev/pmem0", "/dev/pmem1"]);
        assert_eq!(args.images.len(), 2);
        assert!(parse(&["fsck.daxfs", "-V"]).version);
    }
}
