//! What a worker notes when a signal ends it, for the report that its host makes.
//!
//! The handler of a native worker stands before the plugin is loaded, on a stack of its own, and calls nothing but three system
//! calls of the Run stage (signal-safety(7)). It writes registers and a piece of stack into the channel's memory, behind the rings,
//! and lets the signal end the process as it would have without it. The plugin shares this memory: it can forge the notes, and it
//! can keep the handler from writing any. Nothing depends on them but a report.
//!
//! In a wasm worker the runtime has the signals of faults for its traps. What is noted is where it was when the host, at a deadline,
//! sends SIGABRT; the handler is the launcher's, so that a start costs nothing, and makes no system call but exit_group(2).

#![allow(unsafe_code, reason = "a signal handler, and a walk over the loaded libraries")]

use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use hotcell_protocol::codec;
use hotcell_protocol::crash::{Module, PLUGIN, PROGRAM, REGISTERS, layout};
use hotcell_protocol::ring::NotesArea;
use rustix::io::Errno;

/// The signals of a crash. SIGSYS is not among them: the sandbox's kills cannot be caught.
const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// Bytes of the handler's own stack.
const STACK: usize = 64 << 10;

/// Pages that an overflown stack is searched upwards for its first one.
const GUARD_PAGES: usize = 16;

const PAGE: usize = 4096;

/// Most modules that are listed, and the longest name of one.
const MODULES: usize = 48;
const NAME_MAX: usize = 200;

/// The notes in the channel's memory.
static NOTES: AtomicPtr<u64> = AtomicPtr::new(std::ptr::null_mut());

/// A handler runs, or has run.
static NOTED: AtomicBool = AtomicBool::new(false);

/// Where a wasm plugin's code is mapped, and its bytes.
static CODE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// The modules of the launcher, as every copy of it has them, encoded.
static LAUNCHER: OnceLock<Vec<u8>> = OnceLock::new();

/// In the launcher, before its first fork: has SIGABRT, when it is sent, note where a wasm worker is. On the alternate stack that the
/// runtime has made for its own handlers.
///
/// # Errors
/// The errno of sigaction(2).
pub fn prepare_wasm() -> Result<(), Errno> {
    let mut modules = mapped();
    LAUNCHER.get_or_init(|| encoded(&mut modules));
    handle(libc::SIGABRT, on_deadline)
}

/// In a wasm worker: where it notes its end.
pub fn note_in(notes: &NotesArea) {
    NOTES.store(keep(notes), Ordering::Release);
}

/// The same: where its code is mapped.
pub fn note_code(code: &[u8]) {
    let [base, size] = &CODE;
    base.store(code.as_ptr().addr() as u64, Ordering::Relaxed);
    size.store(code.len() as u64, Ordering::Relaxed);
}

/// The address of the notes, which stay mapped from now on.
fn keep(notes: &NotesArea) -> *mut u64 {
    let address = notes.address();
    std::mem::forget(notes.clone());
    address
}

/// Installs the handler of a native worker. Before confinement, and before any other thread.
pub(crate) fn install(notes: &NotesArea) -> Result<(), Errno> {
    NOTES.store(keep(notes), Ordering::Release);
    let stack = libc::stack_t { ss_sp: new_stack()?, ss_flags: 0, ss_size: STACK };
    // SAFETY: the stack was mapped above and is never unmapped.
    check(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) })?;
    SIGNALS.into_iter().try_for_each(|signal| handle(signal, on_signal))
}

/// A handler, as SA_SIGINFO asks for it.
type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Installs a handler that is async-signal-safe.
fn handle(signal: c_int, handler: Handler) -> Result<(), Errno> {
    // SAFETY: all zeroes is a valid sigaction: no signal is blocked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // Reset: the second time, even inside of the handler, the signal ends the process.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND | libc::SA_NODEFER;
    // SAFETY: the handler has the type that SA_SIGINFO asks for, and is async-signal-safe.
    check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })
}

fn new_stack() -> Result<*mut c_void, Errno> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), STACK, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { Err(crate::sys::last_errno()) } else { Ok(mapped) }
}

fn check(result: c_int) -> Result<(), Errno> {
    if result == -1 { Err(crate::sys::last_errno()) } else { Ok(()) }
}

/// Notes which libraries are mapped; `plugin` is the path under which the plugin was loaded. Without [`install`], nothing.
pub(crate) fn note_modules(plugin: &str) {
    let notes = NOTES.load(Ordering::Acquire);
    if notes.is_null() {
        return;
    }
    let mut modules = mapped();
    for module in &mut modules {
        if module.name == plugin {
            PLUGIN.clone_into(&mut module.name);
        }
    }
    put_modules(notes, &encoded(&mut modules));
}

/// What is mapped: the program and its libraries.
fn mapped() -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    // SAFETY: the callback gets the pointer to the list back, only during this call.
    unsafe { libc::dl_iterate_phdr(Some(add_module), (&raw mut modules).cast()) };
    modules
}

