//! The loop of an author on one machine: run, record, test, with the real programs and no master.

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use windlass_tests::{Binaries, Output, until};

fn windlass(home: &Path, dir: &Path, args: &[&str]) -> Output {
    let output = Command::new(Binaries::find().unwrap().program("windlass"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", home)
        .output()
        .unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The torture plugin as a project that has been built.
struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    fn new() -> Project {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Binaries::find().unwrap().bundle("torture").unwrap();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/torture");
        for folder in ["wit", "target/plugin"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for (from, to) in [
            (sources.join("plugin.toml"), "plugin.toml"),
            (sources.join("wit/world.wit"), "wit/world.wit"),
            (bundle.join("component.wasm"), "target/plugin/torture-0.1.0.wasm"),
        ] {
            fs::copy(from, dir.path().join(to)).unwrap();
        }
        Project { dir }
    }

    /// A file of the project.
    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn replace(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.at(path)).unwrap();
        assert!(text.contains(from), "no `{from}` in {text}");
        self.write(path, &text.replace(from, to));
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.at(path)).unwrap()).unwrap()
    }

    fn plugin(&self, args: &[&str]) -> Output {
        windlass(&self.at("home"), self.dir.path(), &[&["plugin"], args].concat())
    }
}

#[test]
fn the_cases_of_our_plugins_pass() {
    let home = tempfile::tempdir().unwrap();
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let mut tested = 0;
    for entry in fs::read_dir(plugins).unwrap() {
        let project = entry.unwrap().path();
        if !project.join("cases").is_dir() {
            continue;
        }
        let name = project.file_name().unwrap().to_str().unwrap().to_owned();
        let bundle = Binaries::find().unwrap().bundle(&name).unwrap();
        let args =
            ["plugin", "test", project.to_str().unwrap(), "--bundle", bundle.to_str().unwrap(), "-o", "json"];
        let result = windlass(home.path(), home.path(), &args).expect(0).json();
        assert!(result["ok"].as_u64().unwrap() > 0 && result["failed"] == 0, "{name}: {result}");
        tested += 1;
    }
    assert!(tested >= 2, "zfs and monitor have cases");
}

#[test]
fn an_operation_runs_here_as_it_would_on_a_node() {
    let project = Project::new();
    let run = project.plugin(&["run", "act.run", "program=printf", "args=hello", "--trace"]).expect(0);
    for text in ["hello", "succeeded", "commands.run", "commands.printf.allow[0]"] {
        assert!(run.stdout.contains(text), "no `{text}` in\n{}", run.stdout);
    }
    assert!(run.stderr.contains(" of memory at most"), "{}", run.stderr);

    // With its full name, from elsewhere, for a program.
    let path = project.at("target/plugin/torture-0.1.0.wasm");
    let args =
        ["plugin", "run", path.to_str().unwrap(), "torture.echo.unsigned", "value=18446744073709551615"];
    let run = windlass(&project.at("home"), Path::new("/"), &[&args[..], &["-o", "json"]].concat()).expect(0);
    assert!(run.stdout.contains("18446744073709551615"), "{}", run.stdout);
    assert_eq!(run.json()["outcome"]["status"], "succeeded");
    assert!(run.json()["stats"]["memory_peak_bytes"].as_u64().unwrap() > 1 << 16);

    // What the plugin stores is there the next time.
    for count in [1, 2] {
        let run = project.plugin(&["run", "act.count", "key=a", "-o", "json"]).expect(0).json();
        assert_eq!(run["outcome"]["value"], count);
    }
}

#[test]
fn exit_codes_and_words_are_those_of_windlass_run() {
    let project = Project::new();
    let failed = project.plugin(&["run", "echo.fail", "message=no"]).expect(3);
    assert!(failed.stdout.contains("failed") && failed.stdout.contains("polygon"), "{}", failed.stdout);
    let trapped = project.plugin(&["run", "limits.eat", "mebibytes=1000"]).expect(3);
    assert!(trapped.stdout.contains("limits.memory"), "{}", trapped.stdout);
    let denied = project.plugin(&["run", "act.run", "program=rm", "args=/"]).expect(4);
    assert!(denied.stdout.contains("no `[commands.rm]`"), "{}", denied.stdout);
    for (args, error, hint) in [
        (&["run", "echo.unsigned", "value=many"][..], "/value: expected u64", "it takes `value: u64`"),
        (&["run", "echo.unsined", "value=1"], "no operation `echo.unsined`", "did you mean `echo.unsigned`?"),
        (&["run", "./elsewhere", "echo.nothing"], "there is no `./elsewhere`", ""),
        (&["run", "./wit", "echo.nothing"], "`./wit` holds no plugin", "`windlass plugin new`"),
    ] {
        let output = project.plugin(args).expect(2);
        assert!(output.stderr.contains(error) && output.stderr.contains(hint), "{args:?}: {}", output.stderr);
    }
    fs::remove_file(project.at("target/plugin/torture-0.1.0.wasm")).unwrap();
    let output = project.plugin(&["run", "echo.nothing"]).expect(1);
    assert!(
        output.stderr.contains("is not built") && output.stderr.contains("windlass plugin build"),
        "{output:?}"
    );
}

