//! The keys of a manifest, once: the reader takes the known keys from here, and the JSON Schema and the table of
//! `docs/manifest.md` are printed from it.

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Dotted path; `[]` stands for the items of a list, `*` for a key of the author's choice.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    pub(crate) need: Need,
    /// Whether hotcell does it already; what it does not is refused when asked for.
    pub(crate) built: bool,
    pub(crate) about: &'static str,
}

/// What a key holds.
#[derive(Debug)]
pub(crate) enum Kind {
    Any,
    Choice(&'static [&'static str]),
    Flag,
    Integer(u64, u64),
    List,
    /// A pattern (ECMA 262) that every value meets; the reader is stricter where a pattern cannot say it.
    Pattern(&'static str),
    Size,
    Table,
    /// Visible characters, at most so many.
    Text(u64),
}

/// Whether a key may be missing.
#[derive(Debug)]
pub(crate) enum Need {
    Required,
    /// What its absence means.
    Else(&'static str),
}

use Kind::{Any, Choice, Flag, Integer, List, Pattern, Size, Table, Text};
use Need::{Else, Required};

const ID: Kind = Pattern(r"^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+$");
const PACKAGE_PATH: Kind = Pattern(r"^[^/\\]+(/[^/\\]+)*$");
const GRANT_PATH: Kind = Pattern(r"^(/|\$\{(plugin|data|scratch)\})");
const HOST_CALL: Kind = Pattern(r"^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*$");
const ADDRESS: Kind = Pattern(r"^.+:[1-9][0-9]{0,4}$");
const SEMVER: Kind = Pattern(r"^[0-9]+\.[0-9]+\.[0-9]+([-+].+)?$");
const DURATION: Kind = Pattern("^[0-9]+ (ms|s|min|h)$");
const NOTHING: Need = Else("nothing");

const fn key(path: &'static str, kind: Kind, need: Need, about: &'static str) -> Key {
    Key { path, kind, need, built: true, about }
}

const fn later(path: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { path, kind, need: NOTHING, built: false, about }
}

const fn inside(path: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { path, kind, need: Required, built: false, about }
}

/// Every key, parents before children.
pub(crate) const KEYS: &[Key] = &[
    key("schema", Integer(1, 1), Required, "the version of this table"),
    key("id", ID, Required, "names the plugin for ever; at most 128 characters"),
    key("name", Text(128), Required, "the name that people see"),
    key(
        "version",
        SEMVER,
        Required,
        "semantic version, at most 128 characters; 0.0.x is refused, since no two of them are compatible",
    ),
    key("description", Text(4096), NOTHING, "what the plugin does"),
    key("author", Text(256), NOTHING, "who made it"),
    key("plugin_type", Choice(&["wasm", "dylib"]), Required, "WebAssembly, or a native shared library"),
    key(
        "wasm_path",
        PACKAGE_PATH,
        Else("required for `wasm`"),
        "the module (`.wasm` or `.wat`), inside the package",
    ),
    key(
        "dylib_path",
        PACKAGE_PATH,
        Else("required for `dylib` without `artifacts`"),
        "the shared library, inside the package",
    ),
    key(
        "artifacts",
        Table,
        NOTHING,
        "shared libraries by target; one for this machine's target goes before `dylib_path`",
    ),
    key("artifacts.*", PACKAGE_PATH, Required, "the library for a target such as `x86_64-unknown-linux-gnu`"),
    key(
        "runtime",
        Choice(&["native", "core", "component", "command"]),
        Else("`native` for `dylib`, found in the module for `wasm`"),
        "how the artifact is run",
    ),
    key(
        "instances",
        Integer(1, 64),
        Else("`1`"),
        "workers that run the plugin side by side, each with memory and state of its own, as far as the profile's `instances` allow",
    ),
    key("permissions", Table, NOTHING, "what the plugin asks for"),
    key(
        "permissions.filesystem",
        Table,
        NOTHING,
        "files and folders, for runtimes `native` and `command`; at most 128 paths, of 4096 bytes together",
    ),
    key("permissions.filesystem.read_paths", List, NOTHING, "files to read, folders to list and read"),
    key(
        "permissions.filesystem.read_paths[]",
        GRANT_PATH,
        Required,
        "`${plugin}`, `${data}`, `${scratch}`, below one of them, or absolute",
    ),
    key("permissions.filesystem.write_paths", List, NOTHING, "files to read and write"),
    key("permissions.filesystem.write_paths[]", GRANT_PATH, Required, "as above; never `${plugin}`"),
    key(
        "permissions.filesystem.root",
        GRANT_PATH,
        NOTHING,
        "the folder, one of these paths, in which relative paths are: a native plugin's working directory, and what a command sees as `/`",
    ),
    key(
        "permissions.filesystem.create_files",
        Flag,
        Else("`false`"),
        "create files and folders below `write_paths`",
    ),
    key(
        "permissions.filesystem.delete_files",
        Flag,
        Else("`false`"),
        "delete files and folders below `write_paths`",
    ),
    key(
        "permissions.filesystem.max_file_size",
        Size,
        Else("the profile's `file-size`"),
        "largest file that is written",
    ),
    key("permissions.network", Table, NOTHING, "connections"),
    key("permissions.network.connect", List, NOTHING, "where to; not for runtime `core`; at most 64"),
    key("permissions.network.connect[]", ADDRESS, Required, "`host:port`"),
    key(
        "permissions.network.listen",
        List,
        NOTHING,
        "where the host listens for the plugin; not for runtime `core`; at most 64",
    ),
    key("permissions.network.listen[]", ADDRESS, Required, "`address:port`, an IP address"),
    key("permissions.process", Table, NOTHING, "programs that the host runs for the plugin"),
    key("permissions.process.spawn", List, NOTHING, "the programs; not for runtime `command`; at most 16"),
    key(
        "permissions.process.spawn[]",
        GRANT_PATH,
        Required,
        "a file: `${plugin}/...`, or absolute; never where the plugin can write",
    ),
    key(
        "permissions.process.max_processes",
        Integer(0, 1024),
        Else("the profile's `processes`"),
        "programs at a time, for each worker",
    ),
    key("permissions.storage", Table, NOTHING, "key-value storage that the host keeps"),
    later("permissions.storage.quota", Size, "bytes; 0 asks for nothing"),
    later("permissions.ui", List, "host calls of the user interface"),
    inside("permissions.ui[]", HOST_CALL, "the name of one"),
    later("permissions.voice", List, "host calls of voice input and output"),
    inside("permissions.voice[]", HOST_CALL, "the name of one"),
    later("permissions.terminal", List, "host calls of the terminal"),
    inside("permissions.terminal[]", HOST_CALL, "the name of one"),
    key("permissions.host_calls", List, NOTHING, "host calls that the application registered; at most 128"),
    key("permissions.host_calls[]", HOST_CALL, Required, "the name of one; at most 64 characters"),
    key("config", Any, NOTHING, "given to the plugin as JSON text when it starts; at most 24 KiB"),
    key(
        "config_schema",
        Table,
        NOTHING,
        "a JSON Schema that `config`, and every configuration that replaces it, meets; at most 24 KiB",
    ),
    key("dependencies", List, NOTHING, "other plugins that this one needs; at most 64"),
    key("dependencies[]", Table, Required, "one of them"),
    key("dependencies[].id", ID, Required, "its id"),
    key("dependencies[].version", Text(128), Required, "a requirement such as `^1.2`"),
    key("dependencies[].optional", Flag, Else("`false`"), "whether the plugin runs without it"),
    key(
        "dependencies[].exports",
        List,
        NOTHING,
        "the exports that this plugin was built for: the one that is loaded has to offer them, with types that fit",
    ),
    key("dependencies[].exports[]", Table, Required, "one of them"),
    key("dependencies[].exports[].name", Text(128), Required, "its name, as calls give it"),
    key(
        "dependencies[].exports[].params",
        Table,
        NOTHING,
        "JSON Schema of what this plugin gives it, at most 24 KiB",
    ),
    key(
        "dependencies[].exports[].result",
        Table,
        NOTHING,
        "JSON Schema of what this plugin takes, at most 24 KiB",
    ),
    key("api_contract", Table, NOTHING, "what host and plugin promise one another"),
    key(
        "api_contract.host_api",
        Text(128),
        NOTHING,
        "a requirement on the version of hotcell, such as `^0.1`",
    ),
    later("api_contract.wit", PACKAGE_PATH, "a WIT file, inside the package"),
    key(
        "api_contract.state_version",
        Integer(0, 4_294_967_295),
        Else("`1`"),
        "the version of the state that the plugin saves; the plugin that takes it over is told",
    ),
    key(
        "api_contract.exports",
        List,
        NOTHING,
        "exports that the plugin promises: one that its artifact lacks is an error",
    ),
    key("api_contract.exports[]", Table, Required, "one of them"),
    key("api_contract.exports[].name", Text(128), Required, "its name, as calls give it"),
    key("api_contract.exports[].params", Table, NOTHING, "JSON Schema of its input, at most 24 KiB"),
    key("api_contract.exports[].result", Table, NOTHING, "JSON Schema of its reply, at most 24 KiB"),
    key("security_policy", Table, NOTHING, "how the plugin is to be confined and kept alive"),
    key(
        "security_policy.profile",
        Pattern("^[a-z][a-z0-9-]*$"),
        Else("by runtime: `native-strict`, `wasi-command`, otherwise `pure-compute`"),
        "the profile whose grants are asked for",
    ),
    key(
        "security_policy.require_signature",
        Flag,
        Else("`false`"),
        "whether the plugin is refused where no trusted key has signed it; docs/packages.md",
    ),
    key("security_policy.restart", Table, NOTHING, "what happens after a crash"),
    key(
        "security_policy.restart.mode",
        Choice(&["never", "on-demand", "on-crash"]),
        Else("`on-demand`"),
        "whether a worker that crashed is replaced: not before the next reload, with the next call, or at once",
    ),
    key(
        "security_policy.restart.max_restarts",
        Integer(1, 1000),
        Else("as often as it takes"),
        "crashes within a minute before calls are refused for half a minute",
    ),
    key(
        "security_policy.restart.backoff",
        DURATION,
        Else("`100 ms`"),
        "pause after a start that failed; doubles with each, to half a minute; after five, calls are refused meanwhile as in quarantine",
    ),
    key("security_policy.reload", Table, NOTHING, "what happens when the package changes"),
    key(
        "security_policy.reload.mode",
        Choice(&["never", "on-change"]),
        Required,
        "whether the host reloads the plugin by itself when its package is another one",
    ),
    key("security_policy.reload.drain", DURATION, Else("`1 s`"), "how long running calls may take to end"),
];

/// The names of the keys directly below a path.
pub(super) fn children(path: &str) -> Vec<&'static str> {
    KEYS.iter().filter_map(|key| child_of(key.path, path)).collect()
}

/// The last part of `key`, if it is a named key directly below `path`.
pub(super) fn child_of(key: &'static str, path: &str) -> Option<&'static str> {
    let rest = if path.is_empty() { key } else { key.strip_prefix(path)?.strip_prefix('.')? };
    (!rest.contains(['.', '[', '*'])).then_some(rest)
}
