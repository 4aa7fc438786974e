//! What a manifest asks for.

use hotcell_protocol::Place;

use super::keys::children;
use super::read::{Reading, table};
use crate::input::{Field, ParseError, Value};
use crate::names::{GrantPath, HostCallName, HostPort, ListenAddress};
use crate::units::Size;

/// A value and the line of the manifest that it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) line: usize,
}

/// Everything that a manifest asks for and that is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) read_paths: Vec<Located<GrantPath>>,
    pub(crate) write_paths: Vec<Located<GrantPath>>,
    /// In which relative paths are.
    pub(crate) root: Option<Located<GrantPath>>,
    pub(crate) create_files: bool,
    pub(crate) delete_files: bool,
    pub(crate) max_file_size: Option<Located<u64>>,
    pub(crate) host_calls: Vec<Located<HostCallName>>,
    pub(crate) connects: Vec<Located<HostPort>>,
    pub(crate) listens: Vec<Located<ListenAddress>>,
    pub(crate) programs: Vec<Located<GrantPath>>,
    /// At a time.
    pub(crate) max_processes: Option<Located<u32>>,
}

/// Most host calls of one manifest. With the bounds of paths and configuration, it keeps a worker's first message, which
/// carries all three, within one packet.
const HOST_CALLS_MAX: usize = 128;

/// Most addresses of one list.
const ADDRESSES_MAX: usize = 64;

/// Most programs of one manifest.
const PROGRAMS_MAX: usize = 16;

/// Most paths of one manifest: a short one takes more in the message than its bytes.
const PATHS_MAX: usize = 128;

/// Most bytes of all paths together.
const PATHS_BYTES_MAX: usize = 4096;

pub(super) fn read(field: &Field<'_>, reading: &mut Reading) -> Result<Requests, ParseError> {
    let fields = field.table(&children("permissions"))?;
    let mut requests = Requests::default();
    if let Some(filesystem) = fields.optional("filesystem") {
        read_filesystem(&filesystem, &mut requests)?;
    }
    if let Some(host_calls) = fields.optional("host_calls") {
        let error = || host_calls.error(format!("more than {HOST_CALLS_MAX} host calls"));
        requests.host_calls = located(&host_calls, HOST_CALLS_MAX, error)?;
    }
    for key in ["ui", "voice", "terminal"] {
        if let Some(calls) = fields.optional(key) {
            calls.distinct::<HostCallName>()?;
            reading.asks_for(&calls);
        }
    }
    if let Some(network) = fields.optional("network") {
        let network = table(&network)?;
        if let Some(addresses) = network.optional("connect") {
            let error = || addresses.error(format!("more than {ADDRESSES_MAX} addresses"));
            requests.connects = located(&addresses, ADDRESSES_MAX, error)?;
        }
        if let Some(addresses) = network.optional("listen") {
            let error = || addresses.error(format!("more than {ADDRESSES_MAX} addresses"));
            requests.listens = located(&addresses, ADDRESSES_MAX, error)?;
        }
    }
    if let Some(process) = fields.optional("process") {
        read_process(&process, &mut requests)?;
    }
    if let Some(storage) = fields.optional("storage")
        && let Some(quota) = table(&storage)?.optional("quota")
        && size(&quota)? > 0
    {
        reading.asks_for(&quota);
    }
    Ok(requests)
}

fn read_process(field: &Field<'_>, requests: &mut Requests) -> Result<(), ParseError> {
    let process = table(field)?;
    if let Some(programs) = process.optional("spawn") {
        let error = || programs.error(format!("more than {PROGRAMS_MAX} programs"));
        requests.programs = located(&programs, PROGRAMS_MAX, error)?;
        let own = [Place::Data, Place::Scratch];
        let item = requests.programs.iter().position(|program| own.contains(&program.value.place()));
        if let Some(item) = item.and_then(|index| programs.items().ok()?.into_iter().nth(index)) {
            return Err(item
                .error("what a plugin can write, it cannot have run")
                .with_help("ship the program in the package (`${plugin}`)"));
        }
    }
    if let Some(count) = process.optional("max_processes") {
        let value = count.integer32(0..=1024)?;
        if value > 0 && requests.programs.is_empty() {
            let message = "`max_processes` asks for processes, and there are no programs in `spawn`";
            return Err(count
                .error(message)
                .with_help("name the programs; a plugin makes no process of its own"));
        }
        requests.max_processes = Some(Located { value, line: count.line() });
    }
    Ok(())
}

