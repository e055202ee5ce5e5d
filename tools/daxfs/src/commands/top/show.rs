// SPDX-License-Identifier: GPL-2.0-only

//! Shows `top`'s counters: as a table, or in Prometheus's text format.

use super::{Counter, Mounted, COUNTERS};
use daxfs_image::text::{human, shown, shown_path};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// Writes a table of the counts since each image was mounted. With `packs`, lists the packs of each
/// image.
pub fn text(mounts: &[Mounted], packs: bool, out: &mut impl Write) -> io::Result<()> {
    if mounts.is_empty() {
        return writeln!(out, "no image is mounted");
    }
    writeln!(
        out,
        "{:>8} {:>7} {:>8} {:>6} {:>6} {:>6} {:>5} {:>5} MOUNTED ON",
        "READS", "BYTES", "FAULTS", "PMD", "SIGBUS", "ERRORS", "PACKS", "SIZE"
    )?;
    for mounted in mounts {
        writeln!(out, "{}", row(mounted))?;
        for pack in mounted.packs.lines().filter(|_| packs) {
            writeln!(out, "  {pack}")?;
        }
    }
    Ok(())
}

/// Returns the number of packs of an image: `PRESENT/ALL` if some are missing.
fn packs(mounted: &Mounted) -> String {
    let is_there = |pack: &&str| pack.split_whitespace().nth(2) != Some("missing");
    let there = mounted.packs.lines().filter(is_there).count();
    match mounted.packs.lines().count() {
        0 => "-".into(),
        all if all == there => all.to_string(),
        all => format!("{there}/{all}"),
    }
}

fn row(mounted: &Mounted) -> String {
    let sum = |names: &[&str]| -> u64 {
        let values = names.iter().map(|name| mounted.counter(name).unwrap_or(0));
        values.sum()
    };
    format!(
        "{:>8} {:>7} {:>8} {:>6} {:>6} {:>6} {:>5} {:>5} {}",
        sum(&["reads"]),
        human(sum(&["read_bytes"])),
        sum(&["faults_pte", "faults_around", "faults_pmd"]),
        sum(&["faults_pmd"]),
        sum(&["faults_failed", "faults_poisoned"]),
        sum(&["errors_io", "errors_corrupted"]),
        packs(mounted),
        human(mounted.size),
        mounted_on(mounted)
    )
}

/// Returns the mount point of an image, or else its source, or its device number.
fn mounted_on(mounted: &Mounted) -> String {
    match (mounted.mount_points.is_empty(), mounted.source.is_empty()) {
        (true, true) => return format!("({})", mounted.device),
        (true, false) => return format!("({})", shown(mounted.source.as_bytes())),
        _ => {}
    }
    let mount_points = mounted.mount_points.iter().map(|path| shown_path(path));
    mount_points.collect::<Vec<_>>().join(",")
}

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

/// Writes Prometheus's text format. Only the device number stays the same as long as the counters.
pub fn prometheus(mounts: &[Mounted], out: &mut impl Write) -> io::Result<()> {
    let head = |out: &mut dyn Write, metric: &str, help: &str, kind: &str| {
        writeln!(out, "# HELP {metric} {help}")?;
        writeln!(out, "# TYPE {metric} {kind}")
    };
    for counters in COUNTERS.chunk_by(|one, other| one.metric == other.metric) {
        let metric = counters[0].metric;
        let (help, metric) = (help(metric), format!("daxfs_{metric}_total"));
        head(out, &metric, help, "counter")?;
        for mounted in mounts {
            for &Counter { name, label, .. } in counters {
                // The module may lack it.
                let Some(value) = mounted.counter(name) else {
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
        for mounted in mounts {
            let (device, value) = (&mounted.device, value(mounted));
            writeln!(out, "{metric}{{device=\"{device}\"}} {value}")?;
        }
    }
    let info = "daxfs_image_info";
    head(out, info, "Source and mount point; always 1.", "gauge")?;
    for mounted in mounts {
        let mount_point = mounted.mount_points.first().map(|path| path.as_os_str());
        writeln!(
            out,
            "{info}{{device=\"{}\",source=\"{}\",mountpoint=\"{}\"}} 1",
            mounted.device,
            escaped(mounted.source.as_bytes()),
            escaped(mount_point.unwrap_or_default().as_bytes())
        )?;
    }
    Ok(())
}

/// Returns the value of a label: UTF-8, with a backslash before characters that would end it.
fn escaped(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.replace('\\', "\\\\");
    text.replace('"', "\\\"").replace('\n', "\\n")
}
