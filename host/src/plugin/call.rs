//! One call, from the handle to the plugin's task and back.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Plugin;
use crate::budget::Share;
use crate::error::CallError;
use crate::exit::Limit;
use crate::queue::Refusal;
use crate::reentry::Chain;
use crate::stdio::CommandIo;

/// The export under which a command runs.
const RUN: &str = "run";

/// What the plugin's task gets.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) export: String,
    pub(super) input: Vec<u8>,
    pub(super) deadline: Instant,
    pub(super) chain: Chain,
    /// Arguments and streams, where a command is run.
    pub(super) command: Option<(Vec<String>, CommandIo)>,
    pub(super) answer: oneshot::Sender<Result<Outcome, CallError>>,
}

/// How a call ended well.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A reply, with its part of the host's budget, held until the caller has it.
    Reply(Vec<u8>, #[allow(dead_code, reason = "held, never read")] Share),
    /// A command's exit code.
    Exited(i32),
}

/// A call that is being prepared.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'p> {
    plugin: &'p Plugin,
    export: String,
    deadline: Option<Duration>,
}

impl<'p> Request<'p> {
    pub(super) fn new(plugin: &'p Plugin, export: &str) -> Request<'p> {
        Request { plugin, export: export.to_owned(), deadline: None }
    }

    /// Ends the call after this time in queue and worker together. Can only shorten the plan's `call` limit.
    pub fn deadline(mut self, deadline: Duration) -> Request<'p> {
        self.deadline = Some(deadline);
        self
    }

    /// Sends bytes, gets bytes. Dropping the future cancels the call.
    ///
    /// # Errors
    /// Every way in which a call can end without a reply.
    pub async fn raw(self, input: Vec<u8>) -> Result<Vec<u8>, CallError> {
        match self.plugin.send(self.export, input, self.deadline, None).await? {
            Outcome::Reply(bytes, _) => Ok(bytes),
            Outcome::Exited(code) => {
                Err(CallError::BadInput(format!("the plugin is a command; it exited with {code}")))
            }
        }
    }

    /// Sends a value as JSON, gets one back. Dropping the future cancels the call.
    ///
    /// # Errors
    /// As [`Request::raw`], and where the reply is not the JSON of a `T`.
    pub async fn json<I: Serialize + ?Sized, T: DeserializeOwned>(self, input: &I) -> Result<T, CallError> {
        let input = serde_json::to_vec(input).map_err(|error| CallError::BadInput(error.to_string()))?;
        let reply = self.raw(input).await?;
        serde_json::from_slice(&reply).map_err(CallError::Decode)
    }
}

/// A command that is being prepared.
#[derive(Debug)]
#[must_use = "a command does nothing until it is run"]
pub struct CommandRequest<'p> {
    plugin: &'p Plugin,
    arguments: Vec<String>,
    io: CommandIo,
    deadline: Option<Duration>,
}

impl<'p> CommandRequest<'p> {
    pub(super) fn new(plugin: &'p Plugin) -> CommandRequest<'p> {
        CommandRequest { plugin, arguments: Vec::new(), io: CommandIo::default(), deadline: None }
    }

    /// Adds arguments, after the plugin's name, which is always the first.
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> CommandRequest<'p> {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Connects the standard streams.
    pub fn io(mut self, io: CommandIo) -> CommandRequest<'p> {
        self.io = io;
        self
    }

    /// As [`Request::deadline`].
    pub fn deadline(mut self, deadline: Duration) -> CommandRequest<'p> {
        self.deadline = Some(deadline);
        self
    }

    /// Runs it in a fresh worker to its exit code. Dropping the future ends it.
    ///
    /// # Errors
    /// Every way in which it can end without an exit code of its own.
    pub async fn run(self) -> Result<i32, CallError> {
        let CommandRequest { plugin, arguments, io, deadline } = self;
        let mut named = vec![plugin.name().to_owned()];
        named.extend(arguments);
        match plugin.send(RUN.to_owned(), Vec::new(), deadline, Some((named, io))).await? {
            Outcome::Exited(code) => Ok(code),
            Outcome::Reply(..) => Ok(0),
        }
    }
}

impl Plugin {
    /// Enters a call and waits for its one end.
    async fn send(
        &self,
        export: String,
        input: Vec<u8>,
        deadline: Option<Duration>,
        command: Option<(Vec<String>, CommandIo)>,
    ) -> Result<Outcome, CallError> {
        let limits = &self.inner.prepared.plan.orders.limits;
        let limit = Duration::from_millis(limits.call_ms);
        let deadline = Instant::now() + deadline.map_or(limit, |wanted| wanted.min(limit));
        let chain = Chain::current();
        self.check(&export, &input, &chain, command.is_some())?;
        let (answer, mut answered) = oneshot::channel();
        let call = Call { export, input, deadline, chain, command, answer };
        let ticket = self.inner.queue.push(call).map_err(|refusal| match refusal {
            Refusal::Full => CallError::Refused("as many calls are outstanding as the plan allows"),
            Refusal::Closed => CallError::HostShutdown,
        })?;
        tokio::select! {
            biased;
            outcome = &mut answered => return outcome.unwrap_or(Err(CallError::HostShutdown)),
            () = tokio::time::sleep_until(deadline) => {}
        }
        if ticket.withdraw() {
            return Err(CallError::Timeout);
        }
        // It runs: the plugin's task ends it now.
        answered.await.unwrap_or(Err(CallError::HostShutdown))
    }

    fn check(&self, export: &str, input: &[u8], chain: &Chain, command: bool) -> Result<(), CallError> {
        let limit = self.inner.prepared.plan.orders.limits.message;
        let size = input.len() as u64;
        if size > limit {
            let detail = format!("the input has {size} bytes, the limit is {limit}");
            return Err(CallError::OverLimit { limit: Limit::Message, detail });
        }
        if export.len() > EXPORT_MAX {
            return Err(CallError::NoSuchExport(format!("a name of {} bytes", export.len())));
        }
        if self.is_command() != command {
            let what =
                if command { "it is called, not run" } else { "it is a command: it is run, not called" };
            return Err(CallError::NoSuchExport(format!("{export}: {what}")));
        }
        if chain.holds(self.inner.number) {
            return Err(CallError::Refused("the plugin waits for the host call that makes this call"));
        }
        Ok(())
    }
}

/// Longest export name, in bytes: fits one packet with room to spare.
const EXPORT_MAX: usize = 4096;
