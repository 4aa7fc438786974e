//! The same library inside this process: the speed that people fear to lose, and the isolation that they do without.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::failure::Failure;
use crate::floor;
use crate::group::Group;
use crate::measure::{Case, Entry, Opened, Samples};
use crate::placement::Placement;
use crate::sys::library::LoadedExport;

/// Calls by one reading of the clock: a call takes less than reading it.
const CALLS_PER_READING: u32 = 64;

/// The row for each group and placement.
pub(crate) fn entries(plugins: &Path) -> Vec<Entry> {
    let library: Rc<PathBuf> = Rc::new(plugins.join("crash-lab/native/crash_lab.so"));
    let mut entries = Vec::new();
    for group in [Group::Call, Group::Mebibyte, Group::SixteenMebibytes] {
        for placement in Placement::ALL {
            let library = Rc::clone(&library);
            let floor = if group == Group::Call { floor::SHARED } else { floor::COPY };
            entries.push(Entry {
                name: "in process, dlopen, no isolation",
                group,
                placement,
                floor,
                count: floor::count(group),
                open: Box::new(move || open(&library, group)),
            });
        }
    }
    entries
}

struct InProcess {
    export: LoadedExport,
    input: Vec<u8>,
    repeat: u32,
}

fn open(library: &Path, group: Group) -> Opened {
    let input = floor::message(group.payload());
    let export = LoadedExport::open(library, "ok")?;
    floor::check_echo(&input, &export.call(&input)?)?;
    let repeat = if group == Group::Call { CALLS_PER_READING } else { 1 };
    Ok(Box::new(InProcess { export, input, repeat }))
}

impl Case for InProcess {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            let start = std::time::Instant::now();
            for _ in 0..self.repeat {
                black_box(self.export.call(black_box(&self.input))?);
            }
            samples.add(start.elapsed() / self.repeat);
        }
        Ok(())
    }
}
