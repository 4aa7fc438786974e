//! hotcell itself, with the shipped layers, all that this machine has.

mod call;
mod caller;
mod crash;
mod folder;
mod host_call;
mod hosts;
mod launch;
mod layers;
pub(crate) mod memory;
mod mode;
mod packages;
pub(crate) mod start;

use std::path::Path;
use std::rc::Rc;

use crate::floor::{self, floor_of};
use crate::group::Group;
use crate::measure::{Entry, Kind, Open, Opened, sparse};
use crate::placement::Placement;
use caller::{Caller, Interface};
pub(crate) use hosts::{Driven, Hosts};
use layers::Confined;
use mode::{MODES, Mode};
pub(crate) use packages::{Image, Packages, Subject};
use start::Aspect;

/// Samples of one round of what takes many milliseconds.
const SLOW: usize = 2;

/// Every row of hotcell.
pub(crate) fn entries(hosts: &Rc<Hosts>, packages: &Packages) -> Vec<Entry> {
    let mut entries = Vec::new();
    for group in Group::ALL {
        for placement in group.placements() {
            let place = Place { group, placement: *placement };
            entries.extend(match group {
                Group::Launch => launches(hosts, packages, place),
                Group::Memory => memories(hosts, packages, place),
                _ => messages(hosts, packages, place),
            });
        }
    }
    entries
}

/// Where in the report an entry stands.
#[derive(Clone, Copy)]
struct Place {
    group: Group,
    placement: Placement,
}

impl Place {
    fn entry(self, name: String, floor: &'static str, count: usize, open: Open) -> Entry {
        let Place { group, placement } = self;
        Entry { name, kind: Kind::Hotcell, group, placement, floor, count, open }
    }
}

fn messages(hosts: &Rc<Hosts>, packages: &Packages, place: Place) -> Vec<Entry> {
    let mut entries = Vec::new();
    for mode in MODES.iter().filter(|mode| mode.placements.contains(&place.placement)) {
        for image in Image::ALL {
            for interface in Interface::ALL {
                // A blocking caller has one call outstanding.
                if (place.group, interface) != (Group::Pipelined, Interface::Blocking) {
                    entries.push(message(hosts, packages, place, (mode, image, interface)));
                }
            }
        }
    }
    entries
}

fn message(
    hosts: &Rc<Hosts>,
    packages: &Packages,
    place: Place,
    (mode, image, interface): (&'static Mode, Image, Interface),
) -> Entry {
    let name = format!("hotcell {}{}, {}", image.name(), mode.label, interface.name());
    let (hosts, package, group) = (Rc::clone(hosts), packages.echo(place.group, image), place.group);
    let open: Open = Box::new(move || {
        let caller = Caller::load(&hosts, interface, &package, (mode.options)())?;
        let layers = hosts.note_layers(caller.plugin());
        let case = match group {
            Group::Pipelined => call::open_pipelined(caller, group.payload()),
            Group::HostCall => host_call::open(caller, hosts.arrivals()),
            _ => call::open(caller, group.payload()),
        }?;
        Ok(Box::new(Confined { case, layers }))
    });
    let open = if group == Group::Sparse { sparse(open) } else { open };
    place.entry(name, floor_of(group), group.count(), open)
}

/// Opens a case of a plugin.
type OpenSubject = fn(&Hosts, &Subject<'_>) -> Opened;

fn launches(hosts: &Rc<Hosts>, packages: &Packages, place: Place) -> Vec<Entry> {
    let usual = Group::Launch.count();
    let (native, wasm) = (packages.ordinary(Image::Native), packages.ordinary(Image::Wasm));
    let crashing = packages.echo(Group::Call, Image::Native);
    let rows: [(&str, Image, &Path, &'static str, usize, OpenSubject); 15] = [
        ("native, load to ready", Image::Native, &native, floor::EXEC, usual, launch::open),
        ("native, load to first reply", Image::Native, &native, floor::EXEC, usual, launch::open_with_call),
        ("native, start to first reply", Image::Native, &native, floor::EXEC, usual, launch::open_prepared),
        (
            "native forked, start to first reply",
            Image::Native,
            &native,
            floor::FORK,
            usual,
            launch::open_forked,
        ),
        (
            "native spare, start to first reply",
            Image::Native,
            &native,
            floor::EXEC,
            usual,
            launch::open_spare,
        ),
        ("native, reply after a crash", Image::Native, &crashing, floor::EXEC, usual, crash::open),
        (
            "native, reply after a crash, with a spare",
            Image::Native,
            &crashing,
            floor::EXEC,
            usual,
            crash::open_spare,
        ),
        ("wasm, load to ready", Image::Wasm, &wasm, floor::FORK, usual, launch::open),
        ("wasm, load to first reply", Image::Wasm, &wasm, floor::FORK, usual, launch::open_with_call),
        ("wasm, start to first reply", Image::Wasm, &wasm, floor::FORK, usual, launch::open_prepared),
        (
            "wasm executed, start to first reply",
            Image::Wasm,
            &wasm,
            floor::EXEC,
            usual,
            launch::open_executed,
        ),
        (
            "wasm in cgroups, start to first reply",
            Image::Wasm,
            &wasm,
            floor::FORK,
            usual,
            launch::open_grouped,
        ),
        (
            "wasm in its own file tree, start to first reply",
            Image::Wasm,
            &wasm,
            floor::FORK,
            usual,
            launch::open_hidden,
        ),
        ("wasm spare, start to first reply", Image::Wasm, &wasm, floor::FORK, usual, launch::open_spare),
        ("wasm, first load, with compiling", Image::Wasm, &wasm, floor::EXEC, SLOW, launch::open_uncached),
    ];
    let entry = |(name, image, package, floor, count, open): (&str, Image, &Path, _, _, OpenSubject)| {
        let (hosts, package) = (Rc::clone(hosts), package.to_owned());
        let open: Open = Box::new(move || open(&hosts, &Subject::ordinary(image, &package)));
        place.entry(format!("hotcell {name}"), floor, count, open)
    };
    let mut entries: Vec<Entry> = rows.into_iter().map(entry).collect();
    let hosts = Rc::clone(hosts);
    let open: Open = Box::new(move || start::open(&hosts, Aspect::Time));
    entries.push(place.entry("hotcell host with its launcher".to_owned(), floor::EXEC, SLOW, open));
    entries
}

fn memories(hosts: &Rc<Hosts>, packages: &Packages, place: Place) -> Vec<Entry> {
    let (floor, count) = (floor_of(place.group), place.group.count());
    let launcher = Rc::clone(hosts);
    let open: Open = Box::new(move || start::open(&launcher, Aspect::Memory));
    let mut entries = vec![place.entry("hotcell launcher, once".to_owned(), floor, count, open)];
    for image in Image::ALL {
        let (hosts, package) = (Rc::clone(hosts), packages.ordinary(image));
        let open: Open = Box::new(move || memory::open(&hosts, &Subject::ordinary(image, &package)));
        entries.push(place.entry(format!("hotcell {} worker", image.name()), floor, count, open));
    }
    entries
}
