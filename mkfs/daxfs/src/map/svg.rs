// SPDX-License-Identifier: GPL-2.0-only

//! The map as an SVG picture.

use super::{Kind, Map};
use daxfs_image::text::human;
use std::io::{self, Write};

/// Columns and lines of cells.
const COLUMNS: usize = 128;
const LINES: usize = 48;

/// Width and height of a cell.
const CELL: usize = 7;

/// Distance between the picture's edge and its content.
const MARGIN: usize = 16;

/// Distance between lines of text.
const TEXT: usize = 18;

/// Return the colour of a kind.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Superblock => "#d03030",
        Kind::Inodes => "#d08020",
        Kind::Dirents => "#c8a820",
        Kind::Names => "#98a030",
        Kind::Xattrs => "#a85090",
        Kind::Huge => "#208040",
        Kind::Pages => "#3060b0",
        Kind::Packed => "#208890",
        Kind::Shared => "#7858b0",
        Kind::Padding => "#d8d8d8",
    }
}

/// Escape `text` for XML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Write `map` of the image `name` as SVG.
pub fn svg(map: &Map, name: &str, out: &mut impl Write) -> io::Result<()> {
    let used: Vec<(Kind, u64)> = Kind::ALL
        .into_iter()
        .zip(map.bytes())
        .filter(|&(_, bytes)| bytes > 0)
        .collect();
    let pages = usize::try_from(map.total_size / 4096).unwrap_or(usize::MAX);
    let cells = map.cells((COLUMNS * LINES).min(pages.max(1)));
    let top = MARGIN + 2 * TEXT;
    let bottom = top + cells.len().div_ceil(COLUMNS) * CELL + TEXT;
    let width = COLUMNS * CELL + 2 * MARGIN;
    let height = bottom + (used.len() + 1) * TEXT + MARGIN;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">"
    )?;
    let name = escaped(name);
    writeln!(out, "<title>{name}</title>")?;
    writeln!(
        out,
        "<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>"
    )?;
    let cell = human(map.total_size.div_ceil(cells.len() as u64));
    let text = format!("{name}: {}, each cell {cell}", human(map.total_size));
    writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"{}\">{text}</text>",
        MARGIN + TEXT
    )?;
    for (line, row) in cells.chunks(COLUMNS).enumerate() {
        let mut column = 0;
        for same in row.chunk_by(|a, b| a == b) {
            let (x, y) = (MARGIN + column * CELL, top + line * CELL);
            let (wide, fill) = (same.len() * CELL, colour(same[0]));
            writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{CELL}\" fill=\"{fill}\"/>"
            )?;
            column += same.len();
        }
    }
    for (line, (kind, bytes)) in used.into_iter().enumerate() {
        let y = bottom + line * TEXT;
        let (fill, text) = (colour(kind), kind.text());
        writeln!(
            out,
            "<rect x=\"{MARGIN}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{fill}\"/>\
             <text x=\"{}\" y=\"{}\">{text}: {}</text>",
            MARGIN + TEXT,
            y + 11,
            human(bytes)
        )?;
    }
    let text = format!(
        "2 MiB mappings cover {} of {} of data",
        human(map.huge.bytes),
        human(map.data.bytes)
    );
    let y = height - MARGIN;
    writeln!(out, "<text x=\"{MARGIN}\" y=\"{y}\">{text}</text>\n</svg>")
}
