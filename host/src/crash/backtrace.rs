//! From the notes of a dead worker to a backtrace, by a confined process.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hotcell_package::hex;
use hotcell_protocol::codec;
use hotcell_protocol::crash::{ANALYZE, Analysis, AnalyzeRequest, Module, PLUGIN, PROGRAM, layout};
use hotcell_protocol::{Launch, Orders, Runtime};

use super::Remains;
use super::report::{CrashBacktrace, CrashFrame, CrashModule};
use crate::compile::{Question, blocking};
use crate::error::Error;
use crate::host::Shared;
use crate::package::artifact::Sealed;
use crate::text::escape;

/// How long it may take: an honest crash takes a hundredth of it.
const TIME: Duration = Duration::from_secs(3);

/// Largest file that is handed to the confined process: beyond it, addresses stay without names.
const FILE_MAX: u64 = 128 << 20;

/// Libraries that a native plugin may call. Those that are there lie beside the C library.
const LIBRARIES: [&str; 6] = [
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
];

/// Most frames, registers and modules, and the longest name, that are believed of the confined process: it has read hostile
/// files, and a report stays small whatever it says.
const FRAMES_MAX: usize = 128;
const REGISTERS_MAX: usize = 64;
const MODULES_MAX: usize = 64;
const NAME_MAX: usize = 512;

/// Has a confined process read the notes. `None` where no signal was noted; the minidump comes along.
pub(super) async fn read(
    shared: &Shared,
    remains: &Remains,
) -> Result<Option<(CrashBacktrace, Vec<u8>)>, Error> {
    let Some(notes) = &remains.notes else { return Ok(None) };
    let (notes, orders) = (notes.clone(), &remains.blueprint.orders);
    let plugin = remains.blueprint.artifact.descriptor()?;
    let program = program(shared, orders);
    let gather = move || {
        let bytes = notes.read();
        // The worker has ended, and its memory is not needed for what takes longer.
        drop(notes);
        let is_empty =
            bytes.first_chunk().is_none_or(|progress| u64::from_ne_bytes(*progress) == layout::EMPTY);
        if is_empty { Ok(None) } else { ask_of(bytes, plugin, &program).map(Some) }
    };
    let Some((files, input)) = blocking(gather).await? else { return Ok(None) };
    let subject = format!("the crash of {}", remains.blueprint.plugin);
    let question = Question { export: ANALYZE, input, time: TIME };
    let answer: Result<Analysis, String> =
        shared.compilers.ask_confined(&shared.surroundings, &subject, &files, question).await?.0;
    let analysis = answer.map_err(|why| Error::Package {
        subject,
        detail: escape(why.as_bytes()),
        class: crate::Class::Invalid,
    })?;
    Ok(Some(tell(analysis)))
}

/// The program of a plugin's workers.
pub(crate) fn program(shared: &Shared, orders: &Orders) -> PathBuf {
    shared.compilers.programs.join(match (orders.runtime, orders.launch) {
        (Runtime::Native, Launch::Exec) => "hotcell-worker",
        _ => "hotcell-launcher",
    })
}

/// The files that the confined process gets, and the encoded request. Blocks.
fn ask_of(notes: Vec<u8>, plugin: OwnedFd, program: &Path) -> Result<(Arc<Sealed>, Vec<u8>), Error> {
    let (sealed, files) = gather(plugin, program, None)?;
    let failed = |error| Error::io("pass on the notes of a crash", std::io::Error::other(error));
    let input = codec::encode(&AnalyzeRequest { notes, files }).map_err(failed)?;
    Ok((Arc::new(sealed), input))
}

/// Copies what a worker has mapped, and another file, one after the other; returns the length of each. Blocks.
pub(crate) fn gather(
    plugin: OwnedFd,
    program: &Path,
    more: Option<(String, File)>,
) -> Result<(Sealed, Vec<(String, u64)>), Error> {
    let own = PathBuf::from(format!("/proc/self/fd/{}", plugin.as_fd().as_raw_fd()));
    let mut wanted = vec![(PLUGIN.to_owned(), own), (PROGRAM.to_owned(), program.to_owned())];
    if let Some(folder) = library_folder() {
        wanted.extend(LIBRARIES.iter().map(|name| ((*name).to_owned(), folder.join(name))));
    }
    let opened = wanted.into_iter().map(|(name, path)| (name, File::open(path)));
    let more = more.map(|(name, file)| (name, Ok(file)));
    Sealed::gather(opened.chain(more), FILE_MAX)
}

