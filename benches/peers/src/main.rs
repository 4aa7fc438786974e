//! `hotcell-peers`: what people use in place of hotcell, measured on the same machine and in the same rounds.
//!
//! It is driven line by line over standard input and output. It judges nothing and confines nothing: no peer has a
//! sandbox around it here.

#![deny(unsafe_code)]

mod args;
mod child;
mod failure;
mod measure;
mod peers;
mod protocol;
mod session;
mod sys;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use failure::{Failure, failed};
use session::Session;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hotcell-peers: {}", failure.text());
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Some(Command::Serve(serve)) => peers::serve(serve),
        None => answer_all(Session::new(args.library)),
    }
}

/// Answers one line at a time until standard input ends; then everything that is open is closed.
fn answer_all(mut session: Session) -> Result<(), Failure> {
    let mut questions = std::io::stdin().lock();
    let mut answers = std::io::stdout().lock();
    let mut line = Vec::new();
    while questions.read_until(b'\n', &mut line).map_err(failed("read a question"))? > 0 {
        let mut answer =
            serde_json::to_vec(&session.answer(&line)).map_err(failed("write an answer as JSON"))?;
        answer.push(b'\n');
        answers.write_all(&answer).and_then(|()| answers.flush()).map_err(failed("write an answer"))?;
        line.clear();
    }
    Ok(())
}
