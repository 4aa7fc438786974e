//! The one table that decides which host calls a plugin may make, and what answers them.
//!
//! A name is in a plugin's table if its manifest requested it, its profile granted it, and the application registered it.
//! Identity comes from the channel, never from a message.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hotcell_protocol::AnswerStatus;

use crate::log::Logger;
use crate::network::{Ask, Connector};
use crate::plugin::{PLUGIN_CALL, Peers};
use crate::programs::{Programs, Task};
use crate::reentry;

/// The host call that every application answers: one line of text for the log.
const LOG: &str = "log";

/// Longest error text that a plugin gets, in bytes.
const ERROR_MAX: usize = 4096;

/// Who calls the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCallContext {
    /// The plugin's id.
    pub plugin: String,
    /// The incarnation that calls.
    pub generation: u32,
    /// The host call's name.
    pub name: String,
}

/// What a handler returns: the answer, or a text that the plugin may read.
pub type HostCallResult = Result<Vec<u8>, String>;

type Answering = Pin<Box<dyn Future<Output = HostCallResult> + Send>>;
type Handler = Arc<dyn Fn(HostCallContext, Vec<u8>) -> Answering + Send + Sync>;

/// The handlers of an application.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    by_name: HashMap<String, Handler>,
}

impl Handlers {
    pub(crate) fn register<F, A>(&mut self, name: String, handler: F)
    where
        F: Fn(HostCallContext, Vec<u8>) -> A + Send + Sync + 'static,
        A: Future<Output = HostCallResult> + Send + 'static,
    {
        let boxed = move |context, input| -> Answering { Box::pin(handler(context, input)) };
        self.by_name.insert(name, Arc::new(boxed));
    }

    /// The table of one plugin.
    pub(crate) fn broker(&self, granted: &[String], peers: Option<Peers>) -> Broker {
        let entry = |name: &String| {
            let entry = match self.by_name.get(name) {
                Some(handler) => Entry::Handler(Arc::clone(handler)),
                None if name == LOG => Entry::Log,
                None if name == PLUGIN_CALL => Entry::Peers(peers.clone()?),
                None => return None,
            };
            Some((name.clone(), entry))
        };
        Broker { table: granted.iter().filter_map(entry).collect(), ..Broker::default() }
    }
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

enum Entry {
    Log,
    /// Another plugin.
    Peers(Peers),
    Handler(Handler),
}

/// The host calls of one plugin.
#[derive(Default)]
pub(crate) struct Broker {
    table: HashMap<String, Entry>,
    /// For a plugin: one that may connect nowhere is refused by it, too, and told what would allow it.
    connector: Option<Connector>,
    /// The same.
    programs: Option<Programs>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.table.keys()).finish()
    }
}

/// What a plugin is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: AnswerStatus,
    pub(crate) payload: Vec<u8>,
}

impl Broker {
    /// The same, with connections.
    pub(crate) fn with_connections(self, connector: Connector) -> Broker {
        Broker { connector: Some(connector), ..self }
    }

    /// What makes connections, if this host call asks for that. An application's own host call of the name goes before.
    pub(crate) fn connector(&self, name: &str) -> Option<(&Connector, Ask)> {
        let ask = Ask::of_host_call(name).filter(|_| !self.table.contains_key(name))?;
        Some((self.connector.as_ref()?, ask))
    }

    /// The same, with programs.
    pub(crate) fn with_programs(self, programs: Programs) -> Broker {
        Broker { programs: Some(programs), ..self }
    }

    /// What runs programs, likewise.
    pub(crate) fn programs(&self, name: &str) -> Option<(&Programs, Task)> {
        let task = Task::of_host_call(name).filter(|_| !self.table.contains_key(name))?;
        Some((self.programs.as_ref()?, task))
    }

