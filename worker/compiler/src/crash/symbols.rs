//! Names for addresses: debug information where a file has it, else its symbols.

use addr2line::gimli::{Dwarf, EndianSlice, NativeEndian};
use hotcell_protocol::crash::Frame;
use object::{Object, ObjectSection, SymbolMap, SymbolMapName};

use super::bounded;

type Slice<'b> = EndianSlice<'b, NativeEndian>;

/// What one file says of addresses in it.
pub(super) struct Symbols<'b> {
    debug: Option<addr2line::Context<Slice<'b>>>,
    named: SymbolMap<SymbolMapName<'b>>,
}

/// The name that a module gives a function of its own, which wasmtime writes behind `wasm[0]::function[1]::`.
fn of_wasm(symbol: &str) -> Option<&str> {
    let (module, rest) = symbol.strip_prefix("wasm[")?.split_once("]::function[")?;
    let (function, name) = rest.split_once("]::")?;
    let number = |text: &str| text.parse::<u32>().is_ok();
    (number(module) && number(function)).then_some(name)
}

impl<'b> Symbols<'b> {
    /// `None` where the bytes are no object file.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Symbols<'b>> {
        let file = object::File::parse(bytes).ok()?;
        let section = |name: &str| file.section_by_name(name).and_then(|section| section.data().ok());
        let load = |id: addr2line::gimli::SectionId| -> Result<_, addr2line::gimli::Error> {
            Ok(EndianSlice::new(section(id.name()).unwrap_or_default(), NativeEndian))
        };
        let debug = Dwarf::load(load).ok().and_then(|dwarf| addr2line::Context::from_dwarf(dwarf).ok());
        Some(Symbols { debug, named: file.symbol_map() })
    }

    /// The functions that an offset is in, the innermost first: all like `frame`, with names.
    pub(super) fn frames(&self, offset: u64, frame: &Frame) -> Vec<Frame> {
        let mut found = self.inlined(offset, frame).unwrap_or_default();
        if found.is_empty() {
            found.push(frame.clone());
        }
        if let Some(outermost) = found.last_mut()
            && outermost.function.is_empty()
            && let Some(symbol) = self.named.containing(offset)
        {
            let name = of_wasm(symbol.name()).unwrap_or(symbol.name());
            outermost.function = bounded(&addr2line::demangle_auto(name.into(), None));
        }
        found
    }

    fn inlined(&self, offset: u64, frame: &Frame) -> Option<Vec<Frame>> {
        let mut frames = self.debug.as_ref()?.find_frames(offset).skip_all_loads().ok()?;
        let mut found = Vec::new();
        while let Ok(Some(inlined)) = frames.next() {
            let function = inlined.function.as_ref().and_then(|function| function.demangle().ok());
            let location = inlined.location.as_ref();
            found.push(Frame {
                function: function.map(|name| bounded(&name)).unwrap_or_default(),
                file: location.and_then(|location| location.file).map(bounded).unwrap_or_default(),
                line: location.and_then(|location| location.line).unwrap_or_default(),
                ..frame.clone()
            });
        }
        Some(found)
    }
}
