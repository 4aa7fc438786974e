//! How a caller's own thread takes replies: without a task in between, and without a second thread to wake.
//!
//! Among the blocking callers of one worker, one leads: it sleeps on the worker's second bell and takes the replies of all.
//! The others sleep until their own call has ended, or until it is their turn to lead.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Plugin;
use super::call::{Answered, Call};
use super::exchange::{Exchange, HostCall, Lead, Look};
use crate::worker::{StopTask, stirs_within};

/// How long a leader whose deadline has passed sleeps while it waits for the clock to end its call.
const TICK: Duration = Duration::from_millis(1);

/// Enters a call and blocks until it has ended.
pub(super) fn run(plugin: &Plugin, call: &Arc<Call>, runtime: &Handle) -> Answered {
    let exchange = &plugin.inner.exchange;
    let mut turn = exchange.enter_and_lead(call)?;
    loop {
        if let Some(lead) = turn {
            take_replies(plugin, call, runtime, &lead);
        }
        if let Some(outcome) = call.take() {
            return outcome;
        }
        call.wake_this_thread();
        // Now whoever leads sees this thread, and it is not too late.
        turn = exchange.lead(call);
        if turn.is_none() && !call.is_over() {
            std::thread::park();
            turn = exchange.lead(call);
        }
    }
}

/// Takes replies until the caller's own is among them, or the actor must act first.
fn take_replies(plugin: &Plugin, call: &Arc<Call>, runtime: &Handle, lead: &Lead) {
    let exchange = &plugin.inner.exchange;
    let mut stirs = lead.stirs;
    loop {
        let stirred = std::mem::take(&mut stirs);
        // The clock ends a call that the worker never took, without a bell.
        let most = call.deadline.saturating_duration_since(Instant::now()).max(TICK);
        if !stirred && lead.bells.sleep(exchange.spin, most, || exchange.watcher(lead.seat)).is_err() {
            return exchange.give_lead_back(lead.seat);
        }
        // Everything that is there; the last look sees to it that the worker rings again.
        loop {
            match exchange.look_for(lead, call) {
                Look::Over | Look::Gone | Look::Stalled(_) => return,
                Look::Empty => break,
                Look::More => {}
                Look::HostCall(host_call) => {
                    let _entered = runtime.enter();
                    answer(exchange, plugin.inner.number, lead.seat, host_call);
                }
            }
        }
    }
}

/// Looks for a moment for the reply to an asynchronous call, on its caller's thread.
pub(super) fn look_for(plugin: &Plugin, call: &Arc<Call>, spin: Duration) {
    let exchange = &plugin.inner.exchange;
    let Some((index, watcher)) = exchange.place_of(call) else { return };
    if stirs_within(&watcher, spin)
        && let Look::HostCall(host_call) = exchange.look(index)
    {
        answer(exchange, plugin.inner.number, index, host_call);
    }
}

/// Answers a host call: here if its handler answers at once, else from a task.
pub(super) fn answer(exchange: &Arc<Exchange>, number: u64, index: usize, host_call: HostCall) {
    let HostCall { id, name, input, office, broker, call } = host_call;
    let generation = office.generation;
    let mut answering = Box::pin(office.answer(name, input, &broker, call.chain.with(number)));
    if let Poll::Ready(answer) = pin!(&mut answering).poll(&mut Context::from_waker(Waker::noop())) {
        exchange.answer(index, generation, id, answer);
        return;
    }
    let other = Arc::clone(exchange);
    let task = tokio::spawn(async move {
        let answer = answering.await;
        other.answer(index, generation, id, answer);
    });
    exchange.keep_handler(index, generation, StopTask(task.abort_handle()));
}
