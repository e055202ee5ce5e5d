// SPDX-License-Identifier: GPL-2.0-only

//! The map as text.

use super::{Kind, Map};
use daxfs_image::text::human;
use std::io::{self, Write};

/// Columns and, at most, lines of cells.
const COLUMNS: usize = 80;
const LINES: usize = 16;

/// Length of the longest bar.
const BAR: u64 = 30;

/// Return `part` of `whole` in percent.
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Draw `map` of the image `name`.
pub fn draw(map: &Map, name: &str, out: &mut impl Write) -> io::Result<()> {
    let (total, block) = (human(map.total_size), human(map.block_size.into()));
    let inodes = map.inodes;
    writeln!(out, "{name}: {total}, blocks of {block}, {inodes} inodes\n")?;
    // No cell is smaller than a page.
    let pages = (map.total_size / 4096).max(1);
    let count = (COLUMNS * LINES).min(usize::try_from(pages).unwrap_or(usize::MAX));
    for line in map.cells(count).chunks(COLUMNS) {
        let line: String = line.iter().map(|kind| kind.shown().0).collect();
        writeln!(out, "{line}")?;
    }
    let cell = human(map.total_size.div_ceil(count as u64));
    writeln!(out, "\nEach character is {cell}.\n")?;

    for (kind, bytes) in Kind::ALL.into_iter().zip(map.bytes()) {
        if bytes == 0 {
            continue;
        }
        let (letter, text) = kind.shown();
        let (size, part) = (human(bytes), percent(bytes, map.total_size));
        writeln!(out, "{letter} {size:>6} {part:>5.1}%  {text}")?;
    }
    sizes(map, out)?;
    notes(map, out)
}

/// Draw the number of files and bytes for each range of sizes.
fn sizes(map: &Map, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{:>10}  {:>8}  {:>6}", "size", "files", "bytes")?;
    let most = map.classes.iter().map(|class| class.bytes).max();
    let most = u128::from(most.unwrap_or(0).max(1));
    for class in map.classes.iter().filter(|class| class.files > 0) {
        let range = match class.up_to {
            Some(0) => "empty".into(),
            Some(up_to) => format!("up to {}", human(up_to)),
            None => "larger".into(),
        };
        let bar = (u128::from(class.bytes) * u128::from(BAR)).div_ceil(most);
        let line = format!(
            "{range:>10}  {:>8}  {:>6}  {}",
            class.files,
            human(class.bytes),
            "*".repeat(bar as usize)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Write the map's facts about mappings, sharing and packing.
fn notes(map: &Map, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\n2 MiB mappings cover {} of {} of data ({:.0}%) in {} files, on memory aligned to 2 MiB.",
        human(map.huge.bytes),
        human(map.data.bytes),
        percent(map.huge.bytes, map.data.bytes),
        map.huge.files
    )?;
    if map.shared.files > 0 {
        let (files, bytes) = (map.shared.files, human(map.shared.bytes));
        writeln!(
            out,
            "{files} files use the data of another file, which saves {bytes}."
        )?;
    }
    if map.packed.files > 0 {
        let (files, bytes) = (map.packed.files, human(map.packed.bytes));
        writeln!(
            out,
            "{files} files of {bytes} are packed: they share pages with others."
        )?;
    }
    Ok(())
}
