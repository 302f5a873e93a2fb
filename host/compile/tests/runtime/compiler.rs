//! The helper in its sandbox, and the cache of what it makes.

use crate::world::{World, bundle, helper, until};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};
use windlass_bundle::NodePolicy;
use windlass_runtime::{
    LoadError,
    aot::{CachedError, CompileError, Compiler},
};

/// A helper that waits for its component.
fn waiting() -> std::process::Child {
    Command::new(helper())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn status(pid: u32) -> BTreeMap<String, String> {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

#[tokio::test]
async fn the_helper_is_locked_in_before_it_reads() {
    let mut child = waiting();
    let pid = child.id();
    let status = until("the filter of system calls is there", || {
        Some(status(pid)).filter(|status| status.get("Seccomp").is_some_and(|mode| mode == "2"))
    })
    .await;
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Threads"], "1");
    if rustix::process::geteuid().is_root() {
        assert_eq!(status["Uid"].split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
        assert_eq!(status["Gid"].split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
        assert_eq!(status["Groups"], "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set}");
        }
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        assert_eq!(open, 3, "three pipes and nothing else");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        for (limit, value) in [
            ("Max open files", "0"),
            ("Max file size", "0"),
            ("Max processes", "0"),
            ("Max core file size", "0"),
            ("Max cpu time", "120"),
            ("Max address space", "4294967296"),
        ] {
            let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
            let words: Vec<&str> = line[limit.len()..].split_whitespace().collect();
            assert_eq!(words[..2], [value; 2], "{line}");
        }
    }
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(65), "an empty component is none");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn what_is_no_component_is_rejected_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let compiler = Compiler::new(helper(), dir.path().join("cache"));
    let torture = bundle("torture").component;
    let module = b"\0asm\x01\0\0\0".to_vec();
    let cut = torture[..torture.len() / 2].to_vec();
    for bytes in [b"".to_vec(), b"hello".to_vec(), module, cut] {
        let error = compiler.compiled(&bytes).await.unwrap_err();
        let CompileError::Rejected(why) = &error else { panic!("{error:?}") };
        assert!(!why.is_empty());
    }
    assert!(files(&dir.path().join("cache")).is_empty(), "nothing is left behind");
}

/// Damaged components must never bring more than a refusal: not a crash of the helper, and
/// certainly not code that loads.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_components_are_rejected_or_compiled_but_harm_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let compiler = Compiler::new(helper(), dir.path().join("cache"));
    let torture = bundle("torture").component;
    for step in 1..12_usize {
        let mut bytes = torture.clone();
        let at = torture.len() * step / 12;
        bytes[at] ^= 0x55;
        match compiler.compiled(&bytes).await {
            Ok(_) | Err(CompileError::Rejected(_)) => {}
            Err(error) => panic!("byte {at}: {error:?}"),
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn changed(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compiled_is_kept_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let component = bundle("torture").component;
    let path = Compiler::new(helper(), cache.clone()).compiled(&component).await.unwrap();
    assert_eq!(files(&cache).len(), 2, "{:?}", files(&cache));
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o7777, 0o700);
    for file in files(&cache) {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    // A later start finds it, and needs no helper for that.
    let made = changed(&path);
    let again = Compiler::new("/nonexistent".into(), cache).compiled(&component).await.unwrap();
    assert_eq!((again, changed(&path)), (path.clone(), made));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_at_the_same_time_share_one_compilation() {
    let dir = tempfile::tempdir().unwrap();
    // A helper that leaves a mark each time it is started.
    let script = dir.path().join("helper");
    let marks = dir.path().join("marks");
    let text = format!("#!/bin/sh\necho >> {}\nexec {}\n", marks.display(), helper().display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let compiler = std::sync::Arc::new(Compiler::new(script, dir.path().join("cache")));
    let component = std::sync::Arc::new(bundle("torture").component);
    let tasks: Vec<_> = (0..5)
        .map(|_| {
            let (compiler, component) = (compiler.clone(), component.clone());
            tokio::spawn(async move { compiler.compiled(&component).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(fs::read_to_string(&marks).unwrap().lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_never_loaded_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let torture = bundle("torture");
    let compiler = Compiler::new(helper(), dir.path().join("cache"));
    let path = compiler.compiled(&torture.component).await.unwrap();
    let intact = fs::read(&path).unwrap();
    let world = World::new().await;
    let load = || world.runtime.load(&torture, &path, &NodePolicy::default(), None, Value::Null);
    load().unwrap();

    let mut damaged = intact.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    // Replaced, not changed in place: the loaded plugin still maps the old file.
    let replace = |bytes: &[u8]| {
        let new = dir.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, &path).unwrap();
    };
    replace(&damaged);
    let error = load().unwrap_err();
    assert!(matches!(error, LoadError::Cached(CachedError::Changed { .. })), "{error}");
    assert_eq!(compiler.compiled(&torture.component).await.unwrap(), path);
    assert_eq!(fs::read(&path).unwrap(), intact, "compiling is deterministic");
    load().unwrap();

    // A file without its sum is as good as none.
    fs::remove_file(path.with_extension("sha256")).unwrap();
    assert!(matches!(load().unwrap_err(), LoadError::Cached(CachedError::Changed { .. })));
    compiler.compiled(&torture.component).await.unwrap();
    load().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_others_may_write_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let component = bundle("torture").component;
    let compiler = Compiler::new(helper(), cache.clone());
    let path = compiler.compiled(&component).await.unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let error = compiler.compiled(&component).await.unwrap_err();
    assert!(matches!(error, CompileError::Cache(CachedError::Unsafe { .. })), "{error}");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = compiler.compiled(&component).await.unwrap_err();
    assert!(matches!(error, CompileError::Cache(CachedError::Unsafe { .. })), "{error}");
}

#[tokio::test]
async fn a_helper_that_fails_says_how() {
    let dir = tempfile::tempdir().unwrap();
    let component = bundle("torture").component;
    let missing = Compiler::new("/nonexistent/helper".into(), dir.path().join("a"));
    let error = missing.compiled(&component).await.unwrap_err();
    assert!(matches!(error, CompileError::Helper { .. }), "{error}");
    let broken = Compiler::new("/usr/bin/false".into(), dir.path().join("b"));
    let error = broken.compiled(&component).await.unwrap_err();
    assert!(matches!(error, CompileError::Broke { .. }), "{error}");
    // One that answers with something else than compiled code: the engine does not take it.
    let wrong = Compiler::new("/usr/bin/cat".into(), dir.path().join("c"));
    let path = wrong.compiled(&component).await.unwrap();
    let world = World::new().await;
    let error =
        world.runtime.load(&bundle("torture"), &path, &NodePolicy::default(), None, Value::Null).unwrap_err();
    assert!(matches!(error, LoadError::Incompatible(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiled_plugin_loads_fast_and_is_called_fast() {
    // Generous bounds, for a debug build on a busy machine: they catch a compiler at run time or a
    // poll that sleeps, not a slow day.
    let world = World::new().await;
    let began = std::time::Instant::now();
    for _ in 0..50 {
        assert!(world.call("echo.unsigned", json!({ "value": 1 })).await.outcome.is_success());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
