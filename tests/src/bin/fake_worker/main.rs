//! `hotcell-worker` with a plugin of its own that breaks the protocol in every way that its memory lets it.
//!
//! A test puts it in the place of the real program. It is launched, confined and checked like that one; before it confines
//! itself it copies the descriptor of the channel's memory out of the setup channel, as no plugin could, and maps it a
//! second time, as a plugin that searched its memory would find it. An export is a misdeed, the input its parameter.

mod acts;
mod attempts;
mod memory;

use std::os::fd::AsFd;
use std::sync::Mutex;

use hotcell_protocol::{Failure, ReplyStatus};
use hotcell_worker::{Confined, Inherited, Input, Link, Reply, Runtime, Started};

use memory::Memory;

/// What `main` found and tried before this process was confined.
static BEFORE: Mutex<Option<(Memory, String)>> = Mutex::new(None);

/// The hostile plugin.
struct Fake {
    memory: Memory,
    /// What was tried before confinement, and what came of it.
    tried: String,
}

fn main() {
    let inherited = Inherited::adopt();
    let (memory, file) = Memory::peek(inherited.setup.as_fd());
    let tried = attempts::before_confinement(&inherited.setup, file);
    *BEFORE.lock().expect("one thread") = Some((memory, tried));
    hotcell_worker::start::run::<Fake>(inherited)
}

impl Runtime for Fake {
    const LOAD_RUNS_CODE: bool = true;

    /// It notes no crash.
    fn prepare(started: &mut Started) -> Result<(), Failure> {
        started.output = None;
        Ok(())
    }

    fn load(_: &Confined, started: &mut Started) -> Result<Fake, Failure> {
        let (memory, tried) = BEFORE.lock().expect("one thread").take().expect("loaded once");
        if let Some(act) = configured(started, "loading") {
            acts::start(&act, &memory);
        }
        Ok(Fake { memory, tried })
    }

    fn ready(&mut self, started: &Started, _: &mut Link) -> Result<(), Failure> {
        if let Some(act) = configured(started, "starting") {
            acts::start(&act, &self.memory);
        }
        Ok(())
    }

    fn call(&mut self, export: &str, input: &Input, link: &mut Link) -> Reply {
        self.memory.find_running_call();
        let text = String::from_utf8_lossy(input).into_owned();
        match export {
            "echo" => Reply::bytes(ReplyStatus::Ok, input.to_vec()),
            "tried" => Reply::text(ReplyStatus::Ok, &self.tried),
            "try" => Reply::text(ReplyStatus::Ok, attempts::under_confinement(&self.memory)),
            "ask" => Reply::text(ReplyStatus::Ok, format!("{:?}", link.host_call(&text, b"input"))),
            "ask_for_ever" => loop {
                // The point is that there are many.
                let _ = link.host_call(&text, b"one of many");
            },
            misdeed => acts::act(&mut self.memory, misdeed, &text),
        }
    }
}

/// The misdeed of a stage of the start, as the manifest's `config` says.
fn configured(started: &Started, stage: &str) -> Option<String> {
    let config = started.start.config.as_deref()?.trim_matches(|c| "{}\"".contains(c));
    let (named, act) = config.split_once(':')?;
    (named.trim_matches('"') == stage).then(|| act.trim_matches('"').to_owned())
}
