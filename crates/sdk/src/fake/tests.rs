use super::*;
use crate::{Command, Error, files, job, log, probes, state};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a test would show when this is run.
fn panic_of<T: std::fmt::Debug>(run: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("this must fail");
    payload
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| (*payload.downcast::<&str>().unwrap()).to_owned())
}

#[test]
fn another_call_than_expected_shows_both_and_where_they_part() {
    let host = Host::new()
        .command("zpool", ["list", "-H"])
        .command("zpool", ["status", "-v", "tank"])
        .command("zfs", ["list"]);
    let text = panic_of(|| {
        host.run(|| {
            Command::new("zpool").args(["list", "-H"]).run().unwrap().success().unwrap();
            Command::new("zpool").args(["status", "-v", "-P", "tank"]).run()
        })
    });
    assert_eq!(
        text,
        "the plugin asked for something else than was expected\n  \
         expected:  zpool status -v tank\n  \
         asked:     zpool status -v -P tank\n  \
         argument 3 is \"-P\", and should be \"tank\"\n  \
         call 1 was: zpool list -H"
    );
}

#[test]
fn order_counts_across_all_kinds_of_calls() {
    let host = || Host::new().write_file("/etc/x", "a").command("reload", [""; 0]);
    host().run(|| {
        files::write("/etc/x", "a").unwrap();
        Command::new("reload").run().unwrap().success().unwrap();
    });
    let text = panic_of(|| host().run(|| Command::new("reload").run()));
    assert!(text.contains("expected:  write of \"a\" to /etc/x\n  asked:     reload"), "{text}");
}

#[test]
fn too_much_and_too_little_fail() {
    let text = panic_of(|| Host::new().read_file("/a", "").run(|| [files::read("/a"), files::read("/b")]));
    assert_eq!(
        text,
        "the plugin asked for more than was expected\n  asked:     read of /b\n  call 1 was: read of /a"
    );
    let text = panic_of(|| Host::new().command("df", ["/a"]).stdin("in").probe("cpu").run(|| ()));
    assert_eq!(
        text,
        "the plugin asked for less than was expected\n  expected:  df /a, given \"in\"\n  expected:  probe cpu"
    );
}

#[test]
fn standard_input_is_part_of_what_is_asked() {
    let ask = |input: Option<&'static str>| {
        move || {
            let command = Command::new("passwd");
            input.into_iter().fold(command, |command, input| command.stdin(input)).run().map(drop)
        }
    };
    let host = || Host::new().command("passwd", [""; 0]);
    assert_eq!(host().stdin("secret").run(ask(Some("secret"))), Ok(()));
    panic_of(|| host().stdin("secret").run(ask(None)));
    panic_of(|| host().stdin("secret").run(ask(Some("other"))));
    panic_of(|| host().run(ask(Some("secret"))));
}

#[test]
fn without_a_host_the_message_says_what_to_do() {
    let text = panic_of(|| Command::new("df").run());
    assert!(text.starts_with("`df` needs a host") && text.contains("fake::Host::new().run("), "{text}");
    // A failed test leaves no host behind, and the next one on this thread can have its own.
    panic_of(|| Host::new().run(|| panic!("of its own")));
    Host::new().run(|| ());
    log::info("a line of a pure function needs no host");
}

#[test]
fn files_give_what_the_script_says() {
    let metadata = Metadata { kind: Kind::File, size_bytes: 3, mode: 0o600, uid: 0, gid: 0, modified_ms: -1 };
    let host = Host::new()
        .read_file("/a", "text")
        .read_file("/b", b"\xff")
        .read_range("/c", 5, 2, "xy")
        .write_file_with_mode("/d", "new", 0o600)
        .list_dir("/e", [("f", Kind::File), ("g", Kind::Directory)])
        .stat("/e/f", metadata)
        .remove("/e/f")
        .make_dir("/h")
        .make_dir_all("/i/j")
        .read_file("/k", "")
        .not_found()
        .read_file("/l", "")
        .denied("no rule")
        .remove("/m")
        .fails(FileError::NotEmpty);
    host.run(|| {
        assert_eq!(files::read_text("/a").unwrap(), "text");
        assert!(
            matches!(files::read_text("/b"), Err(Error::Unexpected(why)) if why.contains("`/b` is not UTF-8"))
        );
        assert_eq!(files::read_range("/c", 5, 2).unwrap(), b"xy");
        files::write_with_mode("/d", "new", 0o600).unwrap();
        let names: Vec<String> = files::list("/e").unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["f", "g"]);
        assert_eq!(files::stat("/e/f").unwrap(), metadata);
        files::remove("/e/f").unwrap();
        files::make_dir("/h").unwrap();
        files::make_dir_all("/i/j").unwrap();
        assert_eq!(files::read("/k"), Err(Error::NotFound("nothing stands at `/k`".into())));
        assert_eq!(files::read("/l"), Err(Error::Denied("no rule".into())));
        let full = files::remove("/m").unwrap_err();
        assert_eq!(full, Error::File { path: "/m".into(), error: FileError::NotEmpty });
        assert_eq!(full.to_string(), "`/m` is not empty");
    });
}

