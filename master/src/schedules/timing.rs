//! When a schedule runs: pure functions over times.
//!
//! All times here are nominal, as the expression or the period gives them. The splay is added where a
//! time is compared with the clock, so it moves no time past another and is in no row.

use croner::{Cron, parser::CronParser};
use jiff::{Timestamp, tz::TimeZone};
use windlass_types::api::schedules::{Missed, When};

/// A time that is missed by no more than this runs as if nothing had happened: a leader that is lost is
/// followed by the next one within seconds.
pub(super) const LATE_MS: i64 = 60_000;
/// So many times are caught up with at most.
pub(super) const CATCH_UP: usize = 100;
/// Bounds of a period, and of a splay: a second to a year.
const LEAST_MS: u64 = 1000;
const MOST_MS: u64 = 366 * 86_400_000;

/// When a schedule runs, checked.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    rhythm: Rhythm,
    /// How much later than its nominal time it runs.
    offset_ms: i64,
    from_ms: i64,
    /// Not at this time itself.
    until_ms: i64,
    missed: Missed,
}

#[derive(Debug, Clone)]
enum Rhythm {
    Cron { cron: Box<Cron>, zone: TimeZone },
    Every { period_ms: i64, anchor_ms: i64 },
}

/// What has to be done about the times that have passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Run these, in order.
    pub run: Vec<i64>,
    /// These are left out.
    pub left_out: Option<LeftOut>,
}

/// Times that are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub newest_ms: i64,
    /// How many, as far as they were counted.
    pub number: usize,
    /// There are more than that.
    pub more: bool,
}

impl Plan {
    /// Read what was asked for. `seed` decides the splay, the same one each time.
    ///
    /// # Errors
    /// With words about what can't be right.
    pub fn read(when: &When, missed: Missed, created_ms: i64, seed: u64) -> Result<Self, String> {
        let rhythm = match (&when.cron, when.every_ms) {
            (Some(text), None) => {
                let cron =
                    CronParser::new().parse(text).map_err(|error| format!("`{}`: {error}", short(text)))?;
                let name = when.time_zone.as_deref().unwrap_or("UTC");
                let zone =
                    TimeZone::get(name).map_err(|_| format!("there is no time zone `{}`", short(name)))?;
                Rhythm::Cron { cron: Box::new(cron), zone }
            }
            (None, Some(every_ms)) => {
                if when.time_zone.is_some() {
                    return Err("a time zone goes with a cron expression only".into());
                }
                if !(LEAST_MS..=MOST_MS).contains(&every_ms) {
                    return Err(format!("a period of {every_ms} ms is not within a second to a year"));
                }
                let anchor_ms = when.valid_from_ms.unwrap_or(created_ms);
                Rhythm::Every { period_ms: every_ms.cast_signed(), anchor_ms }
            }
            _ => return Err("exactly one of `cron` and `every_ms` is needed".into()),
        };
        let splay_ms = when.splay_ms.unwrap_or(0);
        if splay_ms > MOST_MS {
            return Err("`splay_ms` is more than a year".into());
        }
        let plan = Plan {
            rhythm,
            offset_ms: if splay_ms == 0 { 0 } else { (seed % splay_ms).cast_signed() },
            from_ms: when.valid_from_ms.unwrap_or(i64::MIN),
            until_ms: when.valid_until_ms.unwrap_or(i64::MAX),
            missed,
        };
        if plan.from_ms >= plan.until_ms {
            return Err("`valid_until_ms` is not after `valid_from_ms`".into());
        }
        Ok(plan)
    }

