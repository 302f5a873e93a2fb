//! The master ends before or after any event of a run is written.

use super::{Rig, RunState, diamond, hosts::Reply, plan, step};
use crate::store::StoreError;
use serde_json::Value;
use std::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Ends a master at the n-th event, before or after it is written.
#[derive(Debug, Default)]
pub(in crate::plans) struct Crash(Mutex<(u32, Option<(u32, bool)>)>);

impl Crash {
    fn at(&self, number: u32, after: bool) {
        self.0.lock().unwrap().1 = Some((number, after));
    }

    fn is_now(&self, after: bool, shutdown: &CancellationToken) -> Result<(), StoreError> {
        let mut crash = self.0.lock().unwrap();
        if !after {
            crash.0 += 1;
        }
        if crash.1 == Some((crash.0, after)) {
            shutdown.cancel();
            return Err(StoreError::Closed);
        }
        Ok(())
    }

    pub fn before(&self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        self.is_now(false, shutdown)
    }

    pub fn after(&self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        self.is_now(true, shutdown)
    }
}

/// Carry out a plan once for each of its events, with a crash there, until there is no such event.
async fn at_every_event(of: &Value, prepare: impl Fn(&Rig), check: impl Fn(&Rig, RunState)) -> u32 {
    for number in 1.. {
        for after in [false, true] {
            let mut rig = Rig::new().await;
            prepare(&rig);
            rig.plans.inner.crash.at(number, after);
            let id = rig.apply(of).await;
            let crashed = rig.shutdown.clone();
            let over = tokio::select! {
                () = crashed.cancelled() => None,
                run = rig.over(id) => Some(run),
            };
            let run = match over {
                Some(run) if !rig.shutdown.is_cancelled() => {
                    check(&rig, run.info.state);
                    return number - 1;
                }
                _ => {
                    rig.restart().await;
                    rig.over(id).await
                }
            };
            rig.hosts.assert_once();
            check(&rig, run.info.state);
        }
    }
    0
}

#[tokio::test]
async fn a_crash_at_any_event_of_a_good_run_changes_nothing() {
    let of = diamond();
    let events = at_every_event(
        &of,
        |_| (),
        |rig, state| {
            assert_eq!(state, RunState::Done);
            assert_eq!(rig.hosts.marks(), [1, 2, 3, 4].into());
            assert_eq!(rig.hosts.done().len(), 4, "each action ran once");
        },
    );
    assert!(events.await >= 6);
}

#[tokio::test]
async fn a_crash_at_any_event_of_a_run_that_fails_changes_nothing() {
    let of = plan(&[
        step("a", "n1", 1, &[]),
        step("b", "n2", 2, &["a"]),
        step("c", "n3", 3, &["b"]),
        step("never", "n1", 4, &["c"]),
    ]);
    let prepare = |rig: &Rig| rig.hosts.script(3, 0, &[Reply::Half]);
    let events = at_every_event(&of, prepare, |rig, state| {
        assert_eq!(state, RunState::RolledBack);
        assert!(rig.hosts.marks().is_empty(), "{:?}", rig.hosts.marks());
        assert_eq!(rig.hosts.undone(), [3, 2, 1], "the last first, each once");
        assert!(rig.hosts.done().iter().all(|done| done.mark != 4));
    });
    assert!(events.await >= 12);
}
