//! Who may run now.
//!
//! A fixed number of workers and a bounded queue. A job takes its place in one step when it arrives
//! ([`Pool::enter`]), so "busy" is said at once and never after a promise. The queue is first come, first
//! served, except that a job whose plugin already runs as often as its manifest allows lets others pass.
//!
//! What no job asked for runs beside the workers ([`Pool::beside`]) and gives way: it begins only while no
//! job waits, is told to end when a job of its plugin would wait for it, and never makes a job be refused.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use windlass_types::PluginName;

/// Gives out places. Clones share them.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Mutex<State>>,
    freed: Arc<Notify>,
    workers: usize,
    queue: usize,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    by_plugin: HashMap<PluginName, usize>,
    waiting: VecDeque<Waiter>,
    /// What runs beside the workers.
    beside: Vec<Beside>,
    /// Of the newest of them.
    number: u64,
}

#[derive(Debug)]
struct Beside {
    number: u64,
    plugin: PluginName,
    give_way: CancellationToken,
}

#[derive(Debug)]
struct Waiter {
    plugin: PluginName,
    limit: usize,
    turn: oneshot::Sender<Slot>,
}

/// The right to run. Dropping it lets the next one run.
#[derive(Debug)]
pub struct Slot {
    pool: Pool,
    plugin: PluginName,
    /// False once the place was given back by other means.
    held: bool,
    /// Its number, if it is a place beside the workers.
    beside: Option<u64>,
}

/// A place: at work or in the queue.
#[derive(Debug)]
pub enum Place {
    /// May run now.
    Now(Slot),
    /// Its turn comes through this channel. Dropping it leaves the queue.
    Later(oneshot::Receiver<Slot>),
}

impl Pool {
    /// A pool of `workers`, and `queue` places to wait.
    pub fn new(workers: usize, queue: usize) -> Self {
        Pool { shared: Arc::default(), freed: Arc::default(), workers, queue }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every critical section leaves the state whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take a place; none if all are taken. `limit` is how often `plugin` may run at once.
    pub fn enter(&self, plugin: &PluginName, limit: usize) -> Option<Place> {
        let mut state = self.state();
        // Those that gave up no longer count.
        state.waiting.retain(|waiter| !waiter.turn.is_closed());
        if state.may_run(self.workers, plugin, limit) {
            return Some(Place::Now(self.take(&mut state, plugin.clone())));
        }
        if state.waiting.len() >= self.queue + state.beside.len() {
            return None;
        }
        state.make_way(plugin, limit);
        let (turn, later) = oneshot::channel();
        state.waiting.push_back(Waiter { plugin: plugin.clone(), limit, turn });
        Some(Place::Later(later))
    }

    /// Wait for a place beyond the bound of the queue: for work that was promised before a restart.
    pub fn enter_promised(&self, plugin: &PluginName, limit: usize) -> Place {
        let mut state = self.state();
        if state.may_run(self.workers, plugin, limit) {
            return Place::Now(self.take(&mut state, plugin.clone()));
        }
        state.make_way(plugin, limit);
        let (turn, later) = oneshot::channel();
        state.waiting.push_back(Waiter { plugin: plugin.clone(), limit, turn });
        Place::Later(later)
    }

    /// A place beside the workers, and what tells to give it back soon; none while a job waits or the plugin
    /// runs as often as it may.
    pub fn beside(&self, plugin: &PluginName, limit: usize) -> Option<(Slot, CancellationToken)> {
        let mut state = self.state();
        state.waiting.retain(|waiter| !waiter.turn.is_closed());
        if !state.waiting.is_empty() || !state.allows(plugin, limit) {
            return None;
        }
        state.number += 1;
        let (number, give_way) = (state.number, CancellationToken::new());
        state.beside.push(Beside { number, plugin: plugin.clone(), give_way: give_way.clone() });
        *state.by_plugin.entry(plugin.clone()).or_default() += 1;
        let slot = Slot { pool: self.clone(), plugin: plugin.clone(), held: true, beside: Some(number) };
        Some((slot, give_way))
    }

    /// Wait until a place was given back since the last call. For one who waits.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// How many run and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.running, state.waiting.iter().filter(|waiter| !waiter.turn.is_closed()).count())
    }

    /// The limits, for messages.
    pub fn limits(&self) -> (usize, usize) {
        (self.workers, self.queue)
    }

    fn take(&self, state: &mut State, plugin: PluginName) -> Slot {
        state.running += 1;
        *state.by_plugin.entry(plugin.clone()).or_default() += 1;
        Slot { pool: self.clone(), plugin, held: true, beside: None }
    }

    /// Give the free workers to those that wait.
    fn dispatch(&self) {
        let mut state = self.state();
        while let Some(next) =
            state.waiting.iter().position(|waiter| state.may_run(self.workers, &waiter.plugin, waiter.limit))
        {
            let Some(waiter) = state.waiting.remove(next) else { break };
            if waiter.turn.is_closed() {
                continue;
            }
            let slot = self.take(&mut state, waiter.plugin);
            if let Err(mut slot) = waiter.turn.send(slot) {
                // It gave up this very moment. Giving the place back by `drop` would lock twice.
                state.leave(&slot.plugin, slot.beside);
                slot.held = false;
            }
        }
    }
}