#[test]
fn state_and_probes_give_what_the_script_says() {
    let host = Host::new()
        .get_state("runs", None::<&str>)
        .set_state("runs", "1")
        .get_state("runs", Some("1"))
        .state_keys("r", ["runs"])
        .remove_state("runs")
        .set_state("big", "x")
        .fails(StateError::Limit("64 KiB".into()))
        .mounts(Vec::new())
        .probe("pressure")
        .fails(ProbeError::Unsupported("no PSI".into()))
        .probe("cpu")
        .denied("`cpu`");
    host.run(|| {
        assert_eq!(state::get("runs"), Ok(None));
        state::set("runs", "1").unwrap();
        assert_eq!(state::get("runs"), Ok(Some(b"1".to_vec())));
        assert_eq!(state::keys("r"), Ok(vec!["runs".to_owned()]));
        state::remove("runs").unwrap();
        assert_eq!(state::set("big", "x"), Err(Error::Limit("64 KiB".into())));
        assert_eq!(probes::mounts(), Ok(Vec::new()));
        assert_eq!(probes::pressure(), Err(Error::Unsupported("no PSI".into())));
        assert_eq!(probes::cpu(), Err(Error::Denied("`cpu`".into())));
    });
}

#[test]
fn a_job_has_its_context_outside_of_the_order() {
    let host = Host::new().dry_run().cancelled_after(2).command("df", [""; 0]);
    let (steps, record) = host.record(|| {
        assert!(job::is_dry_run());
        assert_eq!(job::context().configuration, "{}");
        assert!(job::time_left() > std::time::Duration::from_secs(1 << 30));
        let mut steps = 0;
        while job::check_cancelled().is_ok() {
            steps += 1;
            job::progress(format_args!("step {steps}"), 50 * steps);
        }
        job_is_over();
        Command::new("df").timeout(std::time::Duration::from_secs(1)).run().unwrap().success().unwrap();
        steps
    });
    assert_eq!(steps, 2);
    assert_eq!(record.progress, [("step 1".to_owned(), Some(50)), ("step 2".to_owned(), Some(100))]);
    assert_eq!(record.log, [(Level::Warn, "over".to_owned())]);
    assert!(
        matches!(&record.calls[..], [Call::Run(command)] if command.timeout_ms == Some(1000)),
        "{record:?}"
    );

    let late = panic_of(|| Host::new().cancelled_after(0).run(|| job::progress("late", None)));
    assert!(late.contains("the host ends the operation"), "{late}");
}

fn job_is_over() {
    log::warn("over");
}

#[cfg(feature = "json")]
#[test]
fn configuration_is_of_a_type() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        limit: u64,
    }
    let read = |json: &str| Host::new().configuration(json).run(job::configuration::<Settings>);
    assert_eq!(read(r#"{"limit": 18446744073709551615}"#), Ok(Settings { limit: u64::MAX }));
    let wrong = read(r#"{"limits": 1}"#).unwrap_err().to_string();
    assert!(wrong.starts_with("the configuration of this plugin") && wrong.contains("limits"), "{wrong}");
}

#[cfg(feature = "json")]
#[test]
fn values_of_the_store_can_be_json() {
    Host::new().set_state("k", "[1,2]").get_state("k", Some("[1,2]")).get_state("k", Some("x")).run(|| {
        state::set_json("k", &[1, 2]).unwrap();
        assert_eq!(state::get_json("k"), Ok(Some(vec![1, 2])));
        assert!(matches!(state::get_json::<u8>("k"), Err(Error::Unexpected(why)) if why.contains("`k`")));
    });
}

#[test]
fn any_command_is_for_who_looks_at_the_record() {
    let host = Host::new().any_command().exits(2).any_command().prints("x");
    let (_, record) = host.record(|| {
        assert_eq!(Command::new("a").arg("b c").run().unwrap().code(), Some(2));
        assert_eq!(Command::new("d").run().unwrap().text(), Ok("x"));
    });
    assert_eq!(record.calls.iter().map(Call::to_string).collect::<Vec<_>>(), ["a \"b c\"", "d"]);
}

#[test]
fn a_script_that_makes_no_sense_is_told_at_once() {
    assert!(panic_of(|| Host::new().prints("x")).contains("there is none"));
    assert!(panic_of(|| Host::new().read_file("/a", "").prints("x")).contains("not read of /a"));
    assert!(
        panic_of(|| Host::new().probe("cpu").fails(FileError::NotFound)).contains("probe cpu can not fail")
    );
    // A probe that is named must fail: its answer has a method of its own.
    assert!(panic_of(|| Host::new().probe("cpu").run(probes::cpu)).contains("has no answer"));
}
