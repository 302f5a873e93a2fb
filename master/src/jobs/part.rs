//! One node's part of a job: the state machine, without any IO.
//!
//! ```text
//! Held ──release──► Waiting ──run──► Sent ──► Accepted ──► Running        (Settling from each of them)
//! ```
//!
//! What has to hold, and how it does:
//!
//! * *Each node gets exactly one outcome.* Here a part leaves [`Stage::Settling`] only when the
//!   outcome is committed, or when the commit failed. The last word has the primary key of the
//!   table of outcomes: of two outcomes on their way at once, the first to be committed counts.
//! * *Nothing runs twice.* A request keeps its id for ever and the host runs an id once, so sending
//!   it again is safe as long as the host has its journal. (A part that is retried gets another id, after
//!   the node has told how the one before ended.) A host that had the request and does not
//!   know it any more has lost its journal: that is `indeterminate`, never sent again.
//! * *Nothing is lost.* Timers settle what nodes leave open. The host keeps the deadline too, so a
//!   part that is with the node gets a grace to say what became of it.
//!
//! A part that was `Sent` and never heard of again gets no answer, like one that was never sent: the
//! master does not know that it began. If the node turns out to have it after all, it is told to
//! cancel, because nobody waits for it any more.

/// Where a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has to wait for its turn in a job that goes over its nodes a few at a time. Nothing but its
    /// release sends it: the release is committed first, so that the next master knows of it too.
    Held,
    /// Not with the node.
    Waiting,
    /// Sent, or possibly sent by a master that has ended; the node has not said that it has it.
    Sent,
    /// In the node's journal.
    Accepted,
    /// Runs.
    Running,
    /// Its outcome is on its way into the store.
    Settling,
}

/// What the node's journal says about the request when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// Not finished.
    Unfinished,
    /// Finished; the result follows.
    Finished,
    Nothing,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Its turn has come.
    Release,
    /// Too many others have failed before its turn.
    Stop,
    /// The node is there and the job has just been made.
    Deliver,
    /// The node has a new session.
    Connected(Journal),
    /// The node says that it has the request.
    Accepted,
    /// The node says that it runs.
    Started,
    /// A result came.
    Result,
    /// The result is not to be the last word: the node is asked again, under another id.
    Again,
    /// An operator wants it cancelled.
    Cancel,
    /// The deadline has passed.
    Deadline,
    /// The grace after the deadline has passed as well.
    Grace,
}

/// What holds for the whole job.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    pub cancel_requested: bool,
    pub past_deadline: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Nothing,
    /// Send the request; the stage holds if it could be sent.
    Run,
    /// Tell the node to cancel.
    Cancel,
    /// Store the result that came.
    Store,
    /// Store this outcome.
    Settle(Verdict),
}

/// An outcome that the master gives by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    NoAnswer,
    /// The node had it, and does not know it any more.
    Forgotten,
    /// The node had it, and went silent.
    Silent,
    NotStarted,
    /// It never had its turn.
    Stopped,
}

/// The one step of the machine.
pub fn next(stage: Stage, input: Input, job: Circumstances) -> (Stage, Command) {
    use Stage::{Accepted, Held, Running, Sent, Settling, Waiting};
    let settle = |verdict| (Settling, Command::Settle(verdict));
    match (stage, input) {
        // A second result on its way: it is stored too, so that its host is told only once the
        // first one is committed.
        (_, Input::Result) => (Settling, Command::Store),
        (Settling, Input::Again) => (Waiting, Command::Nothing),
        (Settling, _) => (Settling, Command::Nothing),
        (_, Input::Again) => (stage, Command::Nothing),

        (Held, Input::Release) if job.cancel_requested => settle(Verdict::NotStarted),
        (Held, Input::Release) => (Waiting, Command::Nothing),
        (Held, Input::Stop) => settle(Verdict::Stopped),
        (Held, Input::Cancel) => settle(Verdict::NotStarted),
        // Its time has not begun. That a node has it can only be if the master was restored from a backup.
        (Held, Input::Deliver | Input::Deadline | Input::Grace | Input::Connected(Journal::Nothing)) => {
            (Held, Command::Nothing)
        }
        (_, Input::Release | Input::Stop) => (stage, Command::Nothing),

        (Waiting, Input::Deliver | Input::Connected(Journal::Nothing))
        | (Sent, Input::Connected(Journal::Nothing)) => {
            if job.cancel_requested {
                settle(Verdict::NotStarted)
            } else if job.past_deadline {
                settle(Verdict::NoAnswer)
            } else {
                (Sent, Command::Run)
            }
        }
        (Accepted | Running, Input::Connected(Journal::Nothing)) => settle(Verdict::Forgotten),
        (_, Input::Connected(Journal::Finished)) => (stage_at_least(stage, Accepted), Command::Nothing),
        (_, Input::Connected(Journal::Unfinished)) => {
            let command = if job.cancel_requested { Command::Cancel } else { Command::Nothing };
            (stage_at_least(stage, Accepted), command)
        }

        (_, Input::Accepted) => (stage_at_least(stage, Accepted), Command::Nothing),
        (_, Input::Started) => (Running, Command::Nothing),

        (Waiting, Input::Cancel) => settle(Verdict::NotStarted),
        (_, Input::Cancel) => (stage, Command::Cancel),

        (Waiting, Input::Deadline | Input::Grace) => settle(Verdict::NoAnswer),
        (Sent, Input::Grace) => settle(Verdict::NoAnswer),
        (Accepted | Running, Input::Grace) => settle(Verdict::Silent),
        (_, Input::Deadline | Input::Deliver) => (stage, Command::Nothing),
    }
}

