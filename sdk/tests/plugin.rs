//! A plugin and its worker in one process: the symbols that `export!` makes, called through the raw ABI.
#![expect(clippy::panic, reason = "a plugin that panics is what is tested")]
#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use hotcell_plugin::abi::{ABI_VERSION, HOST_TABLE_SIZE, HostCallStatus, HostTable};
use hotcell_plugin::{HostCallError, host_call, log};
use std::cell::RefCell;
use std::slice;

thread_local! {
    static REPLY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static ANSWER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

mod plugin {
    use super::*;

    fn echo(input: &[u8]) -> Result<Vec<u8>, String> {
        Ok(input.to_vec())
    }

    fn fail(_: &[u8]) -> Result<(), &'static str> {
        Err("as asked")
    }

    fn panic_with_text(input: &[u8]) -> Result<(), String> {
        panic!("got {} bytes", input.len())
    }

    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    fn panic_with_payload(_: &[u8]) -> Result<(), String> {
        std::panic::panic_any(PanicsOnDrop)
    }

    fn ask(input: &[u8]) -> Result<Vec<u8>, HostCallError> {
        host_call(&String::from_utf8_lossy(input), b"in")
    }

    fn speak(_: &[u8]) -> Result<(), HostCallError> {
        log(hotcell_plugin::Level::Warn, "hello \"host\"")
    }

    fn save() -> Result<Vec<u8>, String> {
        Ok(vec![7])
    }

    fn load(version: u32, state: &[u8]) -> Result<(), String> {
        if (version, state) == (3, &[7]) { Ok(()) } else { Err(format!("version {version}")) }
    }

    fn health() -> Result<(), &'static str> {
        Err("not well")
    }

    fn configure(json: &[u8]) -> Result<(), String> {
        if json == b"{}" { Ok(()) } else { Err("unexpected".into()) }
    }

    hotcell_plugin::export! {
        echo => echo,
        fail => fail,
        panic_with_text => panic_with_text,
        panic_with_payload => panic_with_payload,
        ask => ask,
        speak => speak;
        state_save: save,
        state_load: load,
        health: health,
        configure: configure,
    }
}

unsafe extern "C" {
    fn hotcell_plugin_v1(host: *const HostTable) -> u32;
    fn hotcell_export_echo(input: *const u8, length: usize) -> i32;
    fn hotcell_export_fail(input: *const u8, length: usize) -> i32;
    fn hotcell_export_panic_with_text(input: *const u8, length: usize) -> i32;
    fn hotcell_export_panic_with_payload(input: *const u8, length: usize) -> i32;
    fn hotcell_export_ask(input: *const u8, length: usize) -> i32;
    fn hotcell_export_speak(input: *const u8, length: usize) -> i32;
    fn hotcell_state_save() -> i32;
    fn hotcell_state_load(version: u32, state: *const u8, length: usize) -> i32;
    fn hotcell_health() -> i32;
    fn hotcell_configure(json: *const u8, length: usize) -> i32;
}

/// # Safety
/// `data` has `length` readable bytes.
unsafe fn copy(data: *const u8, length: usize) -> Vec<u8> {
    // SAFETY: as promised by the caller.
    unsafe { slice::from_raw_parts(data, length) }.to_vec()
}

unsafe extern "C" fn reply(data: *const u8, length: usize) {
    // SAFETY: the SDK passes a live slice.
    let bytes = unsafe { copy(data, length) };
    REPLY.set(bytes);
}

unsafe extern "C" fn answer(name: *const u8, name_length: usize, data: *const u8, length: usize) -> i64 {
    // SAFETY: the SDK passes a live slice.
    let name = unsafe { copy(name, name_length) };
    // SAFETY: the SDK passes a live slice.
    let input = unsafe { copy(data, length) };
    let (text, fails) = match name.as_slice() {
        b"double" => ([input.clone(), input].concat(), false),
        b"log" => (input, false),
        b"broken" => (b"out of ink".to_vec(), true),
        b"mute" => return HostCallStatus::Failed.encode(),
        _ => return HostCallStatus::Refused.encode(),
    };
    let length = text.len() as u64;
    ANSWER.set(text);
    if fails { HostCallStatus::FailedWithText(length) } else { HostCallStatus::Answered(length) }.encode()
}

