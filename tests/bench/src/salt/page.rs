//! The comparison as a page.

use super::{
    TIME_LIMIT, WITH_FAULTS,
    faults::Answers,
    figures::{Comparison, Figures, Times},
};
use anyhow::{Context as _, Result};
use std::fmt::Write as _;

/// In the documentation.
const PATH: &str = "docs/salt-comparison.md";

/// Print the table.
pub fn print(comparison: &Comparison) {
    #[expect(clippy::print_stdout, reason = "figures are this program's data")]
    {
        println!("{}", table(comparison));
    }
}

/// Write the page.
pub fn write(comparison: &Comparison) -> Result<()> {
    std::fs::write(PATH, page(comparison)).with_context(|| format!("writing `{PATH}`"))
}

fn page(comparison: &Comparison) -> String {
    let Comparison { nodes, machine, windlass, salt, .. } = comparison;
    let own =
        if comparison.isolated { "in a network namespace of its own" } else { "on the loopback interface" };
    format!(
        "# Windlass beside Salt\n\n\
         <!-- Written by `cargo xtask bench salt --update`. Do not edit: run it again. -->\n\n\
         Measured with `cargo xtask bench salt --nodes {nodes} --update` on {date}: {windlass} and {salt}, \
         one after the other, {own}, on a machine with {cores} cores ({processor}), {memory} GiB of memory and \
         Linux {kernel}. The command installs Salt from PyPI into a folder of the checkout, so anybody can \
         repeat it. Each agent is a process of its own; all of them and the master share the machine.\n\n\
         {table}\n\
         {notes}",
        date = machine.date,
        windlass = windlass.name,
        salt = salt.name,
        cores = machine.cores,
        processor = machine.processor,
        memory = machine.memory_mib.div_ceil(1024),
        kernel = machine.kernel,
        table = table(comparison),
        notes = notes(comparison),
    )
}

fn notes(comparison: &Comparison) -> String {
    let limit = TIME_LIMIT.as_secs();
    let with = WITH_FAULTS.min(comparison.nodes);
    format!(
        "What the rows mean:\n\n\
         - The no-op is `test.ping` for Salt and `torture.echo.nothing` for Windlass, an operation that takes \
         and gives nothing. Salt calls a function. Windlass checks the arguments by type, writes the job to \
         its database and the audit log, journals the request on the node, runs it in a fresh sandbox, and \
         keeps and acknowledges the outcome.\n\
         - *API* is a client that stays open: `salt.client.LocalClient`, and one HTTPS connection. *Command \
         line* is a process for each call: `salt '*' test.ping`, and `windlass run … --all`. All nodes of the \
         grid are asked. Figures are medians; the slowest round stands in parentheses.\n\
         - Memory and processor time are those of all processes that belong to an agent or a master, with all \
         nodes connected and nothing to do. PSS counts a page that several processes share in parts, so on \
         one machine it flatters both; a node has one agent, and for it the truth is near RSS.\n\
         - A Salt minion counts as ready when its start event reaches the master, a Windlass host only when it \
         has answered an operation. Both are known to their master and have run before.\n\
         - A node breaks while a grid of {with} is asked, with a time limit of {limit} s given to both (Salt's \
         default; Salt then asks once more what became of the job). Without one, Windlass waits as long as \
         the operation may take. Windlass gives a node that has taken the request, or may have, 5 s more to \
         tell what became of it, since its clock counts too.\n\
         - Settings are the defaults of both, but for addresses and folders, and that Salt's master accepts \
         keys by itself; Windlass nodes are accepted by fingerprint.\n"
    )
}

