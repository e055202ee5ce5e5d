// SPDX-License-Identifier: GPL-2.0-only

//! `top`: shows counters of all mounted images, from sysfs.

mod show;

use clap::Args;
use daxfs_files::stdout::{written, Out};
use daxfs_image::error::{Error, Result};
use daxfs_load::mountinfo::{self, mounts};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

/// Show how mounted images are used
///
/// Counters start at the mount. READS and BYTES count reads, FAULTS page faults that mapped
/// something, PMD those that mapped a huge page (2 MiB with pages of 4 KiB), SIGBUS failed faults,
/// and ERRORS errors in the image. --prometheus shows all counters in /sys/fs/daxfs (see daxfs(5)).
/// --packs shows the packs of each image: SHA-256, size, place in memory, and the numbers of good
/// and bad pieces of 2 MiB.
#[derive(Args)]
#[command(after_help = "\
Examples:
  watch -d daxfs top
  cd /var/lib/prometheus/node-exporter
  daxfs top --prometheus >daxfs.new && mv daxfs.new daxfs.prom")]
pub struct Top {
    /// Print the text format of Prometheus
    #[arg(long)]
    prometheus: bool,
    /// List the packs of each image, for root
    #[arg(long, conflicts_with = "prometheus")]
    packs: bool,
}

const SYSFS: &str = "/sys/fs/daxfs";

/// A counter of a mount.
pub struct Counter {
    /// Its file.
    pub name: &'static str,
    /// Its Prometheus metric, between `daxfs_` and `_total`. A metric's counters are adjacent.
    pub metric: &'static str,
    /// Label that distinguishes it within its metric, with a leading comma.
    pub label: &'static str,
}

const fn counter(name: &'static str, metric: &'static str, label: &'static str) -> Counter {
    Counter {
        name,
        metric,
        label,
    }
}

