//! Telling systemd how the host is (`sd_notify(3)`). Without systemd all of this does nothing.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}

/// The host works. It may have no master yet: it goes on trying.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The plugins are loaded again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
}

/// The host drains.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(words: &str) {
    notify(&[NotifyState::Status(words)]);
}

/// When to say [`alive`]: twice in the time that systemd allows; none if it does not watch.
pub fn watchdog() -> Option<Interval> {
    let mut micros = 0;
    if !sd_notify::watchdog_enabled(false, &mut micros) || micros == 0 {
        return None;
    }
    let mut interval = tokio::time::interval(Duration::from_micros(micros / 2));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}

/// The main loop turns.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// The next time of the watchdog; never without one.
pub async fn due(watchdog: &mut Option<Interval>) {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