#[test]
fn a_dry_run_shows_what_it_would_do() {
    let project = Project::new();
    let path = format!("/tmp/windlass-torture/author-{}", std::process::id());
    let args = ["run", "act.change", "program=touch", &format!("args={path}"), "--dry-run"];
    let run = project.plugin(&args).expect(0);
    assert!(run.stdout.contains(&format!("would run touch {path}")), "{}", run.stdout);
    assert!(!Path::new(&path).exists());
}

#[test]
fn a_build_that_is_older_than_its_sources_is_told() {
    let project = Project::new();
    let component =
        fs::File::options().write(true).open(project.at("target/plugin/torture-0.1.0.wasm")).unwrap();
    component.set_modified(std::time::UNIX_EPOCH).unwrap();
    let run = project.plugin(&["run", "echo.nothing"]).expect(0);
    assert!(
        run.stderr.contains("is older than") && run.stderr.contains("windlass plugin build"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_was_recorded_is_tested_without_the_node() {
    let project = Project::new();
    let calls = project
        .plugin(&["record", "hello", "act.run", "program=printf", "args=hello", "--about", "A greeting."])
        .expect(0);
    assert_eq!(calls.stdout, "./cases/hello\n");
    project.plugin(&["record", "typed-error", "echo.fail", "message=no"]).expect(0);
    project.plugin(&["record", "denied", "act.run", "program=rm", "args=/"]).expect(0);
    project.plugin(&["record", "stored", "act.count", "key=a"]).expect(0);
    project.plugin(&["record", "dry", "act.count", "key=a", "--dry-run"]).expect(0);
    assert_eq!(
        project.json("cases/hello/call.json"),
        json!({ "about": "A greeting.", "operation": "act.run", "args": { "program": "printf", "args": ["hello"] } })
    );
    assert_eq!(project.json("cases/hello/cassette.json")["calls"][0]["returns"]["stdout"], "hello");
    assert_eq!(project.json("cases/hello/expected.json"), json!([0, "hello"]));
    assert_eq!(project.json("cases/typed-error/expected-error.json"), json!({ "polygon": ["no", 3] }));
    assert!(!project.at("cases/typed-error/cassette.json").exists(), "it asks nothing of its host");
    assert_eq!(project.json("cases/denied/expected-denial.json")["capability"], "commands.run");
    assert_eq!(project.json("cases/dry/call.json")["dry_run"], true);

    // Where nothing of it is: no such program, and another state.
    project.replace("plugin.toml", "/usr/bin/", "/nowhere/");
    project.plugin(&["run", "act.count", "key=a"]).expect(0);
    let tested = project.plugin(&["test"]).expect(0);
    assert_eq!(tested.stdout.matches("ok  ").count(), 5, "{}", tested.stdout);
    assert!(
        tested.stdout.contains("MiB") && tested.stdout.contains("s\n"),
        "memory and time: {}",
        tested.stdout
    );
    assert!(tested.stderr.contains("5 cases: 5 ok"), "{}", tested.stderr);
    let one = project.plugin(&["test", "typed", "-o", "json"]).expect(0).json();
    assert_eq!(one["cases"].as_array().unwrap().len(), 1);
    assert_eq!((&one["cases"][0]["verdict"], &one["ok"]), (&json!("ok"), &json!(1)));

    // What never came to an end makes no case, and none is replaced unasked.
    let trapped = project.plugin(&["record", "trapped", "limits.panic", "message=oh"]).expect(1);
    assert!(trapped.stderr.contains("nothing was written") && !project.at("cases/trapped").exists());
    let there = project.plugin(&["record", "hello", "echo.nothing"]).expect(1);
    assert!(there.stderr.contains("--replace"), "{}", there.stderr);
    project.plugin(&["record", "hello", "echo.nothing", "--replace"]).expect(0);
    assert!(!project.at("cases/hello/cassette.json").exists());
    let name = project.plugin(&["record", "../hello", "echo.nothing"]).expect(2);
    assert!(!name.stderr.is_empty());
}

#[test]
fn a_case_that_fails_says_why() {
    let project = Project::new();
    for (case, args) in [
        ("result", "args=hello"),
        ("order", "args=hello"),
        ("kind", "args=hello"),
        ("left", "args=hello"),
        ("broken", "args=hello"),
        ("unknown-file", "args=hello"),
        ("no-expectation", "args=hello"),
        ("granted-once", "args=hello"),
    ] {
        project.plugin(&["record", case, "act.run", "program=printf", args]).expect(0);
    }
    project.write("cases/result/expected.json", "[1, \"hello\"]");
    project.replace("cases/order/call.json", "hello", "bye");
    fs::remove_file(project.at("cases/kind/expected.json")).unwrap();
    project.write("cases/kind/expected-denial.json", r#"{ "capability": "commands.run" }"#);
    let call = project.json("cases/left/cassette.json")["calls"][0].clone();
    let twice = json!({ "cassette": 1, "calls": [call, call] });
    project.write("cases/left/cassette.json", &twice.to_string());
    project.replace("cases/broken/cassette.json", "\"stdout\"", "\"stdot\"");
    project.write("cases/unknown-file/casette.json", "{}");
    fs::remove_file(project.at("cases/no-expectation/expected.json")).unwrap();
    project.replace("cases/granted-once/call.json", "printf", "rm");
    project.replace("cases/granted-once/cassette.json", "printf", "rm");

    let tested = project.plugin(&["test"]).expect(1);
    for text in [
        "/0  expected 1\n",
        "call 1 is not the one in the cassette\n           cassette: commands.run { \"program\": \"printf\", \"args\": [\"hello\"] }\n           made:     commands.run { \"program\": \"printf\", \"args\": [\"bye\"] }",
        "expected a denial of commands.run, and it succeeded",
        "1 of the cassette's 2 calls was not made",
        "call 1 (`commands.run`): `returns`: unknown field `stdot`",
        "`casette.json` belongs to no case\n         hint: did you mean `cassette.json`?",
        "nothing is expected of it",
        "call 1 is denied, and the cassette has an answer for it",
    ] {
        assert!(tested.stdout.contains(text), "no `{text}` in\n{}", tested.stdout);
    }
    assert!(tested.stderr.contains("8 cases: 8 failed"), "{}", tested.stderr);
    let result = project.plugin(&["test", "result", "-o", "json"]).expect(1).json();
    let failed = &result["cases"][0];
    assert_eq!(failed["differences"], json!([{ "at": "/0", "expected": 1, "found": 0 }]), "{failed}");

    // What was a new result is taken; what made other calls is not.
    let updated = project.plugin(&["test", "--update"]).expect(1);
    assert_eq!(updated.stdout.matches("updated").count(), 3, "{}", updated.stdout);
    assert_eq!(project.json("cases/result/expected.json"), json!([0, "hello"]));
    assert!(!project.at("cases/kind/expected-denial.json").exists());
    let again = project.plugin(&["test"]).expect(1);
    assert!(again.stderr.contains("3 ok, 5 failed"), "{}", again.stderr);
}

#[test]
fn no_case_is_an_error() {
    let project = Project::new();
    let none = project.plugin(&["test"]).expect(1);
    assert!(
        none.stderr.contains("no cases") && none.stderr.contains("windlass plugin record"),
        "{}",
        none.stderr
    );
    project.plugin(&["record", "one", "echo.nothing"]).expect(0);
    let none = project.plugin(&["test", "two"]).expect(1);
    assert!(none.stderr.contains("no case of 1 has `two` in its name"), "{}", none.stderr);
    project.write("cases/stray.json", "{}");
    let stray = project.plugin(&["test"]).expect(1);
    assert!(stray.stderr.contains("stray.json") && stray.stderr.contains("README.md"), "{}", stray.stderr);
}

#[test]
fn a_recording_can_be_kept_by_itself() {
    let project = Project::new();
    let file = project.at("cassette.json");
    let args = ["run", "act.spawn", "program=seq", "args=3", "--record", file.to_str().unwrap()];
    project.plugin(&args).expect(0);
    let cassette = project.json("cassette.json");
    assert_eq!(cassette["cassette"], 1);
    let names: Vec<&str> =
        cassette["calls"].as_array().unwrap().iter().map(|call| call["call"].as_str().unwrap()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"commands.spawn"), Some(&"process.wait")));
}

/// Processes that run `sleep` with this argument.
fn sleepers(seconds: &str) -> usize {
    let sleeps = |line: &Vec<u8>| {
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.first().is_some_and(|word| word.ends_with(b"sleep"))
            && words.get(1) == Some(&seconds.as_bytes())
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| sleeps(line))
        .count()
}

#[test]
fn ctrl_c_cancels_and_leaves_no_program_behind() {
    let project = Project::new();
    let seconds = format!("{}", 100_000 + std::process::id());
    let child = Command::new(Binaries::find().unwrap().program("windlass"))
        .args(["plugin", "run", "act.sleep", &format!("seconds={seconds}")])
        .current_dir(project.dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("the program runs", || (sleepers(&seconds) == 1).then_some(()));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("cancelled"), "{output:?}");
    assert_eq!(sleepers(&seconds), 0);
}