unsafe extern "C" fn take(out: *mut u8, capacity: usize) -> usize {
    let answer = ANSWER.take();
    let count = answer.len().min(capacity);
    // SAFETY: the SDK passes a live slice of this capacity.
    unsafe { out.copy_from_nonoverlapping(answer.as_ptr(), count) };
    count
}

static TABLE: HostTable =
    HostTable { abi_version: ABI_VERSION, size: HOST_TABLE_SIZE, reply, host_call: answer, host_take: take };

type Export = unsafe extern "C" fn(*const u8, usize) -> i32;

/// Accepts the table and calls one export: its status and reply.
fn call(export: Export, input: &[u8]) -> (i32, String) {
    REPLY.take();
    // SAFETY: the table is a constant.
    assert_eq!(unsafe { hotcell_plugin_v1(&TABLE) }, 0);
    // SAFETY: the input is a live slice.
    let status = unsafe { export(input.as_ptr(), input.len()) };
    (status, String::from_utf8(REPLY.take()).unwrap())
}

fn ok(text: &str) -> (i32, String) {
    (0, text.to_owned())
}

fn error(text: &str) -> (i32, String) {
    (1, text.to_owned())
}

#[test]
fn an_export_replies_with_its_result() {
    assert_eq!(call(hotcell_export_echo, b"abc"), ok("abc"));
    assert_eq!(call(hotcell_export_echo, b""), ok(""));
}

#[test]
fn no_input_may_come_as_a_null_pointer() {
    assert_eq!(call(hotcell_export_echo, b"x"), ok("x"));
    // SAFETY: with a length of zero the pointer is not read.
    assert_eq!(unsafe { hotcell_export_echo(std::ptr::null(), 0) }, 0);
}

#[test]
fn an_error_replies_with_its_text() {
    assert_eq!(call(hotcell_export_fail, b""), error("as asked"));
}

#[test]
fn a_panic_becomes_a_plugin_error() {
    assert_eq!(call(hotcell_export_panic_with_text, b"abc"), error("panicked: got 3 bytes"));
    assert_eq!(call(hotcell_export_panic_with_payload, b""), error("panicked: (no message)"));
}

#[test]
fn host_calls_answer_fail_or_are_refused() {
    assert_eq!(call(hotcell_export_ask, b"double"), ok("inin"));
    assert_eq!(call(hotcell_export_ask, b"broken"), error("the host call failed: out of ink"));
    assert_eq!(call(hotcell_export_ask, b"mute"), error("the host call failed"));
    assert_eq!(call(hotcell_export_ask, b"secret"), error("Permission denied: the host refused the call"));
}

#[test]
fn log_is_a_host_call_with_json() {
    assert_eq!(call(hotcell_export_speak, b""), ok(""));
    assert_eq!(log(hotcell_plugin::Level::Info, "x"), Ok(()));
}

#[test]
fn hooks_are_exports_with_fixed_names() {
    // SAFETY: the table is a constant.
    assert_eq!(unsafe { hotcell_plugin_v1(&TABLE) }, 0);
    // SAFETY: the hook takes nothing.
    assert_eq!(unsafe { hotcell_state_save() }, 0);
    let state = REPLY.take();
    assert_eq!(state, [7]);
    // SAFETY: the state is a live vector.
    assert_eq!(unsafe { hotcell_state_load(3, state.as_ptr(), state.len()) }, 0);
    // SAFETY: the state is a live vector.
    assert_eq!(unsafe { hotcell_state_load(4, state.as_ptr(), state.len()) }, 1);
    assert_eq!(REPLY.take(), b"version 4");
    // SAFETY: the hook takes nothing.
    assert_eq!(unsafe { hotcell_health() }, 1);
    assert_eq!(REPLY.take(), b"not well");
    // SAFETY: the text is a constant.
    assert_eq!(unsafe { hotcell_configure(b"{}".as_ptr(), 2) }, 0);
}

#[test]
fn a_foreign_table_is_refused() {
    let other = HostTable { abi_version: 2, ..TABLE };
    let short = HostTable { size: HOST_TABLE_SIZE - 1, ..TABLE };
    // SAFETY: null means: no table.
    assert_eq!(unsafe { hotcell_plugin_v1(std::ptr::null()) }, 1);
    // SAFETY: the table is a live value, and a refused one is not kept.
    assert_eq!(unsafe { hotcell_plugin_v1(&raw const other) }, 2);
    // SAFETY: the table is a live value, and a refused one is not kept.
    assert_eq!(unsafe { hotcell_plugin_v1(&raw const short) }, 3);
}
