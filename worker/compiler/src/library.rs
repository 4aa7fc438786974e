//! What a native library says of itself, for an audit. Nothing of it is loaded.

use hotcell_plugin::abi;
use hotcell_protocol::compile::{LibraryFacts, NAMES_MAX};
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

use crate::failure::printable;

/// Longest path that is told.
const PATHS_MAX: usize = 64;

/// Reads a library's headers, its dynamic table and its exported names.
///
/// # Errors
/// It is no 64-bit ELF file, or a damaged one.
pub fn examine(bytes: &[u8]) -> Result<LibraryFacts, String> {
    let wrong = |error: object::Error| format!("no shared library: {error}");
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(wrong)?;
    let endian = header.endian().map_err(wrong)?;
    let mut facts = LibraryFacts::default();
    for segment in header.program_headers(endian, bytes).map_err(wrong)? {
        let flags = segment.p_flags(endian);
        let has = |wanted: u32| flags & wanted == wanted;
        match segment.p_type(endian) {
            elf::PT_LOAD => facts.writable_code |= has(elf::PF_W | elf::PF_X),
            elf::PT_GNU_STACK => facts.executable_stack |= has(elf::PF_X),
            elf::PT_GNU_RELRO => facts.relro = true,
            elf::PT_DYNAMIC => {
                let entries = segment.dynamic(endian, bytes).map_err(wrong)?;
                read_dynamic(&mut facts, entries.unwrap_or_default(), endian);
            }
            _ => {}
        }
    }
    let file = object::File::parse(bytes).map_err(wrong)?;
    let names = names(header, endian, bytes).map_err(wrong)?;
    facts.needed = names.needed;
    facts.run_paths = names.run_paths;
    let exported = file.dynamic_symbols().filter(|symbol| symbol.is_definition());
    let exported = exported.filter_map(|symbol| symbol.name().ok()?.strip_prefix(abi::EXPORT_PREFIX));
    facts.exports =
        exported.filter(|name| abi::is_export_name(name)).map(str::to_owned).take(NAMES_MAX).collect();
    Ok(facts)
}

/// What the dynamic table says in numbers.
fn read_dynamic(facts: &mut LibraryFacts, entries: &[elf::Dyn64<Endianness>], endian: Endianness) {
    /// Bytes of an address in the arrays of constructors.
    const ADDRESS: u64 = 8;
    for entry in entries {
        let value = entry.d_val(endian);
        match entry.d_tag(endian) {
            elf::DT_TEXTREL => facts.text_relocations = true,
            elf::DT_BIND_NOW => facts.bind_now = true,
            elf::DT_FLAGS => {
                facts.text_relocations |= value & u64::from(elf::DF_TEXTREL) != 0;
                facts.bind_now |= value & u64::from(elf::DF_BIND_NOW) != 0;
            }
            elf::DT_FLAGS_1 => facts.bind_now |= value & u64::from(elf::DF_1_NOW) != 0,
            elf::DT_INIT => facts.constructors = facts.constructors.saturating_add(1),
            elf::DT_INIT_ARRAYSZ | elf::DT_PREINIT_ARRAYSZ => {
                facts.constructors = facts.constructors.saturating_add(value / ADDRESS)
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Names {
    needed: Vec<String>,
    run_paths: Vec<String>,
}

/// What the dynamic table says in names. They are found through sections: one that has none tells none.
fn names(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    bytes: &[u8],
) -> Result<Names, object::Error> {
    let mut names = Names::default();
    let sections = header.sections(endian, bytes)?;
    let Some((entries, link)) = sections.dynamic(endian, bytes)? else { return Ok(names) };
    let strings = sections.strings(endian, bytes, link)?;
    for entry in entries {
        let list = match entry.d_tag(endian) {
            elf::DT_NEEDED => &mut names.needed,
            elf::DT_RPATH | elf::DT_RUNPATH => &mut names.run_paths,
            _ => continue,
        };
        if list.len() < PATHS_MAX {
            let name = entry.string(endian, strings).unwrap_or_default();
            list.push(printable(&String::from_utf8_lossy(name)));
        }
    }
    Ok(names)
}
