//! JSON lines over the standard streams: what editors and their language servers do.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};

use serde::{Deserialize, Serialize};

use super::{check_echo, hung_up, message};
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::other_end::{OtherEnd, Role};

#[derive(Serialize, Deserialize)]
struct Call<'a> {
    id: u64,
    export: &'a str,
    input: String,
}

#[derive(Serialize, Deserialize)]
struct Reply {
    id: u64,
    output: String,
}

struct Json {
    input: BufReader<PipeReader>,
    output: PipeWriter,
    sent: String,
    received: String,
    line: String,
    next: u64,
    _other_end: OtherEnd,
}

pub(super) fn open(size: usize) -> Opened {
    let (other_end, input, output) = OtherEnd::start_piped(Role::Json, size)?;
    let sent = message(size).into_iter().map(char::from).collect();
    let (received, line, input) = (String::new(), String::new(), BufReader::new(input));
    let mut json = Json { input, output, sent, received, line, next: 0, _other_end: other_end };
    json.sample(1, &mut Samples::default())?;
    check_echo(json.sent.as_bytes(), json.received.as_bytes())?;
    Ok(Box::new(json))
}

impl Case for Json {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            let input = self.sent.clone();
            samples.time(|| self.call(input))?;
        }
        Ok(())
    }
}

impl Json {
    fn call(&mut self, input: String) -> Result<(), Failure> {
        self.next += 1;
        let call = Call { id: self.next, export: "ok", input };
        write_line(&mut self.output, &call)?;
        self.line.clear();
        self.input.read_line(&mut self.line).map_err(hung_up)?;
        let reply: Reply = serde_json::from_str(&self.line)?;
        if reply.id != self.next {
            return Err(Failure::other("the other end answered another call"));
        }
        self.received = reply.output;
        Ok(())
    }
}

pub(super) fn serve() -> Result<(), Failure> {
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    let mut line = String::new();
    while input.read_line(&mut line).map_err(hung_up)? > 0 {
        let call: Call<'_> = serde_json::from_str(&line)?;
        write_line(&mut output, &Reply { id: call.id, output: call.input })?;
        line.clear();
    }
    Ok(())
}

fn write_line(output: &mut impl Write, value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    output.write_all(&line).and_then(|()| output.flush()).map_err(hung_up)
}
