// SPDX-License-Identifier: GPL-2.0-only

//! How `top` shows counters: a table, JSON, and the text format of Prometheus.

use super::{Counter, Mounted, Sample, COUNTERS};
use crate::record::Versioned;
use daxfs_command::stdout::Out;
use daxfs_image::text::{human, shown, shown_path, Bytes};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// The screen or file for a table.
#[derive(Clone, Copy)]
pub struct Screen {
    /// Columns and rows of a terminal, whose content is replaced.
    size: Option<(usize, usize)>,
    /// Nothing was shown before.
    first: bool,
}

impl Screen {
    /// Return what standard output is.
    pub fn of(out: &Out, first: bool) -> Self {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let size = size.filter(|_| out.terminal);
        let size = size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        Screen {
            // Some terminals do not know their size.
            size: size.filter(|&(columns, rows)| columns > 0 && rows > 0),
            first,
        }
    }

    /// Return a file or a pipe.
    #[cfg(test)]
    pub fn plain(first: bool) -> Self {
        Screen { size: None, first }
    }

    /// Return a terminal.
    #[cfg(test)]
    pub fn terminal(columns: usize, rows: usize) -> Self {
        Screen {
            size: Some((columns, rows)),
            first: true,
        }
    }
}

/// Write a table: events since the mount for a first sample, and events a second otherwise.
pub fn text(sample: &Sample, screen: Screen, out: &mut impl Write) -> io::Result<()> {
    let mut lines = Vec::new();
    if sample.mounts.is_empty() {
        lines.push("no image is mounted".to_owned());
    } else {
        lines.push(format!(
            "{:>8} {:>7} {:>8} {:>6} {:>6} {:>6} {:>5} MOUNTED ON",
            "READS", "BYTES", "FAULTS", "PMD", "SIGBUS", "ERRORS", "SIZE"
        ));
        lines.extend(sample.mounts.iter().map(row));
    }
    let Some((columns, rows)) = screen.size else {
        if !screen.first {
            writeln!(out)?;
        }
        return lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    };
    // Start at the top, and clear the rest of each line and of the screen.
    write!(out, "\x1b[H")?;
    for line in lines.iter().take(rows - 1) {
        write!(out, "{}\x1b[K\r\n", fitted(line, columns))?;
    }
    write!(out, "\x1b[J")
}

/// Columns before the name of a mount.
const NUMBERS: usize = 53;

/// Shorten `line` to `columns`. Drop the start of the mount's name, because names differ at their end.
fn fitted(line: &str, columns: usize) -> String {
    let excess = line.chars().count().saturating_sub(columns);
    let mut cut: Vec<char> = line.chars().collect();
    if excess > 0 && columns > NUMBERS + 3 {
        cut.splice(NUMBERS..NUMBERS + 3 + excess, "...".chars());
    }
    cut.into_iter().take(columns).collect()
}

/// Return the line of a mount.
fn row(mounted: &Mounted) -> String {
    let (values, unit) = match mounted.has_rates() {
        true => (&mounted.rates, "/s"),
        false => (&mounted.counters, ""),
    };
    let number = |name: &str| mounted.value(values, name).unwrap_or(0);
    let faults = ["faults_pte", "faults_around", "faults_pmd"];
    let cell = |number: u64| format!("{number}{unit}");
    let failed = mounted.counter("faults_failed") + mounted.counter("faults_poisoned");
    let errors = mounted.counter("errors_io") + mounted.counter("errors_corrupted");
    format!(
        "{:>8} {:>7} {:>8} {:>6} {failed:>6} {errors:>6} {:>5} {}",
        cell(number("reads")),
        format!("{}{unit}", human(number("read_bytes"))),
        cell(faults.into_iter().map(number).sum()),
        cell(number("faults_pmd")),
        human(mounted.size),
        place(mounted)
    )
}

/// Return where an image is mounted, or else what it was mounted from, or its device number.
fn place(mounted: &Mounted) -> String {
    match (mounted.places.is_empty(), mounted.source.is_empty()) {
        (true, true) => return format!("({})", mounted.device),
        (true, false) => return format!("({})", shown(mounted.source.as_bytes())),
        _ => {}
    }
    let places = mounted.places.iter().map(|place| shown_path(place));
    places.collect::<Vec<_>>().join(",")
}

