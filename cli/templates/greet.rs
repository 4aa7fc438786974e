//! What {{name}} does. `hotcell plugin test` runs it in a confined worker, as `hotcell.toml` says.

use hotcell_plugin::{Level, json, log};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Person {
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Greeting {
    greeting: String,
}

fn greet(person: Person) -> Result<Greeting, String> {
    let name = person.name.trim();
    if name.is_empty() {
        return Err("nobody to greet: the name is empty".to_owned());
    }
    // Into the host's log. The manifest asks for this host call.
    log(Level::Info, "somebody is greeted").map_err(|error| error.to_string())?;
    Ok(Greeting { greeting: format!("Hello, {name}!") })
}

hotcell_plugin::export! {
    greet => json(greet),
}
