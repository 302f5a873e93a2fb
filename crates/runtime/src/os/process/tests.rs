//! With real programs. What must not stay behind is found by an argument that nothing else has.

use super::*;
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

fn shell(script: &str) -> Spec {
    Spec {
        paths: vec!["/bin/sh".into()],
        args: vec!["-c".into(), script.into()],
        stdin: Vec::new().into(),
        environment: Vec::new(),
        timeout: Duration::from_secs(60),
        output_cap: 1 << 20,
        crowd: Crowd::new(512),
    }
}

async fn finish(spec: Spec) -> Finished {
    run(spec, &CancellationToken::new()).await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Seconds to sleep that no other process sleeps: its mark in `/proc/*/cmdline`.
fn unique_nap() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}.{}", 86_400 + COUNT.fetch_add(1, Ordering::Relaxed), std::process::id())
}

/// Processes (also zombies, which have no command line any more, if they are ours) with this argument.
fn with_argument(argument: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.parse::<i32>().ok()?;
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        line.split('\0').any(|part| part == argument).then_some(name)
    });
    processes.collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_started(nap: &str, count: usize) {
    until("the sleepers start", || with_argument(nap).len() >= count).await;
}

async fn until_gone(nap: &str) {
    until("all are ended", || with_argument(nap).is_empty()).await;
}

/// A program with every way to hide: a child, a daemon, a daemon without environment, and one
/// below a daemon.
fn hiders(nap: &str) -> String {
    format!(
        "sleep {nap} & \
         (setsid sleep {nap} &) ; \
         (setsid sh -c 'env -i setsid sleep {nap} & exit' &) ; \
         (env -i setsid sh -c 'sleep {nap} ; true' &) ; \
         exec sleep {nap}"
    )
}
/// What [`hiders`] starts with that argument: five sleepers.
const HIDERS: usize = 5;

#[tokio::test]
async fn output_and_status_come_back() {
    let done = finish(shell("echo out; echo err >&2; exit 3")).await;
    assert_eq!(done.status, Status::Code(3));
    assert_eq!((text(&done.stdout), text(&done.stderr)), ("out\n", "err\n"));
    assert_eq!((done.stdout_truncated, done.stderr_truncated), (false, false));
    assert_eq!(done.path, Path::new("/bin/sh"));
}

#[tokio::test]
async fn a_signal_is_reported() {
    assert_eq!(finish(shell("kill -USR1 $$")).await.status, Status::Signal(10));
    // No core file is written, but it is still a signal.
    assert_eq!(finish(shell("kill -ABRT $$")).await.status, Status::Signal(6));
}

#[tokio::test]
async fn input_is_delivered_and_ends() {
    let stdin: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let spec = Spec { stdin: stdin.clone().into(), output_cap: usize::MAX, ..shell("cat") };
    assert!(finish(spec).await.stdout == stdin);
    let spec = Spec { stdin: stdin.into(), ..shell("exit 0") };
    assert_eq!(finish(spec).await.status, Status::Code(0), "input that nobody reads is no error");
    assert_eq!(text(&finish(shell("wc -c")).await.stdout).trim(), "0");
}

#[tokio::test]
async fn environment_directory_and_session_are_its_own() {
    let done = finish(shell("env | sort; pwd; umask; ulimit -c; cut -d' ' -f1,5,6 /proc/$$/stat")).await;
    let lines: Vec<&str> = text(&done.stdout).lines().filter(|line| !line.starts_with("_=")).collect();
    // The shell adds PWD itself.
    assert_eq!(
        lines[..6],
        ["LC_ALL=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PWD=/", "/", "0022", "0"]
    );
    let ids: Vec<&str> = lines[6].split(' ').collect();
    assert_eq!((ids[0], ids[0]), (ids[1], ids[2]), "it leads its group and session");
}

#[tokio::test]
async fn no_descriptor_is_inherited() {
    let leak = fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let spec = Spec { paths: vec!["/bin/ls".into()], args: vec!["/proc/self/fd".into()], ..shell("") };
    // The third is the directory that ls reads.
    assert_eq!(text(&finish(spec).await.stdout), "0\n1\n2\n3\n");
    drop(leak);
}

