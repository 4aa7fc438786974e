//! Counts lines, words and bytes: a WASI command, an ordinary Rust program that knows nothing of hotcell.
//!
//! `wordcount [--json] [FILE ...]` reads the files, or standard input without any. Exit codes: 0; 1 if a file cannot
//! be read, the others being counted all the same; 2 for an unknown option.

use std::fs::File;
use std::io::{self, Read, Write, stdin, stdout};
use std::ops::AddAssign;
use std::process::ExitCode;

/// How much is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

const UNREADABLE: u8 = 1;
const MISUSED: u8 = 2;

#[derive(Clone, Copy, Default)]
struct Counts {
    lines: u64,
    words: u64,
    bytes: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
    }
}

/// Counts without keeping anything. A word is what stands between ASCII white space.
fn count(mut input: impl Read) -> io::Result<Counts> {
    let mut counts = Counts::default();
    let mut chunk = vec![0; CHUNK];
    let mut inside_word = false;
    loop {
        let length = match input.read(&mut chunk) {
            Ok(0) => return Ok(counts),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for byte in chunk.iter().take(length) {
            let space = byte.is_ascii_whitespace() || *byte == b'\x0b';
            counts.lines += u64::from(*byte == b'\n');
            counts.words += u64::from(!space && !inside_word);
            inside_word = !space;
        }
        counts.bytes += length as u64;
    }
}

/// A name as a JSON string.
fn quoted(name: &str) -> String {
    let mut json = String::from('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            control if control < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

fn print(name: Option<&str>, counts: Counts, as_json: bool) -> io::Result<()> {
    let Counts { lines, words, bytes } = counts;
    let mut out = stdout().lock();
    match (name, as_json) {
        (None, false) => writeln!(out, "{lines:>7} {words:>7} {bytes:>7}"),
        (Some(name), false) => writeln!(out, "{lines:>7} {words:>7} {bytes:>7} {name}"),
        (None, true) => writeln!(out, r#"{{"lines":{lines},"words":{words},"bytes":{bytes}}}"#),
        (Some(name), true) => {
            let name = quoted(name);
            writeln!(out, r#"{{"file":{name},"lines":{lines},"words":{words},"bytes":{bytes}}}"#)
        }
    }
}

/// Counts and prints everything; says whether everything could be read.
fn run(files: &[String], as_json: bool) -> io::Result<bool> {
    if files.is_empty() {
        print(None, count(stdin().lock())?, as_json)?;
        return Ok(true);
    }
    let mut total = Counts::default();
    let mut complete = true;
    for file in files {
        match File::open(file).and_then(count) {
            Ok(counts) => {
                total += counts;
                print(Some(file), counts, as_json)?;
            }
            Err(error) => {
                complete = false;
                eprintln!("wordcount: {file}: {error}");
            }
        }
    }
    if files.len() > 1 {
        print(Some("total"), total, as_json)?;
    }
    Ok(complete)
}

fn main() -> ExitCode {
    let mut as_json = false;
    let mut files = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => as_json = true,
            option if option.starts_with("--") => {
                eprintln!("wordcount: unknown option {option}\nusage: wordcount [--json] [FILE ...]");
                return ExitCode::from(MISUSED);
            }
            _ => files.push(argument),
        }
    }
    match run(&files, as_json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(UNREADABLE),
        Err(error) => {
            eprintln!("wordcount: {error}");
            ExitCode::from(UNREADABLE)
        }
    }
}
