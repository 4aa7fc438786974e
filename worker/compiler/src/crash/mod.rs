//! From the notes of a crash to a backtrace with names, and to a minidump.
//!
//! Everything here is hostile: the notes, since the plugin shared the memory that they were written in, and the plugin's
//! file. Who lies gets a wrong report about itself; who breaks this code breaks a confined process that ends with it.

mod minidump;
mod profile;
mod symbols;
#[cfg(test)]
mod tests;
mod unwind;

use hotcell_protocol::crash::{Analysis, AnalyzeRequest, Frame, Module, Notes, PLUGIN, PROGRAM, REGISTERS};

pub use profile::profile;
use symbols::Symbols;
use unwind::Unwinding;

/// Longest name of a function or file, in bytes.
const NAME_MAX: usize = 400;

/// Most frames, those of inlined functions counted.
const FRAMES_MAX: usize = 128;

/// A file that a process had mapped.
#[derive(Debug)]
struct File<'b> {
    name: &'b str,
    bytes: &'b [u8],
}

/// Says where a worker crashed. `bytes` are the files of the request, one after the other.
///
/// # Errors
/// No crash was noted, or the request and the files do not fit.
pub fn analyze(bytes: &[u8], request: &AnalyzeRequest) -> Result<Analysis, String> {
    let files = split(bytes, &request.files)?;
    let notes = Notes::read(&request.notes).ok_or("no crash was noted")?;
    let addresses = Unwinding::new(&notes.modules, &files).walk(&notes);
    let frames = Names::new(&notes.modules, &files).backtrace(&addresses);
    let registers = REGISTERS.iter().map(|name| (*name).to_owned()).zip(notes.registers.clone()).collect();
    let minidump = minidump::write(&notes).map_err(|error| format!("failed to write a minidump: {error}"))?;
    let Notes { signal, code, address, modules, .. } = notes;
    Ok(Analysis { signal, code, address, registers, frames, modules, minidump })
}

fn split<'b>(mut bytes: &'b [u8], files: &'b [(String, u64)]) -> Result<Vec<File<'b>>, String> {
    let mut found = Vec::new();
    for (name, len) in files {
        let len = usize::try_from(*len).map_err(|error| error.to_string())?;
        let (file, rest) = bytes.split_at_checked(len).ok_or("the files are shorter than announced")?;
        found.push(File { name, bytes: file });
        bytes = rest;
    }
    Ok(found)
}

/// The module that an address is in.
fn module_of(address: u64, modules: &[Module]) -> Option<&Module> {
    modules.iter().find(|module| address.checked_sub(module.base).is_some_and(|offset| offset < module.size))
}

/// The file of a module, unless the worker had mapped another one of that name.
fn file_of<'f, 'b>(module: &Module, files: &'f [File<'b>]) -> Option<&'f File<'b>> {
    use object::Object;
    let file = file_named(module, files)?;
    let found = object::File::parse(file.bytes).ok()?;
    let build_id = found.build_id().ok().flatten().unwrap_or_default();
    (build_id == module.build_id).then_some(file)
}

/// The file that has a module's name.
fn file_named<'f, 'b>(module: &Module, files: &'f [File<'b>]) -> Option<&'f File<'b>> {
    let name = match module.name.as_str() {
        name @ (PLUGIN | PROGRAM) => name,
        path => path.rsplit('/').next().unwrap_or(path),
    };
    files.iter().find(|file| file.name == name)
}

/// Names for addresses, by what each module's file says.
struct Names<'m, 'b> {
    modules: &'m [Module],
    files: &'m [File<'b>],
    /// By where their modules begin.
    known: Vec<(u64, Option<Symbols<'b>>)>,
}

impl<'m, 'b> Names<'m, 'b> {
    fn new(modules: &'m [Module], files: &'m [File<'b>]) -> Names<'m, 'b> {
        Names { modules, files, known: Vec::new() }
    }

    fn backtrace(&mut self, addresses: &[u64]) -> Vec<Frame> {
        let frames = addresses.iter().enumerate().flat_map(|(depth, address)| self.frames(depth, *address));
        frames.take(FRAMES_MAX).collect()
    }

    /// One address may be in several functions, where they were inlined: the innermost first.
    fn frames(&mut self, depth: usize, address: u64) -> Vec<Frame> {
        let Some(module) = module_of(address, self.modules) else {
            return vec![Frame { address, ..Frame::default() }];
        };
        let index = self.known.iter().position(|(base, _)| *base == module.base).unwrap_or_else(|| {
            let symbols = file_of(module, self.files).and_then(|file| Symbols::read(file.bytes));
            self.known.push((module.base, symbols));
            self.known.len() - 1
        });
        let offset = address - module.base;
        let frame = Frame { address, module: bounded(&module.name), offset, ..Frame::default() };
        // A return address is behind its call, which may be the last instruction of its function.
        let looked_up = if depth == 0 { offset } else { offset.saturating_sub(1) };
        match self.known.get(index).and_then(|(_, symbols)| symbols.as_ref()) {
            Some(symbols) => symbols.frames(looked_up, &frame),
            None => vec![frame],
        }
    }
}

fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(NAME_MAX)).unwrap_or_default().to_owned()
}