/// Messages may come late or twice: a part never goes back.
fn stage_at_least(stage: Stage, least: Stage) -> Stage {
    match (stage, least) {
        (Stage::Held | Stage::Waiting | Stage::Sent, least) => least,
        (stage, _) => stage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN: Circumstances = Circumstances { cancel_requested: false, past_deadline: false };

    #[test]
    fn a_restart_of_either_side_never_runs_anything_twice() {
        let nothing = Input::Connected(Journal::Nothing);
        assert_eq!(
            next(Stage::Sent, nothing, OPEN),
            (Stage::Sent, Command::Run),
            "same id: the host decides"
        );
        for had_it in [Stage::Accepted, Stage::Running] {
            assert_eq!(next(had_it, nothing, OPEN).1, Command::Settle(Verdict::Forgotten));
        }
        let late = Circumstances { past_deadline: true, ..OPEN };
        assert_eq!(next(Stage::Sent, nothing, late).1, Command::Settle(Verdict::NoAnswer));
        let cancelled = Circumstances { cancel_requested: true, ..OPEN };
        assert_eq!(next(Stage::Waiting, Input::Deliver, cancelled).1, Command::Settle(Verdict::NotStarted));
        assert_eq!(
            next(Stage::Sent, Input::Connected(Journal::Unfinished), cancelled),
            (Stage::Accepted, Command::Cancel)
        );
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            Just(Input::Release),
            Just(Input::Stop),
            Just(Input::Deliver),
            prop_oneof![Just(Journal::Unfinished), Just(Journal::Finished), Just(Journal::Nothing)]
                .prop_map(Input::Connected),
            Just(Input::Accepted),
            Just(Input::Started),
            Just(Input::Result),
            Just(Input::Again),
            Just(Input::Cancel),
            Just(Input::Deadline),
            Just(Input::Grace),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_the_master_settles_once_and_never_resends_what_a_node_had(
            held in any::<bool>(),
            inputs in proptest::collection::vec((input(), any::<bool>(), any::<bool>()), 0..40)
        ) {
            let mut stage = if held { Stage::Held } else { Stage::Waiting };
            let (mut settled, mut had_it, mut released) = (0, false, !held);
            for (input, cancel_requested, past_deadline) in inputs {
                let (now, command) = next(stage, input, Circumstances { cancel_requested, past_deadline });
                if (stage, input) == (Stage::Settling, Input::Again) {
                    // Another request: nothing is known of it.
                    (settled, had_it, released, stage) = (0, false, true, now);
                    continue;
                }
                prop_assert!(!(had_it && command == Command::Run), "{input:?} in {stage:?}");
                released |= input == Input::Release || matches!(now, Stage::Accepted | Stage::Running);
                prop_assert!(released || command != Command::Run, "{input:?} sent what had to wait");
                prop_assert!(!released || now != Stage::Held, "{input:?} holds what was let go");
                if matches!(command, Command::Settle(_)) {
                    settled += 1;
                    prop_assert!(stage != Stage::Settling);
                }
                if matches!(command, Command::Settle(Verdict::Stopped)) {
                    prop_assert!(!released, "{input:?} in {stage:?}");
                }
                if matches!(command, Command::Settle(Verdict::NoAnswer | Verdict::NotStarted)) {
                    prop_assert!(!had_it, "{input:?} in {stage:?}");
                }
                had_it |= matches!(now, Stage::Accepted | Stage::Running);
                stage = now;
            }
            prop_assert!(settled <= 1);
            // The last timer leaves nothing open that had its turn, and a stop nothing that had not.
            let last = if stage == Stage::Held { Input::Stop } else { Input::Grace };
            prop_assert_eq!(next(stage, last, OPEN).0, Stage::Settling);
        }
    }
}
