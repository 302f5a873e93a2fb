//! A plugin that uses all of the SDK, to prove it in a real host.

windlass_sdk::plugin!();

use api::{command, command::Error, grid, node, vault};
use std::time::Duration;
use windlass_sdk::{
    Command, ExitStatus, Secret, Stream, files, job, log, output,
    plan::{Action, Fleet, Plan, Step},
    probes, state,
};

impl command::Guest for Plugin {
    fn run(program: String, args: Vec<String>, stdin: Option<String>) -> Result<String, Error> {
        let mut command = Command::new(program).args(args);
        if let Some(stdin) = stdin {
            command = command.stdin(stdin);
        }
        Ok(command.run()?.success()?.text()?.to_owned())
    }

    fn change(program: String, args: Vec<String>) -> Result<i32, Error> {
        match Command::new(program).args(args).spawn()?.wait()? {
            ExitStatus::Code(code) => Ok(code),
            ExitStatus::Signal(signal) => Ok(-signal),
        }
    }

    fn late(limit_ms: u64) -> Result<(), Error> {
        Command::new("sleep").arg("60").timeout(Duration::from_millis(limit_ms)).run()?.success()?;
        Ok(())
    }

    fn follow(last: u64) -> Result<u64, Error> {
        let mut process = Command::new("seq").arg("4000000000").spawn()?;
        let (mut sum, mut rest) = (0, Vec::new());
        while let Some(chunk) = process.read()? {
            assert_eq!(chunk.stream, Stream::Stdout);
            rest.extend(chunk.data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line =
                    String::from_utf8_lossy(&rest.drain(..=end).collect::<Vec<u8>>()).trim().to_owned();
                let number: u64 = line.parse().map_err(|_| Error::Unexpected(line))?;
                sum += number;
                if number == last {
                    process.kill();
                    return Ok(sum);
                }
            }
        }
        Err(Error::Other("it ended by itself".into()))
    }

    fn json(last: u64) -> Result<u64, Error> {
        let numbers = Command::new("seq").opt("-s", ",").arg(last.to_string()).run()?.success()?;
        let list = format!("[{}]", numbers.text()?.trim());
        let list: Vec<u64> = Command::new("cat").stdin(list).run()?.success()?.json()?;
        Ok(list.iter().sum())
    }

    fn xml(text: String) -> Result<Vec<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Root {
            #[serde(default)]
            a: Vec<String>,
        }
        Ok(Command::new("cat").stdin(text).run()?.success()?.xml::<Root>()?.a)
    }
}

impl vault::Guest for Plugin {
    fn repeat(password: Secret) -> Result<String, Error> {
        let pieces = ["password: ".into(), (&password).into(), "\n".into()];
        let output = Command::new("tee").stdin_with(pieces).run()?.success()?;
        let text = output.text()?.trim().to_owned();
        log::info(format_args!("it said {text}"));
        job::progress(format_args!("it said {text}"), None);
        println!("{text}");
        Ok(text)
    }

    fn digest(password: Secret) -> Result<String, Error> {
        let output = Command::new("sha256sum").stdin_with([(&password).into()]).run()?.success()?;
        Ok(output.text()?.split_whitespace().next().unwrap_or_default().to_owned())
    }

    fn variable(password: Secret) -> Result<String, Error> {
        let command = Command::new("printenv").arg("KIT_PASSWORD").env_secret("KIT_PASSWORD", &password);
        Ok(command.run()?.success()?.text()?.trim().to_owned())
    }

    fn spill(_password: Secret, path: String) -> Result<String, Error> {
        let text = files::read_text(&path)?;
        for piece in text.as_bytes().chunks(3) {
            output::write(piece)?;
        }
        log::warn(&text);
        job::progress(&text, None);
        Ok(text)
    }

    fn misplaced(password: Secret) -> Result<String, Error> {
        Ok(Command::new("cat").stdin_with([(&password).into()]).run()?.success()?.text()?.to_owned())
    }

    fn forged(_password: Option<Secret>, handle: String) -> Result<String, Error> {
        let forged = Secret { secret_handle: handle };
        Ok(Command::new("tee").stdin_with([(&forged).into()]).run()?.success()?.text()?.to_owned())
    }
}