    /// The first time after this one.
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        let after_ms = after_ms.max(self.from_ms.saturating_sub(1));
        let next = match &self.rhythm {
            Rhythm::Every { period_ms, anchor_ms } => {
                let steps = after_ms.saturating_sub(*anchor_ms).div_euclid(*period_ms) + 1;
                anchor_ms.checked_add(steps.max(0).checked_mul(*period_ms)?)?
            }
            Rhythm::Cron { cron, zone } => {
                let from = Timestamp::from_millisecond(after_ms).ok()?.to_zoned(zone.clone());
                cron.find_next_occurrence(&from, false).ok()?.timestamp().as_millisecond()
            }
        };
        Some(next).filter(|next| *next < self.until_ms)
    }

    /// The last time up to this one.
    fn newest(&self, up_to_ms: i64) -> Option<i64> {
        let up_to_ms = up_to_ms.min(self.until_ms.saturating_sub(1));
        let newest = match &self.rhythm {
            Rhythm::Every { period_ms, anchor_ms } => {
                let steps = up_to_ms.saturating_sub(*anchor_ms).div_euclid(*period_ms);
                if steps < 0 {
                    return None;
                }
                anchor_ms.checked_add(steps.checked_mul(*period_ms)?)?
            }
            Rhythm::Cron { cron, zone } => {
                let from = Timestamp::from_millisecond(up_to_ms).ok()?.to_zoned(zone.clone());
                cron.find_previous_occurrence(&from, true).ok()?.timestamp().as_millisecond()
            }
        };
        Some(newest).filter(|newest| *newest >= self.from_ms)
    }

    /// When the clock shows that a nominal time has come.
    pub fn clock_ms(&self, nominal_ms: i64) -> i64 {
        nominal_ms.saturating_add(self.offset_ms)
    }

    /// What to do about the times after `done_ms` that have come at `now_ms`.
    pub fn due(&self, done_ms: i64, now_ms: i64) -> Due {
        let mut times = Vec::new();
        let mut up_to_ms = now_ms.saturating_sub(self.offset_ms);
        // From the newest back: after a long absence nobody counts through all of it.
        while times.len() <= CATCH_UP {
            let Some(time) = self.newest(up_to_ms).filter(|time| *time > done_ms) else { break };
            times.push(time);
            up_to_ms = time - 1;
        }
        let Some(newest) = times.first() else { return Due::default() };
        let run = match self.missed {
            Missed::Skip if now_ms.saturating_sub(self.clock_ms(*newest)) > LATE_MS => 0,
            Missed::Skip | Missed::Once => 1,
            Missed::All => CATCH_UP,
        };
        let more = times.len() > CATCH_UP;
        let rest = times.split_off(run.min(times.len()));
        times.reverse();
        let left_out =
            rest.first().map(|newest_ms| LeftOut { newest_ms: *newest_ms, number: rest.len(), more });
        Due { run: times, left_out }
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZONES: [&str; 5] =
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"];
    const CRONS: [&str; 7] = [
        "30 2 * * *",
        "*/15 * * * *",
        "0 0 * * *",
        "0 3 29 2 *",
        "0 */6 * * MON",
        "15 30 1 L * *",
        "0 0 1 * *",
    ];

    fn cron(text: &str, zone: &str) -> When {
        When { cron: Some(text.into()), time_zone: Some(zone.into()), ..When::default() }
    }

    fn plan(when: &When, missed: Missed) -> Plan {
        Plan::read(when, missed, 0, 0).unwrap()
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    /// The times after one moment up to another, in the zone.
    fn times(text: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let plan = plan(&cron(text, zone), Missed::All);
        let (mut at, end, mut all) = (ms(from), ms(to), Vec::new());
        while let Some(next) = plan.next(at).filter(|next| *next <= end) {
            let zoned = Timestamp::from_millisecond(next).unwrap().in_tz(zone).unwrap();
            all.push(zoned.strftime("%d %H:%M%:z").to_string());
            at = next;
        }
        all
    }

    #[test]
    fn clocks_that_are_changed_neither_lose_nor_double_a_fixed_time() {
        let (zone, march) = ("Europe/Berlin", ("2026-03-27T23:30:00Z", "2026-03-30T12:00:00Z"));
        // There is no 02:30 on the 29th: it runs as soon as the gap is over.
        let spring = times("30 2 * * *", zone, march.0, march.1);
        assert_eq!(spring, ["28 02:30+01:00", "29 03:00+02:00", "30 02:30+02:00"]);
        // And two on the 25th of October: the first counts.
        let autumn = times("30 2 * * *", zone, "2026-10-23T23:30:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(autumn, ["24 02:30+02:00", "25 02:30+02:00", "26 02:30+01:00"]);
        // What goes by the hour goes on by the hour.
        let hours = times("0 * * * *", zone, "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z");
        assert_eq!(hours, ["25 02:00+02:00", "25 02:00+01:00", "25 03:00+01:00"]);
    }

    #[test]
    fn what_is_missed_goes_by_the_policy() {
        let hourly = cron("0 * * * *", "UTC");
        let (done, now) = (ms("2026-01-01T00:00:00Z"), ms("2026-01-01T05:30:00Z"));
        let hour = |hour: i64| done + hour * 3_600_000;
        let left = |newest, number| Some(LeftOut { newest_ms: hour(newest), number, more: false });
        let due = |missed| plan(&hourly, missed).due(done, now);
        assert_eq!(due(Missed::Skip), Due { run: vec![], left_out: left(5, 5) });
        assert_eq!(due(Missed::Once), Due { run: vec![hour(5)], left_out: left(4, 4) });
        assert_eq!(due(Missed::All), Due { run: (1..=5).map(hour).collect(), left_out: None });
        // A few seconds late is not missed.
        let soon = plan(&hourly, Missed::Skip).due(done, hour(5) + LATE_MS);
        assert_eq!(soon, Due { run: vec![hour(5)], left_out: left(4, 4) });
        // A clock that was set back runs nothing twice.
        assert_eq!(plan(&hourly, Missed::All).due(now, done), Due::default());
    }

    #[test]
    fn a_year_of_seconds_is_not_counted_through() {
        let when = When { every_ms: Some(1000), ..When::default() };
        let year = 365 * 86_400_000;
        for when in [when, cron("* * * * * *", "Europe/Berlin")] {
            let due = plan(&when, Missed::All).due(1, year);
            assert_eq!((due.run.len(), due.run[CATCH_UP - 1]), (CATCH_UP, year));
            let left = due.left_out.unwrap();
            assert_eq!((left.newest_ms, left.more), (year - 100_000, true));
        }
    }

    #[test]
    fn window_and_splay() {
        let when = When {
            every_ms: Some(60_000),
            splay_ms: Some(30_000),
            valid_from_ms: Some(600_000),
            valid_until_ms: Some(720_000),
            ..When::default()
        };
        let plan = Plan::read(&when, Missed::All, 5, 40_007).unwrap();
        assert_eq!(
            (plan.next(0), plan.next(600_000), plan.next(660_000)),
            (Some(600_000), Some(660_000), None)
        );
        assert_eq!(plan.clock_ms(600_000), 610_007, "the same each time");
        assert_eq!(plan.due(0, 610_006), Due::default());
        assert_eq!(plan.due(0, 610_007).run, [600_000]);
        assert_eq!(plan.due(600_000, i64::MAX).run, [660_000]);
    }

    #[test]
    fn what_can_not_be_right_is_named() {
        let every = |every_ms| When { every_ms: Some(every_ms), ..When::default() };
        for (when, words) in [
            (When::default(), "exactly one"),
            (When { every_ms: Some(5000), ..cron("* * * * *", "UTC") }, "exactly one"),
            (cron("* * * *", "UTC"), "`* * * *`: Invalid pattern"),
            (cron("61 * * * *", "UTC"), "out of bounds"),
            (cron("* * * * *", "Berlin"), "no time zone `Berlin`"),
            (When { time_zone: Some("UTC".into()), ..every(5000) }, "time zone"),
            (every(999), "999 ms"),
            (When { valid_from_ms: Some(5), valid_until_ms: Some(5), ..every(5000) }, "not after"),
        ] {
            let problem = Plan::read(&when, Missed::Skip, 0, 0).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
        // A day that never comes is found out, and soon.
        assert_eq!(plan(&cron("0 0 30 2 *", "UTC"), Missed::Skip).next(0), None);
    }

    fn whens() -> impl Strategy<Value = When> {
        let crons = (prop::sample::select(&CRONS[..]), prop::sample::select(&ZONES[..]))
            .prop_map(|(text, zone)| cron(text, zone));
        let every = (1000_u64..90_000_000).prop_map(|ms| When { every_ms: Some(ms), ..When::default() });
        (prop_oneof![crons, every], 0_u64..10_000_000)
            .prop_map(|(when, splay)| When { splay_ms: Some(splay), ..when })
    }

    proptest! {
        /// However often and whenever somebody looks, each time is dealt with once, in order.
        #[test]
        fn every_time_is_dealt_with_once(
            when in whens(),
            missed in prop::sample::select(&[Missed::Skip, Missed::Once, Missed::All][..]),
            seed in any::<u64>(),
            // Around both changes of the clock of 2026 in Europe and America.
            begin in prop::sample::select(&["2026-03-06T00:00:00Z", "2026-03-28T00:00:00Z", "2026-10-03T00:00:00Z", "2026-10-24T00:00:00Z", "2026-10-31T12:00:00Z"][..]),
            gaps in prop::collection::vec(prop_oneof![1_i64..100_000, 1_i64..40_000_000], 1..12),
        ) {
            let begin = ms(begin);
            let plan = Plan::read(&when, missed, begin, seed).unwrap();
            let (mut now, mut done) = (begin, begin);
            let (mut ran, mut left) = (Vec::new(), 0);
            let mut counted = true;
            for gap in gaps {
                now += gap;
                let due = plan.due(done, now);
                for time in due.run.iter().copied().chain(due.left_out.map(|left| left.newest_ms)) {
                    prop_assert!(time > done && plan.clock_ms(time) <= now);
                }
                if let Some(out) = due.left_out {
                    left += out.number;
                    counted &= !out.more;
                    prop_assert!(due.run.iter().all(|time| *time > out.newest_ms));
                }
                done = due.run.iter().copied().chain(due.left_out.map(|left| left.newest_ms)).fold(done, i64::max);
                // What is next is later than what is done, and has not come yet.
                if let Some(next) = plan.next(done) {
                    prop_assert!(next > done && plan.clock_ms(next) > now, "{next} {done} {now}");
                }
                ran.extend(due.run);
            }
            prop_assert!(ran.windows(2).all(|two| two[0] < two[1]), "each once, in order");
            let (mut all, mut at) = (Vec::new(), begin);
            while counted && let Some(next) = plan.next(at).filter(|next| plan.clock_ms(*next) <= now) {
                all.push(next);
                at = next;
            }
            if counted {
                prop_assert_eq!(ran.len() + left, all.len());
                prop_assert!(ran.iter().all(|time| all.binary_search(time).is_ok()));
                prop_assert!(missed != Missed::All || left == 0);
            }
        }
    }
}
