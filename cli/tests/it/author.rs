//! What authors get wrong, and what they are told. Building for real is in `tests/tests/languages.rs`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A folder to work in, with a home of its own and no tools.
struct Desk(tempfile::TempDir);

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Self {
        Desk(tempfile::tempdir().unwrap())
    }

    /// With a plugin `usage` in it.
    fn with_plugin(language: &str) -> Self {
        let desk = Desk::new();
        desk.plugin(&["new", "--lang", language, "usage"]).expect(0);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn plugin(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.env_clear().env("HOME", self.0.path()).env("PATH", self.path("no-tools"));
        let Output { status, stdout, stderr } =
            command.current_dir(self.0.path()).arg("plugin").args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}:\n{text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

impl Ended {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Each of these texts is on standard error.
    #[track_caller]
    fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        }
        self
    }
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(all_files(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn a_new_plugin_is_right_from_the_start() {
    for language in ["rust", "python", "js", "c"] {
        let desk = Desk::with_plugin(language);
        for file in all_files(&desk.path("usage")) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(!text.contains("{{"), "{} is not filled in", file.display());
        }
        let check = desk.plugin(&["check", "usage", "-o", "json"]).expect(0);
        let check: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
        assert_eq!(check["operations"], serde_json::json!(["disk.usage"]), "{check}");
        assert_eq!(check["warnings"], serde_json::json!([]), "{check}");
    }
}

#[test]
fn nothing_is_overwritten() {
    let desk = Desk::with_plugin("c");
    desk.replace("usage/plugin.toml", "0.1.0", "7.7.7");
    desk.plugin(&["new", "--lang", "c", "usage"]).expect(1).says(&["`usage` is there already", "--dir"]);
    assert!(std::fs::read_to_string(desk.path("usage/plugin.toml")).unwrap().contains("7.7.7"));
    desk.plugin(&["new", "--lang", "js", "usage", "--dir", "other"]).expect(0);
    desk.plugin(&["new", "--lang", "c", "Bad Name"]).expect(2).says(&["`Bad Name` is not a plugin name"]);
    desk.plugin(&["new", "--lang", "c", "x", "--sdk", "."])
        .expect(2)
        .says(&["`--sdk` is for plugins in Rust"]);
}

#[test]
fn missing_tools_are_told_with_how_to_get_them() {
    for (language, tool, hint) in [
        ("rust", "`cargo`", "`rustup target add wasm32-wasip2`"),
        ("python", "`python3`", "apt-get install python3 python3-venv"),
        ("js", "`npm`", "apt-get install nodejs npm"),
        ("c", "`clang`", "apt-get install clang lld wasi-libc"),
    ] {
        let desk = Desk::with_plugin(language);
        desk.plugin(&["build", "usage"]).expect(1).says(&["cannot run", tool, "hint:", hint]);
        desk.plugin(&["pack", "usage"]).expect(1).says(&["is not there", "`windlass plugin build` makes it"]);
    }
}

#[test]
fn mistakes_in_wit_are_shown_with_their_lines() {
    let desk = Desk::with_plugin("c");
    desk.replace("usage/wit/world.wit", "usage: func", "usage func");
    for command in ["check", "build"] {
        let ended = desk.plugin(&[command, "usage"]).expect(1);
        ended.says(&[
            "usage/wit/world.wit:33:9\n",
            "33 |   usage func(path",
            "can not read the WIT in `usage/wit`",
        ]);
    }
}

#[test]
fn mistakes_in_the_manifest_are_shown_with_their_place() {
    let desk = Desk::with_plugin("python");
    desk.replace("usage/plugin.toml", "\"{path}\"", "\"{path\"");
    desk.plugin(&["check", "usage"]).expect(1).says(&["plugin.toml:17:", "has a `{` without its `}`"]);
    let desk = Desk::with_plugin("python");
    desk.replace("usage/plugin.toml", "disk.usage", "disk.usag");
    desk.plugin(&["check", "usage"])
        .expect(1)
        .says(&["exports no such function", "did you mean `disk.usage`?"]);
}

#[test]
fn a_word_of_wit_is_no_name_for_a_plugin() {
    let desk = Desk::new();
    for word in ["list", "stream", "string"] {
        desk.plugin(&["new", "--lang", "c", word]).expect(2).says(&["is a word of WIT", "-tool`"]);
        assert!(!desk.path(word).exists());
    }
    desk.plugin(&["new", "--lang", "c", "list-tool"]).expect(0);
}

#[test]
fn what_is_not_said_is_a_warning() {
    let desk = Desk::with_plugin("c");
    desk.replace("usage/wit/world.wit", "  /// path: absolute path of a file or directory\n", "");
    let manifest = std::fs::read_to_string(desk.path("usage/plugin.toml")).unwrap();
    let (manifest, _) = manifest.split_once("[operations").unwrap();
    std::fs::write(desk.path("usage/plugin.toml"), manifest).unwrap();
    let check = desk.plugin(&["check", "usage"]).expect(0).stdout;
    let destroy = "warning: `disk.usage` is not in plugin.toml, so it counts as `destroy`\n";
    let undocumented = "warning: `disk.usage`: the parameter `path` has no line `path: …` in its comment\n";
    assert!(check.contains(destroy) && check.contains(undocumented), "{check}");
}

#[test]
fn a_folder_tells_its_language_or_is_refused() {
    let desk = Desk::with_plugin("c");
    std::fs::write(desk.path("usage/app.py"), "").unwrap();
    desk.plugin(&["build", "usage"]).expect(1).says(&["`app.py` (Python), `plugin.c` (C)"]);
    for file in ["app.py", "plugin.c"] {
        std::fs::remove_file(desk.path("usage").join(file)).unwrap();
    }
    desk.plugin(&["build", "usage"]).expect(1).says(&["expected one of `Cargo.toml` (Rust)"]);
    desk.plugin(&["check", "."]).expect(2).says(&["it has no `plugin.toml`"]);
}

#[test]
fn a_tool_that_fails_is_shown_from_both_ends() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::with_plugin("c");
    let clang = desk.path("no-tools/clang");
    std::fs::create_dir(desk.path("no-tools")).unwrap();
    let say = "i=1; while [ $i -le 100 ]; do echo line $i.; i=$((i+1)); done >&2; exit 7";
    std::fs::write(&clang, format!("#!/bin/sh\n{say}\n")).unwrap();
    std::fs::set_permissions(&clang, PermissionsExt::from_mode(0o755)).unwrap();
    let ended = desk.plugin(&["build", "usage"]).expect(1);
    assert!(!ended.stderr.contains("line 31.") && !ended.stderr.contains("line 70."), "{ended:#?}");
    ended.says(&[
        "line 1.",
        "line 30.",
        "40 lines left out",
        "line 71.",
        "line 100.",
        "`clang` failed (exit status: 7)",
    ]);
}
