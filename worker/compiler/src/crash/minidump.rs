//! The notes as a minidump, the format of Breakpad and Crashpad.
//!
//! One thread with its registers and stack, the signal as its exception, and the modules with their build ids.

use minidump_common::format as md;
use minidump_common::format::MINIDUMP_STREAM_TYPE as Stream;
use scroll::ctx::{SizeWith, TryIntoCtx};
use scroll::{Endian, Pwrite};

use hotcell_protocol::crash::{Module, Notes};

/// Streams of the dump.
const STREAMS: usize = 5;

/// A file that grows; places in it are offsets from its start.
#[derive(Default)]
struct Dump(Vec<u8>);

impl Dump {
    fn bytes(&mut self, bytes: &[u8]) -> md::MINIDUMP_LOCATION_DESCRIPTOR {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let rva = len(self.0.len());
        self.0.extend_from_slice(bytes);
        md::MINIDUMP_LOCATION_DESCRIPTOR { data_size: len(bytes.len()), rva }
    }

    fn string(&mut self, text: &str) -> u32 {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut string = len(units.len()).to_le_bytes().to_vec();
        string.extend(units);
        string.extend([0; 2]);
        self.bytes(&string).rva
    }
}

/// No dump is larger than its notes and a few names.
fn len(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn encode<T>(value: T) -> Result<Vec<u8>, scroll::Error>
where
    T: TryIntoCtx<Endian, Error = scroll::Error> + SizeWith<Endian>,
{
    let mut bytes = vec![0; T::size_with(&Endian::Little)];
    bytes.pwrite_with(value, 0, Endian::Little)?;
    Ok(bytes)
}

pub(super) fn write(notes: &Notes) -> Result<Vec<u8>, scroll::Error> {
    let mut dump = Dump::default();
    let head = size::<md::MINIDUMP_HEADER>() + STREAMS * size::<md::MINIDUMP_DIRECTORY>();
    dump.0.resize(head, 0);

    let system = dump.bytes(&encode(system())?);
    let context = dump.bytes(&encode(context(notes))?);
    let stack = md::MINIDUMP_MEMORY_DESCRIPTOR {
        start_of_memory_range: notes.stack_address,
        memory: dump.bytes(&notes.stack),
    };
    let thread = md::MINIDUMP_THREAD {
        thread_id: notes.thread,
        suspend_count: 0,
        priority_class: 0,
        priority: 0,
        teb: 0,
        stack,
        thread_context: context,
    };
    let threads = dump.bytes(&list([encode(thread)?]));
    let memory = dump.bytes(&list([encode(stack)?]));
    let exception = dump.bytes(&encode(exception(notes, context))?);
    let modules = notes.modules.iter().map(|module| encode(describe(module, &mut dump)));
    let modules = modules.collect::<Result<Vec<_>, _>>()?;
    let modules = dump.bytes(&list(modules));

    let streams = [
        (Stream::SystemInfoStream, system),
        (Stream::ThreadListStream, threads),
        (Stream::MemoryListStream, memory),
        (Stream::ExceptionStream, exception),
        (Stream::ModuleListStream, modules),
    ];
    let header = md::MINIDUMP_HEADER {
        signature: md::MINIDUMP_SIGNATURE,
        version: md::MINIDUMP_VERSION,
        stream_count: len(streams.len()),
        stream_directory_rva: len(size::<md::MINIDUMP_HEADER>()),
        checksum: 0,
        time_date_stamp: 0,
        flags: 0,
    };
    let mut at = 0;
    dump.0.gwrite_with(header, &mut at, Endian::Little)?;
    for (kind, location) in streams {
        let entry = md::MINIDUMP_DIRECTORY { stream_type: kind as u32, location };
        dump.0.gwrite_with(entry, &mut at, Endian::Little)?;
    }
    Ok(dump.0)
}

fn size<T: SizeWith<Endian>>() -> usize {
    T::size_with(&Endian::Little)
}

/// A list stream: the count, then its entries.
fn list(entries: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let entries: Vec<_> = entries.into_iter().collect();
    let mut bytes = len(entries.len()).to_le_bytes().to_vec();
    bytes.extend(entries.into_iter().flatten());
    bytes
}

fn system() -> md::MINIDUMP_SYSTEM_INFO {
    let processor = match cfg!(target_arch = "x86_64") {
        true => md::ProcessorArchitecture::PROCESSOR_ARCHITECTURE_AMD64,
        false => md::ProcessorArchitecture::PROCESSOR_ARCHITECTURE_ARM64,
    };
    md::MINIDUMP_SYSTEM_INFO {
        processor_architecture: processor as u16,
        processor_level: 0,
        processor_revision: 0,
        number_of_processors: 0,
        product_type: 0,
        major_version: 0,
        minor_version: 0,
        build_number: 0,
        platform_id: md::PlatformId::Linux as u32,
        csd_version_rva: 0,
        suite_mask: 0,
        reserved2: 0,
        cpu: md::CPU_INFORMATION { data: [0; 24] },
    }
}

fn exception(
    notes: &Notes,
    thread_context: md::MINIDUMP_LOCATION_DESCRIPTOR,
) -> md::MINIDUMP_EXCEPTION_STREAM {
    md::MINIDUMP_EXCEPTION_STREAM {
        thread_id: notes.thread,
        __align: 0,
        exception_record: md::MINIDUMP_EXCEPTION {
            exception_code: notes.signal.cast_unsigned(),
            exception_flags: notes.code.cast_unsigned(),
            exception_address: notes.address,
            ..md::MINIDUMP_EXCEPTION::default()
        },
        thread_context,
    }
}

fn describe(module: &Module, dump: &mut Dump) -> md::MINIDUMP_MODULE {
    let mut record = (md::CvSignature::Elf as u32).to_le_bytes().to_vec();
    record.extend(&module.build_id);
    md::MINIDUMP_MODULE {
        base_of_image: module.base,
        size_of_image: u32::try_from(module.size).unwrap_or(u32::MAX),
        module_name_rva: dump.string(&module.name),
        cv_record: match module.build_id.is_empty() {
            true => md::MINIDUMP_LOCATION_DESCRIPTOR::default(),
            false => dump.bytes(&record),
        },
        ..md::MINIDUMP_MODULE::default()
    }
}

/// The flags are in the lower half.
fn low(register: u64) -> u32 {
    u32::try_from(register & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(target_arch = "x86_64")]
fn context(notes: &Notes) -> md::CONTEXT_AMD64 {
    let flags = md::ContextFlagsAmd64::CONTEXT_AMD64_CONTROL | md::ContextFlagsAmd64::CONTEXT_AMD64_INTEGER;
    let register = |name| notes.register(name);
    md::CONTEXT_AMD64 {
        context_flags: flags.bits(),
        eflags: low(register("eflags")),
        rax: register("rax"),
        rcx: register("rcx"),
        rdx: register("rdx"),
        rbx: register("rbx"),
        rsp: register("rsp"),
        rbp: register("rbp"),
        rsi: register("rsi"),
        rdi: register("rdi"),
        r8: register("r8"),
        r9: register("r9"),
        r10: register("r10"),
        r11: register("r11"),
        r12: register("r12"),
        r13: register("r13"),
        r14: register("r14"),
        r15: register("r15"),
        rip: register("rip"),
        ..md::CONTEXT_AMD64::default()
    }
}

#[cfg(target_arch = "aarch64")]
fn context(notes: &Notes) -> md::CONTEXT_ARM64 {
    let flags = md::ContextFlagsArm64::CONTEXT_ARM64_CONTROL | md::ContextFlagsArm64::CONTEXT_ARM64_INTEGER;
    let mut iregs = [0; 31];
    iregs.iter_mut().zip(&notes.registers).for_each(|(to, from)| *to = *from);
    md::CONTEXT_ARM64 {
        context_flags: flags.bits(),
        cpsr: low(notes.register("pstate")),
        iregs,
        sp: notes.register("sp"),
        pc: notes.register("pc"),
        ..md::CONTEXT_ARM64::default()
    }
}
