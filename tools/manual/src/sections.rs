// SPDX-License-Identifier: GPL-2.0-only

//! The sections of a page after the options, from a program's help.

use clap::Command;

/// Text in sections. A line is a heading if it starts at the margin, follows an empty line and ends
/// with a colon. Lines that start with two blanks are examples under the heading "Examples", and
/// elsewhere entries if more blanks separate a word from its meaning. The rest are paragraphs.
pub struct Sections<'a>(pub &'a str);

impl Sections<'_> {
    /// Formats the sections for troff.
    pub fn to_roff(&self) -> String {
        let mut page = String::new();
        let mut examples = false;
        let mut open = false;
        let close = |page: &mut String, open: &mut bool| {
            if std::mem::take(open) {
                page.push_str(".EE\n");
            }
        };
        let mut paragraph = false;
        for line in self.0.lines() {
            let heading = line
                .strip_suffix(':')
                .filter(|text| !text.is_empty() && !text.starts_with(' ') && !paragraph);
            paragraph = !line.trim().is_empty();
            if let Some(heading) = heading {
                close(&mut page, &mut open);
                examples = heading.ends_with("xamples");
                let heading = escaped(&heading.to_uppercase());
                page += &format!(".SH \"{heading}\"\n");
            } else if line.trim().is_empty() {
                close(&mut page, &mut open);
                if !page.is_empty() && !page.ends_with(".PP\n") {
                    page.push_str(".PP\n");
                }
            } else if examples && line.starts_with("  ") {
                if !open {
                    page.push_str(".EX\n");
                    open = true;
                }
                page += &format!("{}\n", escaped(&line[2..]));
            } else if let Some((word, meaning)) = entry(line) {
                let (word, meaning) = (escaped(word), escaped(meaning));
                page += &format!(".TP\n\\fB{word}\\fR\n{meaning}\n");
            } else {
                page += &format!("{}\n", escaped(line.trim()));
            }
        }
        close(&mut page, &mut open);
        // A heading or an entry needs no paragraph before it.
        page.replace(".PP\n.SH", ".SH").replace(".PP\n.TP", ".TP")
    }
}

/// Parses a line `  word   meaning`.
fn entry(line: &str) -> Option<(&str, &str)> {
    let (word, meaning) = line.strip_prefix("  ")?.split_once("  ")?;
    (!word.is_empty() && !word.starts_with(' ')).then_some((word, meaning.trim()))
}

/// Returns the section with the usage of `command`, as in its help.
pub fn synopsis(command: &mut Command) -> String {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let lines = usage.lines().map(|line| escaped(line.trim()));
    format!(
        ".SH SYNOPSIS\n{}\n",
        lines.collect::<Vec<_>>().join("\n.br\n")
    )
}

/// Returns the section that lists other pages, such as `daxfs(5)`.
pub fn see_also(pages: &[&str]) -> String {
    let mut text = String::from(".SH \"SEE ALSO\"\n");
    for (n, page) in pages.iter().enumerate() {
        let (name, section) = page.split_once('(').unwrap_or((page, ""));
        let comma = if n + 1 < pages.len() { "," } else { "" };
        text += &format!(".BR {} ({section}{comma}\n", escaped(name));
    }
    text
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that ends with a colon, but is not a heading.
    #[test]
    fn no_heading() {
        let text = "Output:\nA line that goes on\nas this one does:\nsize and name.\n";
        let expected = ".SH \"OUTPUT\"\nA line that goes on\nas this one does:\nsize and name.\n";
        assert_eq!(Sections(text).to_roff(), expected);
    }

    #[test]
    fn sections() {
        let text = "Text first.\n\nExit status:\n  0    fine\n  1    not\n\nExamples:\n  a --b\n  .c\n\nMore:\nA line\nand one.\n";
        let expected = "Text first.\n.SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\nfine\n.TP\n\\fB1\\fR\nnot\n\
                        .SH \"EXAMPLES\"\n.EX\na \\-\\-b\n\\&.c\n.EE\n.SH \"MORE\"\nA line\nand one.\n";
        assert_eq!(Sections(text).to_roff(), expected);
    }

    #[test]
    fn pages() {
        let expected = ".SH \"SEE ALSO\"\n.BR daxfs (5),\n.BR mount.daxfs (8)\n";
        assert_eq!(see_also(&["daxfs(5)", "mount.daxfs(8)"]), expected);
        let file = clap::arg!(<file> ...).value_name("FILE");
        let mut command = Command::new("a-b").arg(clap::arg!(--all)).arg(file);
        let expected = ".SH SYNOPSIS\na\\-b [OPTIONS] <FILE>...\n";
        assert_eq!(synopsis(&mut command), expected);
    }
}
