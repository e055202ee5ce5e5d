// SPDX-License-Identifier: GPL-2.0-only

//! The sections of a page after the options, from a program's help.

use clap::{Arg, Command};
use std::fmt::Write;

/// Text in sections: a line that starts at the margin, follows an empty line and ends with a colon
/// is a heading. Lines that start with two blanks are examples under the heading "Examples", and
/// entries elsewhere if more blanks separate a word from its meaning; the rest are paragraphs.
pub struct Sections<'a>(pub &'a str);

impl Sections<'_> {
    /// Format the sections for troff.
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
                put(
                    &mut page,
                    format_args!(".SH {}\n", quoted(&heading.to_uppercase())),
                );
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
                put(&mut page, format_args!("{}\n", escaped(&line[2..])));
            } else if let Some((word, meaning)) = entry(line) {
                put(
                    &mut page,
                    format_args!(".TP\n\\fB{}\\fR\n{}\n", escaped(word), escaped(meaning)),
                );
            } else {
                put(&mut page, format_args!("{}\n", escaped(line.trim())));
            }
        }
        close(&mut page, &mut open);
        // A heading or an entry needs no paragraph before it.
        page.replace(".PP\n.SH", ".SH").replace(".PP\n.TP", ".TP")
    }
}

/// Parse a line `  word   meaning`.
fn entry(line: &str) -> Option<(&str, &str)> {
    let (word, meaning) = line.strip_prefix("  ")?.split_once("  ")?;
    (!word.is_empty() && !word.starts_with(' ')).then_some((word, meaning.trim()))
}

/// Return the section that says how to call `command`: all options with their values, or
/// `[OPTIONS]` if there are more than `most`.
pub fn synopsis(command: &Command, most: usize) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let mut text = format!(".SH SYNOPSIS\n\\fB{}\\fR", escaped(name));
    let (positionals, options): (Vec<_>, Vec<_>) = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .partition(|argument| argument.is_positional());
    if options.len() > most {
        text.push_str(" [\\fIOPTIONS\\fR]");
    } else {
        for option in options {
            put(&mut text, format_args!(" [{}]", option_synopsis(option)));
        }
    }
    for positional in positionals {
        let several = positional
            .get_num_args()
            .is_some_and(|range| range.max_values() > 1);
        let dots = if several { "..." } else { "" };
        let dashes = if positional.is_last_set() {
            "\\fB\\-\\-\\fR "
        } else {
            ""
        };
        let value = values(positional);
        match positional.is_required_set() {
            true => put(&mut text, format_args!(" {dashes}{value}{dots}")),
            false => put(&mut text, format_args!(" [{dashes}{value}{dots}]")),
        }
    }
    if command.get_subcommands().next().is_some() {
        text.push_str(" \\fICOMMAND\\fR ...");
    }
    text.push('\n');
    text
}

/// Format an option as `-o|--option VALUE`.
fn option_synopsis(option: &Arg) -> String {
    let short = option.get_short().map(|short| format!("\\-{short}"));
    let long = option
        .get_long()
        .map(|long| format!("\\-\\-{}", escaped(long)));
    let names: Vec<_> = short
        .into_iter()
        .chain(long)
        .map(|name| format!("\\fB{name}\\fR"))
        .collect();
    let names = names.join("|");
    let range = option.get_num_args().unwrap_or_default();
    let equals = option.is_require_equals_set();
    match (range.takes_values(), range.min_values(), equals) {
        (false, ..) => names,
        (true, 0, _) => format!("{names}[={}]", values(option)),
        (true, _, true) => format!("{names}={}", values(option)),
        (true, _, false) => format!("{names} {}", values(option)),
    }
}

/// Return the names of an argument's values.
fn values(argument: &Arg) -> String {
    let id = argument.get_id().as_str().to_uppercase();
    let names = match argument.get_value_names() {
        Some(names) => names.iter().map(|name| name.to_string()).collect(),
        None => vec![id],
    };
    format!("\\fI{}\\fR", escaped(&names.join(" ")))
}

/// Return the section that names other pages, `daxfs(5)` and their like.
pub fn see_also(pages: &[&str]) -> String {
    let mut text = String::from(".SH \"SEE ALSO\"\n");
    for (n, page) in pages.iter().enumerate() {
        let (name, section) = page.split_once('(').unwrap_or((page, ""));
        let comma = if n + 1 < pages.len() { "," } else { "" };
        put(
            &mut text,
            format_args!(".BR {} ({section}{comma}\n", escaped(name)),
        );
    }
    text
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(what);
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// Escape `text` for troff.
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
        let files = Arg::new("file").required(true).num_args(1..);
        let mut command = Command::new("a-b")
            .disable_help_flag(true)
            .arg(
                Arg::new("kind")
                    .short('k')
                    .long("the-kind")
                    .value_name("KIND"),
            )
            .arg(
                Arg::new("fd")
                    .short('C')
                    .num_args(0..=1)
                    .require_equals(true),
            )
            .arg(Arg::new("all").long("all").action(clap::ArgAction::SetTrue))
            .arg(files);
        command.build();
        let expected =
            ".SH SYNOPSIS\n\\fBa\\-b\\fR [\\fB\\-k\\fR|\\fB\\-\\-the\\-kind\\fR \\fIKIND\\fR] \
                        [\\fB\\-C\\fR[=\\fIFD\\fR]] [\\fB\\-\\-all\\fR] \\fIFILE\\fR...\n";
        assert_eq!(synopsis(&command, 3), expected);
        let expected = ".SH SYNOPSIS\n\\fBa\\-b\\fR [\\fIOPTIONS\\fR] \\fIFILE\\fR...\n";
        assert_eq!(synopsis(&command, 2), expected);
    }
}
