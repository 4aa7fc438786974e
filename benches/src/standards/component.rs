//! A large component, byte by byte: no parser or encoder of modules is linked into the command.
//!
//! <https://webassembly.github.io/spec/core/binary/> and the component model's `Binary.md` are what the numbers are from.

/// What it is, in words.
pub(super) const ABOUT: &str = "30,000 functions of 416 bytes, 12.5 MB of code, beside 5.6 MB of data";

/// As many functions and bytes of data as make 18 MB, in the proportion of a compiled interpreter.
pub(super) const FUNCTIONS: u32 = 30_000;
pub(super) const DATA: u32 = 5_600_000;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Sections of a module.
const TYPES: u8 = 1;
const FUNCTION_TYPES: u8 = 3;
const MEMORIES: u8 = 5;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;
const DATA_SEGMENTS: u8 = 11;

/// Sections of a component.
const CORE_MODULE: u8 = 1;
const CORE_INSTANCES: u8 = 2;
const ALIASES: u8 = 6;
const COMPONENT_TYPES: u8 = 7;
const CANONICAL: u8 = 8;
const COMPONENT_EXPORTS: u8 = 11;

/// The one export, of the module and of the component.
const RUN: &[u8] = b"run";

/// A component with an export `run`, with as many functions and bytes of data as are wanted.
pub(super) fn of_functions(functions: u32, data: u32) -> Vec<u8> {
    let mut bytes = COMPONENT.to_vec();
    section(&mut bytes, CORE_MODULE, &module(functions, data));
    // One instance of module 0, without arguments.
    section(&mut bytes, CORE_INSTANCES, &[1, 0x00, 0, 0]);
    // Core function 0: the export of core instance 0.
    section(&mut bytes, ALIASES, &[&[1, 0x00, 0x00, 0x01, 0], name(RUN).as_slice()].concat());
    // Type 0: a function without parameters and without a result.
    section(&mut bytes, COMPONENT_TYPES, &[1, 0x40, 0, 0x01, 0x00]);
    // Function 0: core function 0, lifted without options to type 0.
    section(&mut bytes, CANONICAL, &[1, 0x00, 0x00, 0, 0, 0]);
    // Function 0 under its name, without a type of its own.
    let export = [&[1, 0x00], name(RUN).as_slice(), &[0x01, 0, 0x00]].concat();
    section(&mut bytes, COMPONENT_EXPORTS, &export);
    bytes
}

/// Types: 0 is `() -> ()`, 1 is `(i32) -> i32`. Function 0 is the export and calls the last one.
fn module(functions: u32, data: u32) -> Vec<u8> {
    let mut bytes = MODULE.to_vec();
    section(&mut bytes, TYPES, &[2, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f]);
    let mut types = number(functions + 1);
    types.push(0);
    types.resize(types.len() + functions as usize, 1);
    section(&mut bytes, FUNCTION_TYPES, &types);
    let pages = data.div_ceil(1 << 16) + 1;
    section(&mut bytes, MEMORIES, &[&[1, 0x00], number(pages).as_slice()].concat());
    section(&mut bytes, EXPORTS, &[&[1], name(RUN).as_slice(), &[0x00, 0]].concat());
    section(&mut bytes, CODE, &code(functions));
    // One active segment for memory 0 at 0.
    let mut segment = [&[1, 0x00, 0x41, 0, 0x0b], number(data).as_slice()].concat();
    segment.extend((0..data).map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]));
    section(&mut bytes, DATA_SEGMENTS, &segment);
    bytes
}

fn code(functions: u32) -> Vec<u8> {
    let mut bytes = number(functions + 1);
    // i32.const 7, call the last function, drop.
    let run = [&[0, 0x41, 7, 0x10], number(functions).as_slice(), &[0x1a, 0x0b]].concat();
    bytes.extend(number(length(&run)));
    bytes.extend(run);
    for index in 1..=functions {
        let body = body(index);
        bytes.extend(number(length(&body)));
        bytes.extend(body);
    }
    bytes
}

/// Lines of one function.
const LINES: u32 = 16;

/// A function that reads and writes memory, branches, and calls the one before it: each differs in its constants.
fn body(index: u32) -> Vec<u8> {
    // One local, i32.
    let mut bytes = vec![1, 1, 0x7f];
    for line in 0..LINES {
        // local 1 = (local 1 + local 0 * constant) ^ memory[local 0 & 0xfffc]
        bytes.extend([0x20, 1, 0x20, 0, 0x41]);
        bytes.extend(signed(index.wrapping_mul(31).wrapping_add(line) & 0x3f_ffff));
        bytes.extend([0x6c, 0x6a, 0x20, 0, 0x41, 0xfc, 0xff, 0x03, 0x71]);
        bytes.extend([0x28, 2, 0x00]);
        bytes.extend([0x73, 0x21, 1]);
    }
    // if local 1 < 0: memory[local 0 & 0xfffc] = local 1
    bytes.extend([0x20, 1, 0x41, 0, 0x48, 0x04, 0x40]);
    bytes.extend([0x20, 0, 0x41, 0xfc, 0xff, 0x03, 0x71, 0x20, 1, 0x36, 2, 0x00, 0x0b]);
    if index > 1 {
        // if local 1 is odd: local 1 = the function before (local 1)
        bytes.extend([0x20, 1, 0x41, 1, 0x71, 0x04, 0x40, 0x20, 1, 0x10]);
        bytes.extend(number(index - 1));
        bytes.extend([0x21, 1, 0x0b]);
    }
    bytes.extend([0x20, 1, 0x0b]);
    bytes
}

fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.push(id);
    bytes.extend(number(length(content)));
    bytes.extend(content);
}

fn name(text: &[u8]) -> Vec<u8> {
    [number(length(text)).as_slice(), text].concat()
}

/// Everything here is far below 4 GiB.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// LEB128, unsigned.
fn number(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

/// LEB128, signed, of what is not negative: the sixth bit of the last byte is its sign.
fn signed(value: u32) -> Vec<u8> {
    let mut bytes = number(value);
    if let Some(last) = bytes.last_mut().filter(|last| **last & 0x40 != 0) {
        *last |= 0x80;
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_valid_component() {
        for (functions, data) in [(1, 0), (300, 70_000)] {
            let bytes = of_functions(functions, data);
            wasmparser::Validator::new().validate_all(&bytes).expect("is valid");
        }
    }

    #[test]
    fn it_has_18_megabytes() {
        let megabytes = of_functions(FUNCTIONS, DATA).len() as f64 / 1e6;
        assert!((17.9..18.6).contains(&megabytes), "{megabytes}");
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        assert_eq!(number(0), [0]);
        assert_eq!(number(127), [0x7f]);
        assert_eq!(number(128), [0x80, 1]);
        assert_eq!(number(624_485), [0xe5, 0x8e, 0x26]);
        assert_eq!(signed(63), [0x3f]);
        assert_eq!(signed(64), [0xc0, 0]);
    }
}
