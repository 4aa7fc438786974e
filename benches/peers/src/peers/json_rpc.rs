//! JSON-RPC 2.0 over the standard input and output of a child, one message a line, as editors' tools speak it.
//!
//! JSON has no bytes, so the payload is base64 in the member `data` of `params` and of `result`.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::child::OtherEnd;
use crate::failure::{Failure, failed};
use crate::measure::Echo;

const VERSION: &str = "2.0";
const METHOD: &str = "echo";

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    jsonrpc: &'a str,
    id: u64,
    method: &'a str,
    #[serde(borrow)]
    params: Payload<'a>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Response<'a> {
    jsonrpc: &'a str,
    id: u64,
    #[serde(borrow)]
    result: Payload<'a>,
}

/// Bytes as JSON has them.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

impl Payload<'_> {
    fn encode(bytes: &[u8]) -> Payload<'static> {
        Payload { data: Cow::Owned(BASE64_STANDARD.encode(bytes)) }
    }

    fn decode(&self) -> Result<Vec<u8>, Failure> {
        BASE64_STANDARD.decode(self.data.as_bytes()).map_err(failed("decode base64"))
    }
}

/// Starts the other end.
pub(super) fn open() -> Result<JsonRpc, Failure> {
    let mut other_end = OtherEnd::start(&["jsonrpc"], Stdio::piped(), Stdio::piped())?;
    let child = other_end.child();
    let (Some(requests), Some(responses)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::HungUp);
    };
    let responses = BufReader::new(responses);
    Ok(JsonRpc { requests, responses, line: String::new(), id: 0, _other_end: other_end })
}

pub(super) struct JsonRpc {
    requests: ChildStdin,
    responses: BufReader<ChildStdout>,
    line: String,
    id: u64,
    _other_end: OtherEnd,
}

impl Echo for JsonRpc {
    fn echo(&mut self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        self.id += 1;
        let request =
            Request { jsonrpc: VERSION, id: self.id, method: METHOD, params: Payload::encode(input) };
        write_line(&mut self.requests, &request)?;
        self.line.clear();
        if !read_line(&mut self.responses, &mut self.line)? {
            return Err(Failure::HungUp);
        }
        let response: Response = serde_json::from_str(&self.line).map_err(failed("read a response"))?;
        if response.jsonrpc != VERSION || response.id != self.id {
            return Err(Failure::WrongReply);
        }
        response.result.decode()
    }
}

/// Answers requests with their payload until standard input ends.
pub(super) fn serve() -> Result<(), Failure> {
    let mut requests = std::io::stdin().lock();
    let mut responses = std::io::stdout().lock();
    let mut line = String::new();
    while read_line(&mut requests, &mut line)? {
        let request: Request = serde_json::from_str(&line).map_err(failed("read a request"))?;
        if request.jsonrpc != VERSION || request.method != METHOD {
            return Err(Failure::Refused("there is one method".to_owned()));
        }
        let result = Payload::encode(&request.params.decode()?);
        write_line(&mut responses, &Response { jsonrpc: VERSION, id: request.id, result })?;
        line.clear();
    }
    Ok(())
}

/// Appends a line and returns whether there was one.
fn read_line(from: &mut impl BufRead, line: &mut String) -> Result<bool, Failure> {
    from.read_line(line).map(|length| length > 0).map_err(failed("read a line"))
}

/// Writes a message in one piece.
fn write_line(to: &mut impl Write, message: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(message).map_err(failed("write a message as JSON"))?;
    line.push(b'\n');
    to.write_all(&line).and_then(|()| to.flush()).map_err(failed("write a line"))
}