impl node::Guest for Plugin {
    fn tree(under: String) -> Result<String, Error> {
        let (parent, dir) = (format!("{under}/kit"), format!("{under}/kit/deep"));
        let file = format!("{dir}/file");
        files::make_dir_all(&dir)?;
        files::write_with_mode(&file, "0123456789", 0o600)?;
        let entries = files::list(&dir)?;
        let seen = format!(
            "{} entry, {:?}, mode {:o}, {}",
            entries.len(),
            entries[0].kind,
            files::stat(&file)?.mode & 0o777,
            String::from_utf8_lossy(&files::read_range(&file, 3, 4)?)
        );
        for path in [&file, &dir, &parent] {
            job::check_cancelled()?;
            files::remove(path)?;
        }
        Ok(seen)
    }

    fn read(path: String) -> Result<String, Error> {
        Ok(files::read_text(&path)?)
    }

    fn probe(granted: bool) -> Result<String, Error> {
        Ok(if granted { probes::system()?.hostname } else { probes::cpu()?.model })
    }

    fn count(key: String) -> Result<Vec<String>, Error> {
        let count: u64 = state::get_json(&key)?.unwrap_or(0);
        state::set_json(&key, &(count + 1))?;
        Ok(vec![format!("{key}={}", count + 1), state::keys("")?.join(",")])
    }

    fn about() -> Result<(String, String, bool, u64), Error> {
        #[derive(serde::Deserialize)]
        struct Settings {
            answer: u64,
        }
        let settings: Settings = job::configuration()?;
        let context = job::context();
        log::warn(format_args!("{} asks", context.job_id));
        assert!(job::time_left() > Duration::ZERO && job::time_left() <= Duration::from_secs(60));
        job::progress("half of it", 50);
        Ok((context.node_name, context.operation, job::is_dry_run(), settings.answer))
    }
}

impl grid::Guest for Plugin {
    fn count(fleet: Fleet, key: String) -> Result<Plan, String> {
        let mut plan = Plan::new(format!("count {key} on all nodes"));
        for node in &fleet.nodes {
            if !node.online || node.flag("maintenance") {
                plan.note(format!("{} is left out: it is offline or in maintenance", node.name));
                continue;
            }
            let system: String = node.fact("os").unwrap_or_default();
            let args = serde_json::json!({ "key": format!("{key}.{}", fleet.run) });
            let before = plan.steps.last().map(|step: &Step| step.id.clone());
            plan.steps.push(
                Step::new(
                    &node.name,
                    format!("count on {}", node.name),
                    Action::new(&node.name, "kit.node.count", &args),
                )
                .after(before)
                .reason(format!("in zone {}, running {system}", node.label("zone").unwrap_or("none"))),
            );
        }
        if plan.steps.is_empty() { Err("there is no node to count on".into()) } else { Ok(plan) }
    }

    fn reach(what: String) -> Result<Plan, String> {
        let told = match what.as_str() {
            "command" => Command::new("seq").arg("1").run().map(drop),
            "file" => files::read_text("/tmp/windlass-torture/x").map(drop),
            "probe" => probes::system().map(drop),
            _ => state::get_json::<u64>("key").map(drop),
        };
        Err(told.map_or_else(|error| error.to_string(), |()| "it was done".into()))
    }

    fn raw(node: String, args: String) -> Result<Plan, String> {
        let mut plan = Plan::new("raw");
        let act = Action { node, operation: "kit.node.count".into(), args };
        plan.steps.push(Step::new("step", "step", act));
        Ok(plan)
    }
}

windlass_sdk::errors!(Error: |error| match error {
    windlass_sdk::Error::Denied(why) => Self::Denied(why),
    windlass_sdk::Error::NotFound(what) => Self::NotFound(what),
    windlass_sdk::Error::TimedOut { limit_ms, .. } => Self::TimedOut(limit_ms),
    windlass_sdk::Error::DryRun(_) => Self::DryRun,
    windlass_sdk::Error::Exit(exit) => Self::Exit((exit.code(), exit.stderr)),
    windlass_sdk::Error::Truncated(_) => Self::Truncated,
    windlass_sdk::Error::Unexpected(what) => Self::Unexpected(what),
    other => Self::Other(other.to_string()),
});
