//! A notebook that keeps what it is given over hot reloads; and, where its configuration says so, a bad version of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Version of the saved state, as the manifest says it, too.
const STATE_VERSION: u32 = 1;

#[derive(Default, Serialize, Deserialize)]
struct Notebook {
    text: String,
    count: u64,
}

/// What is wrong with this version.
#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Fault {
    #[default]
    None,
    /// It says that it cannot serve.
    Unhealthy,
    /// It says so from the first call on.
    Sickens,
    /// It does not save its state.
    SavesNot,
    /// It never ends to save its state.
    SavesForever,
    /// It refuses every state.
    TakesNot,
    /// It crashes on every state.
    CrashesOnState,
    /// It crashes in every call that counts.
    CrashesOnAdd,
    /// It never ends a call that counts.
    HangsOnAdd,
    /// It starts only if the host call `test.start` is answered well.
    AsksToStart,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    fault: Fault,
}

static NOTEBOOK: Mutex<Notebook> = Mutex::new(Notebook { text: String::new(), count: 0 });
static FAULT: Mutex<Fault> = Mutex::new(Fault::None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has(fault: Fault) -> bool {
    *lock(&FAULT) == fault
}

fn hang() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Counts this call; the reply is the count.
fn count() -> u64 {
    if has(Fault::CrashesOnAdd) {
        std::process::abort();
    }
    if has(Fault::HangsOnAdd) {
        hang();
    }
    let mut notebook = lock(&NOTEBOOK);
    notebook.count += 1;
    notebook.count
}

fn save() -> Result<Vec<u8>, String> {
    if has(Fault::SavesForever) {
        hang();
    }
    if has(Fault::SavesNot) {
        return Err("the state is lost".to_owned());
    }
    serde_json::to_vec(&*lock(&NOTEBOOK)).map_err(|error| error.to_string())
}

fn load(version: u32, state: &[u8]) -> Result<(), String> {
    if has(Fault::CrashesOnState) {
        std::process::abort();
    }
    if has(Fault::TakesNot) || version != STATE_VERSION {
        return Err(format!("state of version {version}: this notebook knows {STATE_VERSION}"));
    }
    *lock(&NOTEBOOK) = serde_json::from_slice(state).map_err(|error| error.to_string())?;
    Ok(())
}

fn health() -> Result<(), &'static str> {
    let sick = has(Fault::Sickens) && lock(&NOTEBOOK).count > 0;
    if sick || has(Fault::Unhealthy) { Err("not today") } else { Ok(()) }
}

/// Native library and core module: bytes in, bytes out.
#[cfg(feature = "bytes")]
mod bytes {
    use super::{Config, FAULT, Fault, NOTEBOOK, count, has, health, load, lock, save};

    fn set_state(input: &[u8]) -> Result<(), String> {
        lock(&NOTEBOOK).text = String::from_utf8(input.to_vec()).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn get_state(_: &[u8]) -> Result<String, &'static str> {
        Ok(lock(&NOTEBOOK).text.clone())
    }

    fn add(_: &[u8]) -> Result<String, &'static str> {
        Ok(count().to_string())
    }

    /// Holds the worker busy for about as many million steps as the input says.
    fn work(input: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(input).map_err(|error| error.to_string())?;
        let millions: u64 = text.parse().map_err(|_| "a number of millions".to_owned())?;
        for step in 0..millions * 1_000_000 {
            std::hint::black_box(step);
        }
        Ok(())
    }

    /// What a file holds: read here, or by the host where a plugin has no system to ask.
    #[cfg(not(target_family = "wasm"))]
    fn read_file(path: &[u8]) -> Result<Vec<u8>, String> {
        std::fs::read(String::from_utf8_lossy(path).as_ref()).map_err(|error| error.to_string())
    }

    #[cfg(target_family = "wasm")]
    fn read_file(path: &[u8]) -> Result<Vec<u8>, String> {
        hotcell_plugin::host_call("file.read", path).map_err(|error| error.to_string())
    }

    /// Asks another plugin: the input is its id, the export and the export's input, with a space between them.
    fn relay(input: &[u8]) -> Result<Vec<u8>, String> {
        let text = std::str::from_utf8(input).map_err(|error| error.to_string())?;
        let mut parts = text.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let (id, export, input) = (part(), part(), part());
        hotcell_plugin::call_plugin(id, export, input.as_bytes()).map_err(|error| error.to_string())
    }

    fn crash(_: &[u8]) -> Result<(), &'static str> {
        std::process::abort()
    }

    fn configure(config: Config) -> Result<(), String> {
        *lock(&FAULT) = config.fault;
        if has(Fault::AsksToStart) {
            hotcell_plugin::host_call("test.start", &[]).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    hotcell_plugin::export! {
        set_state => set_state,
        get_state => get_state,
        add => add,
        work => work,
        relay => relay,
        read_file => read_file,
        crash => crash;
        state_save: save,
        state_load: load,
        health: health,
        configure: hotcell_plugin::json(configure),
    }
}

/// Component: typed values, as `wit/notebook.wit` describes them.
#[cfg(feature = "component")]
mod component {
    wit_bindgen::generate!({ world: "hotcell:notebook/notebook", path: ["../../sdk/wit", "wit"], generate_all });

    use exports::hotcell::plugin::lifecycle::Guest as Lifecycle;

    use super::{Config, FAULT, NOTEBOOK, count, lock};

    struct Component;

    impl Guest for Component {
        fn set_state(text: String) {
            lock(&NOTEBOOK).text = text;
        }

        fn get_state() -> String {
            lock(&NOTEBOOK).text.clone()
        }

        fn add() -> u64 {
            count()
        }

        fn crash() {
            std::process::abort()
        }
    }

    impl Lifecycle for Component {
        fn health() -> Result<(), String> {
            super::health().map_err(str::to_owned)
        }

        fn state_save() -> Result<Vec<u8>, String> {
            super::save()
        }

        fn state_load(version: u32, state: Vec<u8>) -> Result<(), String> {
            super::load(version, &state)
        }

        fn configure(config: String) -> Result<(), String> {
            let config: Config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
            *lock(&FAULT) = config.fault;
            Ok(())
        }
    }

    export!(Component);
}
