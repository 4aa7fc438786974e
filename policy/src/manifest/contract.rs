//! What a plugin needs of others, and what it promises: `dependencies`, `api_contract`, `config_schema`.

use super::keys::children;
use super::read::{Reading, STATE_VERSION, table, text};
use super::{Dependency, Located, Manifest};
use crate::input::{Field, Fields, ParseError};
use crate::names::PackagePath;
use crate::schema;

/// Most dependencies of one manifest.
const DEPENDENCIES_MAX: usize = 64;

/// Longest requirement on a version, in characters.
const REQUIREMENT_MAX: usize = 128;

/// Most exports that a manifest names.
const EXPORTS_MAX: usize = 1000;

/// An export that a plugin promises.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// As calls give it.
    pub name: String,
    /// JSON Schema of its input, if it is told.
    pub params: Option<serde_json::Value>,
    /// JSON Schema of its reply, likewise.
    pub result: Option<serde_json::Value>,
}

/// What of the exports that somebody was built for is not offered any more, in words: those that are gone, do not accept all that they
/// accepted, or reply with what nobody expects. What cannot be told is not offered; of what `wanted` tells no types, only the name counts.
pub fn unmet(wanted: &[Export], offered: &[Export]) -> Vec<String> {
    let (mut unmet, mut work) = (Vec::new(), schema::WORK);
    for wanted in wanted {
        let name = &wanted.name;
        let Some(offered) = offered.iter().find(|offered| offered.name == *name) else {
            unmet.push(format!("{name} is not there"));
            continue;
        };
        // A caller gives what it was built to give, and takes what it was built to take.
        let sides = [
            ("input", &wanted.params, &offered.params, false),
            ("reply", &wanted.result, &offered.result, true),
        ];
        for (side, wanted, offered, back) in sides {
            let said = match (wanted, offered) {
                (None, _) => continue,
                (Some(_), None) => Err("its type is not told".to_owned()),
                (Some(wanted), Some(offered)) if back => schema::fits(offered, wanted, &mut work),
                (Some(wanted), Some(offered)) => schema::fits(wanted, offered, &mut work),
            };
            unmet.extend(said.err().map(|why| format!("{side} of {name}: {why}")));
        }
    }
    unmet
}

/// What a manifest says of all this.
#[derive(Debug, Default)]
pub(super) struct Contract {
    pub(super) host_api: Option<Located<semver::VersionReq>>,
    pub(super) state_version: u32,
    pub(super) exports: Vec<Export>,
}

pub(super) fn read_schema(fields: &Fields<'_>) -> Result<Option<serde_json::Value>, ParseError> {
    fields.optional("config_schema").map(|field| read_json_schema(&field)).transpose()
}

/// A JSON Schema, which nothing here reads.
fn read_json_schema(field: &Field<'_>) -> Result<serde_json::Value, ParseError> {
    field.open_table()?;
    let schema = field.node.value.to_json();
    let length = schema.to_string().len();
    if length > Manifest::CONFIG_MAX {
        let most = Manifest::CONFIG_MAX;
        return Err(
            field.error(format!("`{}` has {length} bytes without white space, over {most}", field.path))
        );
    }
    Ok(schema)
}

pub(super) fn read_dependencies(fields: &Fields<'_>) -> Result<Vec<Dependency>, ParseError> {
    let Some(field) = fields.optional("dependencies") else { return Ok(Vec::new()) };
    let mut dependencies: Vec<Dependency> = Vec::new();
    for item in field.items()? {
        let fields = table(&item)?;
        let id = fields.required("id")?;
        let dependency = Dependency {
            id: id.parsed()?,
            version: requirement(&fields.required("version")?)?,
            optional: fields.optional("optional").map(|field| field.flag()).transpose()?.unwrap_or(false),
            exports: match fields.optional("exports") {
                Some(field) => read_exports(&field, "dependencies[].exports[]")?,
                None => Vec::new(),
            },
        };
        if dependencies.iter().any(|other| other.id == dependency.id) {
            return Err(id.error(format!("`dependencies` names {} twice", dependency.id)));
        }
        if dependencies.len() == DEPENDENCIES_MAX {
            return Err(item.error(format!("more than {DEPENDENCIES_MAX} dependencies")));
        }
        dependencies.push(dependency);
    }
    Ok(dependencies)
}

/// A requirement on a version, of the length that the key table says.
fn requirement(field: &Field<'_>) -> Result<semver::VersionReq, ParseError> {
    field.text(REQUIREMENT_MAX)?;
    field.parsed()
}

pub(super) fn read_contract(fields: &Fields<'_>, reading: &mut Reading) -> Result<Contract, ParseError> {
    let mut contract = Contract { state_version: STATE_VERSION, ..Contract::default() };
    let Some(field) = fields.optional("api_contract") else { return Ok(contract) };
    let fields = table(&field)?;
    if let Some(field) = fields.optional("host_api") {
        contract.host_api = Some(Located { value: requirement(&field)?, line: field.line() });
    }
    if let Some(field) = fields.optional("wit") {
        field.parsed::<PackagePath>()?;
        reading.asks_for(&field);
    }
    if let Some(field) = fields.optional("state_version") {
        contract.state_version = field.integer32(0..=u32::MAX)?;
    }
    if let Some(field) = fields.optional("exports") {
        contract.exports = read_exports(&field, "api_contract.exports[]")?;
    }
    Ok(contract)
}

fn read_exports(field: &Field<'_>, path: &'static str) -> Result<Vec<Export>, ParseError> {
    let mut exports: Vec<Export> = Vec::new();
    for export in field.items()? {
        let export = export.table(&children(path))?;
        let name = export.required("name")?;
        let said = text(&name)?;
        if exports.len() == EXPORTS_MAX {
            return Err(name.error(format!("more than {EXPORTS_MAX} exports")));
        }
        let types = |key| export.optional(key).map(|field| read_json_schema(&field)).transpose();
        exports.push(Export { name: said.to_owned(), params: types("params")?, result: types("result")? });
    }
    Ok(exports)
}
