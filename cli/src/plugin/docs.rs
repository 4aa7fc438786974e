//! `hotcell plugin docs`: the reference of a plugin, from its manifest.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hotcell::policy::{Export, Manifest};

use super::project::package_of;
use crate::args::Global;
use crate::host;
use crate::outcome::Outcome;

#[derive(Debug, Args)]
pub(crate) struct Docs {
    /// A project, an .lbplugin file, a folder with manifest.json, or @ID of an installed plugin
    #[arg(default_value = ".")]
    plugin: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value = "markdown")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Markdown,
    Html,
}

/// A piece of the reference. Texts of the manifest are still as they are.
enum Piece {
    Title(String),
    Heading(&'static str),
    /// Of a part of what the heading is about.
    Name(String),
    Text(String),
    Items(Vec<String>),
    Code(String),
}

pub(crate) fn docs(global: &Global, arguments: &Docs) -> Result<String, Outcome> {
    let plugin = package_of(&arguments.plugin)?;
    let verified = host::builder(global)?.packages()?.verify(plugin)?;
    let pieces = reference(&verified.manifest);
    Ok(match arguments.format {
        Format::Markdown => markdown(&pieces),
        Format::Html => html(&verified.manifest, &pieces),
    })
}

/// What the manifest says, for those who use the plugin.
fn reference(manifest: &Manifest) -> Vec<Piece> {
    let mut pieces = vec![Piece::Title(manifest.name().to_owned())];
    pieces.extend(manifest.description().map(|text| Piece::Text(text.to_owned())));
    let facts = [
        ("id", Some(manifest.id().to_string())),
        ("version", Some(manifest.version().to_string())),
        ("author", manifest.author().map(str::to_owned)),
        ("profile", Some(manifest.profile().to_string())),
        ("state version", Some(manifest.state_version().to_string())),
    ];
    let facts = facts.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
    pieces.push(Piece::Items(facts.collect()));
    let dependencies = manifest.dependencies().iter().map(|needed| {
        let optional = if needed.optional { " (optional)" } else { "" };
        format!("{} {}{optional}", needed.id, needed.version)
    });
    let lists: [(&str, Vec<String>); 8] = [
        ("Exports", manifest.exports().iter().map(|export| export.name.clone()).collect()),
        ("Reads and writes", manifest.write_paths().map(ToString::to_string).collect()),
        ("Reads", reads(manifest)),
        ("Connects to", manifest.connects().map(ToString::to_string).collect()),
        ("Listens at", manifest.listens().map(|address| address.to_string()).collect()),
        ("Has programs run", manifest.programs().map(ToString::to_string).collect()),
        ("Calls of the application", manifest.host_calls().map(ToString::to_string).collect()),
        ("Needs", dependencies.collect()),
    ];
    for (heading, items) in lists.into_iter().filter(|(_, items)| !items.is_empty()) {
        pieces.extend([Piece::Heading(heading), Piece::Items(items)]);
        if heading == "Exports" {
            pieces.extend(manifest.exports().iter().flat_map(types));
        }
    }
    for (heading, value) in
        [("Configuration", manifest.config()), ("Schema of the configuration", manifest.config_schema())]
    {
        pieces.extend(
            value.into_iter().flat_map(|value| [Piece::Heading(heading), Piece::Code(format!("{value:#}"))]),
        );
    }
    pieces
}

/// What an export takes and returns, where the manifest says so.
fn types(export: &Export) -> Vec<Piece> {
    let sides = [("Input", &export.params), ("Reply", &export.result)];
    let told: Vec<_> =
        sides.into_iter().filter_map(|(side, schema)| Some((side, schema.as_ref()?))).collect();
    let name = (!told.is_empty()).then(|| Piece::Name(export.name.clone()));
    let schemas = told.into_iter().flat_map(|(side, schema)| {
        let mut schema = schema.clone();
        if let Some(members) = schema.as_object_mut() {
            members.remove("$schema");
        }
        [Piece::Text(format!("{side}, as JSON Schema:")), Piece::Code(format!("{schema:#}"))]
    });
    name.into_iter().chain(schemas).collect()
}

fn reads(manifest: &Manifest) -> Vec<String> {
    let writes: Vec<_> = manifest.write_paths().collect();
    manifest.paths().filter(|path| !writes.contains(path)).map(ToString::to_string).collect()
}

fn markdown(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        // Writing into a string cannot fail.
        let _ = match piece {
            Piece::Title(title) => writeln!(text, "# {}\n", plain(title)),
            Piece::Heading(heading) => writeln!(text, "## {heading}\n"),
            Piece::Name(name) => writeln!(text, "### {}\n", plain(name)),
            Piece::Text(words) => writeln!(text, "{}\n", plain(words)),
            Piece::Items(items) => {
                items.iter().for_each(|item| _ = writeln!(text, "- {}", plain(item)));
                writeln!(text)
            }
            // Indented: no text can end it.
            Piece::Code(code) => {
                code.lines().for_each(|line| _ = writeln!(text, "    {line}"));
                writeln!(text)
            }
        };
    }
    text.trim_end().to_owned() + "\n"
}

/// Text that is no markup: what Markdown takes for its own is escaped.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push(' '),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '&' => {
                out.extend(['\\', character])
            }
            other => out.push(other),
        }
    }
    out
}

fn html(manifest: &Manifest, pieces: &[Piece]) -> String {
    let mut body = String::new();
    for piece in pieces {
        // Writing into a string cannot fail.
        let _ = match piece {
            Piece::Title(title) => writeln!(body, "<h1>{}</h1>", escaped(title)),
            Piece::Heading(heading) => writeln!(body, "<h2>{heading}</h2>"),
            Piece::Name(name) => writeln!(body, "<h3>{}</h3>", escaped(name)),
            Piece::Text(words) => writeln!(body, "<p>{}</p>", escaped(words)),
            Piece::Items(items) => {
                let items: String =
                    items.iter().map(|item| format!("<li>{}</li>\n", escaped(item))).collect();
                writeln!(body, "<ul>\n{items}</ul>")
            }
            Piece::Code(code) => writeln!(body, "<pre>{}</pre>", escaped(code)),
        };
    }
    let title = escaped(manifest.name());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n{body}</html>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use hotcell::policy::Manifest;

    use super::{html, markdown, reference};

    #[test]
    fn what_a_manifest_says_is_text_and_never_markup() {
        let text = r#"{"schema": 1, "id": "a.b", "name": "<script>x</script>", "version": "1.0.0", "plugin_type": "wasm",
            "wasm_path": "a.wasm", "description": "[x](javascript:y) `z`", "config": {"a": "</pre><b>"},
            "api_contract": {"exports": [{"name": "greet"}]}}"#;
        let manifest = Manifest::parse("m", text.as_bytes()).expect("a manifest");
        let pieces = reference(&manifest);
        let page = html(&manifest, &pieces);
        assert!(
            page.contains("<li>greet</li>") && !page.contains("<script>") && !page.contains("<b>"),
            "{page}"
        );
        let text = markdown(&pieces);
        assert!(text.contains("- greet\n") && !text.contains("[x](") && !text.contains("<script>"), "{text}");
    }
}
