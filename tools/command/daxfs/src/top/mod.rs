// SPDX-License-Identifier: GPL-2.0-only

//! `top`: counters of all mounted images, from sysfs.

mod show;

use crate::record::Time;
use daxfs_command::stdout::{written, Out};
use daxfs_image::error::{Error, Result};
use daxfs_image::text::shown_path;
use daxfs_load::mountinfo::{self, mounts};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io};

/// The directory in sysfs.
pub const SYSFS: &str = "/sys/fs/daxfs";

/// A counter of a mount.
pub struct Counter {
    /// Its file, and its name in JSON.
    pub name: &'static str,
    /// Its metric for Prometheus, between `daxfs_` and `_total`. Counters of one metric are next to each other.
    pub metric: &'static str,
    /// Label that distinguishes it within its metric, with the comma before it.
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
    /// The source of the mount. It is empty if this process may not know it.
    pub source: OsString,
    /// Where this process sees it.
    pub places: Vec<PathBuf>,
    /// How files are mapped.
    pub mapping: String,
    /// Bytes of the image.
    pub size: u64,
    /// Number of inodes.
    pub inodes: u64,
    /// The values of [`COUNTERS`]. The module may not have all.
    pub counters: [Option<u64>; COUNTERS.len()],
    /// Events a second since the sample before, if that has the mount.
    pub rates: [Option<u64>; COUNTERS.len()],
    /// Tells it from other mounts with the same device number.
    identity: u64,
}

/// The counters of all mounted images at one moment.
#[derive(Serialize)]
pub struct Sample {
    /// When it was taken.
    pub time: Time,
    /// Sorted by device number.
    pub mounts: Vec<Mounted>,
    #[serde(skip)]
    taken: Instant,
}

impl Sample {
    /// Read the counters in `sysfs`. `mountinfo` says where the images are mounted. Images that are
    /// unmounted during the call are left out.
    pub fn read(sysfs: &Path, mountinfo: &[u8]) -> io::Result<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(sysfs)? {
            let entry = entry?;
            if let Some(mounted) = Mounted::read(&entry.path(), mountinfo) {
                found.push(mounted);
            }
        }
        found.sort_by_key(|mounted| number(&mounted.device));
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Sample {
            time: Time {
                sec: since.as_secs().try_into().unwrap_or(i64::MAX),
                nsec: since.subsec_nanos(),
            },
            mounts: found,
            taken: Instant::now(),
        })
    }

    /// Set the rates since `before`.
    pub fn compare(&mut self, before: &Sample) {
        let passed = self.taken.saturating_duration_since(before.taken);
        for mounted in &mut self.mounts {
            let same = |other: &&Mounted| {
                other.device == mounted.device && other.identity == mounted.identity
            };
            if let Some(before) = before.mounts.iter().find(same) {
                for (number, rate) in mounted.rates.iter_mut().enumerate() {
                    let change = mounted.counters[number].zip(before.counters[number]);
                    *rate = change.map(|(now, before)| per_second(now, before, passed));
                }
            }
        }
    }
}

/// Return the parts of a device number, for sorting.
fn number(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Return how often a counter rises in a second, rounded to the nearest number.
fn per_second(now: u64, before: u64, passed: Duration) -> u64 {
    let change = u128::from(now.wrapping_sub(before));
    let passed = passed.as_nanos().max(1);
    let rate = (change * 1_000_000_000 + passed / 2) / passed;
    rate.try_into().unwrap_or(u64::MAX)
}

impl Mounted {
    /// Read the files of a mount; `None` if it is gone, or not a mount.
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
            places: Vec::new(),
            mapping: line(directory, "mapping")?.into_string().ok()?,
            size: value("size")?,
            inodes: value("inodes")?,
            counters: COUNTERS.map(|counter| value(counter.name)),
            rates: [None; COUNTERS.len()],
            identity,
            device,
        };
        mounted.places = seen.into_iter().map(|mount| mount.place).collect();
        // If another mount has got the number since, the files above may be of both.
        let same = fs::metadata(directory).ok()?.ino() == identity;
        same.then_some(mounted)
    }

    /// Return whether there was a sample before.
    fn has_rates(&self) -> bool {
        self.rates.iter().any(Option::is_some)
    }

    /// Return the value of the counter `name`, or 0.
    fn counter(&self, name: &str) -> u64 {
        self.value(&self.counters, name).unwrap_or(0)
    }

    /// Return one of `values`, which are the counters or the rates.
    fn value(&self, values: &[Option<u64>], name: &str) -> Option<u64> {
        let found = COUNTERS.iter().zip(values);
        let mut found = found.filter(|(counter, _)| counter.name == name);
        found.next().and_then(|(_, value)| *value)
    }
}

