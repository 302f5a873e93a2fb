use super::*;

fn entry(effect: Effect) -> Entry {
    Entry {
        job_id: "0190a1b2-0000-7000-8000-000000000000".into(),
        operation: "demo.thing.do".into(),
        args: "{\"n\":18446744073709551615}".into(),
        secrets: Vec::new(),
        type_digest: String::new(),
        plugin_digest: String::new(),
        effect,
        dry_run: false,
        deadline_ms: 1,
        accepted_ms: 0,
    }
}

async fn accepted(journal: &Journal, effect: Effect, started: bool) -> RequestId {
    let id = RequestId::new();
    assert_eq!(journal.claim(id, effect).unwrap(), None);
    journal.accept(id, &entry(effect), started).await.unwrap();
    id
}

/// Copy the files as a killed process would leave them: without closing the journal.
fn killed(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

#[tokio::test]
async fn every_stage_survives_a_kill() {
    for effect in [Effect::Read, Effect::Change, Effect::Destroy] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), Retention::default()).unwrap();
        let waiting = accepted(&journal, effect, false).await;
        let begun = accepted(&journal, effect, true).await;
        let begun_later = accepted(&journal, effect, false).await;
        journal.start(begun_later).await.unwrap();
        let done = accepted(&journal, effect, true).await;
        journal.finish(done, b"result".to_vec()).await.unwrap();
        let gone = accepted(&journal, effect, true).await;
        journal.finish(gone, b"x".to_vec()).await.unwrap();
        journal.acknowledge(gone).await.unwrap();

        let copy = killed(dir.path());
        let (journal, recovered) = Journal::open(copy.path(), Retention::default()).unwrap();
        assert_eq!(recovered.accepted, [(waiting, entry(effect))]);
        let mut started: Vec<RequestId> = recovered.started.iter().map(|(id, _)| *id).collect();
        started.sort_unstable();
        let mut expected = [begun, begun_later];
        expected.sort_unstable();
        assert_eq!(started, expected);
        assert_eq!(recovered.finished, [done]);
        assert!(!recovered.reads_lost);
        assert_eq!(journal.result(done).unwrap().unwrap(), b"result");
        assert_eq!(journal.claim(done, effect).unwrap(), Some(Stage::Finished));
        assert_eq!(journal.claim(waiting, effect).unwrap(), Some(Stage::Accepted));
        assert_eq!(journal.claim(begun, effect).unwrap(), Some(Stage::Started));
        assert_eq!(journal.claim(gone, effect).unwrap(), Some(Stage::Acknowledged));
        let (running, finished) = journal.lists();
        assert_eq!((running.len(), finished), (3, vec![done]));
    }
}

#[tokio::test]
async fn a_power_failure_costs_unclosed_reads_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_in_boot(dir.path(), Retention::default(), "boot-1").unwrap();
    let read = accepted(&journal, Effect::Read, true).await;
    let change = accepted(&journal, Effect::Change, true).await;
    let copy = killed(dir.path());
    let (journal, recovered) = Journal::open_in_boot(copy.path(), Retention::default(), "boot-2").unwrap();
    assert!(recovered.reads_lost);
    assert_eq!(recovered.started.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [change]);
    assert_eq!(journal.claim(read, Effect::Read).unwrap(), None, "a lost read may run again");
}

#[tokio::test]
async fn an_orderly_end_keeps_reads_for_the_next_boot() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_in_boot(dir.path(), Retention::default(), "boot-1").unwrap();
    let read = accepted(&journal, Effect::Read, true).await;
    journal.finish(read, b"r".to_vec()).await.unwrap();
    journal.close();
    assert!(matches!(journal.finish(read, Vec::new()).await, Err(JournalError::Closed)));
    let (_journal, recovered) = Journal::open_in_boot(dir.path(), Retention::default(), "boot-2").unwrap();
    assert_eq!((recovered.finished, recovered.reads_lost), (vec![read], false));
}

#[tokio::test]
async fn a_second_process_is_told_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (_journal, _) = Journal::open(dir.path(), Retention::default()).unwrap();
    let error = Journal::open(dir.path(), Retention::default()).unwrap_err();
    assert!(error.to_string().contains("another windlass-host runs with the same state_dir"), "{error}");
}

#[tokio::test]
async fn an_id_is_claimed_once() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), Retention::default()).unwrap();
    let id = RequestId::new();
    assert_eq!(journal.claim(id, Effect::Change).unwrap(), None);
    assert_eq!(journal.claim(id, Effect::Change).unwrap(), Some(Stage::Claimed));
    journal.accept(id, &entry(Effect::Change), true).await.unwrap();
    assert_eq!(journal.claim(id, Effect::Change).unwrap(), Some(Stage::Started));
}

/// Another version of the program may have written entries that this one can't read: they may have
/// begun, so they must never be taken for unknown.
#[tokio::test]
async fn an_entry_that_can_not_be_read_counts_as_begun() {
    let dir = tempfile::tempdir().unwrap();
    let id = RequestId::new();
    let database = redb::Database::create(dir.path().join("journal.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("requests");
    transaction.open_table(table).unwrap().insert(id.to_string().as_str(), b"{}".as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (journal, recovered) = Journal::open(dir.path(), Retention::default()).unwrap();
    assert_eq!(recovered.unreadable, [id]);
    assert_eq!(journal.claim(id, Effect::Change).unwrap(), Some(Stage::Started), "it is not run again");
}

#[tokio::test]
async fn acknowledged_ids_are_bounded_by_count_and_age() {
    let dir = tempfile::tempdir().unwrap();
    let few = Retention { count: 3, age_ms: 1_000_000 };
    let (journal, _) = Journal::open(dir.path(), few).unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id = accepted(&journal, Effect::Read, true).await;
        journal.finish(id, Vec::new()).await.unwrap();
        // The result must be there until it is acknowledged, then gone.
        assert!(journal.result(id).unwrap().is_some());
        journal.acknowledge(id).await.unwrap();
        assert!(journal.result(id).unwrap().is_none());
        ids.push(id);
    }
    let remembered = |journal: &Journal| {
        ids.iter().filter(|id| journal.stage(**id).unwrap() == Some(Stage::Acknowledged)).count()
    };
    assert_eq!(remembered(&journal), 3);
    journal.close();
    drop(journal);
    let none = Retention { count: 3, age_ms: 0 };
    // Age counts from the clock: wait until it has moved on by a millisecond.
    let then = now_ms();
    while now_ms() <= then {
        std::hint::spin_loop();
    }
    let (journal, _) = Journal::open(dir.path(), none).unwrap();
    assert_eq!(remembered(&journal), 0);
}

#[tokio::test]
async fn an_acknowledgement_before_the_result_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), Retention::default()).unwrap();
    let id = accepted(&journal, Effect::Change, true).await;
    journal.acknowledge(id).await.unwrap();
    assert_eq!(journal.stage(id).unwrap(), Some(Stage::Started));
    journal.acknowledge(RequestId::new()).await.unwrap();
}

#[tokio::test]
async fn the_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (_journal, _) = Journal::open(dir.path(), Retention::default()).unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.file_name());
    }
}