#[tokio::test]
async fn output_past_the_cap_is_counted_and_dropped() {
    let spec =
        Spec { output_cap: 1000, ..shell("echo more >&2; dd if=/dev/zero bs=1M count=100 2>/dev/null") };
    let done = finish(spec).await;
    assert_eq!(done.status, Status::Code(0), "it is not held up");
    assert_eq!((done.stdout.len(), done.stdout_total, done.stdout_truncated), (1000, 100 << 20, true));
    assert!(done.stdout.capacity() < 1 << 20);
    assert_eq!((text(&done.stderr), done.stderr_truncated), ("more\n", false));
}

#[tokio::test]
async fn both_streams_are_read_at_once() {
    let script = "dd if=/dev/zero bs=1M count=3 >&2 2>/dev/null; dd if=/dev/zero bs=1M count=3 2>/dev/null; \
                  dd if=/dev/zero bs=1M count=3 >&2 2>/dev/null";
    let done = finish(Spec { output_cap: 0, ..shell(script) }).await;
    assert_eq!((done.stdout_total, done.stderr_total), (3 << 20, 6 << 20));
}

#[tokio::test]
async fn a_missing_program_tells_what_was_tried() {
    let spec = Spec { paths: vec!["/nonexistent/a".into(), "/nonexistent/b".into()], ..shell("") };
    let error = run(spec, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "none of these exists: /nonexistent/a, /nonexistent/b");
}

#[tokio::test]
async fn a_program_that_others_may_write_is_not_started() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::copy("/bin/true", &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
    let spec = Spec { paths: vec![path], ..shell("") };
    assert!(matches!(run(spec, &CancellationToken::new()).await, Err(ProcessError::Unsafe { .. })));
}

#[tokio::test]
async fn a_timeout_ends_the_whole_offspring() {
    let nap = unique_nap();
    let spec = Spec { timeout: Duration::from_millis(1500), ..shell(&hiders(&nap)) };
    let (result, ()) =
        tokio::join!(async { run(spec, &CancellationToken::new()).await }, until_started(&nap, HIDERS));
    assert!(matches!(result, Err(ProcessError::TimedOut(limit)) if limit == Duration::from_millis(1500)));
    assert_eq!(with_argument(&nap), Vec::<String>::new(), "all are gone when it returns");
}

#[tokio::test]
async fn a_cancellation_ends_the_whole_offspring() {
    let nap = unique_nap();
    let cancel = CancellationToken::new();
    let (result, ()) = tokio::join!(run(shell(&hiders(&nap)), &cancel), async {
        until_started(&nap, HIDERS).await;
        cancel.cancel();
    });
    assert!(matches!(result, Err(ProcessError::Cancelled)));
    assert_eq!(with_argument(&nap), Vec::<String>::new(), "all are gone when it returns");
    let late = run(shell("exit 0"), &cancel).await;
    assert!(matches!(late, Err(ProcessError::Cancelled)), "nothing is started after a cancellation");
}

#[tokio::test]
async fn dropping_the_future_ends_the_whole_offspring() {
    let nap = unique_nap();
    let cancel = CancellationToken::new();
    tokio::select! {
        result = run(shell(&hiders(&nap)), &cancel) => panic!("it ended: {result:?}"),
        () = until_started(&nap, HIDERS) => {}
    }
    until_gone(&nap).await;
}

#[test]
fn the_end_of_the_runtime_ends_the_whole_offspring() {
    let nap = unique_nap();
    let script = hiders(&nap);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        tokio::spawn(async move { run(shell(&script), &CancellationToken::new()).await });
        until_started(&nap, HIDERS).await;
    });
    drop(runtime);
    tokio::runtime::Runtime::new().unwrap().block_on(until_gone(&nap));
}

