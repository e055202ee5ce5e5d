// SPDX-License-Identifier: GPL-2.0-only

//! Generates manual pages and shell completions of all programs from their command lines and help.
//!
//! `manual DIR` writes the pages to `DIR/man`, the completions to `DIR/completions`.

mod sections;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use sections::Sections;
use std::io;

/// A file: its name and its content.
pub type File = (String, Vec<u8>);

const MANUAL: &str = "System administration";

/// Date of the pages: of the last release, or of the last change to a page.
const DATE: &str = "2026-12-01";

/// A program, and related pages.
struct Program {
    command: Command,
    see_also: &'static [&'static str],
}

fn programs() -> [Program; 5] {
    use daxfs::commands::{Args, FsckHelper, MountHelper};
    [
        Program {
            command: mkdaxfs::options::Args::command(),
            see_also: &["daxfs(5)", "daxfs(8)", "tar(1)", "chmod(1)"],
        },
        Program {
            command: Args::command(),
            see_also: &["daxfs(5)", "mkdaxfs(8)"],
        },
        Program {
            command: MountHelper::command(),
            see_also: &["daxfs(5)", "daxfs-load(8)", "mount(8)"],
        },
        Program {
            command: FsckHelper::command(),
            see_also: &["daxfs-fsck(8)", "fsck(8)"],
        },
        Program {
            command: daxfs_snapshotter::options::Args::command(),
            see_also: &["daxfs(5)", "daxfs-top(8)", "containerd(8)", "ctr(8)"],
        },
    ]
}

/// Returns the manual pages; pages of commands under a program are called `program-command`.
pub fn pages() -> io::Result<Vec<File>> {
    let mut pages = Vec::new();
    for Program { command, see_also } in programs() {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        pages.push(page(&command, command.get_name(), see_also)?);
        below(&command, command.get_name(), &mut pages)?;
    }
    // mkfs(8) finds the program under this name.
    pages.push(("mkfs.daxfs.8".into(), b".so man8/mkdaxfs.8\n".to_vec()));
    Ok(pages)
}

/// Adds the pages of the commands under `command`; its page is called `name`.
fn below(command: &Command, name: &str, pages: &mut Vec<File>) -> io::Result<()> {
    for inner in command.get_subcommands() {
        let inner_name = format!("{name}-{}", inner.get_name());
        let above = format!("{name}(8)");
        pages.push(page(inner, &inner_name, &[&above, "daxfs(5)"])?);
        below(inner, &inner_name, pages)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str, see_also: &[&str]) -> io::Result<File> {
    let mut page =
        b".\\\" SPDX-License-Identifier: GPL-2.0-only\n.\\\" Made from the program's own help.\n"
            .to_vec();
    let title = Man::new(command.clone())
        .title(name.to_uppercase())
        .section("8")
        .date(DATE)
        .source(format!("daxfs {}", env!("CARGO_PKG_VERSION")))
        .manual(MANUAL);
    title.render_title(&mut page)?;
    title.render_name_section(&mut page)?;
    page.extend(sections::synopsis(&mut command.clone()).into_bytes());
    title.render_description_section(&mut page)?;
    if command.get_subcommands().next().is_some() {
        title.render_subcommands_section(&mut page)?;
    }
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        title.render_options_section(&mut page)?;
    }
    let help = command
        .get_after_long_help()
        .or_else(|| command.get_after_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    page.extend(Sections(&help).to_roff().into_bytes());
    page.extend(sections::see_also(see_also).into_bytes());
    let page = String::from_utf8_lossy(&page);
    Ok((format!("{name}.8"), tidy(&page).into_bytes()))
}

/// Removes clap_mangen's repetitions: the same two lines before each section, and breaks between
/// paragraphs.
fn tidy(page: &str) -> String {
    const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    let page = match page.split_once(PREAMBLE) {
        Some((head, rest)) => [head, PREAMBLE, &rest.replace(PREAMBLE, "")].concat(),
        None => page.into(),
    };
    page.replace(".br\n\n.br\n", ".sp\n")
}

/// Returns completions for bash, zsh and fish, in directories of these names.
pub fn completions() -> Vec<File> {
    let mut files = Vec::new();
    for (shell, directory) in [
        (Shell::Bash, "bash"),
        (Shell::Zsh, "zsh"),
        (Shell::Fish, "fish"),
    ] {
        let commands =
            programs().map(|program| (program.command.get_name().to_owned(), program.command));
        // mkfs(8) finds the program under this name, and so do shells.
        let mkfs = [("mkfs.daxfs".to_owned(), mkdaxfs::options::Args::command())];
        for (name, mut command) in commands.into_iter().chain(mkfs) {
            let file = match shell {
                Shell::Zsh => format!("_{name}"),
                Shell::Fish => format!("{name}.fish"),
                _ => name.clone(),
            };
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, &*name, &mut text);
            files.push((format!("{directory}/{file}"), text));
        }
    }
    files
}
