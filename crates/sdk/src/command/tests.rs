use super::*;
use crate::fake;

#[test]
fn a_command_is_built_in_the_order_it_is_written() {
    let pools = vec!["tank".to_owned(), "with space".to_owned()];
    let command = Command::new("zpool")
        .arg("list")
        .args(["-H", "-p"])
        .opt("-o", "name")
        .opt("-t", None::<&str>)
        .opt("-n", Some(3_u32))
        .args(None::<String>)
        .args(Some("rpool"))
        .args(&pools)
        .arg("");
    assert_eq!(command.to_string(), r#"zpool list -H -p -o name -n 3 rpool tank "with space" """#);
    assert_eq!(command.command.stdin, None);
    assert_eq!(command.command.timeout_ms, None);
    let command = command.stdin("yes\n").timeout(Duration::from_secs(20));
    assert_eq!(command.command.stdin.as_deref(), Some(&b"yes\n"[..]));
    assert_eq!(command.command.timeout_ms, Some(20_000));
    assert_eq!(command.timeout(Duration::MAX).command.timeout_ms, Some(u64::MAX));
}

/// What `df` leaves behind in this host.
fn output(host: fake::Host) -> Output {
    host.run(|| Command::new("df").run()).unwrap()
}

fn df() -> fake::Host {
    fake::Host::new().command("df", [""; 0])
}

#[test]
fn a_status_is_no_error_until_it_is_asked_for() {
    assert_eq!(output(df().prints("a")).success().unwrap().text(), Ok("a"));

    let failed = output(df().prints("half").complains("df: /x: No such file\n\n  try --help\n").exits(1));
    assert_eq!((failed.code(), failed.text()), (Some(1), Ok("half")));
    let Err(Error::Exit(exit)) = failed.success() else { panic!("status 1 is no success") };
    assert_eq!((exit.code(), exit.command.as_str()), (Some(1), "df"));
    assert_eq!(exit.to_string(), "`df` ended with status 1: df: /x: No such file; try --help");

    let killed = output(df().killed(9));
    assert_eq!(killed.code(), None);
    assert_eq!(killed.success().unwrap_err().to_string(), "`df` was ended by signal 9");
}

#[test]
fn what_was_cut_is_not_taken_for_all() {
    let cut = output(df().prints("a\nb").truncated());
    assert_eq!(cut.text(), Err(Error::Truncated("df".into())));
    assert!(cut.text_lossy().is_err() && cut.lines().is_err());
    #[cfg(feature = "json")]
    assert_eq!(cut.json::<String>(), Err(Error::Truncated("df".into())));
    // It is there for who knows what to do with it.
    assert_eq!(cut.stdout, b"a\nb");
}

#[test]
fn bytes_that_are_not_text_are_told_or_replaced() {
    let strange = output(df().prints(b"a\xffb\n"));
    assert!(
        matches!(strange.text(), Err(Error::Unexpected(why)) if why.contains("`df` printed is not UTF-8"))
    );
    assert_eq!(strange.text_lossy().unwrap(), "a\u{fffd}b\n");
    assert_eq!(output(df().prints("a\nb\n")).lines().unwrap().collect::<Vec<_>>(), ["a", "b"]);
}

#[cfg(feature = "json")]
#[test]
fn json_keeps_every_digit_and_tells_where_it_is_wrong() {
    let sizes = output(df().prints(r#"{"sda": 18446744073709551615}"#));
    let sizes: std::collections::BTreeMap<String, u64> = sizes.json().unwrap();
    assert_eq!(sizes["sda"], u64::MAX);
    let error = output(df().prints("{\n\"sda\": -1}")).json::<std::collections::BTreeMap<String, u64>>();
    let text = error.unwrap_err().to_string();
    assert!(
        text.starts_with("what `df` printed is not the JSON it should be: ") && text.contains("line 2"),
        "{text}"
    );
}

#[cfg(feature = "xml")]
#[test]
fn xml_has_attributes_and_elements() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Status {
        #[serde(rename = "@version")]
        version: String,
        #[serde(default)]
        brick: Vec<Brick>,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Brick {
        path: String,
        size: u64,
    }
    let printed = r#"<?xml version="1.0"?><status version="2"><brick><path>/a</path><size>18446744073709551615</size></brick>
        <brick><path>/b &amp; c</path><size>0</size></brick></status>"#;
    let status: Status = output(df().prints(printed)).xml().unwrap();
    assert_eq!(status.version, "2");
    let bricks = [("/a", u64::MAX), ("/b & c", 0)].map(|(path, size)| Brick { path: path.into(), size });
    assert_eq!(status.brick, bricks);
    let wrong = output(df().prints("<status version='2'>")).xml::<Status>().unwrap_err();
    assert!(wrong.to_string().starts_with("what `df` printed is not the XML it should be: "), "{wrong}");
}

#[test]
fn errors_of_the_host_keep_their_kind() {
    let run = |error: CommandError| {
        fake::Host::new()
            .command("df", ["/srv"])
            .fails(error)
            .run(|| Command::new("df").arg("/srv").run())
            .unwrap_err()
    };
    let text = || "text".to_owned();
    assert_eq!(run(CommandError::Denied(text())), Error::Denied(text()));
    assert_eq!(run(CommandError::NotFound(text())), Error::NotFound(text()));
    assert_eq!(run(CommandError::Other(text())), Error::Other(text()));
    assert_eq!(run(CommandError::Cancelled), Error::Cancelled);
    let late = run(CommandError::TimedOut(500));
    assert_eq!(late, Error::TimedOut { command: "df /srv".into(), limit_ms: 500 });
    assert_eq!(late.to_string(), "`df /srv` had not ended after 500 ms");
    assert_eq!(run(CommandError::DryRun), Error::DryRun("df /srv".into()));
}

#[test]
fn a_process_is_read_piece_by_piece() {
    let host = fake::Host::new().spawn("tail", ["-f"]).prints("a").complains("b").prints("c").exits(4);
    let (read, status) = host.run(|| {
        let mut process = Command::new("tail").arg("-f").spawn().unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = process.read().unwrap() {
            read.push((chunk.stream, String::from_utf8(chunk.data).unwrap()));
        }
        (read, process.wait().unwrap())
    });
    let piece = |stream, text: &str| (stream, text.to_owned());
    assert_eq!(read, [piece(Stream::Stdout, "a"), piece(Stream::Stderr, "b"), piece(Stream::Stdout, "c")]);
    assert_eq!(status, ExitStatus::Code(4));
}