impl State {
    fn may_run(&self, workers: usize, plugin: &PluginName, limit: usize) -> bool {
        self.running < workers && self.allows(plugin, limit)
    }
    fn allows(&self, plugin: &PluginName, limit: usize) -> bool {
        self.by_plugin.get(plugin).copied().unwrap_or(0) < limit
    }
    /// A job waits: what holds a place of its plugin beside the workers is to end.
    fn make_way(&self, plugin: &PluginName, limit: usize) {
        if !self.allows(plugin, limit) {
            self.beside.iter().filter(|held| held.plugin == *plugin).for_each(|held| held.give_way.cancel());
        }
    }
    fn leave(&mut self, plugin: &PluginName, beside: Option<u64>) {
        match beside {
            Some(number) => self.beside.retain(|held| held.number != number),
            None => self.running -= 1,
        }
        if let Some(count) = self.by_plugin.get_mut(plugin) {
            *count -= 1;
            if *count == 0 {
                self.by_plugin.remove(plugin);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.held {
            self.pool.state().leave(&self.plugin, self.beside);
            self.pool.dispatch();
            self.pool.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str) -> PluginName {
        name.parse().unwrap()
    }
    fn now(place: Option<Place>) -> Slot {
        match place {
            Some(Place::Now(slot)) => slot,
            other => panic!("expected a worker: {other:?}"),
        }
    }
    fn later(place: Option<Place>) -> oneshot::Receiver<Slot> {
        match place {
            Some(Place::Later(turn)) => turn,
            other => panic!("expected a place in the queue: {other:?}"),
        }
    }

    #[test]
    fn workers_then_queue_then_busy() {
        let pool = Pool::new(2, 1);
        let zfs = plugin("zfs");
        let first = now(pool.enter(&zfs, 8));
        let _second = now(pool.enter(&zfs, 8));
        let mut third = later(pool.enter(&zfs, 8));
        assert!(pool.enter(&zfs, 8).is_none());
        assert_eq!(pool.load(), (2, 1));
        assert!(third.try_recv().is_err());
        drop(first);
        let slot = third.try_recv().unwrap();
        assert_eq!(pool.load(), (2, 0));
        drop(slot);
        assert_eq!(pool.load(), (1, 0));
    }

    #[test]
    fn a_plugin_at_its_limit_lets_others_pass() {
        let pool = Pool::new(3, 4);
        let (zfs, fio) = (plugin("zfs"), plugin("fio"));
        let only = now(pool.enter(&fio, 1));
        let mut waits = later(pool.enter(&fio, 1));
        let other = now(pool.enter(&zfs, 8));
        drop(other);
        assert!(waits.try_recv().is_err(), "a free worker is no reason to pass the plugin's limit");
        drop(only);
        assert!(waits.try_recv().is_ok());
    }

    #[test]
    fn who_gives_up_frees_its_place() {
        let pool = Pool::new(1, 1);
        let zfs = plugin("zfs");
        let first = now(pool.enter(&zfs, 8));
        let second = later(pool.enter(&zfs, 8));
        drop(second);
        let mut third = later(pool.enter(&zfs, 8));
        drop(first);
        let slot = third.try_recv().unwrap();
        // A turn that was given and never taken up comes back too.
        let fourth = later(pool.enter(&zfs, 8));
        drop(slot);
        drop(fourth);
        assert_eq!(pool.load(), (0, 0));
    }

    #[test]
    fn promised_work_waits_beyond_the_queue() {
        let pool = Pool::new(1, 0);
        let zfs = plugin("zfs");
        let first = now(pool.enter(&zfs, 8));
        let Place::Later(mut turn) = pool.enter_promised(&zfs, 8) else { panic!("expected to wait") };
        assert!(pool.enter(&zfs, 8).is_none());
        drop(first);
        assert!(turn.try_recv().is_ok());
    }

    #[test]
    fn what_no_job_asked_for_gives_way_and_makes_no_job_fail() {
        let pool = Pool::new(1, 0);
        let (zfs, fio) = (plugin("zfs"), plugin("fio"));
        let (watch, give_way) = pool.beside(&zfs, 1).unwrap();
        assert_eq!(pool.load(), (0, 0), "it is no job");
        assert!(pool.beside(&zfs, 1).is_none(), "the limit of the plugin holds");
        let (other, stay) = pool.beside(&fio, 1).unwrap();
        // Though the queue has no place.
        let mut job = later(pool.enter(&zfs, 1));
        assert!(give_way.is_cancelled() && !stay.is_cancelled());
        assert!(pool.beside(&plugin("monitor"), 8).is_none(), "a job waits");
        drop(watch);
        let running = job.try_recv().unwrap();
        drop(other);
        assert!(pool.enter(&fio, 1).is_none(), "now the bound of the queue counts");
        // All workers are taken, and that keeps no watch from running.
        let (third, _) = pool.beside(&fio, 1).unwrap();
        drop(running);
        assert_eq!(pool.load(), (0, 0));
        drop(third);
        assert!(matches!(pool.enter(&fio, 1), Some(Place::Now(_))));
    }
}
