//! Time: it passes only when the scheduler says so. Each sandbox has a clock of its own, which may be wrong.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use shared::clock::Clock;
use time::OffsetDateTime;
use time::macros::datetime;

/// When every run begins.
pub(crate) const START: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

/// The time of the whole world, and everything that sleeps in a sandbox.
#[derive(Debug, Clone, Default)]
pub(crate) struct Time(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    elapsed: Duration,
    timers: BTreeMap<u64, Timer>,
    next_timer: u64,
    sandboxes: BTreeMap<usize, Errors>,
}

#[derive(Debug)]
struct Timer {
    at: Duration,
    sandbox: usize,
    waker: Waker,
}

/// How far a sandbox's clocks are from the world's.
#[derive(Debug, Default)]
struct Errors {
    wall: time::Duration,
    /// How long the monotonic clock has stood still.
    stopped: Duration,
}

impl Time {
    /// How long the run has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.state().elapsed
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        START + self.elapsed()
    }

    /// Lets time pass. Nothing wakes before [`Self::fire`].
    pub(crate) fn pass(&self, by: Duration) {
        self.state().elapsed += by;
    }

    /// The timer that is due first among the sandboxes that `runs` returns true for: its number and its time.
    pub(crate) fn next_timer(&self, runs: impl Fn(usize) -> bool) -> Option<(u64, Duration)> {
        let state = self.state();
        let running = state.timers.iter().filter(|(_, timer)| runs(timer.sandbox));
        running.map(|(number, timer)| (*number, timer.at)).min_by_key(|(number, at)| (*at, *number))
    }

    /// Wakes what sleeps on this timer. Returns its sandbox.
    pub(crate) fn fire(&self, number: u64) -> Option<usize> {
        let timer = self.state().timers.remove(&number)?;
        timer.waker.wake();
        Some(timer.sandbox)
    }

    /// The wall clock of a sandbox jumps.
    pub(crate) fn jump(&self, sandbox: usize, by: time::Duration) {
        self.state().sandboxes.entry(sandbox).or_default().wall += by;
    }

    /// The monotonic clock of a sandbox has stood still for this long, and with it everything that sleeps there.
    pub(crate) fn stop_monotonic(&self, sandbox: usize, lasting: Duration) {
        let mut state = self.state();
        state.sandboxes.entry(sandbox).or_default().stopped += lasting;
        state
            .timers
            .values_mut()
            .filter(|timer| timer.sandbox == sandbox)
            .for_each(|timer| timer.at += lasting);
    }

    /// The clock of a sandbox.
    pub(crate) fn of_sandbox(&self, sandbox: usize) -> Arc<dyn Clock> {
        Arc::new(SandboxClock { time: self.clone(), sandbox })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

#[derive(Debug)]
struct SandboxClock {
    time: Time,
    sandbox: usize,
}

impl Clock for SandboxClock {
    fn now(&self) -> OffsetDateTime {
        let state = self.time.state();
        START
            + state.elapsed
            + state.sandboxes.get(&self.sandbox).map_or(time::Duration::ZERO, |errors| errors.wall)
    }

    fn monotonic(&self) -> Duration {
        let state = self.time.state();
        state.elapsed - state.sandboxes.get(&self.sandbox).map_or(Duration::ZERO, |errors| errors.stopped)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (time, sandbox) = (self.time.clone(), self.sandbox);
        let at = time.elapsed().saturating_add(duration);
        Box::pin(Sleep { time, sandbox, at, number: None })
    }
}

struct Sleep {
    time: Time,
    sandbox: usize,
    at: Duration,
    /// Of its timer, once it has been polled.
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.time.state();
        let Some(number) = self.number else {
            if self.at <= state.elapsed {
                return Poll::Ready(());
            }
            let number = state.next_timer;
            state.next_timer += 1;
            let timer = Timer { at: self.at, sandbox: self.sandbox, waker: context.waker().clone() };
            state.timers.insert(number, timer);
            drop(state);
            self.number = Some(number);
            return Poll::Pending;
        };
        match state.timers.get_mut(&number) {
            Some(timer) => {
                timer.waker.clone_from(context.waker());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.time.state().timers.remove(&number);
        }
    }
}
