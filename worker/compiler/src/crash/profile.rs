//! From many looks at a worker to the functions in which it spent its time.

use std::collections::HashMap;

use hotcell_protocol::crash::{Frame, Module, Notes, PLUGIN, Profile, ProfileRequest, SAMPLES};
use object::{Object, ObjectSection};

use super::{File, Names, Unwinding, file_named, split};

/// Longest name of a function, in bytes.
const NAME_MAX: usize = 120;

/// Functions for whose names there is no room.
const OTHERS: &str = "others";

/// Bytes that a profile may take: what its receiver decodes has a bound.
const ROOM: usize = 160 << 10;

/// Says in which functions a worker was. `bytes` are the files of the request, one after the other.
///
/// # Errors
/// There are no samples, or the request and the files do not fit.
pub fn profile(bytes: &[u8], request: &ProfileRequest) -> Result<Profile, String> {
    let files = split(bytes, &request.files)?;
    let samples = files.iter().find(|file| file.name == SAMPLES).ok_or("there are no samples")?;
    let modules: Vec<_> = request.modules.iter().map(|module| of_its_file(module, &files)).collect();
    let (mut unwinding, mut names) = (Unwinding::new(&modules, &files), Names::new(&modules, &files));
    let mut seen: HashMap<Vec<u64>, u64> = HashMap::new();
    let mut rest = samples.bytes;
    while let Some(sample) = Notes::take_sample(&mut rest) {
        *seen.entry(unwinding.walk(&sample)).or_default() += 1;
    }
    let mut folded = Folded::default();
    // The most frequent first: if there is not room for all, there is for what matters.
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort_by(|(one, often), (other, oftener)| (oftener, one).cmp(&(often, other)));
    for (addresses, count) in seen {
        folded.add(&of_plugin(names.backtrace(&addresses)), count);
    }
    Ok(folded.profile)
}

/// A module as its file tells of itself: with its build id, and of compiled wasm, which is mapped as it lies in the file, the code.
fn of_its_file(module: &Module, files: &[File<'_>]) -> Module {
    let mut module = module.clone();
    let Some(file) = file_named(&module, files).and_then(|file| object::File::parse(file.bytes).ok()) else {
        return module;
    };
    module.build_id = file.build_id().ok().flatten().unwrap_or_default().to_vec();
    if module.name == PLUGIN
        && file.segments().next().is_none()
        && let Some((start, size)) = file.section_by_name(".text").and_then(|text| text.file_range())
    {
        module.base = module.base.saturating_add(start);
        module.size = size;
    }
    module
}

/// Names from the outermost function of the plugin inwards; none where nothing of the plugin ran.
fn of_plugin(mut frames: Vec<Frame>) -> Vec<String> {
    let outermost = frames.iter().rposition(|frame| frame.module == PLUGIN);
    frames.truncate(outermost.map_or(0, |index| index + 1));
    frames.iter().rev().map(name).collect()
}

fn name(frame: &Frame) -> String {
    let name = match (frame.function.as_str(), frame.module.as_str()) {
        ("", "") => "somewhere".to_owned(),
        ("", module) => format!("{}+{:#x}", module.rsplit('/').next().unwrap_or(module), frame.offset),
        (function, _) => function.to_owned(),
    };
    name.get(..name.floor_char_boundary(NAME_MAX)).unwrap_or_default().to_owned()
}

/// A profile that grows as far as there is room.
#[derive(Default)]
struct Folded {
    profile: Profile,
    functions: HashMap<String, u32>,
    stacks: HashMap<Vec<u32>, usize>,
    taken: usize,
}

impl Folded {
    fn add(&mut self, stack: &[String], count: u64) {
        let stack: Vec<u32> = stack.iter().map(|name| self.function(name)).collect();
        if let Some((_, known)) =
            self.stacks.get(&stack).and_then(|index| self.profile.stacks.get_mut(*index))
        {
            *known += count;
            return;
        }
        self.taken += size_of::<u32>() * stack.len() + size_of::<(Vec<u32>, u64)>();
        if self.taken > ROOM {
            self.profile.left_out += count;
            return;
        }
        self.stacks.insert(stack.clone(), self.profile.stacks.len());
        self.profile.stacks.push((stack, count));
    }

    /// The number of a function. Those for whose names there is no room have one together.
    fn function(&mut self, name: &str) -> u32 {
        if let Some(known) = self.functions.get(name) {
            return *known;
        }
        if self.taken > ROOM && name != OTHERS {
            return self.function(OTHERS);
        }
        let next = u32::try_from(self.profile.functions.len()).unwrap_or(u32::MAX);
        self.taken += name.len() + size_of::<String>();
        self.functions.insert(name.to_owned(), next);
        self.profile.functions.push(name.to_owned());
        next
    }
}
