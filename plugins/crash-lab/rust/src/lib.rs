//! A plugin that panics in every way that Rust has, and serves connections by the standard library. The comment above each function says
//! what the host reports.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpListener;

/// A reply: the input.
fn ok(input: &[u8]) -> Result<Vec<u8>, String> {
    Ok(input.to_vec())
}

/// Plugin error: "panicked: ..." with the input. The plugin goes on serving.
fn panic(input: &[u8]) -> Result<(), String> {
    panic!("{}", String::from_utf8_lossy(input))
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("a second panic, while the first one unwinds");
    }
}

/// Crashed: SIGABRT. A panic while another one unwinds cannot be caught.
fn double_panic(_: &[u8]) -> Result<(), String> {
    let _guard = PanicsOnDrop;
    panic!("the first panic")
}

/// Plugin error. The destructor of the panic's payload panics as well, unless nobody runs it.
fn panic_payload(_: &[u8]) -> Result<(), String> {
    std::panic::panic_any(PanicsOnDrop)
}

/// Crashed: SIGABRT. There is no memory for what is asked, which Rust does not survive.
fn out_of_memory(_: &[u8]) -> Result<Vec<u8>, String> {
    Ok(vec![1; isize::MAX as usize])
}

/// Plugin error "panicked: already borrowed ...".
fn borrow_twice(_: &[u8]) -> Result<(), String> {
    thread_local!(static CELL: RefCell<u32> = const { RefCell::new(0) });
    CELL.with(|cell| {
        let _first = cell.borrow_mut();
        let _second = cell.borrow_mut();
    });
    Ok(())
}

/// Plugin error: no thread was granted. With threads granted, the plugin error tells of the thread's panic.
fn panic_in_thread(_: &[u8]) -> Result<(), String> {
    let thread =
        std::thread::Builder::new().spawn(|| panic!("in a thread")).map_err(|error| error.to_string())?;
    thread.join().map_err(|_| "the thread panicked".to_owned())
}

/// What one client says until it says no more; it is told "pong". The input is the address, after `std ` or `sdk `.
fn serve(input: &[u8]) -> Result<String, String> {
    let input = std::str::from_utf8(input).map_err(|error| error.to_string())?;
    let listener = match input.split_once(' ') {
        Some(("std", address)) => TcpListener::bind(address).map_err(|error| error.to_string())?,
        Some(("sdk", address)) => hotcell_plugin::listen(address).map_err(|error| error.to_string())?,
        _ => return Err("std or sdk, and an address".to_owned()),
    };
    let talk = || {
        let (mut client, _) = listener.accept()?;
        let mut said = String::new();
        client.read_to_string(&mut said)?;
        client.write_all(b"pong")?;
        Ok(said)
    };
    talk().map_err(|error: std::io::Error| error.to_string())
}

/// What the package's program makes of the input, twice: run to its end, and started and talked to.
fn upper(input: &[u8]) -> Result<Vec<u8>, String> {
    let program = hotcell_plugin::Program::new("${plugin}/tool").argument("upper");
    let ran = program.run(input).map_err(|error| error.to_string())?;
    let mut running = program.start().map_err(|error| error.to_string())?;
    let mut to_it = running.input.take().ok_or("it has no input")?;
    to_it.write_all(input).map_err(|error| error.to_string())?;
    drop(to_it);
    let mut said = ran.bytes;
    running.output.read_to_end(&mut said).map_err(|error| error.to_string())?;
    match (ran.end, running.wait()) {
        (hotcell_plugin::End::Exit(0), Ok(hotcell_plugin::End::Exit(0))) => Ok(said),
        other => Err(format!("{other:?}")),
    }
}

/// Crashed: SIGABRT. The panic reaches the end of a function that must not unwind, and nobody catches it there.
#[unsafe(no_mangle)]
extern "C" fn hotcell_export_panic_uncaught(_: *const u8, _: usize) -> i32 {
    panic!("uncaught")
}

/// Crashed: SIGABRT. The panic unwinds into the worker, whose own code must not be unwound by a plugin.
#[unsafe(no_mangle)]
extern "C-unwind" fn hotcell_export_panic_into_worker(_: *const u8, _: usize) -> i32 {
    panic!("into the worker")
}

hotcell_plugin::export! {
    ok => ok,
    panic => panic,
    double_panic => double_panic,
    panic_payload => panic_payload,
    out_of_memory => out_of_memory,
    borrow_twice => borrow_twice,
    panic_in_thread => panic_in_thread,
    serve => serve,
    upper => upper,
}
