//! What a guest may use: memory and processor time.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use windlass_types::TrapReason;

/// A limit was passed: the error that ends the guest, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct LimitPassed {
    pub(crate) reason: TrapReason,
    pub(crate) message: String,
}

impl LimitPassed {
    pub(crate) fn error(reason: TrapReason, message: impl Into<String>) -> wasmtime::Error {
        wasmtime::Error::new(LimitPassed { reason, message: message.into() })
    }
}

/// Counts linear memory and tables of one instance, and refuses more than the limit with words
/// of our own: a guest that is merely told that there is no memory dies without saying why.
pub(crate) struct Memory {
    limit: usize,
    held: usize,
    pub(crate) peak: usize,
}

impl Memory {
    pub(crate) fn new(limit_bytes: u64) -> Memory {
        Memory { limit: usize::try_from(limit_bytes).unwrap_or(usize::MAX), held: 0, peak: 0 }
    }

    fn grow(&mut self, current: usize, desired: usize) -> wasmtime::Result<bool> {
        let held = self.held.saturating_add(desired.saturating_sub(current));
        if held > self.limit {
            return Err(LimitPassed::error(
                TrapReason::Memory,
                format!(
                    "it asked for {} of memory; its limit (`limits.memory` in its manifest) is {}",
                    show_bytes(held),
                    show_bytes(self.limit)
                ),
            ));
        }
        self.held = held;
        self.peak = self.peak.max(held);
        Ok(true)
    }
}

impl wasmtime::ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Past its own maximum the growth fails anyway: nothing is held for it.
        if maximum.is_some_and(|maximum| desired > maximum) { Ok(true) } else { self.grow(current, desired) }
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(true);
        }
        let entry = size_of::<usize>();
        self.grow(current.saturating_mul(entry), desired.saturating_mul(entry))
    }
}

fn show_bytes(bytes: usize) -> String {
    match bytes {
        mib if mib >= 1 << 20 => format!("{:.1} MiB", mib as f64 / f64::from(1 << 20)),
        kib => format!("{} KiB", kib >> 10),
    }
}

/// Processor time of one call. It runs while the guest's future is polled and rests while the
/// guest waits for its host: an epoch deadline alone would count that too.
pub(crate) struct Meter {
    spent_ns: AtomicU64,
    poll_began_ns: AtomicU64,
    budget_ns: u64,
}

impl Meter {
    pub(crate) fn new(budget_ms: u64) -> Meter {
        Meter {
            spent_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            budget_ns: budget_ms.saturating_mul(1_000_000),
        }
    }

    /// Time spent in polls that are over.
    pub(crate) fn spent_ms(&self) -> u64 {
        self.spent_ns.load(Ordering::Relaxed).div_ceil(1_000_000)
    }

    /// To be called within a poll, on its thread: whether the budget is used up.
    pub(crate) fn check(&self) -> wasmtime::Result<()> {
        let now = thread_time_ns().saturating_sub(self.poll_began_ns.load(Ordering::Relaxed));
        if self.spent_ns.load(Ordering::Relaxed).saturating_add(now) <= self.budget_ns {
            return Ok(());
        }
        Err(LimitPassed::error(
            TrapReason::Cpu,
            format!(
                "it used more than {} ms of processor time (`limits.cpu` in its manifest)",
                self.budget_ns / 1_000_000
            ),
        ))
    }
}

fn thread_time_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// A future whose polls are charged to a meter.
pub(crate) struct Metered<'a, T> {
    meter: Arc<Meter>,
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
}

impl<'a, T> Metered<'a, T> {
    pub(crate) fn new(meter: Arc<Meter>, future: impl Future<Output = T> + Send + 'a) -> Metered<'a, T> {
        Metered { meter, future: Box::pin(future) }
    }
}

impl<T> Future for Metered<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let began = thread_time_ns();
        self.meter.poll_began_ns.store(began, Ordering::Relaxed);
        let polled = self.future.as_mut().poll(cx);
        let spent = thread_time_ns().saturating_sub(began);
        self.meter.spent_ns.fetch_add(spent, Ordering::Relaxed);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::ResourceLimiter as _;

    #[test]
    fn memory_counts_all_memories_and_tables() {
        let mut memory = Memory::new(1 << 20);
        assert!(memory.memory_growing(0, 512 << 10, None).unwrap());
        assert!(memory.memory_growing(512 << 10, 768 << 10, None).unwrap());
        assert!(memory.table_growing(0, 1000, None).unwrap());
        let error = memory.memory_growing(0, 512 << 10, None).unwrap_err();
        let passed = error.downcast_ref::<LimitPassed>().unwrap();
        assert_eq!(passed.reason, TrapReason::Memory);
        assert_eq!(memory.peak, (768 << 10) + 8000);
    }

    #[tokio::test]
    async fn waiting_costs_no_processor_time() {
        let meter = Arc::new(Meter::new(20));
        let waiting = Metered::new(meter.clone(), tokio::time::sleep(std::time::Duration::from_millis(60)));
        waiting.await;
        assert!(meter.spent_ms() < 20, "{}", meter.spent_ms());
        let busy = meter.clone();
        Metered::new(meter.clone(), async move { while busy.check().is_ok() {} }).await;
        assert!(meter.spent_ms() >= 20);
    }
}
