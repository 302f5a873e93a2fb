//! Who leads, and how this master comes to.
//!
//! A master that is alone on its database (no `listen.peer`) takes the lead when it starts, whoever had
//! it. If somebody starts another one beside it, that one leads, and this one ends: two that take the
//! lead from each other all the time would be worse than one.
//!
//! Of several, the one that leads renews the lease each second ([`RENEW`]); when it could not for four
//! ([`LOST`]) it leads no more, by its own clock. The others take the lead when it has stood still for
//! five ([`TAKE_OVER`]). So in the ordinary case the old leader has ended before the new one begins. Where
//! it has not, since it was paused, nothing rests on clocks: the store refuses its writes, and hosts
//! leave it for its lower epoch.

use crate::{
    front::Leader,
    store::{
        Connection, Store, StoreError,
        lease::{self, Candidate, Lease},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// Between two renewals, and two looks at them.
const RENEW: Duration = Duration::from_secs(1);
/// Without a renewal for so long this master leads no more.
const LOST: Duration = Duration::from_secs(4);
/// A lease that was not renewed for so long is taken over.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// Where this master stands.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// It leads, until `over` is cancelled.
    Leading { epoch: u64, over: CancellationToken },
    /// Another one leads.
    Following(Leader),
    /// Nobody does, as far as this one knows; why.
    Nobody(Arc<str>),
    /// This master must not go on; why.
    Refused(Arc<str>),
}

/// Takes part, for the life of the process.
#[derive(Debug)]
pub(crate) struct Election {
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Election {
    /// Take part. With `several` there may be other masters.
    pub fn begin(store: Store, me: Candidate, several: bool) -> Self {
        let (standing, receiver) = watch::channel(Standing::Nobody("this master has just started".into()));
        let stop = CancellationToken::new();
        let runner = Runner { store, me, several, standing, connection: None, seen: None };
        Election { standing: receiver, task: tokio::spawn(runner.run(stop.clone())), stop }
    }

    /// The standing as it changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// The leading part has ended in order: another master may lead at once.
    pub async fn end(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

struct Runner {
    store: Store,
    me: Candidate,
    several: bool,
    standing: watch::Sender<Standing>,
    /// Not the writer's: a renewal must not wait behind a thousand results.
    connection: Option<Connection>,
    /// The lease as it was seen, and since when it has looked like that.
    seen: Option<(Lease, Instant)>,
}

impl Runner {
    async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(RENEW);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match self.look().await {
                Ok(Some((epoch, since))) => self.lead(epoch, since, &mut tick, &stop).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot see who leads");
                    self.connection = None;
                    // How long the lease stands still can't be told while it can't be seen.
                    self.seen = None;
                    self.stand(Standing::Nobody("the database does not answer".into()));
                }
            }
            if matches!(*self.standing.borrow(), Standing::Refused(_)) {
                return;
            }
        }
    }

    fn stand(&self, standing: Standing) {
        self.standing.send_replace(standing);
    }

    async fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if self.connection.is_none() {
            self.connection = Some(self.store.connect().await?);
        }
        self.connection.as_mut().ok_or(StoreError::Closed)
    }

    /// Look at the lease, and take it if it is to be had. Gives back the epoch and when it began.
    async fn look(&mut self) -> Result<Option<(u64, Instant)>, StoreError> {
        let lease = tokio::time::timeout(LOST, lease::read(self.connection().await?))
            .await
            .map_err(|_| StoreError::Closed)??;
        if let Some(lease) = &lease
            && self.several
            && lease.authority != self.me.authority
        {
            let why = format!(
                "the masters of this database have the authority {}, and this one has {}: copy the folder `ca` \
                 of another master (after a change of the authority, start one master without `listen.peer` once)",
                lease.authority, self.me.authority
            );
            self.stand(Standing::Refused(why.into()));
            return Ok(None);
        }
        let free = match (&lease, &self.seen) {
            _ if !self.several => true,
            (None, _) => true,
            (Some(lease), _) if lease.master.is_none() => true,
            (Some(lease), Some((seen, since))) if lease == seen => since.elapsed() >= TAKE_OVER,
            _ => false,
        };
        if free {
            let since = Instant::now();
            let me = self.me.clone();
            let taken = lease::take(self.connection().await?, lease.as_ref(), &me);
            let taken = tokio::time::timeout(LOST, taken).await.map_err(|_| StoreError::Closed)??;
            self.seen = None;
            return Ok(taken.map(|epoch| (epoch, since)));
        }
        let Some(lease) = lease else { return Ok(None) };
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != lease) {
            self.seen = Some((lease.clone(), Instant::now()));
        }
        if let Some(master) = lease.master {
            let leader = Leader { master, epoch: lease.epoch, address: lease.address };
            let new = !matches!(&*self.standing.borrow(), Standing::Following(known) if *known == leader);
            if new {
                self.stand(Standing::Following(leader));
            }
        }
        Ok(None)
    }

    /// Lead, for as long as the lease can be renewed.
    async fn lead(
        &mut self,
        epoch: u64,
        mut renewed: Instant,
        tick: &mut tokio::time::Interval,
        stop: &CancellationToken,
    ) {
        let over = CancellationToken::new();
        // However this ends, the term is over.
        let _guard = over.clone().drop_guard();
        self.stand(Standing::Leading { epoch, over });
        let mut doubts = self.store.doubts();
        doubts.mark_unchanged();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // The next term reads everything again, wherever it is.
                Ok(()) = doubts.changed() => {
                    self.stand(Standing::Nobody("the database was lost in the middle of a commit".into()));
                    return self.give_up(epoch).await;
                }
                _ = tick.tick() => {}
            }
            let begun = Instant::now();
            match tokio::time::timeout_at(renewed + LOST, self.renew(epoch)).await {
                Ok(Ok(true)) => renewed = begun,
                Ok(Ok(false)) if self.several => {
                    return self.stand(Standing::Nobody("another master has taken the lead".into()));
                }
                Ok(Ok(false)) => {
                    let why = "another master was started on this database and leads now; for several at a \
                               time, all of them need `listen.peer`";
                    return self.stand(Standing::Refused(why.into()));
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot renew the lease");
                    self.connection = None;
                }
                Err(_) => self.connection = None,
            }
            // Alone, nobody takes it: the lead waits for the database.
            if self.several && renewed.elapsed() >= LOST {
                return self.stand(Standing::Nobody("the lease could not be renewed".into()));
            }
            if !self.several {
                renewed = begun;
            }
        }
        self.give_up(epoch).await;
    }

    /// So that nobody has to wait for it to stand still.
    async fn give_up(&mut self, epoch: u64) {
        if let Ok(connection) = self.connection().await
            && let Ok(Err(error)) = tokio::time::timeout(LOST, lease::give_up(connection, epoch)).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot give the lease up");
        }
    }

    /// True while this master leads.
    async fn renew(&mut self, epoch: u64) -> Result<bool, StoreError> {
        let several = self.several;
        let connection = self.connection().await?;
        if several {
            return lease::renew(connection, epoch).await;
        }
        // Nobody watches the beats, and a disk need not turn for them.
        Ok(lease::read(connection).await?.is_some_and(|lease| lease.epoch == epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::soon;
    use windlass_types::{Fingerprint, MasterId};

    async fn database() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::open(&dir.path().join("db")).await;
        (dir, store)
    }

    fn candidate(authority: &str) -> Candidate {
        let authority = Fingerprint::of(authority.as_bytes());
        Candidate { master: MasterId::new(), address: "127.0.0.1:1".into(), authority }
    }

    async fn until(election: &Election, is: impl Fn(&Standing) -> bool) -> Standing {
        let mut standing = election.standing();
        soon("another standing", standing.wait_for(is)).await.unwrap().clone()
    }

    fn leads(standing: &Standing) -> bool {
        matches!(standing, Standing::Leading { .. })
    }

    #[tokio::test]
    async fn the_lead_is_handed_over_when_a_master_ends_in_order() {
        let (_dir, store) = database().await;
        let me = candidate("one");
        let first = Election::begin(store.clone(), me.clone(), true);
        let Standing::Leading { epoch, over } = until(&first, leads).await else { unreachable!() };
        let second = Election::begin(store.clone(), candidate("one"), true);
        let following = until(&second, |standing| matches!(standing, Standing::Following(_))).await;
        let Standing::Following(leader) = following else { unreachable!() };
        assert_eq!((leader.master, leader.epoch, leader.address), (me.master, epoch, me.address));
        let begun = Instant::now();
        first.end().await;
        assert!(over.is_cancelled());
        let Standing::Leading { epoch: next, .. } = until(&second, leads).await else { unreachable!() };
        assert!(next > epoch);
        assert!(begun.elapsed() < TAKE_OVER, "nobody waits for a lease that was given up");
    }

    #[tokio::test]
    async fn a_leader_whose_lease_was_taken_ends_at_once() {
        let (_dir, store) = database().await;
        let first = Election::begin(store.clone(), candidate("one"), true);
        let Standing::Leading { over, .. } = until(&first, leads).await else { unreachable!() };
        let mut connection = store.connect().await.unwrap();
        loop {
            let seen = lease::read(&mut connection).await.unwrap();
            if lease::take(&mut connection, seen.as_ref(), &candidate("one")).await.unwrap().is_some() {
                break;
            }
        }
        soon("the end of the term", over.cancelled()).await;
        until(&first, |standing| matches!(standing, Standing::Following(_))).await;
    }

    #[tokio::test]
    async fn of_two_that_want_to_be_alone_the_later_one_is() {
        let (_dir, store) = database().await;
        let first = Election::begin(store.clone(), candidate("one"), false);
        let Standing::Leading { over, .. } = until(&first, leads).await else { unreachable!() };
        let second = Election::begin(store.clone(), candidate("one"), false);
        until(&second, leads).await;
        soon("the end of the term", over.cancelled()).await;
        let refused = until(&first, |standing| matches!(standing, Standing::Refused(_))).await;
        assert!(format!("{refused:?}").contains("listen.peer"), "{refused:?}");
        assert!(leads(&second.standing().borrow()), "and it stays so");
    }

    #[tokio::test]
    async fn a_master_of_another_authority_takes_no_part() {
        let (_dir, store) = database().await;
        let first = Election::begin(store.clone(), candidate("one"), true);
        until(&first, leads).await;
        let other = Election::begin(store.clone(), candidate("another"), true);
        let refused = until(&other, |standing| matches!(standing, Standing::Refused(_))).await;
        assert!(format!("{refused:?}").contains("copy the folder `ca`"), "{refused:?}");
        first.end().await;
        // Not even when nobody leads; alone it may, since the authority may have been changed.
        let other = Election::begin(store.clone(), candidate("another"), true);
        until(&other, |standing| matches!(standing, Standing::Refused(_))).await;
        until(&Election::begin(store, candidate("another"), false), leads).await;
    }
}
