//! Man pages of the daemons: what they say of themselves, with the commands of each.

use crate::{Result, run, tree::write};
use std::{fmt::Write as _, path::Path, process::Command};

/// Of a program with commands, which are those in its help.
pub(crate) fn page(programs: &Path, name: &str, root: &Path) -> Result<()> {
    let program = programs.join(name);
    let help = run(Command::new(&program).arg("--help"))?;
    let summary = help.lines().next().unwrap_or_default().trim_end_matches('.');
    let mut text = head(name, summary);
    section(&mut text, "DESCRIPTION", &help);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|l| !l.is_empty());
    // Lines with more space at their beginning go on with what the one before says.
    let commands = commands.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    for command in commands.filter_map(|line| line.split(' ').next()).filter(|word| *word != "help") {
        let help = run(Command::new(&program).args([command, "--help"]))?;
        section(&mut text, &format!("{name} {command}").to_uppercase(), &help);
    }
    write(&root.join(format!("usr/share/man/man1/{name}.1")), text.as_bytes())
}

/// Of the compiler, which nobody starts by hand.
pub(crate) fn of_compiler(root: &Path) -> Result<()> {
    let mut text = head("windlass-compile", "compiles plugins for windlass-host");
    section(
        &mut text,
        "DESCRIPTION",
        "Started by windlass-host(1), which gives it one component on standard input and takes machine code from\n\
         its standard output. It gives up its rights before it reads the first byte. It takes no arguments.",
    );
    write(&root.join("usr/share/man/man1/windlass-compile.1"), text.as_bytes())
}

/// Title and name: man-pages(7).
fn head(name: &str, summary: &str) -> String {
    let mut letters = summary.chars();
    let summary: String =
        letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect();
    format!(
        ".TH {} 1 \"\" \"Windlass\" \"User Commands\"\n.SH NAME\n{} \\- {}\n",
        escape(&name.to_uppercase()),
        escape(name),
        escape(&summary)
    )
}

/// Text as it stands, in a section of its own.
fn section(page: &mut String, title: &str, text: &str) {
    let _ = writeln!(page, ".SH \"{title}\"\n.nf");
    for line in text.lines() {
        let _ = writeln!(page, "{}", escape(line));
    }
    page.push_str(".fi\n");
}

/// groff(7): backslashes begin requests anywhere, points and apostrophes at the start of a line; a hyphen
/// that is to be copied has one.
fn escape(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_help_is_taken_for_a_request_of_groff() {
        let mut page = String::new();
        section(&mut page, "T", ".so /etc/passwd\n'br\n\\X --config C:\\dir");
        assert_eq!(page, ".SH \"T\"\n.nf\n\\&.so /etc/passwd\n\\&'br\n\\eX \\-\\-config C:\\edir\n.fi\n");
    }
}
