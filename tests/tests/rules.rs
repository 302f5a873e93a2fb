//! Rules on events, when the master is killed and the webhook does not answer.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};
use windlass_tests::{Binaries, Grid, GridOptions, until};

/// Takes events of rules over HTTP, on loopback; the first call of each is refused.
struct Hook {
    url: String,
    calls: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let told = calls.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A master that is killed ends in the middle of its call.
                let _ = answer(stream, &told);
            }
        });
        Hook { url, calls }
    }

    /// How often each event was taken or refused.
    fn calls(&self) -> BTreeMap<i64, usize> {
        let mut calls = BTreeMap::new();
        for call in self.calls.lock().unwrap().iter() {
            assert_eq!(call["rule"], "tell");
            *calls.entry(call["event"]["seq"].as_i64().unwrap()).or_default() += 1;
        }
        calls
    }
}

fn answer(mut stream: TcpStream, calls: &Mutex<Vec<Value>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let call: Value = serde_json::from_slice(&body).unwrap();
    let mut calls = calls.lock().unwrap();
    let first = !calls.iter().any(|known| known["event"]["seq"] == call["event"]["seq"]);
    calls.push(call);
    let status = if first { "503 Service Unavailable" } else { "200 OK" };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn firings(grid: &Grid, rule: &str) -> Vec<Value> {
    let shown = grid.windlass(&["rules", "show", rule, "-n", "1000", "-o", "json"]).expect(0).json();
    shown["firings"].as_array().unwrap().clone()
}

#[test]
fn each_event_is_acted_upon_whenever_the_master_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), GridOptions::default()).unwrap();
    let hook = Hook::start();
    let when = ["--when", "has(event.data.labels.round)", "--most", "1000"];
    let look = ["rules", "add", "look", "node.changed", "--run-there", "monitor.system.read"];
    grid.windlass(&[&look[..], &when[..]].concat()).expect(0);
    let tell = ["rules", "add", "tell", "node.changed", "--webhook", &hook.url];
    grid.windlass(&[&tell[..], &when[..]].concat()).expect(0);
    for round in 0..4 {
        for change in 0..5 {
            grid.windlass(&["nodes", "label", "n1", &format!("round={round}-{change}")]).expect(0);
        }
        grid.windlass(&["nodes", "label", "n1", &format!("other=x{round}")]).expect(0);
        grid.take_master().kill().unwrap();
        grid.restart_master().unwrap();
    }
    let changed = ["events", "--kind", "node.changed", "--since", "1h", "-n", "1000", "-o", "json"];
    let changed = grid.windlass(&changed).expect(0).json();
    let fit: BTreeSet<i64> = changed
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| !event["data"]["labels"]["round"].is_null())
        .map(|event| event["seq"].as_i64().unwrap())
        .collect();
    assert_eq!(fit.len(), 20, "{changed:#}");
    for rule in ["look", "tell"] {
        until(&format!("`{rule}` is done with all"), || {
            let done = firings(&grid, rule);
            (done.len() >= 20 && done.iter().all(|firing| firing["state"] == "done")).then_some(())
        });
        let seqs: BTreeSet<i64> =
            firings(&grid, rule).iter().map(|firing| firing["seq"].as_i64().unwrap()).collect();
        assert_eq!(seqs, fit, "`{rule}`");
    }

    // One job each, and what jobs of rules tell fires nothing.
    let jobs = grid.windlass(&["jobs", "list", "-n", "1000", "-o", "json"]).expect(0).json();
    let jobs: BTreeSet<String> = jobs
        .as_array()
        .unwrap()
        .iter()
        .inspect(|job| assert_eq!(job["created_by"], "rule:look"))
        .map(|job| job["id"].as_str().unwrap().to_owned())
        .collect();
    let made: BTreeSet<String> =
        firings(&grid, "look").iter().map(|firing| firing["job"].as_str().unwrap().to_owned()).collect();
    assert_eq!((jobs.len(), &jobs), (20, &made));

    // Each was refused once, so told again until it was taken.
    let calls = hook.calls();
    assert_eq!(calls.keys().copied().collect::<BTreeSet<_>>(), fit);
    assert!(calls.values().all(|calls| *calls >= 2), "{calls:?}");

    // The past tells what a condition is worth, before it is a rule.
    let tried = ["rules", "try", "node.changed", "--when", "has(event.data.labels.round)", "-o", "json"];
    let tried = grid.windlass(&tried).expect(0).json();
    assert_eq!(tried["fits"].as_array().unwrap().len(), 20, "{tried:#}");
    let wrong = grid.windlass(&["rules", "try", "node.changed", "--when", "event.data."]).expect(1);
    assert!(wrong.stderr.contains("expression"), "{}", wrong.stderr);
    grid.windlass(&["rules", "remove", "look"]).expect(0);
    grid.windlass(&["rules", "remove", "tell"]).expect(0);
}
