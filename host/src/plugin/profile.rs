//! Where a plugin spends its time: its worker is looked at many times a second, from outside.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotcell_protocol::codec;
use hotcell_protocol::crash::{Module, PLUGIN, PROFILE, PROGRAM, Profile, ProfileRequest, SAMPLES};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::Plugin;
use crate::class::Class;
use crate::compile::{Question, blocking};
use crate::crash::backtrace::{gather, program};
use crate::error::Error;
use crate::package::artifact::memory;
use crate::sys::pidfd::lives;
use crate::sys::trace::Traced;
use crate::text::escape;
use crate::worker::Sight;

/// Bytes of stack of one sample.
const STACK: usize = 32 << 10;

/// Bytes of all samples: as many as the confined process takes of one file.
const SAMPLES_MAX: usize = 120 << 20;

/// Mapped files that are looked at: a plugin that maps more makes its own profile worse.
const MODULES_MAX: usize = 64;

/// How long it may take to name them.
const TIME: Duration = Duration::from_secs(60);

/// Looks in a second, at most.
const MOST_FREQUENT: u32 = 10_000;

/// How a plugin is profiled.
#[derive(Clone, Debug)]
pub struct ProfileOptions {
    /// For how long. Default: five seconds.
    pub time: Duration,
    /// Looks in a second, at most 10,000. Default: 499, so that what happens a hundred times a second is not always seen in the same state.
    pub frequency: u32,
}

impl Default for ProfileOptions {
    fn default() -> ProfileOptions {
        ProfileOptions { time: Duration::from_secs(5), frequency: 499 }
    }
}

/// Where a plugin was. Names are the plugin's own, escaped: it can have forged them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StackProfile {
    /// How often the worker was looked at.
    pub samples: u64,
    /// How often nothing of the plugin ran: it waited for a call, or the runtime worked.
    pub outside: u64,
    /// How many samples had stacks that are not among these, the most frequent ones.
    pub left_out: u64,
    /// Each stack that was seen, and how often.
    pub stacks: Vec<ProfiledStack>,
}

/// One stack of a [`StackProfile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProfiledStack {
    /// From the outermost function of the plugin inwards; functions of the runtime that it called are there, too.
    pub functions: Vec<String>,
    /// How often it was seen.
    pub samples: u64,
}

impl Plugin {
    /// Looks at one worker again and again while it runs, by ptrace(2), and says in which functions of the plugin it was. Whoever wants
    /// to see something has it called meanwhile.
    ///
    /// Each look stops the worker for some tens of microseconds. What lies on its stack is hostile, and so are the files that names are
    /// found in: a confined process reads both.
    ///
    /// # Errors
    /// There is no worker, it may not be looked at (Yama's `ptrace_scope` is above 1, or a debugger does already), or what was seen
    /// could not be made sense of.
    pub async fn profile(&self, options: ProfileOptions) -> Result<StackProfile, Error> {
        let prepared = self.prepared();
        let blueprint = &prepared.blueprint;
        let unusable = |detail: String, class| Error::Package {
            subject: format!("the profile of {}", blueprint.plugin),
            detail,
            class,
        };
        let sight = self.inner.exchange.sights().into_iter().next().ok_or_else(|| {
            unusable("no worker of it runs; it is profiled while it does".to_owned(), Class::Invalid)
        })?;
        let shared = &self.inner.shared.upgrade().ok_or(Error::Shutdown)?;
        let (program, plugin) = (program(shared, &blueprint.orders), blueprint.artifact.descriptor()?);
        let look = move || {
            let (modules, samples) = sample(&sight, &options, &program)?;
            let (sealed, files) = gather(plugin, &program, Some((SAMPLES.to_owned(), samples)))?;
            let input = codec::encode(&ProfileRequest { modules, files });
            let input = input.map_err(|error| failed(std::io::Error::other(error)))?;
            Ok((Arc::new(sealed), input))
        };
        let (files, input) = blocking(look).await?;
        let subject = format!("the profile of {}", blueprint.plugin);
        let question = Question { export: PROFILE, input, time: TIME };
        let answer: Result<Profile, String> =
            shared.compilers.ask_confined(&shared.surroundings, &subject, &files, question).await?.0;
        answer.map(tell).map_err(|why| unusable(escape(why.as_bytes()), Class::Invalid))
    }
}

/// Looks at a worker until the time is over or it has ended. Blocks.
fn sample(sight: &Sight, options: &ProfileOptions, program: &Path) -> Result<(Vec<Module>, File), Error> {
    let gone = || failed(std::io::ErrorKind::NotFound.into());
    let pid = pid_of(sight).ok_or_else(gone)?;
    let traced = Traced::seize(pid).map_err(failed)?;
    // Whoever has its number now was not looked at.
    if !lives(sight.pidfd.get_ref()) {
        return Err(gone());
    }
    let modules = mapped(pid, program)?;
    let pause = Duration::from_secs(1) / options.frequency.clamp(1, MOST_FREQUENT);
    let mut samples = Vec::new();
    let begun = Instant::now();
    for look in 1.. {
        let Ok(Some(seen)) = traced.look(STACK) else { break };
        if !seen.registers.is_empty() {
            seen.append_sample(&mut samples);
        }
        if begun.elapsed() >= options.time || samples.len() > SAMPLES_MAX {
            break;
        }
        std::thread::sleep((pause * look).saturating_sub(begun.elapsed()));
    }
    let mut file = File::from(memory("hotcell-samples")?);
    file.write_all(&samples).and_then(|()| file.rewind()).map_err(failed)?;
    Ok((modules, file))
}

