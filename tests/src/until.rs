//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long a condition may take. Generous: it only decides how long a failure takes to show.
const DEADLINE: Duration = Duration::from_secs(60);

/// Ask again and again until there is an answer.
///
/// # Panics
/// If there is none after a minute; the message names `what`.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for: {what}");
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
        std::thread::sleep(Duration::from_millis(10));
    }
}