fn table(comparison: &Comparison) -> String {
    let Comparison { windlass, salt, nodes, .. } = comparison;
    let mut table = Table::new(&windlass.name, &salt.name);
    for (ours, theirs) in windlass.round_trips.iter().zip(&salt.round_trips) {
        let on = plural(ours.nodes);
        table.times(&format!("no-op on {on}, API"), &ours.api, &theirs.api);
        table.times(&format!("no-op on {on}, command line"), &ours.command, &theirs.command);
    }
    let both = |of: fn(&Figures) -> f64| (of(windlass), of(salt));
    table.ratio("one agent at rest, RSS", both(|f| f.agent.rss_kib), mib);
    table.ratio("one agent at rest, PSS", both(|f| f.agent.pss_kib), mib);
    table.ratio("one agent at rest, of a core", both(|f| f.agent.cpu_percent), percent);
    table.ratio(&format!("master with {nodes} nodes at rest, RSS"), both(|f| f.master.rss_kib), mib);
    table.ratio(&format!("master with {nodes} nodes at rest, PSS"), both(|f| f.master.pss_kib), mib);
    table.ratio(
        &format!("master with {nodes} nodes at rest, of a core"),
        both(|f| f.master.cpu_percent),
        percent,
    );
    table.ratio("one agent started until ready", both(|f| f.start_one_ms), time);
    table.ratio(
        &format!("{nodes} agents started at once until all are ready"),
        both(|f| f.start_all_ms),
        time,
    );
    for (ours, theirs) in windlass.faults.iter().zip(&salt.faults) {
        let what = ours.fault.words();
        let cell = |seen: &Option<Answers>, of: fn(&Answers) -> String| {
            seen.as_ref().map_or_else(|| "not possible on this machine".into(), of)
        };
        let api = |answers: &Answers| format!("{}: {}", time(answers.api_ms), code(&answers.api_says));
        table.row(&format!("{what}, API"), &cell(&ours.seen, api), &cell(&theirs.seen, api), "");
        let command = |answers: &Answers| {
            let exit =
                answers.exit_code.map_or_else(|| "a signal".into(), |code| format!("exit code {code}"));
            format!("{}, {exit}: {}", time(answers.command_ms), code(&answers.command_says))
        };
        table.row(
            &format!("{what}, command line"),
            &cell(&ours.seen, command),
            &cell(&theirs.seen, command),
            "",
        );
    }
    table.text
}

struct Table {
    text: String,
}

impl Table {
    fn new(ours: &str, theirs: &str) -> Self {
        Table { text: format!("| | {ours} | {theirs} | ratio |\n| --- | --- | --- | --- |\n") }
    }

    fn row(&mut self, what: &str, ours: &str, theirs: &str, ratio: &str) {
        // A `String` takes all that is written.
        let _ = writeln!(self.text, "| {what} | {ours} | {theirs} | {ratio} |");
    }

    fn ratio(&mut self, what: &str, (ours, theirs): (f64, f64), show: fn(f64) -> String) {
        self.row(what, &show(ours), &show(theirs), &times(theirs, ours));
    }

    fn times(&mut self, what: &str, ours: &Times, theirs: &Times) {
        let show = |times: &Times| format!("{} ({})", time(times.median_ms), time(times.slowest_ms));
        self.row(what, &show(ours), &show(theirs), &times(theirs.median_ms, ours.median_ms));
    }
}

/// How often one fits into the other. Nothing where one of them was too little to be measured.
fn times(theirs: f64, ours: f64) -> String {
    match theirs / ours {
        ratio if !ratio.is_normal() => String::new(),
        ratio if ratio < 10.0 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.0}"),
    }
}

fn plural(nodes: usize) -> String {
    if nodes == 1 { "1 node".into() } else { format!("{nodes} nodes") }
}

fn time(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

fn mib(kib: f64) -> String {
    format!("{:.1} MiB", kib / 1024.0)
}

fn percent(percent: f64) -> String {
    format!("{percent:.2} %")
}

/// Words of a program within a cell: the first line says it.
fn code(words: &str) -> String {
    let line = words.lines().next().unwrap_or_default();
    let collapsed = line.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("`{}`", collapsed.replace('|', "\\|").replace('`', "'"))
}
