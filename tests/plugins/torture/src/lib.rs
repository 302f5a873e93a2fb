//! A plugin that misbehaves in every way a host must survive.

wit_bindgen::generate!({
    path: ["../../../wit/host", "wit"],
    world: "windlass:torture/plugin",
    generate_all,
});

mod tour;

use exports::windlass::torture::{act, echo, limits};
use std::hint::black_box;
use windlass::host::{commands, files, job, output, probes, state};

struct Torture;

impl limits::Guest for Torture {
    fn spin() {
        let mut count = 0_u64;
        loop {
            count = black_box(count.wrapping_add(1));
        }
    }

    fn eat(mebibytes: u32) -> u64 {
        let mut held: Vec<Vec<u8>> = Vec::new();
        for _ in 0..mebibytes {
            held.push(black_box(vec![1; 1 << 20]));
        }
        held.iter().map(|block| block.len() as u64).sum()
    }

    fn recurse(depth: u32) -> u32 {
        fn down(left: u32) -> u32 {
            if left == 0 { 0 } else { black_box(down(black_box(left - 1))) + 1 }
        }
        down(depth)
    }

    fn panic(message: String) {
        panic!("{message}");
    }

    fn print(mebibytes: u32) -> u64 {
        let line = "x".repeat(8191);
        for _ in 0..u64::from(mebibytes) << 7 {
            println!("{line}");
        }
        u64::from(mebibytes) << 20
    }

    fn large_result(mebibytes: u32) -> String {
        "x".repeat((mebibytes as usize) << 20)
    }
}

impl echo::Guest for Torture {
    fn values(value: echo::Everything) -> echo::Everything {
        value
    }
    fn unsigned(value: u64) -> u64 {
        value
    }
    fn nothing() {}
    fn fail(message: String) -> Result<String, echo::Shape> {
        Err(echo::Shape::Polygon((message, 3)))
    }
}

fn command(program: String, args: Vec<String>) -> commands::Command {
    commands::Command { program, args, stdin: None, timeout_ms: None }
}

fn code(status: commands::ExitStatus) -> i32 {
    match status {
        commands::ExitStatus::Code(code) => code,
        commands::ExitStatus::Signal(signal) => -signal,
    }
}

fn run(program: String, args: Vec<String>) -> Result<(i32, String), String> {
    let output = commands::run(&command(program, args)).map_err(|error| format!("{error:?}"))?;
    Ok((code(output.status), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn sleep(seconds: u32) -> Result<(), String> {
    run("sleep".into(), vec![seconds.to_string()]).map(drop)
}

impl act::Guest for Torture {
    fn run(program: String, args: Vec<String>) -> Result<(i32, String), String> {
        run(program, args)
    }

    fn change(program: String, args: Vec<String>) -> Result<(i32, String), String> {
        run(program, args)
    }

    fn spawn(program: String, args: Vec<String>) -> Result<(i32, u64), String> {
        let process = commands::spawn(&command(program, args)).map_err(|error| format!("{error:?}"))?;
        let mut bytes = 0;
        while let Some(chunk) = process.read().map_err(|error| format!("{error:?}"))? {
            bytes += chunk.data.len() as u64;
        }
        process.wait().map(|status| (code(status), bytes)).map_err(|error| format!("{error:?}"))
    }

    fn spawn_many(program: String, args: Vec<String>, count: u32) -> (u32, Option<String>) {
        let mut running = Vec::new();
        for started in 0..count {
            match commands::spawn(&command(program.clone(), args.clone())) {
                Ok(process) => running.push(process),
                Err(error) => return (started, Some(format!("{error:?}"))),
            }
        }
        (count, None)
    }

    fn sleep(seconds: u32) -> Result<(), String> {
        sleep(seconds)
    }

    fn append(path: String, line: String, seconds: u32) -> Result<(), String> {
        let mut content = match files::read(&path) {
            Ok(content) => content,
            Err(files::Error::NotFound) => Vec::new(),
            Err(error) => return Err(format!("{error:?}")),
        };
        content.extend_from_slice(line.as_bytes());
        content.push(b'\n');
        files::write(&path, &content, None).map_err(|error| format!("{error:?}"))?;
        if seconds > 0 { sleep(seconds) } else { Ok(()) }
    }

    fn mark(path: String, line: String, seconds: u32) -> Result<(), String> {
        Self::append(format!("{path}.{}", job::get_context().node_name), line, seconds)
    }

    fn tell(lines: u32, width: u32, seconds: u32) -> Result<u64, String> {
        let mut written = 0;
        for line in 0..lines {
            let text = format!("{line:0width$}\n", width = width as usize);
            output::write(text.as_bytes()).map_err(|error| format!("{error:?}"))?;
            written += text.len() as u64;
        }
        if seconds > 0 {
            Self::sleep(seconds)?;
        }
        Ok(written)
    }

    fn read_file(path: String) -> Result<String, String> {
        files::read(&path)
            .map(|content| String::from_utf8_lossy(&content).into_owned())
            .map_err(|error| format!("{error:?}"))
    }

    fn write_file(path: String, content: String) -> Result<(), String> {
        files::write(&path, content.as_bytes(), None).map_err(|error| format!("{error:?}"))
    }

    fn probe(granted: bool) -> Result<String, String> {
        if granted {
            probes::system().map(|system| system.hostname).map_err(|error| format!("{error:?}"))
        } else {
            probes::memory()
                .map(|memory| memory.total_bytes.to_string())
                .map_err(|error| format!("{error:?}"))
        }
    }

    fn count(key: String) -> Result<u64, String> {
        let old = state::get(&key).map_err(|error| format!("{error:?}"))?;
        let old = old.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        state::set(&key, &(old + 1).to_le_bytes()).map_err(|error| format!("{error:?}"))?;
        Ok(old + 1)
    }

    fn progress(steps: u8) {
        for step in 1..=steps {
            let percent = u8::try_from(u32::from(step) * 100 / u32::from(steps)).ok();
            job::progress(&job::ProgressReport { message: format!("step {step} of {steps}"), percent });
        }
    }

    fn tour(dir: String) -> Result<Vec<String>, String> {
        tour::run(&dir)
    }

    fn chance() -> (u64, u64) {
        use std::hash::{BuildHasher as _, RandomState};
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (u64::try_from(now.as_millis()).unwrap_or(u64::MAX), RandomState::new().hash_one(0))
    }

    fn wait_cancelled() -> u32 {
        let mut runs = 0;
        while !job::is_cancelled() {
            // A cancelled command is an error, and then the loop ends too.
            let _ = run("printf".into(), vec!["x".into()]);
            runs += 1;
            if runs == 1 {
                job::progress(&job::ProgressReport { message: "waiting".into(), percent: None });
            }
        }
        runs
    }
}

export!(Torture);
