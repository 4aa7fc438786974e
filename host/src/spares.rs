//! Workers of one package that wait, confined and checked, to be its next ones.
//!
//! Nothing of the plugin has run in them. They have its identity, so they serve no other package. A start takes the oldest;
//! when it is done, another is made in its place.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::error::Error;
use crate::host::{Alive, Shared};
use crate::start::{Confined, confine};
use crate::worker::{Blueprint, Particulars, StopTask};

/// How long after a start another spare is made: the plugin's first calls come before it.
const REST: Duration = Duration::from_millis(2);

/// The spare workers of one package, and the numbers of all of its workers.
#[derive(Debug)]
pub(crate) struct Spares {
    inner: Arc<Inner>,
    /// `None` where none is kept.
    _keeper: Option<StopTask>,
}

#[derive(Debug)]
struct Inner {
    kept: usize,
    generation: AtomicU32,
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Confined>,
    /// Starts that wait for the one that is being made: it is ahead of any that they could make.
    takers: VecDeque<oneshot::Sender<Confined>>,
    making: bool,
}

impl Spares {
    /// Has `kept` workers made and kept; `first` is the number of the first worker.
    pub(crate) fn keep(
        kept: usize,
        first: u32,
        shared: &Arc<Shared>,
        blueprint: &Arc<Blueprint>,
    ) -> Result<Spares, Error> {
        let inner = Arc::new(Inner {
            kept,
            generation: AtomicU32::new(first),
            state: Mutex::default(),
            wanted: Notify::new(),
        });
        let alive = shared.alive()?;
        let keeper = (kept > 0).then(|| {
            inner.state().making = true;
            let task = keep(Arc::clone(&inner), Arc::clone(shared), Arc::clone(blueprint), alive);
            StopTask(tokio::spawn(task).abort_handle())
        });
        Ok(Spares { inner, _keeper: keeper })
    }

    /// The number that the next worker will have.
    pub(crate) fn coming_generation(&self) -> u32 {
        self.inner.generation.load(Ordering::Relaxed)
    }

    /// The number of the next worker: the incarnation of the plugin, from 1.
    pub(crate) fn next_generation(&self) -> u32 {
        self.inner.generation.fetch_add(1, Ordering::Relaxed)
    }

    /// The oldest one, or the one that is being made. `None` where there is none: the caller makes one of its own.
    pub(crate) async fn take(&self) -> Option<Confined> {
        let made = {
            let mut state = self.inner.state();
            while let Some(spare) = state.waiting.pop_front() {
                if spare.worker.lives() {
                    return Some(spare);
                }
            }
            if !state.making {
                return None;
            }
            let (taker, made) = oneshot::channel();
            state.takers.push_back(taker);
            made
        };
        made.await.ok()
    }

    /// Has what was taken made anew, now that its taker has started.
    pub(crate) fn replenish(&self) {
        self.inner.wanted.notify_one();
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.inner.state().waiting.len()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more is wanted; starts wait for it then.
    fn wants(&self) -> bool {
        let mut state = self.state();
        state.making = state.waiting.len() < self.kept;
        state.making
    }

    /// Gives a new one to the oldest start that waits, or keeps it.
    fn put(&self, mut spare: Confined) {
        let mut state = self.state();
        while let Some(taker) = state.takers.pop_front() {
            match taker.send(spare) {
                Ok(()) => return,
                // Nobody waits any more.
                Err(back) => spare = back,
            }
        }
        state.waiting.push_back(spare);
    }

    /// Makes no more for now: who waits makes its own, and says what is wrong.
    fn give_up(&self) {
        let mut state = self.state();
        state.making = false;
        state.takers.clear();
    }
}

/// Makes spares, one at a time, until the host is shut down.
async fn keep(inner: Arc<Inner>, shared: Arc<Shared>, blueprint: Arc<Blueprint>, alive: Alive) {
    let mut closing = shared.closing();
    tokio::select! {
        biased;
        // The sender is the host's, which this task keeps.
        _ = closing.wait_for(|closing| *closing) => {}
        () = make(&inner, &shared, &blueprint) => {}
    }
    inner.give_up();
    let waiting = std::mem::take(&mut inner.state().waiting);
    drop((waiting, alive));
}

async fn make(inner: &Inner, shared: &Shared, blueprint: &Arc<Blueprint>) {
    loop {
        while inner.wants() {
            let generation = inner.generation.fetch_add(1, Ordering::Relaxed);
            let particulars = Particulars { generation, ..Particulars::default() };
            match confine(&shared.surroundings, blueprint, particulars).await {
                Ok(spare) => inner.put(spare),
                Err(failed) => {
                    let error = failed.into_error(&blueprint.plugin, &blueprint.subject);
                    tracing::warn!(target: "hotcell::spares", plugin = %blueprint.plugin, %error, "no spare worker");
                    inner.give_up();
                    break;
                }
            }
        }
        inner.wanted.notified().await;
        tokio::time::sleep(REST).await;
    }
}
