use super::{
    calls::{
        CommandError, CommandsRun, Ended, FilesRead, FilesWrite, JobIsCancelled, NAMES, Output, StateGet,
    },
    text::Bytes,
    *,
};
use crate::os::files::FilesError;
use proptest::prelude::*;
use std::collections::BTreeSet;

const EVERY_CALL: &str = include_str!("every-call.json");

fn run(program: &str, args: &[&str]) -> CommandsRun {
    CommandsRun {
        program: program.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        stdin: None,
    }
}

fn printed(stdout: &[u8]) -> Output {
    Output {
        status: Ended::Code(0),
        stdout: Bytes(stdout.to_vec()),
        stderr: Bytes::default(),
        stdout_truncated: false,
        stderr_truncated: false,
        duration_ms: 0,
    }
}

/// Note a call with its answer.
fn note<C: HostCall>(recording: &Arc<Recording>, call: C, answer: Answered<C>) {
    Tape::Record(recording.clone()).note(Some(&call), &answer).unwrap();
}

fn play(text: &str) -> Arc<Playback> {
    Playback::new(Cassette::parse(text).unwrap())
}

fn calls(lines: &str) -> String {
    format!("{{ \"cassette\": 1, \"calls\": [{lines}] }}")
}

#[test]
fn every_call_can_be_written_and_read() {
    let cassette = Cassette::parse(EVERY_CALL).unwrap();
    if std::env::var_os("WINDLASS_UPDATE").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tape/every-call.json");
        std::fs::write(file, cassette.to_text()).unwrap();
        return;
    }
    assert_eq!(cassette.to_text(), EVERY_CALL, "what is written is laid out as this file is");
    let found: BTreeSet<&str> = cassette.entries.iter().map(|entry| entry.call.as_str()).collect();
    assert_eq!(found, NAMES.iter().copied().collect());
}

#[test]
fn what_is_recorded_is_played() {
    let recording = Recording::new();
    note(&recording, run("df", &["-P"]), Ok(printed(b"one\ntwo")));
    note(&recording, run("df", &[]), Err(CommandError::TimedOut(5)));
    note(&recording, FilesRead { path: "/x".into() }, Err(FilesError::IsADirectory));
    note(&recording, StateGet { key: "k".into() }, Ok(Some(Bytes(vec![0xff]))));
    let text = recording.cassette().unwrap().to_text();
    let playback = play(&text);
    assert_eq!(playback.answer(&run("df", &["-P"])).unwrap(), Ok(printed(b"one\ntwo")));
    assert_eq!(playback.answer(&run("df", &[])).unwrap(), Err(CommandError::TimedOut(5)));
    assert_eq!(playback.answer(&FilesRead { path: "/x".into() }).unwrap(), Err(FilesError::IsADirectory));
    assert_eq!(playback.answer(&StateGet { key: "k".into() }).unwrap(), Ok(Some(Bytes(vec![0xff]))));
    playback.finish().unwrap();
}

