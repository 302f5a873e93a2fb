//! Telling systemd that the master works (`sd_notify(3)`). Without systemd all of this does nothing.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Say it twice in the time that systemd allows, from a task like all others: when every thread of the
/// runtime is stuck it is not said any more, and systemd starts the master again.
pub fn start() {
    let mut micros = 0;
    if !sd_notify::watchdog_enabled(false, &mut micros) || micros == 0 {
        return;
    }
    let mut interval = tokio::time::interval(Duration::from_micros(micros / 2));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Ends with the runtime.
    tokio::spawn(async move {
        loop {
            interval.tick().await;
            if let Err(error) = sd_notify::notify(false, &[NotifyState::Watchdog]) {
                tracing::debug!(%error, "cannot notify systemd");
            }
        }
    });
}
