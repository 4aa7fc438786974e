//! Programs that the host runs for a plugin.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::host::{HostCallError, host_call, write_json_text};

/// A program as the manifest's `permissions.process.spawn` names it, with its arguments and its whole environment.
#[derive(Clone, Debug)]
pub struct Program<'p> {
    name: &'p str,
    arguments: Vec<&'p str>,
    variables: Vec<(&'p str, &'p str)>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Exit(i32),
    /// By this signal: SIGKILL also where the host ended it.
    Signal(i32),
}

/// What a program left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// What it wrote to its standard output; its standard error is in the plugin's log.
    pub bytes: Vec<u8>,
}

impl<'p> Program<'p> {
    /// A program without arguments and environment.
    pub fn new(name: &'p str) -> Program<'p> {
        Program { name, arguments: Vec::new(), variables: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: &'p str) -> Program<'p> {
        self.arguments.push(argument);
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn variable(mut self, name: &'p str, value: &'p str) -> Program<'p> {
        self.variables.push((name, value));
        self
    }

    /// Runs it to its end with this standard input (`process.run`).
    ///
    /// # Errors
    /// [`HostCallError::Refused`] if the manifest or the profile has no such program, [`HostCallError::Failed`] if it does not
    /// start, as many run as may, or its output is over the plugin's message limit.
    pub fn run(&self, input: &[u8]) -> Result<Output, HostCallError> {
        let mut request = self.request().into_bytes();
        request.push(b'\n');
        request.extend_from_slice(input);
        let mut answer = host_call("process.run", &request)?;
        let head = answer.iter().position(|byte| *byte == b'\n').unwrap_or(answer.len());
        let end = End::read(answer.get(..head).unwrap_or_default())?;
        answer.drain(..answer.len().min(head + 1));
        Ok(Output { end, bytes: answer })
    }

    /// Starts it, for a plugin that talks to it over its standard streams (`process.spawn`). It ends with the plugin's worker.
    ///
    /// # Errors
    /// As for [`Program::run`]; also if the plugin holds as many descriptors as it may.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub fn start(&self) -> Result<Running, HostCallError> {
        let id = host_call("process.spawn", self.request().as_bytes())?;
        let (input, output) = (crate::boundary::take_socket(), crate::boundary::take_socket());
        match (input, output) {
            (Some(input), Some(output)) => {
                Ok(Running { input: Some(input.into()), output: output.into(), id })
            }
            _ => {
                // Why it failed, the caller is told below.
                let _ = host_call("process.kill", &id);
                Err(HostCallError::Failed(String::from("no descriptor is free")))
            }
        }
    }

    fn request(&self) -> String {
        let mut json = String::from("{\"program\":");
        write_json_text(&mut json, self.name);
        json.push_str(",\"arguments\":[");
        for (index, argument) in self.arguments.iter().enumerate() {
            json.push_str(if index == 0 { "" } else { "," });
            write_json_text(&mut json, argument);
        }
        json.push_str("],\"environment\":{");
        for (index, (name, value)) in self.variables.iter().enumerate() {
            json.push_str(if index == 0 { "" } else { "," });
            write_json_text(&mut json, name);
            json.push(':');
            write_json_text(&mut json, value);
        }
        json.push_str("}}");
        json
    }
}

/// A program that runs, and its standard streams. Dropping it closes them, and does not end it.
#[cfg(all(feature = "std", target_os = "linux"))]
#[derive(Debug)]
pub struct Running {
    /// What is written here, the program reads; taken and dropped, its input ends.
    pub input: Option<std::fs::File>,
    /// What the program writes.
    pub output: std::fs::File,
    id: Vec<u8>,
}

#[cfg(all(feature = "std", target_os = "linux"))]
impl Running {
    /// Closes its streams and waits for its end.
    ///
    /// # Errors
    /// [`HostCallError::Failed`] if it could not be started after all.
    pub fn wait(self) -> Result<End, HostCallError> {
        let Running { input, output, id } = self;
        drop((input, output));
        End::read(&host_call("process.wait", &id)?)
    }

    /// Ends it.
    ///
    /// # Errors
    /// Those of [`host_call`].
    pub fn kill(self) -> Result<(), HostCallError> {
        host_call("process.kill", &self.id).map(drop)
    }
}

impl End {
    /// Reads what the host says of an end: `{"exit":0}` or `{"signal":6,"name":"SIGABRT"}`.
    fn read(json: &[u8]) -> Result<End, HostCallError> {
        let text = core::str::from_utf8(json).unwrap_or_default();
        let number = |key: &str| {
            let rest = text.strip_prefix(key)?;
            rest.split([',', '}']).next()?.parse::<i32>().ok()
        };
        let exit = number("{\"exit\":").map(End::Exit);
        exit.or_else(|| number("{\"signal\":").map(End::Signal)).ok_or_else(|| {
            let mut text = String::new();
            // Writing to a string cannot fail.
            let _ = write!(text, "the host says of the program's end: {}", String::from_utf8_lossy(json));
            HostCallError::Failed(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Program};

    #[test]
    fn a_request_is_json_whatever_the_arguments() {
        let program = Program::new("/usr/bin/tr").argument("a\"b").argument("\n").variable("LANG", "C");
        assert_eq!(
            program.request(),
            r#"{"program":"/usr/bin/tr","arguments":["a\"b","\n"],"environment":{"LANG":"C"}}"#
        );
        assert_eq!(Program::new("x").request(), r#"{"program":"x","arguments":[],"environment":{}}"#);
    }

    #[test]
    fn an_end_is_read_as_the_host_writes_it() {
        assert_eq!(End::read(b"{\"exit\":7}"), Ok(End::Exit(7)));
        assert_eq!(End::read(b"{\"signal\":6,\"name\":\"SIGABRT\"}"), Ok(End::Signal(6)));
        assert!(End::read(b"\xff").is_err());
    }
}