/// Values of counters, by name.
struct Values<'a>(&'a [Option<u64>]);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (counter, value) in COUNTERS.iter().zip(self.0) {
            if let Some(value) = value {
                map.serialize_entry(counter.name, value)?;
            }
        }
        map.end()
    }
}

impl Serialize for Mounted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let places: Vec<_> = self
            .places
            .iter()
            .map(|place| Bytes(place.as_os_str().as_bytes()))
            .collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("device", &self.device)?;
        map.serialize_entry("source", &Bytes(self.source.as_bytes()))?;
        map.serialize_entry("mount_points", &places)?;
        map.serialize_entry("mapping", &self.mapping)?;
        map.serialize_entry("size", &self.size)?;
        map.serialize_entry("inodes", &self.inodes)?;
        map.serialize_entry("counters", &Values(&self.counters))?;
        if self.has_rates() {
            map.serialize_entry("rates", &Values(&self.rates))?;
        }
        map.end()
    }
}

/// Write a line of JSON.
pub fn json(sample: &Sample, out: &mut impl Write) -> io::Result<()> {
    let (schema, value) = ("daxfs-top-1", sample);
    serde_json::to_writer(&mut *out, &Versioned { schema, value })?;
    writeln!(out)
}

/// Return the description of a metric.
fn help(metric: &str) -> &'static str {
    match metric {
        "reads" => "Reads that returned data.",
        "read_bytes" => "Bytes that reads returned.",
        "faults" => "Page faults by the size of what they mapped.",
        "faults_failed" => "Page faults that ended in SIGBUS.",
        "pieces" => "Pieces of 2 MiB that verify=lazy has checked, by the result.",
        _ => "Data or records that could not be read or verified (EIO), and invalid records (EUCLEAN).",
    }
}

/// Write the text format of Prometheus. The device number is all that stays the same as long as the counters do.
pub fn prometheus(sample: &Sample, out: &mut impl Write) -> io::Result<()> {
    let head = |out: &mut dyn Write, metric: &str, help: &str, kind: &str| {
        writeln!(out, "# HELP {metric} {help}")?;
        writeln!(out, "# TYPE {metric} {kind}")
    };
    for counters in COUNTERS.chunk_by(|one, other| one.metric == other.metric) {
        let metric = counters[0].metric;
        let (help, metric) = (help(metric), format!("daxfs_{metric}_total"));
        head(out, &metric, help, "counter")?;
        for mounted in &sample.mounts {
            for &Counter { name, label, .. } in counters {
                // The module may not have it.
                let Some(value) = mounted.value(&mounted.counters, name) else {
                    continue;
                };
                let device = &mounted.device;
                writeln!(out, "{metric}{{device=\"{device}\"{label}}} {value}")?;
            }
        }
    }
    let size: fn(&Mounted) -> u64 = |mounted| mounted.size;
    let inodes: fn(&Mounted) -> u64 = |mounted| mounted.inodes;
    for (metric, help, value) in [
        ("daxfs_image_size_bytes", "Size of the image.", size),
        (
            "daxfs_image_inodes",
            "Number of inodes in the image.",
            inodes,
        ),
    ] {
        head(out, metric, help, "gauge")?;
        for mounted in &sample.mounts {
            let (device, value) = (&mounted.device, value(mounted));
            writeln!(out, "{metric}{{device=\"{device}\"}} {value}")?;
        }
    }
    let info = "daxfs_image_info";
    head(out, info, "Source and mount point; always 1.", "gauge")?;
    for mounted in &sample.mounts {
        let place = mounted.places.first().map(|place| place.as_os_str());
        writeln!(
            out,
            "{info}{{device=\"{}\",source=\"{}\",mountpoint=\"{}\"}} 1",
            mounted.device,
            escaped(mounted.source.as_bytes()),
            escaped(place.unwrap_or_default().as_bytes())
        )?;
    }
    Ok(())
}

/// Return the value of a label: UTF-8, with a backslash before what would end it.
fn escaped(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.replace('\\', "\\\\");
    text.replace('"', "\\\"").replace('\n', "\\n")
}