#[test]
fn order_is_strict_and_a_difference_shows_both_calls() {
    let playback = play(EVERY_CALL);
    playback.answer(&run("zpool", &["list", "-H", "-p"])).unwrap().unwrap();
    let error = playback.answer(&run("zpool", &["list"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "call 2 is not the one in the cassette\n  \
         cassette: commands.run { \"program\": \"dd\", \"args\": [], \"stdin\": { \"base64\": \"AP8=\" } }\n  \
         made:     commands.run { \"program\": \"zpool\", \"args\": [\"list\"] }"
    );
    // The first difference is what counts in the end.
    playback.answer(&JobIsCancelled {}).unwrap_err();
    assert_eq!(playback.finish().unwrap_err(), error);
}

#[test]
fn what_is_missing_and_what_is_left_is_told() {
    let one = calls(r#"{ "call": "job.is-cancelled", "returns": true }"#);
    let playback = play(&one);
    assert_eq!(
        playback.finish().unwrap_err().to_string(),
        "1 of the cassette's 1 calls was not made; the next is\n  cassette: job.is-cancelled {}"
    );
    assert_eq!(playback.answer(&JobIsCancelled {}).unwrap(), Ok(true));
    playback.finish().unwrap();
    let error = playback.answer(&JobIsCancelled {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "call 2 is one more than the cassette holds\n  made:     job.is-cancelled {}"
    );
    assert_eq!(playback.finish().unwrap_err(), error);
}

#[test]
fn denials_are_compared_and_never_played() {
    let denied = calls(r#"{ "call": "files.read", "path": "/x", "denied": "no rule" }"#);
    let read = || FilesRead { path: "/x".into() };
    let playback = play(&denied);
    // The words may change with the manifest; that it is denied may not.
    playback.denied(&read(), "in other words").unwrap();
    playback.finish().unwrap();
    let error = play(&denied).answer(&read()).unwrap_err();
    assert!(matches!(error, TapeError::Allowed { number: 1, .. }), "{error}");
    let answered = calls(r#"{ "call": "files.read", "path": "/x", "returns": "" }"#);
    let error = play(&answered).denied(&read(), "no rule").unwrap_err();
    assert!(matches!(&error, TapeError::Denied { missing, .. } if missing == "no rule"), "{error}");
}

#[test]
fn what_a_dry_run_would_do_is_compared_and_never_played() {
    let write = || FilesWrite { path: "/x".into(), content: Bytes(b"1".to_vec()), mode: None };
    let entry = |answer: &str| {
        calls(&format!(r#"{{ "call": "files.write", "path": "/x", "content": "1", {answer} }}"#))
    };
    play(&entry(r#""returns": null"#)).would(&write(), &Ok(())).unwrap();
    let error = play(&entry(r#""fails": "no_space""#)).would(&write(), &Ok(())).unwrap_err();
    assert!(matches!(error, TapeError::DryRun { .. }), "{error}");
}

#[test]
fn long_calls_are_shown_where_they_differ() {
    let long = "x".repeat(10_000);
    let recording = Recording::new();
    note(&recording, run("echo", &[&format!("{long}a")]), Ok(printed(b"")));
    let playback = Playback::new(recording.cassette().unwrap());
    let error = playback.answer(&run("echo", &[&format!("{long}b")])).unwrap_err().to_string();
    assert!(error.len() < 2_000 && error.contains("xxa\"") && error.contains("xxb\""), "{error}");
}

#[test]
fn a_recording_has_an_end() {
    let recording = Recording::new();
    let tape = Tape::Record(recording.clone());
    let answer = Ok(printed(&vec![b'x'; 12 << 20]));
    let noted = || tape.note(Some(&run("cat", &[])), &answer);
    noted().unwrap();
    noted().unwrap();
    noted().unwrap_err();
    assert_eq!(recording.cassette().unwrap_err(), TapeError::TooLong);
}

#[test]
fn a_broken_cassette_says_what_and_where() {
    for (text, told) in [
        ("", "not a cassette: EOF while parsing a value at line 1 column 0"),
        ("[]", "not a cassette: invalid length 0"),
        ("{ \"calls\": [] }", "not a cassette: missing field `cassette`"),
        (
            "{ \"cassette\": 2, \"tracks\": [] }",
            "the cassette is of version 2, and this program reads version 1",
        ),
        ("{ \"cassette\": 1 }", "not a cassette: missing field `calls`"),
        ("{ \"cassette\": 1, \"calls\": [], \"cals\": [] }", "not a cassette: unknown field `cals`"),
        (&calls("\n{}"), "line 2: call 1: `call` names the host call"),
        (&calls("7"), "line 1: call 1: invalid type: integer `7`, expected an object"),
        (
            &calls(r#"{ "call": "file.read", "path": "/x", "returns": "" }"#),
            "line 1: call 1 (`file.read`): there is no such call (did you mean `files.read`?)",
        ),
        (
            &calls(r#"{ "call": "job.is-cancelled" }"#),
            "line 1: call 1 (`job.is-cancelled`): it has one of `returns`, `fails` and `denied`",
        ),
        (
            &calls(r#"{ "call": "job.is-cancelled", "returns": true, "denied": "" }"#),
            "line 1: call 1 (`job.is-cancelled`): it has one of `returns`, `fails` and `denied`",
        ),
        (
            &calls(r#"{ "call": "job.is-cancelled", "returns": 1 }"#),
            "`returns`: invalid type: integer `1`, expected a boolean",
        ),
        (
            &calls(
                "{ \"call\": \"job.is-cancelled\", \"returns\": true },\n\n{ \"call\": \"files.read\", \"pth\": \"/\", \"returns\": \"\" }",
            ),
            "line 3: call 2 (`files.read`): unknown field `pth`, expected `path`",
        ),
        (&calls(r#"{ "call": "files.read", "returns": "" }"#), "missing field `path`"),
        (
            &calls(r#"{ "call": "files.read", "path": "/", "path": "/", "returns": "" }"#),
            "`path` stands there twice",
        ),
        (
            &calls(r#"{ "call": "files.read", "path": "/", "fails": "gone" }"#),
            "`fails`: unknown variant `gone`, expected one of `denied`, `not_found`",
        ),
        (
            &calls(r#"{ "call": "files.read", "path": "/", "returns": 7 }"#),
            "expected a text, a list of its lines",
        ),
        (
            &calls(r#"{ "call": "files.read", "path": "/", "returns": { "base64": "!" } }"#),
            "`returns`: base64",
        ),
        (&calls(r#"{ "call": "files.read", "path": "/", "returns": { "hex": "00" } }"#), "bytes are a text"),
        (
            &calls(r#"{ "call": "commands.run", "program": "x", "args": [], "returns": { "stdout": "" } }"#),
            "a program ends with a `code` or with a `signal`",
        ),
        (
            &calls(
                r#"{ "call": "files.write", "path": "/x", "content": "", "mode": "rw", "returns": null }"#,
            ),
            "`rw` are no permission bits",
        ),
        (&calls(r#"{ "call": "job.is-cancelled", "fails": "no" }"#), "`fails`: "),
    ] {
        let error = Cassette::parse(text).expect_err(text).to_string();
        assert!(error.contains(told), "{text}\n{error}\n{told}");
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        any::<Vec<u8>>().prop_map(Bytes),
        "\\PC*".prop_map(|text| Bytes(text.into_bytes())),
        "([a-z\\t]{0,6}\n){0,4}[a-z]{0,3}".prop_map(|text| Bytes(text.into_bytes())),
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[\\\\\"\\[\\]{}:, a]*".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_recording_plays_as_it_was(
        requests in prop::collection::vec((any::<String>(), prop::collection::vec(any::<String>(), 0..4), prop::option::of(bytes())), 0..6),
        stdout in bytes(),
        code in any::<i32>(),
        flags in any::<[bool; 2]>(),
        why in any::<String>(),
    ) {
        let recording = Recording::new();
        let make = |(program, args, stdin): &(String, Vec<String>, Option<Bytes>)| CommandsRun {
            program: program.clone(), args: args.clone(), stdin: stdin.clone(),
        };
        let output = Output {
            status: if flags[0] { Ended::Code(code) } else { Ended::Signal(code) },
            stdout_truncated: flags[1],
            ..printed(&stdout.0)
        };
        let answer = |index: usize| match index % 2 {
            0 => Ok(output.clone()),
            _ => Err(CommandError::Other(why.clone())),
        };
        for (index, request) in requests.iter().enumerate() {
            note(&recording, make(request), answer(index));
        }
        let text = recording.cassette().unwrap().to_text();
        let cassette = Cassette::parse(&text).unwrap();
        prop_assert_eq!(cassette.to_text(), text);
        let playback = Playback::new(cassette);
        for (index, request) in requests.iter().enumerate() {
            prop_assert_eq!(playback.answer(&make(request)).unwrap(), answer(index));
        }
        playback.finish().unwrap();
    }

    #[test]
    fn bytes_are_kept_whatever_they_are(bytes in bytes()) {
        let text = serde_json::to_string(&bytes).unwrap();
        prop_assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), bytes);
    }

    #[test]
    fn layout_keeps_the_value(value in json()) {
        let text = pretty(&value).unwrap();
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value.clone());
        let line = layout::line(&value.to_string());
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }

    #[test]
    fn no_text_is_too_much(text in any::<String>()) {
        let _ = Cassette::parse(&text);
    }

    #[test]
    fn nor_is_a_damaged_cassette(at in 0..EVERY_CALL.len(), remove in 0..40_usize, with in "[\\[\\]{}\",:0-9a-z]{0,3}") {
        let end = (at + remove).min(EVERY_CALL.len());
        let text = format!("{}{with}{}", &EVERY_CALL[..at], &EVERY_CALL[end..]);
        if let Ok(cassette) = Cassette::parse(&text) {
            // What is taken can be written, and is the same again.
            let written = cassette.to_text();
            prop_assert_eq!(Cassette::parse(&written).unwrap().to_text(), written);
        }
    }
}

#[test]
fn the_documentation_is_right() {
    let page = include_str!("../../../../docs/plugin-testing.md");
    let blocks = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let cassettes: Vec<&str> = blocks.filter(|block| block.contains("\"cassette\"")).collect();
    assert_eq!(cassettes.len(), 1);
    for cassette in cassettes {
        let parsed = Cassette::parse(cassette).unwrap_or_else(|error| panic!("{error}\n{cassette}"));
        assert_eq!(parsed.to_text(), cassette, "laid out as it would be written");
    }
    for name in NAMES {
        let short = name.strip_prefix("probes.").unwrap_or(name);
        assert!(
            page.contains(&format!("`{name}`")) || page.contains(&format!("`{short}`")),
            "no word about `{name}`"
        );
    }
}