fn read_filesystem(field: &Field<'_>, requests: &mut Requests) -> Result<(), ParseError> {
    let fields = table(field)?;
    let too_many = || field.error(format!("more than {PATHS_MAX} paths"));
    if let Some(paths) = fields.optional("read_paths") {
        requests.read_paths = located(&paths, PATHS_MAX, too_many)?;
    }
    if let Some(paths) = fields.optional("write_paths") {
        requests.write_paths = located(&paths, PATHS_MAX, too_many)?;
        refuse_package(&paths, &requests.write_paths)?;
    }
    let paths = requests.read_paths.iter().chain(&requests.write_paths);
    if paths.clone().count() > PATHS_MAX {
        return Err(too_many());
    }
    if paths.map(|path| path.value.path().len()).sum::<usize>() > PATHS_BYTES_MAX {
        return Err(field.error(format!("the paths have more than {PATHS_BYTES_MAX} bytes together")));
    }
    if let Some(root) = fields.optional("root") {
        let value: GrantPath = root.parsed()?;
        let mut paths = requests.read_paths.iter().chain(&requests.write_paths);
        if !paths.any(|path| path.value == value) {
            let message = format!("`{value}` is none of the paths that the plugin asks for");
            return Err(root.error(message).with_help("name it in `read_paths` or `write_paths`, too"));
        }
        requests.root = Some(Located { value, line: root.line() });
    }
    for (key, wanted) in
        [("create_files", &mut requests.create_files), ("delete_files", &mut requests.delete_files)]
    {
        let Some(flag) = fields.optional(key) else { continue };
        *wanted = flag.flag()?;
        if *wanted && requests.write_paths.is_empty() {
            let message = format!("`{}` asks for something, and there are no `write_paths`", flag.path);
            return Err(flag.error(message).with_help("name the folders in `write_paths`"));
        }
    }
    if let Some(limit) = fields.optional("max_file_size") {
        requests.max_file_size = Some(Located { value: size(&limit)?, line: limit.line() });
    }
    Ok(())
}

fn refuse_package(field: &Field<'_>, paths: &[Located<GrantPath>]) -> Result<(), ParseError> {
    let items = field.items()?;
    let package = paths.iter().zip(items).find(|(path, _)| path.value.place() == Place::Plugin);
    match package {
        None => Ok(()),
        Some((_, item)) => Err(item
            .error("the package is read-only")
            .with_help("`${data}` is private and kept over reloads, `${scratch}` is private and emptied")),
    }
}

/// A size: text with its unit, or a whole number of bytes.
fn size(field: &Field<'_>) -> Result<u64, ParseError> {
    /// As large as a size with a unit can be.
    const BYTES_MAX: u64 = 1 << 60;
    match field.node.value {
        Value::Integer(_) => field.integer(0..=BYTES_MAX),
        Value::Text(_) => field.parsed::<Size>().map(|size| size.0),
        _ => Err(field.wrong_type("a size such as `64 MiB`, or whole bytes")),
    }
}

/// The items of a list with their lines, which cost a look at the whole text each: more than `most` are not looked for.
fn located<T>(
    field: &Field<'_>,
    most: usize,
    too_many: impl FnOnce() -> ParseError,
) -> Result<Vec<Located<T>>, ParseError>
where
    T: std::str::FromStr<Err: std::fmt::Display> + Clone + Eq + std::hash::Hash,
{
    if field.items()?.len() > most {
        return Err(too_many());
    }
    let values = field.distinct::<T>()?;
    let lines = field.items()?;
    Ok(values.into_iter().zip(lines).map(|(value, item)| Located { value, line: item.line() }).collect())
}
