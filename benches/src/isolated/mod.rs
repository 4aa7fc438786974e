//! hotcell itself, with the shipped profiles and every layer that this machine has.

mod call;
mod crash;
mod folder;
mod hosts;
mod launch;
mod layers;
mod memory;
mod start;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::args::Args;
use crate::floor;
use crate::group::Group;
use crate::measure::{Entry, Opened};
use crate::placement::Placement;
pub(crate) use hosts::Hosts;
use hosts::Interface;
use start::Aspect;

/// Samples of one round of what takes many milliseconds.
const SLOW: usize = 2;

/// Rows of messages: name, interface, and whether the plugin is wasm.
const CALLERS: [(&str, Interface, bool); 6] = [
    ("hotcell native, async", Interface::OneThread, false),
    ("hotcell native, async, many threads", Interface::ManyThreads, false),
    ("hotcell native, blocking", Interface::Blocking, false),
    ("hotcell wasm, async", Interface::OneThread, true),
    ("hotcell wasm, async, many threads", Interface::ManyThreads, true),
    ("hotcell wasm, blocking", Interface::Blocking, true),
];

/// The sample plugins that are measured.
struct Packages {
    native_echo: PathBuf,
    wasm_small_echo: PathBuf,
    wasm_echo: PathBuf,
    native: PathBuf,
    wasm: PathBuf,
}

impl Packages {
    fn new(args: &Args) -> Packages {
        let sample = |name: &str| args.plugins.join(name);
        Packages {
            native_echo: sample("crash-lab/native"),
            wasm_small_echo: sample("crash-lab/wasm"),
            wasm_echo: args.bench_plugins.join("echo"),
            native: sample("counter"),
            wasm: sample("greet/core"),
        }
    }

    /// What echoes messages of a group.
    fn echo(&self, group: Group, wasm: bool) -> &Path {
        match (wasm, group) {
            (false, _) => &self.native_echo,
            (true, Group::Call) => &self.wasm_small_echo,
            (true, _) => &self.wasm_echo,
        }
    }
}

/// Every row of hotcell.
pub(crate) fn entries(hosts: &Rc<Hosts>, args: &Args) -> Vec<Entry> {
    let packages = Packages::new(args);
    let mut entries = Vec::new();
    for placement in Placement::ALL {
        for group in [Group::Call, Group::Mebibyte, Group::SixteenMebibytes] {
            entries.extend(messages(hosts, &packages, group, placement));
        }
        entries.extend(launches(hosts, &packages, placement));
        entries.push(host("hotcell host with its launcher", hosts, Group::Launch, placement, Aspect::Time));
    }
    entries.push(host("hotcell launcher, once", hosts, Group::Memory, Placement::Unpinned, Aspect::Memory));
    entries.push(memory_of("hotcell native worker", hosts, &packages.native, "value", b""));
    entries.push(memory_of("hotcell wasm worker", hosts, &packages.wasm, "greet", br#"{"name":"Ada"}"#));
    entries
}

fn messages(hosts: &Rc<Hosts>, packages: &Packages, group: Group, placement: Placement) -> Vec<Entry> {
    let floor = if group == Group::Call { floor::SHARED } else { floor::COPY };
    let entry = |(name, interface, wasm): (&'static str, Interface, bool)| {
        let (hosts, package) = (Rc::clone(hosts), packages.echo(group, wasm).to_owned());
        let open = move || call::open(&hosts, interface, &package, group.payload());
        Entry { name, group, placement, floor, count: floor::count(group), open: Box::new(open) }
    };
    CALLERS.into_iter().map(entry).collect()
}

fn launches(hosts: &Rc<Hosts>, packages: &Packages, placement: Placement) -> Vec<Entry> {
    let entry = |name, floor, count, open: Box<dyn FnOnce() -> Opened>| Entry {
        name,
        group: Group::Launch,
        placement,
        floor,
        count,
        open,
    };
    let opener = |package: &Path, open: fn(&Hosts, &Path) -> Opened| -> Box<dyn FnOnce() -> Opened> {
        let (hosts, package) = (Rc::clone(hosts), package.to_owned());
        Box::new(move || open(&hosts, &package))
    };
    let usual = floor::count(Group::Launch);
    vec![
        entry("hotcell native, load to ready", floor::EXEC, usual, opener(&packages.native, launch::open)),
        entry("hotcell wasm, load to ready", floor::FORK, usual, opener(&packages.wasm, launch::open)),
        entry(
            "hotcell wasm, first load, with compiling",
            floor::EXEC,
            SLOW,
            opener(&packages.wasm, launch::open_uncached),
        ),
        entry(
            "hotcell native, reply after a crash",
            floor::EXEC,
            usual,
            opener(&packages.native_echo, crash::open),
        ),
    ]
}

fn memory_of(
    name: &'static str,
    hosts: &Rc<Hosts>,
    package: &Path,
    export: &'static str,
    input: &'static [u8],
) -> Entry {
    let (hosts, package) = (Rc::clone(hosts), package.to_owned());
    Entry {
        name,
        group: Group::Memory,
        placement: Placement::Unpinned,
        floor: floor::IDLE,
        count: floor::count(Group::Memory),
        open: Box::new(move || memory::open(&hosts, &package, export, input)),
    }
}

fn host(name: &'static str, hosts: &Rc<Hosts>, group: Group, placement: Placement, aspect: Aspect) -> Entry {
    let (hosts, floor) = (Rc::clone(hosts), if group == Group::Memory { floor::IDLE } else { floor::EXEC });
    let count = if group == Group::Memory { 1 } else { SLOW };
    Entry { name, group, placement, floor, count, open: Box::new(move || start::open(&hosts, aspect)) }
}
