//! Help, reference, man pages and completion.

use crate::fake::*;

#[tokio::test]
async fn the_reference_is_up_to_date() {
    let master = Master::start(Script::default()).await;
    let run = Run::of(&mut master.bare(&["reference"])).await.expect(0);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        run.stdout == stored,
        "docs/cli.md is not what `windlass reference` prints: run `cargo run -p windlass -- reference > docs/cli.md`"
    );
}

#[tokio::test]
async fn man_pages_are_written() {
    let master = Master::start(Script::default()).await;
    let dir = master.home.path().join("man1");
    Run::of(&mut master.bare(&["man", dir.to_str().unwrap()])).await.expect(0);
    let page = std::fs::read_to_string(dir.join("windlass-run.1")).unwrap();
    assert!(page.contains(".TH windlass-run 1"), "{page}");
    assert!(dir.join("windlass-nodes-accept.1").exists());
}

#[tokio::test]
async fn shells_get_a_script_and_candidates() {
    let master = Master::start(Script::default()).await;
    for shell in ["bash", "zsh", "fish"] {
        let run = Run::of(&mut master.bare(&["completion", shell])).await.expect(0);
        assert!(run.stdout.contains("COMPLETE"), "{run:#?}");
    }
    // What the script of bash asks.
    let candidates = async |words: &[&str]| {
        let mut command = master.command(&[&["--", "windlass"], words].concat());
        let index = words.len().to_string();
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index).env("_CLAP_IFS", "\n");
        Run::of(&mut command).await.expect(0).stdout
    };
    assert_eq!(candidates(&["run", "demo"]).await, "demo.item.list\ndemo.item.wipe");
    assert_eq!(candidates(&["run", "demo.item.list", "--on", "n"]).await, "n1\nn2\nn3");
    assert_eq!(candidates(&["run", "demo.item.list", "c"]).await, "count=");
    assert_eq!(candidates(&["plugins", "show", "d"]).await, "demo");
    assert_eq!(candidates(&["plugins", "show", "demo@0.2"]).await, "demo@0.2.0");
    assert_eq!(candidates(&["plugins", "deploy", "demo"]).await, "demo@0.1.0\ndemo@0.2.0");
    assert_eq!(candidates(&["plugins", "rollouts", "show", "01"]).await, DEPLOYMENT);
    assert_eq!(candidates(&["nodes", "acc"]).await, "accept");
}

#[tokio::test]
async fn nothing_is_coloured_and_help_is_an_answer() {
    let master = Master::start(Script::default()).await;
    for args in [&["--help"][..], &["run", "--help"], &["nodes", "list"], &["nodes", "show", "n9"]] {
        let run = master.run(args).await;
        assert!(!run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'), "{run:#?}");
    }
    let help = master.run(&["--help"]).await.expect(0);
    assert!(help.stdout.contains("Exit codes:"), "{help:#?}");
    master.run(&[]).await.expect(2);
}
