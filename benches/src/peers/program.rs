//! The program that holds the alternatives: lines of JSON to it and back, one answer for each ask.
//!
//! It is a program of its own so that hotcell links none of them. It is trusted: it is built from this repository.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The longest that one ask may take: a 16 MiB message through the slowest of them takes about a second.
const PATIENCE: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// How often the end of the program is looked for, and how long that goes on, before it is killed.
const END_LOOKS: u32 = 100;
const END_PAUSE: Duration = Duration::from_millis(20);

/// What is asked.
#[derive(Debug, Serialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub(super) enum Ask<'a> {
    List,
    Open { peer: &'a str },
    Call { peer: &'a str, size: usize, count: usize },
    Pipeline { peer: &'a str, size: usize, count: usize, outstanding: usize },
    Close { peer: &'a str },
}

/// One alternative, as the program describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) about: String,
    /// Whether the other end is a process of its own.
    pub(super) isolated: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    peers: Vec<About>,
    ok: bool,
    nanos: Vec<u64>,
    error: Option<String>,
}

/// The running program. Dropping it ends it.
pub(super) struct Program {
    child: Child,
    /// Dropped first, which is what ends the program.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What came of opening each peer, which is done once.
    opened: HashMap<String, Result<(), String>>,
}

impl Program {
    pub(super) fn start(path: &Path) -> Result<Program, Failure> {
        let what = format!("start the peers program {}", path.display());
        let subject = |source| Failure::io(what.clone(), source);
        // Absolute, so that no other folder is looked into.
        let path = std::path::absolute(path).map_err(subject)?;
        let mut child =
            Command::new(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(subject)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => {
                let (input, output) = (Some(input), BufReader::new(output));
                Ok(Program { child, input, output, opened: HashMap::new() })
            }
            _ => Err(Failure::other("the peers program has no pipes")),
        }
    }

    pub(super) fn process(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    pub(super) fn list(&mut self) -> Result<Vec<About>, Failure> {
        let peers = self.ask(&Ask::List)?.peers;
        if peers.is_empty() { Err(Failure::other("the peers program lists no peer")) } else { Ok(peers) }
    }

    /// Opens a peer, unless that was tried before.
    pub(super) fn open(&mut self, peer: &str) -> Result<(), Failure> {
        if let Some(result) = self.opened.get(peer) {
            return result.clone().map_err(Failure::Other);
        }
        let result = match self.ask(&Ask::Open { peer }) {
            Ok(answer) if answer.ok => Ok(()),
            Ok(_) => Err(format!("the peers program did not open {peer}")),
            Err(failure) => Err(failure.to_string()),
        };
        self.opened.insert(peer.to_owned(), result.clone());
        result.map_err(Failure::Other)
    }

    /// Asks for times, of which there must be as many as wanted.
    pub(super) fn times(&mut self, ask: &Ask<'_>, wanted: usize) -> Result<Vec<u64>, Failure> {
        let nanos = self.ask(ask)?.nanos;
        if nanos.len() == wanted {
            Ok(nanos)
        } else {
            Err(Failure::other(format!("the peers program gave {} times, not {wanted}", nanos.len())))
        }
    }

    fn ask(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let subject = |source| Failure::io("talk to the peers program", source);
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        let input = self.input.as_mut().ok_or_else(|| Failure::other("the peers program has ended"))?;
        input.write_all(&line).and_then(|()| input.flush()).map_err(subject)?;
        let mut poll_fd = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
        if poll(&mut poll_fd, Some(&PATIENCE)).map_err(|errno| subject(errno.into()))? == 0 {
            return Err(Failure::other("the peers program does not answer"));
        }
        let mut answer = String::new();
        if self.output.read_line(&mut answer).map_err(subject)? == 0 {
            return Err(Failure::other("the peers program has ended"));
        }
        let answer: Answer = serde_json::from_str(&answer)?;
        match answer.error {
            Some(error) => Err(Failure::Other(error)),
            None => Ok(answer),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let open: Vec<String> =
            self.opened.drain().filter_map(|(peer, result)| result.ok().map(|()| peer)).collect();
        for peer in open {
            if self.ask(&Ask::Close { peer: &peer }).is_err() {
                break;
            }
        }
        self.input = None;
        for _ in 0..END_LOOKS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(END_PAUSE);
        }
        // Fails only if it has ended by itself; then there is still something to reap.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake() -> Program {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake-peers");
        Program::start(&path).expect("starts")
    }

    #[test]
    fn asks_are_lines_that_the_program_knows() {
        let text = |ask| serde_json::to_string(&ask).expect("serializes");
        assert_eq!(text(Ask::List), r#"{"ask":"list"}"#);
        assert_eq!(
            text(Ask::Pipeline { peer: "grpc", size: 64, count: 5000, outstanding: 256 }),
            r#"{"ask":"pipeline","peer":"grpc","size":64,"count":5000,"outstanding":256}"#
        );
    }

    #[test]
    fn a_peer_is_opened_called_and_closed() {
        let mut program = fake();
        let names: Vec<String> = program.list().expect("lists").into_iter().map(|peer| peer.name).collect();
        assert_eq!(names, ["extism", "grpc", "broken"]);
        program.open("grpc").expect("opens");
        program.open("grpc").expect("is open");
        let call = Ask::Call { peer: "grpc", size: 64, count: 3 };
        assert_eq!(program.times(&call, 3).expect("calls"), [7000, 8000, 9000]);
        assert!(program.times(&call, 4).is_err(), "a time is missing");
    }

    #[test]
    fn an_error_of_the_program_is_a_reason() {
        let mut program = fake();
        for _ in 0..2 {
            let failure = program.open("broken").expect_err("cannot be opened");
            assert_eq!(failure.to_string(), "not here");
        }
    }

    #[test]
    fn a_program_that_is_not_there_or_ends_is_an_error() {
        assert!(Program::start(Path::new("/nonexistent/peers")).is_err());
        let mut program = Program::start(Path::new("/bin/true")).expect("starts");
        assert!(program.list().is_err());
    }
}