/// Return the content of the file `name` without the newline at its end.
pub fn line(directory: &Path, name: &str) -> Option<OsString> {
    let mut bytes = fs::read(directory.join(name)).ok()?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Some(OsString::from_vec(bytes))
}

/// How `top` shows the counters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A table for people.
    Text,
    /// A line of JSON for each sample.
    Json,
    /// The text format of Prometheus.
    Prometheus,
}

/// Show the counters of all mounted images every `interval`, `count` times or until a signal ends
/// the program.
pub fn top(form: Form, interval: Duration, count: Option<u32>) -> Result<()> {
    let mut before: Option<Sample> = None;
    let mut next = Instant::now();
    let mut number = 0;
    loop {
        let mut sample = take()?;
        if let Some(before) = &before {
            sample.compare(before);
        }
        number += 1;
        let last = count.is_some_and(|count| number >= count);
        let mut out = Out::open();
        written(match form {
            Form::Text => show::text(&sample, show::Screen::of(&out, number == 1), &mut out),
            Form::Json => show::json(&sample, &mut out),
            Form::Prometheus => show::prometheus(&sample, &mut out),
        })?;
        out.finish()?;
        if last {
            return Ok(());
        }
        before = Some(sample);
        // A program that was stopped does not make up for the samples that it has missed.
        next = (next + interval).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Read the counters now.
fn take() -> Result<Sample> {
    let failed = |path: &str, remedy, error: io::Error| {
        Err(Error::system(
            shown_path(Path::new(path)),
            "cannot read",
            remedy,
            error,
        ))
    };
    let text = match fs::read(mountinfo::PATH) {
        Ok(text) => text,
        Err(error) => return failed(mountinfo::PATH, "", error),
    };
    Sample::read(Path::new(SYSFS), &text).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => failed(SYSFS, "; load the module: modprobe daxfs", error),
        _ => failed(SYSFS, "", error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make the files of a mount that has been read `reads` times.
    fn mount(sysfs: &Path, device: &str, reads: u64) {
        let directory = sysfs.join(device);
        fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, value: &str| {
            fs::write(directory.join(name), format!("{value}\n")).unwrap();
        };
        write("source", "/dev/a \"b\"\\");
        write("mapping", "dax");
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
    fn rates() {
        let sysfs = tempfile::tempdir().unwrap();
        mount(sysfs.path(), "259:0", 10);
        mount(sysfs.path(), "0:40", 5);
        fs::create_dir(sysfs.path().join("features")).unwrap();
        let mut first = Sample::read(sysfs.path(), MOUNTS).unwrap();
        let devices: Vec<_> = first
            .mounts
            .iter()
            .map(|mounted| &*mounted.device)
            .collect();
        assert_eq!(devices, ["0:40", "259:0"]);
        assert_eq!(first.mounts[0].places, [] as [PathBuf; 0]);
        assert_eq!(first.mounts[1].places, [Path::new("/b"), Path::new("/c d")]);
        assert_eq!(first.mounts[1].counter("reads"), 10);
        assert_eq!(first.mounts[1].rates, [None; COUNTERS.len()]);

        // One counter rises, and the other image is mounted again with the same number.
        mount(sysfs.path(), "259:0", 30);
        fs::rename(sysfs.path().join("0:40"), sysfs.path().join("old")).unwrap();
        mount(sysfs.path(), "0:40", 6);
        let mut second = Sample::read(sysfs.path(), MOUNTS).unwrap();
        first.taken = second.taken - Duration::from_millis(2500);
        second.compare(&first);
        assert_eq!(second.mounts[0].rates, [None; COUNTERS.len()]);
        let rate = |name| {
            let mounted = &second.mounts[1];
            mounted.value(&mounted.rates, name).unwrap()
        };
        assert_eq!(rate("reads"), 8);
        assert_eq!(rate("read_bytes"), 8000);
        assert_eq!(rate("faults_pmd"), 0);

        // A mount that is gone, or going, is left out.
        fs::remove_file(sysfs.path().join("0:40/size")).unwrap();
        fs::remove_dir_all(sysfs.path().join("259:0")).unwrap();
        let third = Sample::read(sysfs.path(), MOUNTS).unwrap();
        assert!(third.mounts.is_empty());
        assert!(Sample::read(&sysfs.path().join("none"), MOUNTS).is_err());
    }

    #[test]
    fn rounded() {
        let second = Duration::from_secs(1);
        assert_eq!(per_second(7, 4, second * 2), 2);
        assert_eq!(per_second(1, u64::MAX, second), 2);
        assert_eq!(per_second(u64::MAX, 0, Duration::ZERO), u64::MAX);
    }

    #[test]
    fn text() {
        let sysfs = tempfile::tempdir().unwrap();
        let none = Sample::read(sysfs.path(), MOUNTS).unwrap();
        let plain = || show::Screen::plain(true);
        let said = written_by(|out| show::text(&none, plain(), out));
        assert_eq!(said, "no image is mounted\n");
        mount(sysfs.path(), "259:0", 3000);
        let sample = Sample::read(sysfs.path(), MOUNTS).unwrap();
        let said = written_by(|out| show::text(&sample, plain(), out));
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(words[..3], ["3000", "2.9M", "12"], "{said}");
        assert!(lines[1].ends_with(" /b,/c d"), "{said}");
        assert_eq!(lines[0].find("MOUNTED ON"), lines[1].find("/b,"));
        // The end of a long name is shown.
        let long = "/".repeat(80) + "end";
        let mounts = format!("2 1 259:0 / {long} rw - daxfs /dev/pmem0 ro\n");
        let sample = Sample::read(sysfs.path(), mounts.as_bytes()).unwrap();
        let said = written_by(|out| show::text(&sample, show::Screen::terminal(80, 9), out));
        let shown = said.lines().nth(1).unwrap().trim_end_matches("\x1b[K");
        assert!(
            shown.contains(" ...//") && shown.ends_with("/end"),
            "{said}"
        );
        assert_eq!(shown.chars().count(), 80);
        let said = written_by(|out| show::text(&sample, show::Screen::terminal(20, 2), out));
        assert!(said.starts_with("\x1b[H"), "{said:?}");
        for line in said["\x1b[H".len()..].lines() {
            let line = line.replace("\x1b[K", "").replace("\x1b[J", "");
            assert!(line.chars().count() <= 20, "{said:?}");
        }
    }

    #[test]
    fn json() {
        let sysfs = tempfile::tempdir().unwrap();
        mount(sysfs.path(), "259:0", 10);
        let mut first = Sample::read(sysfs.path(), MOUNTS).unwrap();
        first.taken -= Duration::from_secs(1);
        mount(sysfs.path(), "0:40", 5);
        fs::remove_file(sysfs.path().join("0:40/faults_pmd")).unwrap();
        mount(sysfs.path(), "259:0", 30);
        let mut second = Sample::read(sysfs.path(), MOUNTS).unwrap();
        second.compare(&first);
        let said = written_by(|out| show::json(&second, out));
        assert_eq!(said.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        let schema = include_str!("../../../../../Documentation/daxfs.schema.json");
        let schema = serde_json::from_str(schema).unwrap();
        assert!(jsonschema::is_valid(&schema, &value), "{said}");
        let mounts = &value["mounts"];
        assert_eq!(mounts[0]["rates"], serde_json::Value::Null);
        assert_eq!(mounts[0]["counters"]["faults_pmd"], serde_json::Value::Null);
        assert_eq!(mounts[1]["counters"]["reads"], 30);
        assert!(mounts[1]["rates"]["reads"].as_u64().unwrap() > 0);
        assert_eq!(mounts[1]["mount_points"][1], "/c d");
    }

    #[test]
    fn prometheus() {
        let sysfs = tempfile::tempdir().unwrap();
        mount(sysfs.path(), "259:0", 10);
        mount(sysfs.path(), "0:40", 5);
        fs::remove_file(sysfs.path().join("0:40/faults_pmd")).unwrap();
        let sample = Sample::read(sysfs.path(), MOUNTS).unwrap();
        let said = written_by(|out| show::prometheus(&sample, out));
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
