#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use hotcell_protocol::codec;
use hotcell_protocol::crash::{AnalyzeRequest, Module, PLUGIN, REGISTERS, layout};
use minidump::{
    Minidump, MinidumpException, MinidumpMemoryList, MinidumpModuleList, MinidumpThreadList, Module as _,
};

use super::analyze;

/// Notes of a crash in a module at `base`, with the instruction at `pc`.
fn notes(base: u64, pc: u64, build_id: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; layout::SIZE];
    let mut put = |index: usize, value: u64| bytes[index * 8..][..8].copy_from_slice(&value.to_ne_bytes());
    put(layout::PROGRESS, layout::WHOLE);
    put(layout::SIGNAL, 11);
    put(layout::CODE, 1);
    put(layout::ADDRESS, 0xdead);
    put(layout::THREAD, 77);
    for (index, name) in REGISTERS.iter().enumerate() {
        let value = if matches!(*name, "rip" | "pc") { pc } else { 0x1000 + index as u64 };
        put(layout::REGISTERS_AT + index, value);
    }
    put(layout::STACK_ADDRESS, 0x1000);
    put(layout::STACK_LEN, 4096);
    let module = Module { name: PLUGIN.to_owned(), base, size: 1 << 30, build_id: build_id.to_vec() };
    let modules = codec::encode(&vec![module]).expect("encodes");
    put(layout::MODULES_LEN, modules.len() as u64);
    bytes[layout::MODULES_AT..][..modules.len()].copy_from_slice(&modules);
    bytes
}

fn own_file() -> Vec<u8> {
    std::fs::read(std::env::current_exe().expect("has a path")).expect("is readable")
}

fn build_id(file: &[u8]) -> Vec<u8> {
    use object::Object;
    let file = object::File::parse(file).expect("is an object file");
    file.build_id().expect("is readable").unwrap_or_default().to_vec()
}

/// Where this function is in the file of this test: found by its symbol.
fn offset_of(file: &[u8], part: &str) -> u64 {
    use object::{Object, ObjectSymbol};
    let file = object::File::parse(file).expect("is an object file");
    let symbol = file.symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains(part)));
    symbol.expect("the function has a symbol").address()
}

#[inline(never)]
fn hotcell_test_of_a_known_name() {
    std::hint::black_box(1);
}

#[test]
fn an_address_gets_the_name_of_its_function() {
    hotcell_test_of_a_known_name();
    let file = own_file();
    let base = 0x5500_0000_0000;
    let pc = base + offset_of(&file, "hotcell_test_of_a_known_name");
    let request = |notes| AnalyzeRequest { notes, files: vec![(PLUGIN.to_owned(), file.len() as u64)] };
    let found = analyze(&file, &request(notes(base, pc, &build_id(&file)))).expect("is analyzed");
    let known = found.frames.iter().any(|frame| frame.function.contains("hotcell_test_of_a_known_name"));
    assert!(known, "{:?}", found.frames);
    assert_eq!((found.frames[0].module.as_str(), found.frames[0].offset), (PLUGIN, pc - base));
    let other = analyze(&file, &request(notes(base, pc, b"another file"))).expect("is analyzed");
    assert_eq!(other.frames[0].function, "", "a file with another build id names nothing");
}

#[test]
fn the_minidump_opens_and_says_the_same() {
    let request = AnalyzeRequest { notes: notes(0x7000, 0x7123, &[0xab; 20]), files: Vec::new() };
    let dump = Minidump::read(analyze(&[], &request).expect("is analyzed").minidump).expect("is a minidump");
    let exception = dump.get_stream::<MinidumpException<'_>>().expect("has an exception");
    assert_eq!((exception.raw.exception_record.exception_code, exception.thread_id), (11, 77));
    assert_eq!(exception.raw.exception_record.exception_address, 0xdead);
    let threads = dump.get_stream::<MinidumpThreadList<'_>>().expect("has threads");
    assert_eq!((threads.threads.len(), threads.threads[0].raw.thread_id), (1, 77));
    let memory = dump.get_stream::<MinidumpMemoryList<'_>>().expect("has memory");
    assert_eq!(memory.memory_at_address(0x1800).expect("has the stack").bytes.len(), 4096);
    let modules = dump.get_stream::<MinidumpModuleList>().expect("has modules");
    let module = modules.module_at_address(0x7123).expect("is in the plugin");
    assert_eq!(module.code_file(), PLUGIN);
    assert_eq!(module.code_identifier().map(|id| id.to_string()), Some("ab".repeat(20)));
}

#[test]
fn garbage_is_answered_and_never_ends_this_process() {
    let file = own_file();
    let mut random = 0x9e37_79b9_u32;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        usize::try_from(random).expect("fits") % below
    };
    let sound = notes(0x5500_0000_0000, 0x5500_0000_1234, &build_id(&file));
    let short = &file[..file.len().min(200_000)];
    for round in 0..300 {
        let mut bytes = sound.clone();
        let mut hostile = short.to_vec();
        for _ in 0..1 + round % 40 {
            // Most of it where the notes have their numbers and modules, and the file its headers.
            let (reach, head) = if next(4) == 0 { (bytes.len(), hostile.len()) } else { (700, 4096) };
            bytes[next(reach)] = u8::try_from(next(256)).expect("fits");
            hostile[next(head)] = u8::try_from(next(256)).expect("fits");
        }
        let files = vec![(PLUGIN.to_owned(), hostile.len() as u64)];
        let _ = analyze(&hostile, &AnalyzeRequest { notes: bytes, files });
    }
    let files = vec![(PLUGIN.to_owned(), u64::MAX)];
    assert!(analyze(&file, &AnalyzeRequest { notes: sound, files }).is_err(), "files that are not there");
}
