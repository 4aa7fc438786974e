//! How a caller's own thread takes replies: without a task in between, and without a second thread to wake.
//!
//! Among the blocking callers of one worker, one leads: it sleeps on the worker's second bell and takes the replies of all.
//! The others sleep until their own call has ended, or until it is their turn to lead.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hotcell_protocol::ring::Wake;
use tokio::runtime::Handle;

use super::Plugin;
use super::call::{Answered, Call};
use super::exchange::{Exchange, HostCall, Look};
use crate::broker::Broker;
use crate::worker::{StopTask, stirs_within};

/// Blocks until the call has ended.
pub(super) fn wait(plugin: &Plugin, call: &Arc<Call>, runtime: &Handle) -> Answered {
    let exchange = &plugin.inner.exchange;
    loop {
        if let Some(outcome) = call.take() {
            return outcome;
        }
        if lead(plugin, call, runtime) {
            continue;
        }
        call.wake_this_thread();
        // Once more, now that whoever leads would see this thread.
        if exchange.may_lead(call) {
            continue;
        }
        if let Some(outcome) = call.take() {
            return outcome;
        }
        std::thread::park();
    }
}

/// Takes replies until the caller's own is among them; `false` if another thread leads, or the actor must act first.
fn lead(plugin: &Plugin, call: &Arc<Call>, runtime: &Handle) -> bool {
    let exchange = &plugin.inner.exchange;
    let Some((index, bells)) = exchange.lead(call) else { return false };
    let stuck = loop {
        match exchange.look(index, Wake::Second) {
            Look::Gone | Look::Stalled(_) => break true,
            Look::HostCall(host_call) => {
                let _entered = runtime.enter();
                answer(exchange, &plugin.inner.broker, plugin.inner.number, index, host_call);
            }
            Look::More if call.is_over() => break false,
            Look::More => {}
            Look::Empty if call.is_over() => break false,
            Look::Empty => {
                let Some(watcher) = exchange.watcher(index) else { break true };
                if bells.sleep(&watcher, exchange.spin).is_err() {
                    break true;
                }
            }
        }
    };
    exchange.retire(index, stuck);
    !stuck
}

/// Looks for a moment for the reply to an asynchronous call, on its caller's thread.
pub(super) fn look_for(plugin: &Plugin, call: &Arc<Call>, spin: Duration) {
    let exchange = &plugin.inner.exchange;
    let Some((index, watcher)) = exchange.place_of(call) else { return };
    if stirs_within(&watcher, spin)
        && let Look::HostCall(host_call) = exchange.look(index, Wake::First)
    {
        answer(exchange, &plugin.inner.broker, plugin.inner.number, index, host_call);
    }
}

/// Answers a host call: here if its handler answers at once, else from a task.
pub(super) fn answer(exchange: &Arc<Exchange>, broker: &Broker, number: u64, index: usize, host_call: HostCall) {
    let HostCall { id, name, input, office, call } = host_call;
    let generation = office.generation;
    let mut answering = Box::pin(office.answer(name, input, broker, call.chain.with(number)));
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