/// As many modules as there is room for.
fn encoded(modules: &mut Vec<Module>) -> Vec<u8> {
    loop {
        match codec::encode(&*modules) {
            Ok(encoded) if encoded.len() <= layout::MODULES_MAX => return encoded,
            _ if modules.pop().is_some() => {}
            _ => return Vec::new(),
        }
    }
}

/// Writes an encoded list, which has room.
fn put_modules(notes: *mut u64, encoded: &[u8]) {
    let at = notes.cast::<u8>().wrapping_add(layout::MODULES_AT);
    // SAFETY: the mapping is `layout::SIZE` bytes long, and every list was cut to its part of it.
    unsafe { std::ptr::copy_nonoverlapping(encoded.as_ptr(), at, encoded.len()) };
    put(notes, layout::MODULES_LEN, encoded.len() as u64);
}

/// Adds one module to the list behind `list` (dl_iterate_phdr(3)).
unsafe extern "C" fn add_module(info: *mut libc::dl_phdr_info, _: usize, list: *mut c_void) -> c_int {
    // SAFETY: the dynamic loader's record, valid during the callback.
    let info = unsafe { &*info };
    // SAFETY: `note_modules` passed its list, which nothing else uses now.
    let modules = unsafe { &mut *list.cast::<Vec<Module>>() };
    let name = match info.dlpi_name.is_null() {
        true => String::new(),
        // SAFETY: a C string of the dynamic loader.
        false => unsafe { CStr::from_ptr(info.dlpi_name) }.to_string_lossy().into_owned(),
    };
    let mut module = Module { name, base: info.dlpi_addr, size: 0, build_id: Vec::new() };
    if module.name.is_empty() {
        PROGRAM.clone_into(&mut module.name);
    }
    module.name.truncate(module.name.floor_char_boundary(NAME_MAX));
    if !info.dlpi_phdr.is_null() {
        // SAFETY: the loader's table of so many headers.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        for header in headers {
            match header.p_type {
                libc::PT_LOAD => module.size = module.size.max(header.p_vaddr + header.p_memsz),
                libc::PT_NOTE if module.build_id.is_empty() => {
                    let at = (info.dlpi_addr + header.p_vaddr) as *const u8;
                    let len = usize::try_from(header.p_memsz).unwrap_or_default();
                    // SAFETY: a segment of notes is mapped as its header says, as part of a loaded one.
                    let notes = unsafe { std::slice::from_raw_parts(at, len) };
                    module.build_id = build_id(notes, header.p_align).unwrap_or_default();
                }
                _ => {}
            }
        }
    }
    modules.push(module);
    c_int::from(modules.len() >= MODULES)
}

/// The GNU build id among the notes of one segment (elf(5)).
fn build_id(mut notes: &[u8], align: u64) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: usize = 3;
    const LONGEST: usize = 64;
    let align = usize::try_from(align).ok().filter(|align| *align == 8).unwrap_or(4);
    loop {
        let number = |at: usize| Some(u32::from_ne_bytes(*notes.get(at..)?.first_chunk()?) as usize);
        let (name_len, len, kind) = (number(0)?, number(4)?, number(8)?);
        let at = 12_usize.checked_add(name_len)?.checked_next_multiple_of(align)?;
        let content = notes.get(at..at.checked_add(len)?)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..12 + name_len)? == b"GNU\0" && len <= LONGEST {
            return Some(content.to_vec());
        }
        notes = notes.get(at.checked_add(len)?.checked_next_multiple_of(align)?..)?;
    }
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let notes = NOTES.load(Ordering::Acquire);
    // SAFETY: the kernel's record of the signal.
    let info = unsafe { &*info };
    if !notes.is_null() && !NOTED.swap(true, Ordering::AcqRel) {
        // Of a signal that was sent, the kernel says who sent it there.
        if info.si_code > 0 {
            // SAFETY: of no meaning for some signals, but always there.
            put(notes, layout::ADDRESS, unsafe { info.si_addr() } as u64);
        }
        put(notes, layout::THREAD, thread().cast_unsigned());
        let pointer = note_place(notes, signal, info, context);
        note_stack(notes, pointer, is_readable);
        put(notes, layout::PROGRESS, layout::WHOLE);
    }
    // The kernel's own signals come again when the instruction is repeated; one that was sent has to be sent again.
    if info.si_code <= 0 {
        // SAFETY: getpid takes nothing.
        let process = unsafe { libc::getpid() };
        // SAFETY: sends this thread the signal whose disposition is the default now.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread(), signal) };
    }
}

/// In a wasm worker that the host ends at a deadline. An abort of its own ends it as it would have without this: what is to be
/// known of it, the worker has said.
extern "C" fn on_deadline(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let notes = NOTES.load(Ordering::Acquire);
    // SAFETY: the kernel's record of the signal.
    let info = unsafe { &*info };
    if info.si_code == libc::SI_TKILL || notes.is_null() {
        // abort(3) sends it again, and the launcher's host ends it otherwise.
        return;
    }
    let [base, size] = &CODE;
    put(notes, layout::CODE_BASE, base.load(Ordering::Relaxed));
    put(notes, layout::CODE_SIZE, size.load(Ordering::Relaxed));
    put_modules(notes, LAUNCHER.get().map(Vec::as_slice).unwrap_or_default());
    let pointer = note_place(notes, signal, info, context);
    // Where the stack ends, this ends the process.
    note_stack(notes, pointer, |_| true);
    put(notes, layout::PROGRESS, layout::WHOLE);
    crate::sys::exit_now(1);
}

