//! `[limits]`: every bound of a worker, each written out.

use hotcell_protocol::Limits;

use crate::input::{Field, Fields, ParseError, Value};
use crate::units::{Duration, Rate, Share, Size};

/// The keys of `[limits]`, in the order of plans.
pub(super) const LIMITS: [&str; 15] = [
    "memory",
    "cpu",
    "cpu-share",
    "start",
    "call",
    "message",
    "outstanding",
    "instances",
    "state",
    "open-files",
    "processes",
    "threads",
    "file-size",
    "disk",
    "log-rate",
];

/// What a worker needs for itself, before the plugin has a byte.
const MEMORY_MIN: u64 = 16 << 20;

/// Workers of one plugin at most.
pub(crate) const INSTANCES_MAX: u32 = 64;

pub(super) fn read(field: &Field<'_>) -> Result<Limits, ParseError> {
    let fields = field.table(&LIMITS)?;
    let limits = Limits {
        memory: size(&fields, "memory")?,
        cpu_ms: duration(&fields, "cpu")?,
        cpu_share: quantity::<Share>(&fields, "cpu-share", "100 %")?.0,
        start_ms: duration(&fields, "start")?,
        call_ms: duration(&fields, "call")?,
        message: size(&fields, "message")?,
        outstanding: fields.required("outstanding")?.integer32(1..=65_536)?,
        instances: fields.required("instances")?.integer32(1..=INSTANCES_MAX)?,
        state: size(&fields, "state")?,
        open_files: fields.required("open-files")?.integer32(0..=1_048_576)?,
        processes: fields.required("processes")?.integer32(0..=65_536)?,
        threads: fields.required("threads")?.integer32(0..=65_536)?,
        file_size: size(&fields, "file-size")?,
        disk: size(&fields, "disk")?,
        log_rate: quantity::<Rate>(&fields, "log-rate", "64 KiB/s")?.0,
    };
    if limits.memory < MEMORY_MIN {
        let message = format!("a worker needs at least {} itself", Size(MEMORY_MIN));
        return Err(fields.required("memory")?.error(message));
    }
    if limits.message > limits.memory {
        return Err(fields.required("message")?.error("a message of this size does not fit into `memory`"));
    }
    Ok(limits)
}

fn size(fields: &Fields<'_>, key: &str) -> Result<u64, ParseError> {
    Ok(quantity::<Size>(fields, key, "64 MiB")?.0)
}

/// A quantity with its unit.
fn quantity<T>(fields: &Fields<'_>, key: &str, example: &str) -> Result<T, ParseError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let field = fields.required(key)?;
    match field.node.value {
        Value::Text(_) => field.parsed(),
        _ => Err(field.wrong_type(&format!("a quantity with its unit, such as `\"{example}\"`"))),
    }
}

fn duration(fields: &Fields<'_>, key: &str) -> Result<u64, ParseError> {
    match quantity::<Duration>(fields, key, "500 ms")? {
        Duration(0) => Err(fields.required(key)?.error(format!("`limits.{key}` leaves no time at all"))),
        Duration(time) => Ok(time),
    }
}

/// Each limit with its unit, in the order of [`LIMITS`].
pub(crate) fn written(limits: &Limits) -> [(&'static str, String); 15] {
    let Limits { memory, cpu_ms, cpu_share, start_ms, call_ms, message, outstanding, .. } = limits;
    let Limits { instances, state, open_files, processes, threads, file_size, disk, log_rate, .. } = limits;
    let texts = [
        Size(*memory).to_string(),
        Duration(*cpu_ms).to_string(),
        Share(*cpu_share).to_string(),
        Duration(*start_ms).to_string(),
        Duration(*call_ms).to_string(),
        Size(*message).to_string(),
        outstanding.to_string(),
        instances.to_string(),
        Size(*state).to_string(),
        open_files.to_string(),
        processes.to_string(),
        threads.to_string(),
        Size(*file_size).to_string(),
        Size(*disk).to_string(),
        Rate(*log_rate).to_string(),
    ];
    let mut texts = texts.into_iter();
    LIMITS.map(|name| (name, texts.next().unwrap_or_default()))
}
