//! Which functions were running: return addresses by the call frame information of the mapped files.

use std::ops::Range;

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Module, UnwindRegsNative, Unwinder,
    UnwinderNative,
};
use hotcell_protocol::crash::{Module as Mapped, Notes};
use object::{Object, ObjectSection};

use super::{File, file_of};

/// Most frames.
const FRAMES_MAX: usize = 64;

/// Knows the call frame information of what was mapped.
pub(super) struct Unwinding<'b> {
    unwinder: UnwinderNative<&'b [u8], MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
}

impl<'b> Unwinding<'b> {
    pub(super) fn new(modules: &[Mapped], files: &[File<'b>]) -> Unwinding<'b> {
        let mut unwinder = UnwinderNative::new();
        for module in modules {
            let Some(sections) = file_of(module, files).and_then(|file| sections(file.bytes)) else {
                continue;
            };
            // Compiled wasm has none, and keeps frame pointers, which are followed where nothing else is known.
            if sections.eh_frame.is_none() && sections.debug_frame.is_none() {
                continue;
            }
            let Some(end) = module.base.checked_add(module.size) else { continue };
            unwinder.add_module(Module::new(module.name.clone(), module.base..end, module.base, sections));
        }
        Unwinding { unwinder, cache: CacheNative::new() }
    }

    /// The instruction that ran, and where each call returns to.
    pub(super) fn walk(&mut self, notes: &Notes) -> Vec<u64> {
        let mut read = |address: u64| {
            let at = usize::try_from(address.checked_sub(notes.stack_address).ok_or(())?).map_err(drop)?;
            let word = notes.stack.get(at..).and_then(<[u8]>::first_chunk).ok_or(())?;
            Ok(u64::from_ne_bytes(*word))
        };
        let (pc, registers) = start(notes);
        let mut frames = self.unwinder.iter_frames(pc, registers, &mut self.cache, &mut read);
        let mut addresses = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            addresses.push(frame.address());
            if addresses.len() == FRAMES_MAX {
                break;
            }
        }
        addresses
    }
}

#[cfg(target_arch = "x86_64")]
fn start(notes: &Notes) -> (u64, UnwindRegsNative) {
    let pc = notes.register("rip");
    (pc, UnwindRegsNative::new(pc, notes.register("rsp"), notes.register("rbp")))
}

#[cfg(target_arch = "aarch64")]
fn start(notes: &Notes) -> (u64, UnwindRegsNative) {
    let (link, frame) = (notes.register("x30"), notes.register("x29"));
    (notes.register("pc"), UnwindRegsNative::new(link, notes.register("sp"), frame))
}

fn sections(bytes: &[u8]) -> Option<ExplicitModuleSectionInfo<&[u8]>> {
    let file = object::File::parse(bytes).ok()?;
    let data = |name: &str| file.section_by_name(name)?.data().ok();
    let range = |name: &str| -> Option<Range<u64>> {
        let section = file.section_by_name(name)?;
        Some(section.address()..section.address().checked_add(section.size())?)
    };
    Some(ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: range(".text"),
        text: data(".text"),
        got_svma: range(".got"),
        eh_frame_svma: range(".eh_frame"),
        eh_frame: data(".eh_frame"),
        eh_frame_hdr_svma: range(".eh_frame_hdr"),
        eh_frame_hdr: data(".eh_frame_hdr"),
        debug_frame: data(".debug_frame"),
        ..ExplicitModuleSectionInfo::default()
    })
}
