//! A second embedding: the back end of a small desktop shell. Commands come in, events go out, and the host is kept in the
//! application's state, as a framework such as Tauri holds it; only the window is missing. The functions of [`Shell`] are what such
//! a framework calls with its managed state; `main` stands for its event loop, with a line of JSON for each message.
//!
//! ```text
//! {"id": 1, "command": "load", "path": "plugins/greet/native"}
//! {"id": 2, "command": "call", "plugin": "dev.hotcell.greet-native", "export": "greet", "input": {"name": "Ada"}}
//! {"id": 3, "command": "list"}
//! {"id": 4, "command": "unload", "plugin": "dev.hotcell.greet-native"}
//! ```
//!
//! Run from the repository: `cargo run --release -p hotcell --example shell -- target/shell`, after `scripts/build`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hotcell::{Class, Event, EventKind, Events, Host, Plugin};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{RwLock, mpsc};

/// The application's state. Cheap to share with each command.
struct Shell {
    host: Host,
    plugins: RwLock<BTreeMap<String, Plugin>>,
}

/// What the window asks for.
#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
enum Command {
    Load { path: PathBuf },
    Call { plugin: String, export: String, input: Value },
    List,
    Unload { plugin: String },
}

/// A message of the window.
#[derive(Deserialize)]
struct Message {
    id: u64,
    #[serde(flatten)]
    command: Command,
}

/// An error as a window can show it: what to say, and of which kind it is.
#[derive(Serialize)]
struct Failure {
    class: Class,
    message: String,
}

/// What a user sees of a plugin.
#[derive(Serialize)]
struct Entry {
    id: String,
    name: String,
    version: String,
}

impl Shell {
    async fn load(&self, path: PathBuf) -> Result<Entry, Failure> {
        let plugin = self.host.load(path).await.map_err(|error| failure(error.class(), &error))?;
        let entry = entry(&plugin);
        self.plugins.write().await.insert(entry.id.clone(), plugin);
        Ok(entry)
    }

    /// The window gets the reply as it is: what a plugin says is data, never markup.
    async fn call(&self, plugin: &str, export: &str, input: &Value) -> Result<Value, Failure> {
        let plugin = self.plugin(plugin).await?;
        // No lock is held while the plugin works: others are called, loaded and unloaded meanwhile.
        plugin.call(export, input).await.map_err(|error| failure(error.class(), &error))
    }

    async fn list(&self) -> Vec<Entry> {
        self.plugins.read().await.values().map(entry).collect()
    }

    async fn unload(&self, plugin: &str) -> Result<(), Failure> {
        let plugin = self.plugins.write().await.remove(plugin).ok_or_else(|| unknown(plugin))?;
        plugin.unload().await;
        Ok(())
    }

    async fn plugin(&self, id: &str) -> Result<Plugin, Failure> {
        self.plugins.read().await.get(id).cloned().ok_or_else(|| unknown(id))
    }

    /// One command, to the value that the window gets.
    async fn serve(&self, command: Command) -> Result<Value, Failure> {
        match command {
            Command::Load { path } => self.load(path).await.map(|entry| json!(entry)),
            Command::Call { plugin, export, input } => self.call(&plugin, &export, &input).await,
            Command::List => Ok(json!(self.list().await)),
            Command::Unload { plugin } => self.unload(&plugin).await.map(|()| Value::Null),
        }
    }
}

fn entry(plugin: &Plugin) -> Entry {
    Entry { id: plugin.id().to_owned(), name: plugin.name(), version: plugin.version() }
}

fn failure(class: Class, error: &dyn std::fmt::Display) -> Failure {
    Failure { class, message: error.to_string() }
}

fn unknown(id: &str) -> Failure {
    failure(Class::Invalid, &format!("no plugin {id} is loaded"))
}

/// What a user should hear of, as events of the window.
async fn emit(mut events: Events, window: mpsc::Sender<Value>) {
    while let Some(Event { plugin, kind, .. }) = events.next().await {
        let told = match kind {
            EventKind::Exited(exit) => json!({ "event": "ended", "plugin": plugin, "why": exit.to_string() }),
            EventKind::Violation(violation) => {
                json!({ "event": "refused", "plugin": plugin, "what": violation })
            }
            EventKind::Reloaded { to, .. } => json!({ "event": "updated", "plugin": plugin, "version": to }),
            _ => continue,
        };
        if window.send(told).await.is_err() {
            return;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An installed application has hotcell's programs beside it; an example lies one folder below them.
    let mut builder = Host::builder().worker(std::env::current_exe()?.with_file_name(".."));
    if let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) {
        let (state, cache, uids) = (folder.join("state"), folder.join("cache"), folder.join("uids"));
        builder = builder.state_dir(state).cache_dir(cache).uid_registry(uids);
    }
    let host = builder.build().await?;
    let (window, mut outgoing) = mpsc::channel::<Value>(64);
    let emitting = tokio::spawn(emit(host.events(), window.clone()));
    let shell = Arc::new(Shell { host, plugins: RwLock::default() });

    let writing = tokio::spawn(async move {
        let mut out = tokio::io::stdout();
        while let Some(message) = outgoing.recv().await {
            if out.write_all(format!("{message}\n").as_bytes()).await.is_err() || out.flush().await.is_err() {
                return;
            }
        }
    });

    // Each command is a task: a slow plugin holds up nobody else.
    let mut commands = tokio::task::JoinSet::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (shell, window) = (Arc::clone(&shell), window.clone());
        commands.spawn(async move {
            let answer = match serde_json::from_str::<Message>(&line) {
                Ok(Message { id, command }) => match shell.serve(command).await {
                    Ok(result) => json!({ "id": id, "result": result }),
                    Err(failure) => json!({ "id": id, "error": failure }),
                },
                Err(error) => json!({ "error": failure(Class::Invalid, &error) }),
            };
            // A window that is gone wants no answer.
            let _ = window.send(answer).await;
        });
    }
    while commands.join_next().await.is_some() {}

    // The window was closed: end plugins before the application does.
    let Shell { host, plugins } = Arc::into_inner(shell).ok_or("a command outlived its window")?;
    drop(plugins);
    host.shutdown().await;
    emitting.await?;
    drop(window);
    writing.await?;
    Ok(())
}