/// The number of a worker's process, which may be another's once it has ended.
pub(super) fn pid_of(sight: &Sight) -> Option<Pid> {
    i32::try_from(sight.evidence.pid).ok().and_then(Pid::from_raw)
}

fn failed(source: std::io::Error) -> Error {
    Error::io("look into a worker", source)
}

/// What a worker that runs this program has mapped of files.
pub(super) fn mapped(pid: Pid, program: &Path) -> Result<Vec<Module>, Error> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", pid.as_raw_nonzero())).map_err(failed)?;
    Ok(modules(&maps, &std::fs::canonicalize(program).map_err(failed)?))
}

/// What is mapped of files, by `/proc/PID/maps` (proc_pid_maps(5)): from its first byte to the end of its last piece.
fn modules(maps: &str, program: &Path) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(offset), Some(path)) = (fields.next(), fields.nth(1), fields.nth(2)) else {
            continue;
        };
        let name = match path {
            "/memfd:hotcell-artifact" | "/memfd:hotcell-code" => PLUGIN,
            path if Path::new(path) == program => PROGRAM,
            path if path.starts_with("/memfd:") || !path.starts_with('/') => continue,
            path => path,
        };
        let number = |digits: &str| u64::from_str_radix(digits, 16).unwrap_or_default();
        let (start, end) = range.split_once('-').unwrap_or_default();
        let is_full = modules.len() == MODULES_MAX;
        match modules.iter_mut().find(|module| module.name == name) {
            Some(module) => module.size = number(end).saturating_sub(module.base),
            // A piece alone is no module: a wasm plugin's memory begins as one of its file.
            None if number(offset) > 0 || is_full => {}
            None => {
                let (base, size) = (number(start), number(end).saturating_sub(number(start)));
                modules.push(Module { name: name.to_owned(), base, size, build_id: Vec::new() });
            }
        }
    }
    modules
}

/// What the confined process said, fit to be printed.
fn tell(profile: Profile) -> StackProfile {
    let Profile { functions, stacks, left_out } = profile;
    let name = |index: &u32| {
        let name = usize::try_from(*index).ok().and_then(|index| functions.get(index));
        escape(name.map_or("?", String::as_str).as_bytes())
    };
    let samples = stacks.iter().fold(left_out, |sum, (_, count)| sum.saturating_add(*count));
    let (outside, seen): (Vec<_>, Vec<_>) = stacks.into_iter().partition(|(stack, _)| stack.is_empty());
    let outside = outside.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    let stacks = seen
        .into_iter()
        .map(|(stack, samples)| ProfiledStack { functions: stack.iter().map(name).collect(), samples });
    StackProfile { samples, outside, left_out, stacks: stacks.collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

    use hotcell_protocol::crash::Profile;

    use super::{MODULES_MAX, modules, tell};

    #[test]
    fn however_many_files_are_mapped_few_are_looked_at() {
        let line =
            |number: usize| format!("{number:x}000-{number:x}800 r--p 00000000 fe:00 1 /data/{number}\n");
        let maps: String = (1..1000).map(line).collect();
        assert_eq!(modules(&maps, std::path::Path::new("/opt/hotcell-worker")).len(), MODULES_MAX);
    }

    #[test]
    fn mapped_files_are_found_with_all_of_their_pieces() {
        let maps = "\
            55d0000-55d1000 r--p 00000000 fe:00 1    /opt/hotcell-worker\n\
            55d1000-55d3000 r-xp 00001000 fe:00 1    /opt/hotcell-worker\n\
            60000-70000 rw-p 00000000 00:00 0        [heap]\n\
            7f01000-7f02000 rw-s 00000000 00:01 2    /memfd:hotcell-channel (deleted)\n\
            7f04000-7f05000 rw-p 00005000 00:01 3    /memfd:hotcell-code (deleted)\n\
            7f10000-7f11000 r--p 00000000 00:01 3    /memfd:hotcell-code (deleted)\n\
            7f11000-7f15000 r-xp 00001000 00:01 3    /memfd:hotcell-code (deleted)\n\
            7f20000-7f22000 r-xp 00000000 fe:00 4    /lib/libc.so.6\n\
            7f30000-7f32000 rw-p 00000000 00:00 0\n\
            a line that is none\n";
        let found = modules(maps, std::path::Path::new("/opt/hotcell-worker"));
        let found: Vec<_> =
            found.iter().map(|module| (module.name.as_str(), module.base, module.size)).collect();
        let expected = [
            ("worker", 0x55d_0000, 0x3000),
            ("plugin", 0x7f1_0000, 0x5000),
            ("/lib/libc.so.6", 0x7f2_0000, 0x2000),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_the_confined_process_says_is_escaped_and_counted_without_trust() {
        let profile = Profile {
            functions: vec!["\u{1b}[2Jouter".to_owned()],
            stacks: vec![(vec![0, 7], u64::MAX), (Vec::new(), 3)],
            left_out: 2,
        };
        let told = tell(profile);
        assert_eq!((told.samples, told.outside, told.left_out), (u64::MAX, 3, 2));
        assert_eq!(told.stacks[0].functions, ["\\u{1b}[2Jouter", "?"]);
    }
}