#[tokio::test]
async fn what_a_finished_program_left_behind_is_ended() {
    let nap = unique_nap();
    // The daemons keep the output open; that may not hold the end up for long.
    let script = format!("setsid sleep {nap} & env -i setsid sh -c 'setsid sleep {nap} & exit'; echo done");
    let done = finish(shell(&script)).await;
    assert_eq!((text(&done.stdout), done.status), ("done\n", Status::Code(0)));
    assert_eq!(with_argument(&nap), Vec::<String>::new());
    assert!(done.duration < Duration::from_secs(10));
}

#[tokio::test]
async fn who_ignores_term_is_killed_after_the_grace() {
    let nap = unique_nap();
    // An ignored signal stays ignored after exec; the shell is stopped as well.
    let script = format!("trap '' TERM; sleep {nap} & kill -STOP $$; wait");
    let mut running = spawn(shell(&script), &CancellationToken::new()).await.unwrap();
    until_started(&nap, 1).await;
    let begun = Instant::now();
    running.kill();
    assert_eq!(running.wait().await.unwrap(), Status::Signal(9));
    assert!(begun.elapsed() >= reaper::GRACE);
    assert_eq!(with_argument(&nap), Vec::<String>::new());
}

#[tokio::test]
async fn orphans_are_reaped() {
    // Short-lived daemons become children of this process; none stays a zombie.
    let script = "for i in 1 2 3 4 5; do (setsid sh -c 'exit 0' &) ; (env -i setsid true &) ; done; exit 0";
    let mut running = spawn(shell(script), &CancellationToken::new()).await.unwrap();
    let (leader, mark) = running.identity();
    assert_eq!(running.wait().await.unwrap(), Status::Code(0));
    let snapshot = family::Snapshot::take();
    assert_eq!(snapshot.family(leader, mark), Vec::<&family::Process>::new());
    assert!(snapshot.get(leader).is_none(), "the program itself is reaped too");
}

#[tokio::test]
async fn chunks_come_as_they_are_printed() {
    let script = "echo one; read line; echo $line >&2; exec sleep 60";
    let spec = Spec { stdin: b"two\n".to_vec().into(), ..shell(script) };
    let mut running = spawn(spec, &CancellationToken::new()).await.unwrap();
    // Two streams have no order between them.
    let mut chunks = [running.read().await.unwrap().unwrap(), running.read().await.unwrap().unwrap()];
    chunks.sort_by_key(|chunk| chunk.stream == OutputStream::Stderr);
    let chunk = |stream, data: &str| Chunk { stream, data: data.into() };
    assert_eq!(chunks, [chunk(OutputStream::Stdout, "one\n"), chunk(OutputStream::Stderr, "two\n")]);
    running.kill();
    assert_eq!(running.read().await.unwrap(), None);
    assert_eq!(running.wait().await.unwrap(), Status::Signal(15));
    assert_eq!(running.wait().await.unwrap(), Status::Signal(15), "it can be asked again");
}

#[tokio::test]
async fn a_spawned_program_has_its_time_limit_too() {
    let endless = Spec { timeout: Duration::from_millis(300), ..shell("exec yes") };
    let mut running = spawn(endless, &CancellationToken::new()).await.unwrap();
    let error = loop {
        match running.read().await {
            Ok(chunk) => assert!(chunk.is_some(), "it has no end of its own"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ProcessError::TimedOut(_)));
    assert!(matches!(running.wait().await, Err(ProcessError::TimedOut(_))));
}

#[tokio::test]
async fn other_children_of_the_agent_are_left_alone() {
    let mut own = std::process::Command::new("/bin/sleep").arg(unique_nap()).spawn().unwrap();
    finish(shell("(setsid true &) ; exit 0")).await;
    assert!(own.try_wait().unwrap().is_none());
    own.kill().unwrap();
    own.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    let tasks: Vec<_> = (0..64)
        .map(|number| tokio::spawn(finish(shell(&format!("(setsid true &) ; echo {number}")))))
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(text(&task.await.unwrap().stdout), format!("{number}\n"));
    }
}

