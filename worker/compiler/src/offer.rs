//! What each runtime offers to import. Anything else is refused by name, before anything is compiled.

use hotcell_plugin::abi;
use hotcell_protocol::{CompileFailure, FailureKind, Runtime};
use wasmparser::{FuncType, ValType};

use crate::failure::{failure, printable};
use crate::inspect::{Facts, Import, Kind};

/// The import module of WASI 0.1.
pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The functions of WASI 0.1.
const PREVIEW1_FUNCTIONS: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// The interfaces that a component finds, in any patch version.
const INTERFACES: [&str; 30] = [
    "wasi:cli/environment@0.2.",
    "wasi:cli/exit@0.2.",
    "wasi:cli/stderr@0.2.",
    "wasi:cli/stdin@0.2.",
    "wasi:cli/stdout@0.2.",
    "wasi:cli/terminal-input@0.2.",
    "wasi:cli/terminal-output@0.2.",
    "wasi:cli/terminal-stderr@0.2.",
    "wasi:cli/terminal-stdin@0.2.",
    "wasi:cli/terminal-stdout@0.2.",
    "wasi:clocks/monotonic-clock@0.2.",
    "wasi:clocks/wall-clock@0.2.",
    "wasi:filesystem/preopens@0.2.",
    "wasi:filesystem/types@0.2.",
    "wasi:http/outgoing-handler@0.2.",
    "wasi:http/types@0.2.",
    "wasi:io/error@0.2.",
    "wasi:io/poll@0.2.",
    "wasi:io/streams@0.2.",
    "wasi:random/insecure-seed@0.2.",
    "wasi:random/insecure@0.2.",
    "wasi:random/random@0.2.",
    "wasi:sockets/instance-network@0.2.",
    "wasi:sockets/ip-name-lookup@0.2.",
    "wasi:sockets/network@0.2.",
    "wasi:sockets/tcp-create-socket@0.2.",
    "wasi:sockets/tcp@0.2.",
    "wasi:sockets/udp-create-socket@0.2.",
    "wasi:sockets/udp@0.2.",
    "hotcell:plugin/host@0.1.",
];

/// Refuses the first import that the runtime does not offer.
pub(crate) fn check(runtime: Runtime, facts: &Facts) -> Result<(), CompileFailure> {
    for (module, name, import) in &facts.imports {
        let verdict = match (facts.kind, runtime) {
            (Kind::Core, Runtime::Command) => preview1(module, name, import),
            (Kind::Core, _) => core(module, name, import),
            (Kind::Component, _) => component(name, import),
        };
        if let Err(reason) = verdict {
            let full = if module.is_empty() {
                printable(name)
            } else {
                format!("{}.{}", printable(module), printable(name))
            };
            return Err(failure(FailureKind::UndeclaredImport, format!("import `{full}`: {reason}")));
        }
    }
    Ok(())
}

fn core(module: &str, name: &str, import: &Import) -> Result<(), String> {
    use ValType::{I32, I64};
    let wanted = match (module, name) {
        (abi::IMPORT_MODULE, abi::REPLY) => FuncType::new([I32; 2], []),
        (abi::IMPORT_MODULE, abi::HOST_CALL) => FuncType::new([I32; 4], [I64]),
        (abi::IMPORT_MODULE, abi::HOST_TAKE) => FuncType::new([I32; 2], [I32]),
        (PREVIEW1, _) => return Err("a core plugin has no WASI; a command with `_start` has".to_owned()),
        _ => {
            return Err(
                "a core plugin can import `reply`, `host_call` and `host_take` of `hotcell` only".to_owned()
            );
        }
    };
    match import {
        Import::Function(found) if *found == wanted => Ok(()),
        Import::Function(found) => Err(format!("must have the type {wanted}, and has {found}")),
        _ => Err(format!("must be a function of type {wanted}")),
    }
}

fn preview1(module: &str, name: &str, import: &Import) -> Result<(), String> {
    match import {
        Import::Function(_) if module == PREVIEW1 && PREVIEW1_FUNCTIONS.contains(&name) => Ok(()),
        Import::Function(_) => Err(format!("a command can import the functions of `{PREVIEW1}` only")),
        Import::Interface { .. } => Err("a core module cannot import an interface".to_owned()),
        Import::Other(what) => Err(format!("a command cannot import {what}")),
    }
}

fn component(name: &str, import: &Import) -> Result<(), String> {
    match import {
        // Types need no host.
        Import::Interface { functions: 0 } => Ok(()),
        Import::Interface { .. } if INTERFACES.iter().any(|offer| name.starts_with(offer)) => Ok(()),
        Import::Interface { .. } if name.starts_with("wasi:http/") => {
            Err("of HTTP, components find `outgoing-handler` and `types` of version 0.2".to_owned())
        }
        Import::Interface { .. } => Err("no such interface is offered to components".to_owned()),
        Import::Function(_) => Err("a component cannot import a core function".to_owned()),
        Import::Other(what) => Err(format!("a component cannot import {what}")),
    }
}