/// Writes what is known of a signal, and the registers; returns the stack pointer.
fn note_place(notes: *mut u64, signal: c_int, info: &libc::siginfo_t, context: *mut c_void) -> usize {
    // SAFETY: the kernel's saved context, which SA_SIGINFO asks for.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    put(notes, layout::SIGNAL, i64::from(signal).cast_unsigned());
    put(notes, layout::CODE, i64::from(info.si_code).cast_unsigned());
    let pointer = note_registers(notes, machine);
    put(notes, layout::PROGRESS, layout::REGISTERS_WRITTEN);
    pointer
}

/// The id of this thread (gettid(2)).
fn thread() -> libc::c_long {
    // SAFETY: it takes nothing.
    unsafe { libc::syscall(libc::SYS_gettid) }
}

/// Writes the registers in the order of [`REGISTERS`]; returns the stack pointer.
#[cfg(target_arch = "x86_64")]
fn note_registers(notes: *mut u64, machine: &libc::mcontext_t) -> usize {
    for (index, value) in machine.gregs.iter().take(REGISTERS.len()).enumerate() {
        put(notes, layout::REGISTERS_AT + index, value.cast_unsigned());
    }
    let [.., pointer, _, _] = machine.gregs.first_chunk::<18>().unwrap_or(&[0; 18]);
    usize::try_from(pointer.cast_unsigned()).unwrap_or_default()
}

/// Writes the registers in the order of [`REGISTERS`]; returns the stack pointer.
#[cfg(target_arch = "aarch64")]
fn note_registers(notes: *mut u64, machine: &libc::mcontext_t) -> usize {
    let rest = [machine.sp, machine.pc, machine.pstate];
    for (index, value) in machine.regs.iter().chain(&rest).take(REGISTERS.len()).enumerate() {
        put(notes, layout::REGISTERS_AT + index, *value);
    }
    usize::try_from(machine.sp).unwrap_or_default()
}

/// Copies the stack from its pointer up, page by page, as far as there is memory.
fn note_stack(notes: *mut u64, pointer: usize, is_readable: fn(usize) -> bool) {
    let mut from = pointer & !(size_of::<u64>() - 1);
    for _ in 0..GUARD_PAGES {
        if is_readable(from) {
            break;
        }
        from = (from | (PAGE - 1)).wrapping_add(1);
    }
    put(notes, layout::STACK_ADDRESS, from as u64);
    let mut copied = 0;
    while copied < layout::STACK_MAX && is_readable(from) {
        let len = (PAGE - from % PAGE).min(layout::STACK_MAX - copied);
        let to = notes.cast::<u8>().wrapping_add(layout::STACK_AT + copied);
        // SAFETY: the page can be read, and the target is inside of the mapping.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to, len) };
        copied += len;
        put(notes, layout::STACK_LEN, copied as u64);
        from = from.wrapping_add(len);
    }
}

/// Whether there is memory at an address: rt_sigprocmask(2) reads a set before it looks at what to do with it, and there is
/// nothing to do that is called -1.
fn is_readable(address: usize) -> bool {
    const NOTHING: c_int = -1;
    // SAFETY: the kernel checks the address, and changes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            NOTHING,
            address,
            std::ptr::null_mut::<c_void>(),
            size_of::<u64>(),
        )
    };
    result == -1 && crate::sys::last_errno() == Errno::INVAL
}

/// Writes one word.
fn put(notes: *mut u64, index: usize, value: u64) {
    // SAFETY: the mapping is never unmapped, and every index of the layout is within it.
    unsafe { notes.wrapping_add(index).write_volatile(value) };
}

#[cfg(test)]
mod tests {
    use super::{build_id, is_readable};

    #[test]
    fn a_build_id_is_found_among_other_notes() {
        let note = |kind: u32, name: &[u8], content: &[u8]| {
            let mut note = Vec::new();
            let len = |part: &[u8]| u32::try_from(part.len()).expect("is short");
            for number in [len(name), len(content), kind] {
                note.extend(number.to_ne_bytes());
            }
            for part in [name, content] {
                note.extend(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
            note
        };
        let mut notes = note(1, b"GNU\0", &[9; 16]);
        notes.extend(note(3, b"GNU\0", &[1, 2, 3, 4, 5]));
        assert_eq!(build_id(&notes, 4), Some(vec![1, 2, 3, 4, 5]));
        assert_eq!(build_id(&note(3, b"GNX\0", &[1]), 4), None);
        for len in 0..notes.len() - 5 {
            assert_eq!(build_id(notes.get(..len).expect("is longer"), 4), None, "cut to {len}");
        }
    }

    #[test]
    fn memory_is_told_from_no_memory() {
        let here = 0;
        assert!(is_readable((&raw const here).addr()));
        assert!(!is_readable(8));
        assert!(!is_readable(usize::MAX - 7));
    }
}
