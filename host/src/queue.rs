//! The calls of one plugin that wait, bounded. Every call that enters leaves exactly once.
//!
//! The caller may withdraw a call as long as it waits; from the moment the plugin's task takes it, that task ends it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Why a queue takes no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many calls are outstanding as the plan allows.
    Full,
    /// The plugin is being unloaded.
    Closed,
}

/// The queue of one plugin.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<(u64, T)>,
    running: bool,
    closed: bool,
    capacity: usize,
    next: u64,
}

/// A call that entered. Dropping it withdraws the call, if it still waits.
#[derive(Debug)]
pub(crate) struct Ticket<T> {
    queue: Arc<Queue<T>>,
    number: u64,
}

impl<T> Queue<T> {
    /// `capacity` bounds waiting and running calls together.
    pub(crate) fn new(capacity: u32) -> Queue<T> {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let state = State { waiting: VecDeque::new(), running: false, closed: false, capacity, next: 0 };
        Queue { state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call.
    pub(crate) fn push(self: &Arc<Self>, call: T) -> Result<Ticket<T>, Refusal> {
        let mut state = self.state();
        if state.closed {
            return Err(Refusal::Closed);
        }
        if state.waiting.len() + usize::from(state.running) >= state.capacity {
            return Err(Refusal::Full);
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push_back((number, call));
        drop(state);
        self.changed.notify_one();
        Ok(Ticket { queue: Arc::clone(self), number })
    }

    /// Completes when a call waits. For the plugin's task alone. Safe to cancel.
    pub(crate) async fn filled(&self) {
        while self.state().waiting.is_empty() {
            self.changed.notified().await;
        }
    }

    /// Takes the oldest call, which counts as running until [`Queue::done`].
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.state();
        let taken = state.waiting.pop_front().map(|(_, call)| call);
        state.running = taken.is_some();
        taken
    }

    /// The call that was taken has ended.
    pub(crate) fn done(&self) {
        self.state().running = false;
    }

    /// Takes no call any more, and hands out those that wait.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut state = self.state();
        state.closed = true;
        state.waiting.drain(..).map(|(_, call)| call).collect()
    }
}

impl<T> Ticket<T> {
    /// Removes the call if it still waits; `false` if it was taken before.
    pub(crate) fn withdraw(&self) -> bool {
        let mut state = self.queue.state();
        let place = state.waiting.iter().position(|(number, _)| *number == self.number);
        // The call is dropped outside the lock.
        let call = place.and_then(|place| state.waiting.remove(place));
        drop(state);
        call.is_some()
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Queue, Refusal};

    #[tokio::test]
    async fn waiting_and_running_calls_are_bounded_together() {
        let queue = Arc::new(Queue::new(2));
        let _first = queue.push(1).expect("enters");
        queue.filled().await;
        assert_eq!(queue.take(), Some(1));
        let _second = queue.push(2).expect("enters");
        assert_eq!(queue.push(3).expect_err("one runs, one waits"), Refusal::Full);
        queue.done();
        let _third = queue.push(3).expect("enters when the first has ended");
    }

    #[tokio::test]
    async fn a_withdrawn_call_leaves_room_and_never_runs() {
        let queue = Arc::new(Queue::new(1));
        let first = queue.push(1).expect("enters");
        assert!(first.withdraw());
        assert!(!first.withdraw(), "only once");
        drop(queue.push(2).expect("enters"));
        assert_eq!(queue.take(), None, "dropping the ticket withdraws, too");
        let third = queue.push(3).expect("enters");
        assert_eq!(queue.take(), Some(3));
        assert!(!third.withdraw(), "it runs");
    }

    #[tokio::test]
    async fn a_closed_queue_hands_out_what_waits_and_takes_nothing() {
        let queue = Arc::new(Queue::new(4));
        let tickets = [queue.push(1).expect("enters"), queue.push(2).expect("enters")];
        assert_eq!(queue.close(), [1, 2]);
        assert_eq!(queue.push(3).expect_err("closed"), Refusal::Closed);
        drop(tickets);
        let waits = tokio::time::timeout(Duration::from_millis(20), queue.filled());
        assert!(waits.await.is_err());
    }
}