/// Where this process has its C library from, which workers have, too.
fn library_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.ends_with("/libc.so.6"))?;
    Path::new(library).parent().map(Path::to_owned)
}

/// What the confined process said, fit to be printed.
fn tell(analysis: Analysis) -> (CrashBacktrace, Vec<u8>) {
    let Analysis { signal, code, address, registers, frames, modules, minidump } = analysis;
    let text = |text: &str| {
        let mut escaped = escape(text.as_bytes());
        escaped.truncate(escaped.floor_char_boundary(NAME_MAX));
        escaped
    };
    let known = |name: &str| Some(text(name)).filter(|name| !name.is_empty());
    let address_text = |address: u64| format!("{address:#x}");
    let frames = frames.iter().take(FRAMES_MAX).map(|frame| CrashFrame {
        address: address_text(frame.address),
        module: known(file_name(&frame.module)),
        offset: address_text(frame.offset),
        function: known(&frame.function),
        source: known(&frame.file).map(|file| match frame.line {
            0 => file,
            line => format!("{file}:{line}"),
        }),
    });
    let modules = modules.iter().take(MODULES_MAX).map(|Module { name, base, size, build_id }| CrashModule {
        name: text(name),
        base: address_text(*base),
        size: *size,
        build_id: text(&hex(build_id)),
    });
    let backtrace = CrashBacktrace {
        signal,
        code,
        address: address_text(address),
        registers: registers
            .iter()
            .take(REGISTERS_MAX)
            .map(|(name, value)| (text(name), address_text(*value)))
            .collect(),
        frames: frames.collect(),
        modules: modules.collect(),
    };
    (backtrace, minidump)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The functions that a trap's text names, from the innermost: the runtime writes each as `N: 0xADDRESS - NAME`.
pub(super) fn wasm_functions(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().flat_map(|line| line.split("\\n")).filter_map(|line| {
        let (number, rest) = line.trim_start().split_once(": ")?;
        number.parse::<u32>().ok()?;
        let (_, name) = rest.split_once(" - ")?;
        Some(name.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use hotcell_protocol::crash::{Analysis, Frame, Module};

    use super::{FRAMES_MAX, MODULES_MAX, NAME_MAX, REGISTERS_MAX, tell, wasm_functions};

    #[test]
    fn what_the_confined_process_says_is_bounded_and_escaped() {
        let long = "\u{202e}\n".repeat(10_000);
        let frame =
            Frame { function: long.clone(), file: long.clone(), module: long.clone(), ..Frame::default() };
        let module = Module { name: long.clone(), build_id: vec![7; 10_000], ..Module::default() };
        let analysis = Analysis {
            registers: vec![(long, 1); 1000],
            frames: vec![frame; 1000],
            modules: vec![module; 1000],
            ..Analysis::default()
        };
        let (told, _) = tell(analysis);
        assert_eq!(told.frames.len(), FRAMES_MAX);
        assert_eq!((told.registers.len(), told.modules.len()), (REGISTERS_MAX, MODULES_MAX));
        let sound = |text: &str| text.len() <= NAME_MAX && !text.contains(['\n', '\u{202e}']);
        assert!(told.frames.iter().all(|frame| frame.function.as_deref().is_some_and(sound)));
        assert!(told.modules.iter().all(|module| sound(&module.name) && sound(&module.build_id)));
        assert!(told.registers.iter().all(|(name, _)| sound(name)));
        let report = serde_json::to_string(&told).expect("encodes");
        assert!(report.len() < 512 << 10, "{}", report.len());
    }

    #[test]
    fn functions_are_found_in_the_text_of_a_trap() {
        let text = "wasm trap: out of bounds\\nwasm backtrace:\\n    0:   0x10 - app!deep\\n    1:   0x20 - app!outer";
        assert_eq!(wasm_functions(text).collect::<Vec<_>>(), ["app!deep", "app!outer"]);
        assert_eq!(wasm_functions("no backtrace: here - or there").count(), 0);
    }
}
