//! `hotcell plugin create`: a project that builds and passes its own test at once.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use hotcell::policy::PluginId;

use super::template::{self, File};
use crate::outcome::Outcome;

/// Longest name: it becomes a part of the plugin's id and of file names.
const NAME_MAX: usize = 64;

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The plugin's name: lower-case letters, digits and `-` after a letter
    #[arg(long, value_parser = name)]
    name: String,
    /// What it is built as
    #[arg(long = "type", value_enum)]
    kind: Kind,
    /// The language of its source
    #[arg(long, value_enum, default_value = "rust")]
    lang: Lang,
    /// Its id, by which it is known for ever [default: local.NAME]
    #[arg(long)]
    id: Option<PluginId>,
    /// The folder to make [default: NAME, here]
    folder: Option<PathBuf>,
}

/// What a plugin is built as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// A core WebAssembly module
    Wasm,
    /// A WebAssembly component, with typed exports
    Component,
    /// A native shared library
    Native,
    /// A WebAssembly command (WASI) with arguments and standard streams
    Command,
}

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Lang {
    Rust,
    C,
    /// Through the npm packages jco and componentize-js
    Javascript,
}

/// How a project of one kind in one language is made.
pub(super) struct Recipe {
    /// Sources and the like: path and text.
    pub(super) files: Vec<File>,
    pub(super) steps: Vec<Vec<String>>,
    /// What the steps leave.
    pub(super) from: String,
    /// The line of the workflow that installs what the steps need.
    pub(super) setup: &'static str,
    /// What the README adds.
    pub(super) notes: &'static str,
    /// The cases of `hotcell.toml`.
    pub(super) tests: &'static str,
}

pub(crate) fn create(arguments: &Create) -> Result<String, Outcome> {
    let Create { name, kind, lang, .. } = arguments;
    let Some(recipe) = template::recipe(*kind, *lang, name) else {
        let what = "there is a template for rust (all types), for c (wasm, native, command) and for javascript (component)";
        return Err(Outcome::invalid(what.to_owned()));
    };
    let id = match &arguments.id {
        Some(id) => id.clone(),
        None => format!("local.{name}").parse().map_err(|error| Outcome::invalid(format!("{error}")))?,
    };
    let folder = arguments.folder.clone().unwrap_or_else(|| name.into());
    let failed = |error| Outcome::invalid(format!("failed to make {}: {error}", folder.display()));
    std::fs::create_dir(&folder).map_err(failed)?;
    for (path, text) in all_files(arguments, &id, &recipe) {
        write(&folder, &path, &text)?;
    }
    eprintln!("made {}; next: cd {0} && hotcell plugin test", folder.display());
    Ok(format!("{}\n", folder.display()))
}

/// Every file of the project.
fn all_files(arguments: &Create, id: &PluginId, recipe: &Recipe) -> Vec<File> {
    let Create { name, kind, lang, .. } = arguments;
    let artifact = artifact(*kind, name);
    let texts = [
        ("{{name}}", name.as_str()),
        ("{{artifact}}", &artifact),
        ("{{type}}", kind_name(*kind)),
        ("{{language}}", lang_name(*lang)),
        ("{{notes}}", recipe.notes),
        ("{{setup}}", recipe.setup),
    ];
    let fill = |text: &str| texts.iter().fold(text.to_owned(), |text, (key, value)| text.replace(key, value));
    let mut files = vec![
        ("package/manifest.json".to_owned(), manifest(*kind, *lang, name, id)),
        (super::project::PROJECT.to_owned(), project(recipe, &artifact)),
        ("README.md".to_owned(), fill(template::README)),
        (".github/workflows/plugin.yml".to_owned(), fill(template::WORKFLOW)),
        (".gitignore".to_owned(), format!("/target\n/node_modules\n/package/{artifact}\n*.lbplugin\n")),
    ];
    files.extend(recipe.files.iter().map(|(path, text)| (path.clone(), fill(text))));
    files
}

fn artifact(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Native => format!("{name}.so"),
        Kind::Wasm | Kind::Component | Kind::Command => format!("{name}.wasm"),
    }
}

/// The manifest, in the order in which people read one. Name and id need no escaping in JSON.
fn manifest(kind: Kind, lang: Lang, name: &str, id: &PluginId) -> String {
    let (plugin_type, path, runtime, profile) = match kind {
        Kind::Native => ("dylib", "dylib_path", "native", "native-strict"),
        Kind::Wasm => ("wasm", "wasm_path", "core", "pure-compute"),
        Kind::Component => ("wasm", "wasm_path", "component", "pure-compute"),
        Kind::Command => ("wasm", "wasm_path", "command", "wasi-command"),
    };
    let calls_host = lang == Lang::Rust && matches!(kind, Kind::Native | Kind::Wasm);
    let mut members = vec![
        ("schema", "1".to_owned()),
        ("id", format!("\"{id}\"")),
        ("name", format!("\"{name}\"")),
        ("version", "\"0.1.0\"".to_owned()),
        ("description", "\"What it does, in a sentence.\"".to_owned()),
        ("plugin_type", format!("\"{plugin_type}\"")),
        (path, format!("\"{}\"", artifact(kind, name))),
        ("runtime", format!("\"{runtime}\"")),
    ];
    if calls_host {
        members.push(("permissions", "{ \"host_calls\": [\"log\"] }".to_owned()));
    }
    if kind != Kind::Command {
        members.push(("api_contract", "{ \"exports\": [{ \"name\": \"greet\" }] }".to_owned()));
    }
    members.push(("security_policy", format!("{{ \"profile\": \"{profile}\" }}")));
    let lines: Vec<_> = members.into_iter().map(|(key, value)| format!("  \"{key}\": {value}")).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn project(recipe: &Recipe, artifact: &str) -> String {
    let quoted = |text: &String| format!("{text:?}");
    let step =
        |step: &Vec<String>| format!("    [{}],\n", step.iter().map(quoted).collect::<Vec<_>>().join(", "));
    let steps: String = recipe.steps.iter().map(step).collect();
    format!(
        "# How `hotcell plugin build` makes the plugin. Steps are programs with their arguments; no shell reads them.\n\
         [build]\nsteps = [\n{steps}]\nfrom = {:?}\nto = \"package/{artifact}\"\n\n\
         # What `hotcell plugin test` tries, in a real confined worker.\n{}",
        recipe.from, recipe.tests
    )
}

fn write(folder: &Path, path: &str, text: &str) -> Result<(), Outcome> {
    let path = folder.join(path);
    let written =
        path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
    written.map_err(|error| Outcome::invalid(format!("failed to write {}: {error}", path.display())))
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Wasm => "wasm",
        Kind::Component => "component",
        Kind::Native => "native",
        Kind::Command => "command",
    }
}

fn lang_name(lang: Lang) -> &'static str {
    match lang {
        Lang::Rust => "Rust",
        Lang::C => "C",
        Lang::Javascript => "JavaScript",
    }
}

fn name(text: &str) -> Result<String, String> {
    let fits =
        text.len() <= NAME_MAX && format!("local.{text}").parse::<PluginId>().is_ok() && !text.contains('.');
    match fits {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("lower-case letters, digits and `-` after a letter, at most {NAME_MAX} characters"))
        }
    }
}
