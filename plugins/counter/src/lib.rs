//! A native plugin that keeps state: a counter that survives hot reload.

use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Version of the saved state. A later version of this plugin raises it and keeps reading the earlier ones.
const STATE_VERSION: u32 = 1;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Counter {
    value: i64,
    /// What `add` adds if the call does not say.
    step: i64,
}

static COUNTER: Mutex<Counter> = Mutex::new(Counter { value: 0, step: 1 });

/// A counter is valid after every single step, so a panic elsewhere does not spoil it.
fn counter() -> MutexGuard<'static, Counter> {
    COUNTER.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    by: Option<i64>,
}

#[derive(Serialize)]
struct Value {
    value: i64,
}

fn add(request: Add) -> Result<Value, String> {
    let mut counter = counter();
    let by = request.by.unwrap_or(counter.step);
    counter.value =
        counter.value.checked_add(by).ok_or_else(|| format!("{} + {by} does not fit", counter.value))?;
    Ok(Value { value: counter.value })
}

/// Takes no input, so it accepts any.
fn value(_: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Value { value: counter().value })
}

fn save() -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&*counter())
}

fn load(version: u32, state: &[u8]) -> Result<(), String> {
    if version != STATE_VERSION {
        return Err(format!("state of version {version} is unknown, this is version {STATE_VERSION}"));
    }
    let loaded: Counter = serde_json::from_slice(state).map_err(|error| error.to_string())?;
    *counter() = loaded;
    Ok(())
}

fn health() -> Result<(), &'static str> {
    if counter().value == i64::MAX { Err("the counter is full") } else { Ok(()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    step: i64,
}

fn configure(config: Config) -> Result<(), &'static str> {
    if config.step == 0 {
        return Err("a step of 0 counts nothing");
    }
    counter().step = config.step;
    Ok(())
}

hotcell_plugin::export! {
    add => hotcell_plugin::json(add),
    value => value;
    state_save: save,
    state_load: load,
    health: health,
    configure: hotcell_plugin::json(configure),
}