/// Runs a program that goes on forking, and how many there were of it at most.
async fn explode(script: &str, max: usize, nap: &str) -> (Result<Finished, ProcessError>, usize) {
    let spec = Spec { crowd: Crowd::new(max), ..shell(script) };
    let cancel = CancellationToken::new();
    let run = run(spec, &cancel);
    tokio::pin!(run);
    let mut most = 0;
    let ended = loop {
        tokio::select! {
            ended = &mut run => break ended,
            () = tokio::time::sleep(Duration::from_millis(50)) => most = most.max(with_argument(nap).len()),
        }
    };
    (ended, most)
}

/// Every bomb here is one that would stop by itself: at 2,000 sleepers, or at 2,047 shells. How many come
/// to be before it ends is a matter of how busy the machine is, so it is told and not judged.
#[tokio::test]
async fn a_fork_bomb_is_ended() {
    let bombs = [
        ("in a row", "i=0; while [ $i -lt 2000 ]; do sleep NAP & i=$((i+1)); done; wait"),
        ("as a tree", "f() { [ $1 -eq 0 ] && exec sleep NAP; f $(($1-1)) & f $(($1-1)) & wait; }; f 10"),
        ("in sessions", "i=0; while [ $i -lt 2000 ]; do setsid sleep NAP & i=$((i+1)); done; wait"),
        ("as orphans", "i=0; while [ $i -lt 2000 ]; do (setsid sleep NAP &) ; i=$((i+1)); done; wait"),
        (
            "as orphans of nobody",
            "i=0; while [ $i -lt 2000 ]; do (env -i setsid sh -c 'sleep NAP & exit' &) ; i=$((i+1)); done",
        ),
        (
            "in threads of its end",
            "for i in 1 2 3 4; do (sh -c 'i=0; while [ $i -lt 500 ]; do sleep NAP & i=$((i+1)); done; wait' &) ; done; exit 0",
        ),
    ];
    for (how, script) in bombs {
        let nap = unique_nap();
        let (ended, most) = explode(&script.replace("NAP", &nap), 100, &nap).await;
        assert!(
            matches!(ended, Err(ProcessError::TooManyProcesses { max: 100 })),
            "{how}: {ended:?}, {most} at most"
        );
        println!("{how}: {most} at most");
        assert_eq!(with_argument(&nap), Vec::<String>::new(), "{how}: all are gone when it returns");
    }
}

#[tokio::test]
async fn an_operation_that_starts_too_much_starts_nothing_more() {
    let crowd = Crowd::new(20);
    let cancel = CancellationToken::new();
    let spec = |script: &str| Spec { crowd: crowd.clone(), ..shell(script) };
    let nap = unique_nap();
    let mut innocent = spawn(spec(&format!("exec sleep {nap}")), &cancel).await.unwrap();
    let bomb = run(spec("for i in $(seq 40); do sleep 60 & done; wait"), &cancel).await;
    assert!(matches!(bomb, Err(ProcessError::TooManyProcesses { max: 20 })), "{bomb:?}");
    // They are counted, and ended, together.
    assert!(matches!(innocent.wait().await, Err(ProcessError::TooManyProcesses { .. })));
    let late = run(spec("exit 0"), &cancel).await;
    assert!(matches!(late, Err(ProcessError::TooManyProcesses { .. })), "{late:?}");
}

#[tokio::test]
async fn programs_at_a_time_are_limited() {
    let crowd = Crowd::new(512);
    let cancel = CancellationToken::new();
    let nap = unique_nap();
    let spec = || Spec { crowd: crowd.clone(), ..shell(&format!("exec sleep {nap}")) };
    let mut running = Vec::new();
    for _ in 0..MAX_PROGRAMS {
        running.push(spawn(spec(), &cancel).await.unwrap());
    }
    assert!(matches!(spawn(spec(), &cancel).await, Err(ProcessError::TooManyPrograms)));
    running.pop();
    running.push(spawn(spec(), &cancel).await.unwrap());
    drop(running);
    until_gone(&nap).await;
}

/// What is below the limit runs to its end.
#[tokio::test]
async fn many_processes_are_no_bomb() {
    let script = "for i in $(seq 90); do sleep 0.5 & done; wait; echo ok";
    let spec = Spec { crowd: Crowd::new(100), ..shell(script) };
    assert_eq!(text(&finish(spec).await.stdout), "ok\n");
}
