//! One node breaks, and all are asked.

use super::{Stop, System, TIME_LIMIT, figures, network::Network, process};
use anyhow::{Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long a mended node may take until it answers again.
const HEALING: Duration = Duration::from_secs(120);

/// How a node breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Its agent was killed.
    Killed,
    /// Its agent is stopped, and its kernel goes on answering for it.
    Frozen,
    /// Its packets are dropped without a word: its connections are half open.
    CutOff,
}

/// What those saw who asked all nodes.
#[derive(Debug, Serialize)]
pub struct Seen {
    pub fault: Fault,
    /// None where the fault can't be made on this machine.
    pub seen: Option<Answers>,
}

/// The ways to ask.
#[derive(Debug, Serialize)]
pub struct Answers {
    pub api_ms: f64,
    /// What the API says of the broken node.
    pub api_says: String,
    pub command_ms: f64,
    pub exit_code: Option<i32>,
    /// What the command says of the broken node.
    pub command_says: String,
}

impl Fault {
    pub const ALL: [Fault; 3] = [Fault::Killed, Fault::Frozen, Fault::CutOff];

    pub fn words(self) -> &'static str {
        match self {
            Fault::Killed => "agent killed",
            Fault::Frozen => "agent frozen (SIGSTOP)",
            Fault::CutOff => "packets dropped, connections half open",
        }
    }
}

/// Break a node, ask all of them, and mend it.
pub async fn look(
    system: &mut impl System,
    fault: Fault,
    names: &[String],
    network: &Network,
) -> Result<Seen> {
    if fault == Fault::CutOff && !network.is_own() {
        return Ok(Seen { fault, seen: None });
    }
    let node = match fault {
        Fault::CutOff => super::APART.to_owned(),
        _ => names[names.len() - 1].clone(),
    };
    let one = std::slice::from_ref(&node);
    let frozen = system.agent(&node);
    match fault {
        Fault::Killed => system.stop(one, Stop::AtOnce)?,
        Fault::Frozen => signal(&frozen, Signal::STOP)?,
        Fault::CutOff => network.cut()?,
    }
    let answers = ask(system, &node, names.len()).await;
    match fault {
        Fault::Killed => drop(system.start(one).await?),
        Fault::Frozen => signal(&frozen, Signal::CONT)?,
        Fault::CutOff => network.mend()?,
    }
    let answers = answers?;
    let began = Instant::now();
    loop {
        let (_, after) = system.ask(TIME_LIMIT).await?;
        if after.iter().filter(|answer| answer.ok).count() == names.len() {
            return Ok(Seen { fault, seen: Some(answers) });
        }
        if began.elapsed() > HEALING {
            bail!("{node} does not answer again: {after:?}");
        }
    }
}

async fn ask(system: &mut impl System, node: &str, count: usize) -> Result<Answers> {
    let (took, answers) = system.ask(TIME_LIMIT).await?;
    let ok = answers.iter().filter(|answer| answer.ok).count();
    ensure!(ok == count - 1, "{ok} nodes of {count} answered, one of them broken: {answers:?}");
    let of_node = answers.iter().find(|answer| answer.node == node);
    let api_says = of_node.map_or_else(|| "nothing".to_owned(), |answer| answer.says.clone());
    let (command_took, output) = process::output(system.command(TIME_LIMIT)).await?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // The line that names it and, where it ends in a colon, the one after.
    let mut lines = text.lines().map(str::trim).skip_while(|line| !names_node(line, node));
    let mut command_says = lines.next().unwrap_or("nothing").to_owned();
    if let (true, Some(next)) = (command_says.ends_with(':'), lines.next()) {
        command_says = format!("{command_says} {next}");
    }
    Ok(Answers {
        api_ms: figures::ms(took),
        api_says,
        command_ms: figures::ms(command_took),
        exit_code: output.status.code(),
        command_says,
    })
}

fn names_node(line: &str, node: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric()).any(|word| word == node)
}

fn signal(pids: &[u32], signal: Signal) -> Result<()> {
    for pid in pids {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            kill_process(pid, signal)?;
        }
    }
    Ok(())
}
