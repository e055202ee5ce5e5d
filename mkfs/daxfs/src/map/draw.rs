// SPDX-License-Identifier: GPL-2.0-only

//! The map as text.

use super::{Kind, Map};
use daxfs_image::text::human;
use std::io::{self, Write};

/// Lines of cells, at most.
const LINES: usize = 16;

/// Length of the longest bar.
const BAR: u64 = 30;

/// How to draw.
#[derive(Clone, Copy)]
pub struct Style {
    /// Columns of the terminal.
    pub columns: usize,
    /// Use colours.
    pub colour: bool,
}

/// Return the letter of a kind, and its number among the 256 colours of terminals.
fn look(kind: Kind) -> (char, u8) {
    match kind {
        Kind::Superblock => ('S', 160),
        Kind::Inodes => ('i', 172),
        Kind::Dirents => ('d', 178),
        Kind::Names => ('n', 142),
        Kind::Xattrs => ('x', 132),
        Kind::Huge => ('#', 28),
        Kind::Pages => ('=', 25),
        Kind::Packed => ('p', 30),
        Kind::Shared => ('2', 97),
        Kind::Padding => ('.', 240),
    }
}

impl Style {
    fn cell(self, kind: Kind) -> String {
        let (letter, colour) = look(kind);
        match self.colour {
            true => format!("\x1b[97;48;5;{colour}m{letter}\x1b[0m"),
            false => letter.into(),
        }
    }
}

/// Return `part` of `whole` in percent.
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Draw `map` of the image `name`.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn draw(map: &Map, name: &str, style: Style, out: &mut impl Write) -> io::Result<()> {
    let (total, block) = (human(map.total_size), human(map.block_size.into()));
    let inodes = map.inodes;
    writeln!(out, "{name}: {total}, blocks of {block}, {inodes} inodes\n")?;
    let columns = style.columns.clamp(20, 160);
    // No cell is smaller than a page.
    let pages = (map.total_size / 4096).max(1);
    let count = (columns * LINES).min(usize::try_from(pages).unwrap_or(usize::MAX));
    for line in map.cells(count).chunks(columns) {
        let line: String = line.iter().map(|&kind| style.cell(kind)).collect();
        writeln!(out, "{line}")?;
    }
    let cell = human(map.total_size.div_ceil(count as u64));
    writeln!(out, "\nEach character is {cell}.\n")?;

    for (kind, bytes) in Kind::ALL.into_iter().zip(map.bytes()) {
        if bytes == 0 {
            continue;
        }
        writeln!(
            out,
            "{} {:>6} {:>5.1}%  {}",
            style.cell(kind),
            human(bytes),
            percent(bytes, map.total_size),
            kind.text()
        )?;
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

/// Say what the map shows about mappings, sharing and packing.
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
