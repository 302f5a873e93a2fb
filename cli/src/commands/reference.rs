//! The reference of all commands in Markdown: `docs/cli.md`.

use crate::cli;
use std::fmt::Write as _;

/// Written at the width of a page, whatever the terminal.
const WIDTH: usize = 100;

pub fn markdown() -> String {
    let mut root = cli::command().term_width(WIDTH);
    root.build();
    let mut out = String::from(
        "# The `windlass` command\n\n\
         <!-- Made by `windlass reference > docs/cli.md`; a test compares the two. -->\n\n\
         The same text as `--help`, in one place.\n",
    );
    section(&root, "windlass", &mut out);
    out
}

fn section(command: &clap::Command, path: &str, out: &mut String) {
    let level = "#".repeat(path.split(' ').count().min(2) + 1);
    let mut command = command.clone().term_width(WIDTH);
    if path.contains(' ') {
        // The global options stand once, with the program itself.
        command = command.mut_args(|arg| {
            let once = arg.is_global_set() || arg.get_id() == "help";
            arg.hide(once)
        });
    }
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let help = help.join("\n");
    _ = write!(out, "\n{level} `{path}`\n\n```text\n{}\n```\n", help.trim_end());
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        section(inner, &format!("{path} {}", inner.get_name()), out);
    }
}