/// All counters.
pub const COUNTERS: [Counter; 11] = [
    counter("reads", "reads", ""),
    counter("read_bytes", "read_bytes", ""),
    counter("faults_pte", "faults", r#",size="pte""#),
    counter("faults_around", "faults", r#",size="around""#),
    counter("faults_pmd", "faults", r#",size="pmd""#),
    counter("faults_failed", "faults_failed", r#",reason="other""#),
    counter("faults_poisoned", "faults_failed", r#",reason="poisoned""#),
    counter("errors_io", "errors", r#",errno="EIO""#),
    counter("errors_corrupted", "errors", r#",errno="EUCLEAN""#),
    counter("pieces_verified", "pieces", r#",result="verified""#),
    counter("pieces_bad", "pieces", r#",result="bad""#),
];

/// A mounted image.
pub struct Mounted {
    /// Device number, `MAJOR:MINOR`.
    pub device: String,
    /// The source of the mount, empty if this process must not know it.
    pub source: OsString,
    /// Where this process sees it mounted.
    pub mount_points: Vec<PathBuf>,
    /// Bytes of the image.
    pub size: u64,
    /// Number of inodes.
    pub inodes: u64,
    /// The values of [`COUNTERS`], some of which the module may lack.
    pub counters: [Option<u64>; COUNTERS.len()],
    /// A line for each of its packs, empty if this process must not know them.
    pub packs: String,
}

/// Reads the counters of all mounted images in `sysfs`, sorted by device number. `mountinfo` lists
/// the mount points. Images that are unmounted during the call are left out.
pub fn read(sysfs: &Path, mountinfo: &[u8]) -> io::Result<Vec<Mounted>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sysfs)? {
        found.extend(Mounted::read(&entry?.path(), mountinfo));
    }
    found.sort_by_key(|mounted| number(&mounted.device));
    Ok(found)
}

/// Splits a device number for sorting.
fn number(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl Mounted {
    /// Reads the files of a mount; `None` if it is gone, or is no mount.
    pub fn read(directory: &Path, mountinfo: &[u8]) -> Option<Self> {
        let device = directory.file_name()?.to_str()?.to_owned();
        number(&device)?;
        let identity = fs::metadata(directory).ok()?.ino();
        let value = |name: &str| -> Option<u64> { line(directory, name)?.to_str()?.parse().ok() };
        let seen: Vec<_> = mounts(mountinfo)
            .filter(|mount| mount.kind == b"daxfs" && mount.device == device.as_bytes())
            .collect();
        let source = line(directory, "source")
            .or_else(|| seen.first().map(|mount| mount.source.clone()))
            .unwrap_or_default();
        let mut mounted = Mounted {
            source,
            mount_points: Vec::new(),
            size: value("size")?,
            inodes: value("inodes")?,
            counters: COUNTERS.map(|counter| value(counter.name)),
            packs: fs::read_to_string(directory.join("packs")).unwrap_or_default(),
            device,
        };
        mounted.mount_points = seen.into_iter().map(|mount| mount.mount_point).collect();
        // If another mount has reused the number, the files above may be from both.
        let same = fs::metadata(directory).ok()?.ino() == identity;
        same.then_some(mounted)
    }

    /// Returns the value of the counter `name`, or `None` if the module lacks it.
    fn counter(&self, name: &str) -> Option<u64> {
        let mut found = COUNTERS.iter().zip(self.counters);
        found.find(|(counter, _)| counter.name == name)?.1
    }
}

/// Returns the content of the file `name` without the final newline.
fn line(directory: &Path, name: &str) -> Option<OsString> {
    let mut bytes = fs::read(directory.join(name)).ok()?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Some(OsString::from_vec(bytes))
}

impl Top {
    pub fn run(self) -> Result<ExitCode> {
        let mounts = all()?;
        let mut out = Out::open();
        written(if self.prometheus {
            show::prometheus(&mounts, &mut out)
        } else {
            show::text(&mounts, self.packs, &mut out)
        })?;
        out.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn all() -> Result<Vec<Mounted>> {
    let text = mountinfo::read()?;
    read(Path::new(SYSFS), &text).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "; load the module: modprobe daxfs",
            _ => "",
        };
        Error::system(SYSFS, "cannot read", remedy, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates the files of a mount that was read `reads` times.
    fn mount(sysfs: &Path, device: &str, reads: u64) {
        let directory = sysfs.join(device);
        fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, value: &str| {
            fs::write(directory.join(name), format!("{value}\n")).unwrap();
        };
        write("source", "/dev/a \"b\"\\");
        write("size", "4096");
        write("inodes", "7");
        for counter in COUNTERS {
            write(counter.name, "0");
        }
        write("faults_pte", "4");
        write("faults_around", "8");
        write("reads", &reads.to_string());
        write("read_bytes", &(reads * 1000).to_string());
    }

    const MOUNTS: &[u8] = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
        2 1 259:0 / /b rw - daxfs /dev/pmem0 ro\n\
        3 1 259:0 / /c\\040d rw - daxfs /dev/pmem0 ro\n";

    fn written_by(write: impl Fn(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn mounts_are_found() {
        let sysfs = tempfile::tempdir().unwrap();
        mount(sysfs.path(), "259:0", 10);
        mount(sysfs.path(), "0:40", 5);
        fs::create_dir(sysfs.path().join("features")).unwrap();
        let found = read(sysfs.path(), MOUNTS).unwrap();
        let devices: Vec<_> = found.iter().map(|mounted| &*mounted.device).collect();
        assert_eq!(devices, ["0:40", "259:0"]);
        assert_eq!(found[0].mount_points, [] as [PathBuf; 0]);
        assert_eq!(found[1].mount_points, [Path::new("/b"), Path::new("/c d")]);
        assert_eq!(found[1].counter("reads"), Some(10));

        // A mount that is gone, or going away, is left out.
        fs::remove_file(sysfs.path().join("0:40/size")).unwrap();
        fs::remove_dir_all(sysfs.path().join("259:0")).unwrap();
        assert!(read(sysfs.path(), MOUNTS).unwrap().is_empty());
        assert!(read(&sysfs.path().join("none"), MOUNTS).is_err());
    }

    #[test]
    fn text() {
        let sysfs = tempfile::tempdir().unwrap();
        let said = written_by(|out| show::text(&[], false, out));
        assert_eq!(said, "no image is mounted\n");
        mount(sysfs.path(), "259:0", 3000);
        let found = read(sysfs.path(), MOUNTS).unwrap();
        let said = written_by(|out| show::text(&found, false, out));
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(words[..3], ["3000", "2.9M", "12"], "{said}");
        assert!(lines[1].ends_with(" /b,/c d"), "{said}");
        assert_eq!(lines[0].find("MOUNTED ON"), lines[1].find("/b,"));
        assert_eq!(words[6], "-", "{said}");
        let packs = "aa 1 memfd 1 0\nbb 2 missing 0 0\n";
        fs::write(sysfs.path().join("259:0/packs"), packs).unwrap();
        let found = read(sysfs.path(), MOUNTS).unwrap();
        let said = written_by(|out| show::text(&found, true, out));
        assert!(
            said.ends_with("\n  aa 1 memfd 1 0\n  bb 2 missing 0 0\n"),
            "{said}"
        );
        assert!(said.contains(" 1/2  4.0K /b"), "{said}");
    }

    #[test]
    fn prometheus() {
        let sysfs = tempfile::tempdir().unwrap();
        mount(sysfs.path(), "259:0", 10);
        mount(sysfs.path(), "0:40", 5);
        fs::remove_file(sysfs.path().join("0:40/faults_pmd")).unwrap();
        let found = read(sysfs.path(), MOUNTS).unwrap();
        let said = written_by(|out| show::prometheus(&found, out));
        let info = r#"device="259:0",source="/dev/a \"b\"\\",mountpoint="/b""#;
        let labels = r#"device="259:0""#;
        for line in [
            "# TYPE daxfs_reads_total counter".to_owned(),
            "# TYPE daxfs_image_size_bytes gauge".to_owned(),
            format!("daxfs_reads_total{{{labels}}} 10"),
            format!("daxfs_faults_total{{{labels},size=\"pte\"}} 4"),
            format!("daxfs_image_size_bytes{{{labels}}} 4096"),
            format!("daxfs_image_info{{{info}}} 1"),
        ] {
            assert!(said.lines().any(|found| found == line), "{line}\n{said}");
        }
        // A counter that the module lacks is not shown as 0.
        let pmd: Vec<_> = said.lines().filter(|line| line.contains("pmd")).collect();
        assert_eq!(
            pmd,
            [format!("daxfs_faults_total{{{labels},size=\"pmd\"}} 0")]
        );
        // The samples of a metric follow its HELP and TYPE, which appear once.
        let (mut metric, mut seen) = ("", Vec::new());
        for found in said.lines() {
            if let Some(help) = found.strip_prefix("# HELP ") {
                metric = help.split(' ').next().unwrap();
                assert!(!seen.contains(&metric), "{said}");
                seen.push(metric);
            } else if !found.starts_with("# TYPE ") {
                assert_eq!(found.split('{').next(), Some(metric), "{said}");
            }
        }
    }
}
