//! The contract of a project: what its artifact says of its typed exports, written into its manifest.

use std::path::Path;

use hotcell::Plugin;
use hotcell::policy::Manifest;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::project::Project;
use super::test::project_host;
use crate::args::Global;
use crate::host;
use crate::outcome::Outcome;

/// The export that the SDK makes, and its symbol.
const EXPORT: &str = "hotcell_contract";
const SYMBOL: &[u8] = b"hotcell_export_hotcell_contract";

/// The manifest's file.
const MANIFEST: &str = "manifest.json";

/// An export as the manifest has it, and as the artifact says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    params: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Map<String, Value>>,
}

impl Export {
    /// Whether a build wrote it.
    fn is_typed(&self) -> bool {
        self.params.is_some() || self.result.is_some()
    }
}

/// Asks the artifact of a project for its contract, in a confined worker, and writes it into the manifest if that says another.
pub(super) async fn refresh(global: &Global, project: &Project, artifact: &Path) -> Result<(), Outcome> {
    let bytes = std::fs::read(artifact).map_err(|error| failed("read", artifact, &error))?;
    if !bytes.windows(SYMBOL.len()).any(|window| window == SYMBOL) {
        return Ok(());
    }
    let file = project.package.join(MANIFEST);
    let text = std::fs::read_to_string(&file).map_err(|error| failed("read", &file, &error))?;
    let said = ask(global, project, &file, &text, &bytes).await?;
    let Some(changed) = with_contract(&text, said).map_err(|error| failed("read", &file, &error))? else {
        return Ok(());
    };
    std::fs::write(&file, changed).map_err(|error| failed("write", &file, &error))?;
    eprintln!("{}: the types of its exports are new", file.display());
    Ok(())
}

/// The exports that the manifest of a project promises.
pub(super) fn of(project: &Project) -> Result<Vec<hotcell::policy::Export>, Outcome> {
    let file = project.package.join(MANIFEST);
    let text = std::fs::read(&file).map_err(|error| failed("read", &file, &error))?;
    let manifest = Manifest::parse(&file.display().to_string(), &text).map_err(hotcell::Error::from)?;
    Ok(manifest.exports().to_vec())
}

fn failed(what: &str, file: &Path, error: &dyn std::fmt::Display) -> Outcome {
    Outcome::invalid(format!("failed to {what} {}: {error}", file.display()))
}

/// What the artifact says. It is loaded without what the manifest promises of it, which may be of an earlier build.
async fn ask(
    global: &Global,
    project: &Project,
    file: &Path,
    text: &str,
    artifact: &[u8],
) -> Result<Vec<Export>, Outcome> {
    let place =
        Manifest::parse(&file.display().to_string(), text.as_bytes()).map_err(hotcell::Error::from)?;
    let mut manifest: Value = serde_json::from_str(text).map_err(|error| failed("read", file, &error))?;
    if let Some(contract) = manifest.get_mut("api_contract").and_then(Value::as_object_mut) {
        contract.remove("exports");
    }
    let folder = project.root.join("target").join("contract");
    let inside = folder.join(place.artifact().as_str());
    let wrong = |error: std::io::Error| failed("write", &folder, &error);
    std::fs::create_dir_all(inside.parent().unwrap_or(&folder)).map_err(wrong)?;
    std::fs::write(folder.join(MANIFEST), manifest.to_string()).map_err(wrong)?;
    std::fs::write(&inside, artifact).map_err(wrong)?;
    let host = project_host(global, project).await?;
    let said = match host.load_with(&folder, host::load_options(global)).await {
        Ok(plugin) => told(&plugin).await,
        Err(error) => Err(error.into()),
    };
    host.shutdown().await;
    said
}

async fn told(plugin: &Plugin) -> Result<Vec<Export>, Outcome> {
    let reply = plugin.call_raw(EXPORT, Vec::new()).await.map_err(|error| {
        Outcome::invalid(format!("the plugin does not say the types of its exports (`{EXPORT}`): {error}"))
    })?;
    serde_json::from_slice(&reply)
        .map_err(|error| Outcome::invalid(format!("the plugin says no contract (`{EXPORT}`): {error}")))
}

/// The manifest with this contract, or nothing if it has it. What is not the contract stays as it is written.
fn with_contract(text: &str, said: Vec<Export>) -> serde_json::Result<Option<String>> {
    let Members(mut members) = serde_json::from_str(text)?;
    let known = members.iter().position(|(name, _)| name == "api_contract");
    let mut contract = match known.and_then(|at| members.get(at)) {
        Some((_, raw)) => serde_json::from_str(raw.get())?,
        None => Map::new(),
    };
    let before: Vec<Export> = contract.get("exports").map_or(Ok(Vec::new()), Vec::deserialize)?;
    // What an author promises by hand, without types, stays promised.
    let by_hand = before.iter().filter(|export| !export.is_typed());
    let by_hand = by_hand.filter(|export| said.iter().all(|typed| typed.name != export.name)).cloned();
    let exports: Vec<Export> = said.iter().cloned().chain(by_hand).collect();
    if exports == before {
        return Ok(None);
    }
    contract.insert("exports".to_owned(), json!(exports));
    let raw = RawValue::from_string(serde_json::to_string_pretty(&contract)?.replace('\n', "\n  "))?;
    match known.and_then(|at| members.get_mut(at)) {
        Some(member) => member.1 = raw,
        None => members.push(("api_contract".to_owned(), raw)),
    }
    let lines: Vec<_> = members
        .iter()
        .map(|(name, raw)| Ok(format!("  {}: {}", serde_json::to_string(name)?, raw.get())))
        .collect::<serde_json::Result<_>>()?;
    Ok(Some(format!("{{\n{}\n}}\n", lines.join(",\n"))))
}

/// The members of a JSON object, in their order and as they are written.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(name: &str, of: Option<&str>) -> Export {
        let schema = |of: &str| Map::from_iter([("type".to_owned(), json!(of))]);
        Export { name: name.to_owned(), params: of.map(schema), result: None }
    }

    const BEFORE: &str = r#"{ "schema": 1, "name":   "A",
  "permissions": { "host_calls": ["log"] },
  "api_contract": { "state_version": 2, "exports": [{ "name": "raw" }, { "name": "gone", "params": {} }] },
  "author": "me" }"#;

    #[test]
    fn the_contract_is_replaced_and_the_rest_stays_as_it_is_written() {
        let after =
            with_contract(BEFORE, vec![export("new", Some("string"))]).expect("JSON").expect("it differs");
        assert_eq!(
            after,
            r#"{
  "schema": 1,
  "name": "A",
  "permissions": { "host_calls": ["log"] },
  "api_contract": {
    "exports": [
      {
        "name": "new",
        "params": {
          "type": "string"
        }
      },
      {
        "name": "raw"
      }
    ],
    "state_version": 2
  },
  "author": "me"
}
"#
        );
        assert!(
            with_contract(&after, vec![export("new", Some("string"))]).expect("JSON").is_none(),
            "once is enough"
        );
        let fresh =
            with_contract("{\"schema\": 1}", vec![export("new", None)]).expect("JSON").expect("it differs");
        assert!(fresh.ends_with("}\n") && fresh.contains("\"api_contract\": {"), "{fresh}");
    }
}
