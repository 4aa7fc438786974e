//! Finds out that a host-call handler calls back into a plugin that waits for it.
//!
//! Such a call would wait in the plugin's queue until its deadline. It is found where the handler awaits the call in its
//! own task; a handler that moves it to another task waits.

use std::future::Future;

tokio::task_local! {
    static CHAIN: Chain;
}

/// The plugins that wait for the code that runs now, by handle number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain(Vec<u64>);

impl Chain {
    /// The chain of the current task, or an empty one.
    pub(crate) fn current() -> Chain {
        CHAIN.try_with(Clone::clone).unwrap_or_default()
    }

    /// The same chain with one more plugin that waits.
    pub(crate) fn with(&self, plugin: u64) -> Chain {
        let mut chain = self.clone();
        chain.0.push(plugin);
        chain
    }

    /// How many plugins wait.
    pub(crate) fn depth(&self) -> usize {
        self.0.len()
    }

    /// Whether this plugin waits.
    pub(crate) fn holds(&self, plugin: u64) -> bool {
        self.0.contains(&plugin)
    }
}

/// Runs a handler for the plugins of a chain.
pub(crate) fn within<F: Future>(chain: Chain, handler: F) -> impl Future<Output = F::Output> {
    CHAIN.scope(chain, handler)
}

#[cfg(test)]
mod tests {
    use super::{Chain, within};

    #[tokio::test]
    async fn a_handler_knows_who_waits_for_it_and_nobody_else_does() {
        let chain = Chain::current().with(1);
        let inner = within(chain.with(2), async {
            let chain = Chain::current();
            (chain.holds(1), chain.holds(2), chain.holds(3))
        });
        assert_eq!(inner.await, (true, true, false));
        assert!(!Chain::current().holds(1), "control: outside the handler");
    }
}