    /// Answers a host call. Dropping the future stops the handler.
    ///
    /// The handler runs where the future is polled; its panic becomes an answer.
    pub(crate) fn answer(
        &self,
        context: HostCallContext,
        input: Vec<u8>,
        limit: u64,
        logger: &Logger,
        chain: reentry::Chain,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let now = match self.table.get(&context.name) {
            None => Err(Answer { status: AnswerStatus::Refused, payload: Vec::new() }),
            Some(Entry::Log) => {
                logger.log(&input);
                Err(Answer { status: AnswerStatus::Ok, payload: Vec::new() })
            }
            Some(Entry::Peers(peers)) => match peers.call(&input) {
                Some(answering) => Ok(Box::pin(answering) as Answering),
                None => Err(Answer { status: AnswerStatus::Refused, payload: Vec::new() }),
            },
            Some(Entry::Handler(handler)) => {
                let handler = Arc::clone(handler);
                // What the handler does before its first await may panic, too.
                Ok(Box::pin(async move { handler(context, input).await }) as Answering)
            }
        };
        async move {
            match now {
                Err(answer) => answer,
                Ok(answering) => bounded(Caught(Box::pin(reentry::within(chain, answering))).await, limit),
            }
        }
    }
}

/// A handler whose panic is its own.
struct Caught(Answering);

impl Future for Caught {
    type Output = HostCallResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<HostCallResult> {
        // A handler that panicked is not polled again: this future has ended.
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err("the host's handler failed".to_owned())))
    }
}

fn bounded(result: HostCallResult, limit: u64) -> Answer {
    match result {
        Ok(payload) if payload.len() as u64 <= limit => Answer { status: AnswerStatus::Ok, payload },
        Ok(_) => {
            let text = "the answer is over the plugin's message limit";
            Answer { status: AnswerStatus::Failed, payload: text.into() }
        }
        Err(mut text) => {
            let bound = ERROR_MAX.min(usize::try_from(limit).unwrap_or(ERROR_MAX)).min(text.len());
            text.truncate((0..=bound).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
            Answer { status: AnswerStatus::Failed, payload: text.into_bytes() }
        }
    }
}

#[cfg(test)]
mod tests {
    use hotcell_protocol::AnswerStatus;

    use super::{Answer, Broker, Handlers, HostCallContext};
    use crate::log::Logger;
    use crate::reentry::Chain;

    async fn ask(broker: &Broker, name: &str, input: &[u8]) -> Answer {
        let context = HostCallContext { plugin: "p".to_owned(), generation: 1, name: name.to_owned() };
        broker.answer(context, input.to_vec(), 8, &Logger::new("p", 1, 0), Chain::default()).await
    }

    fn handlers() -> Handlers {
        let mut handlers = Handlers::default();
        handlers.register("echo".to_owned(), async |_, input| Ok(input));
        handlers.register("panic".to_owned(), |_, _| async { Ok(Vec::with_capacity(usize::MAX)) });
        handlers
    }

    #[tokio::test]
    async fn only_what_is_granted_and_registered_is_answered() {
        let granted = ["echo".to_owned(), "unknown".to_owned(), "log".to_owned()];
        let broker = handlers().broker(&granted, None);
        assert_eq!(
            ask(&broker, "echo", b"hi").await,
            Answer { status: AnswerStatus::Ok, payload: b"hi".to_vec() }
        );
        assert_eq!(ask(&broker, "log", b"hi").await.status, AnswerStatus::Ok);
        assert_eq!(
            ask(&broker, "unknown", b"").await.status,
            AnswerStatus::Refused,
            "granted, not registered"
        );
        assert_eq!(ask(&broker, "panic", b"").await.status, AnswerStatus::Refused, "registered, not granted");
        assert_eq!(ask(&broker, "Echo", b"").await.status, AnswerStatus::Refused);
    }

    #[tokio::test]
    async fn a_handler_that_panics_or_answers_too_much_fails_alone() {
        let broker = handlers().broker(&["echo".to_owned(), "panic".to_owned()], None);
        assert_eq!(ask(&broker, "panic", b"").await.status, AnswerStatus::Failed);
        assert_eq!(ask(&broker, "echo", b"123456789").await.status, AnswerStatus::Failed);
        assert_eq!(ask(&broker, "echo", b"12345678").await.status, AnswerStatus::Ok, "just inside");
    }
}
