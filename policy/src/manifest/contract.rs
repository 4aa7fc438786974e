//! What a plugin needs of others, and what it promises: `dependencies`, `api_contract`, `config_schema`.

use super::keys::children;
use super::read::{Reading, STATE_VERSION, table, text};
use super::{Dependency, Located, Manifest};
use crate::input::{Field, Fields, ParseError};
use crate::names::PackagePath;

/// Most dependencies of one manifest.
const DEPENDENCIES_MAX: usize = 64;

/// Longest requirement on a version, in characters.
const REQUIREMENT_MAX: usize = 128;

/// Most exports that a manifest names.
const EXPORTS_MAX: usize = 1000;

/// What a manifest says of all this.
#[derive(Debug, Default)]
pub(super) struct Contract {
    pub(super) host_api: Option<Located<semver::VersionReq>>,
    pub(super) state_version: u32,
    pub(super) exports: Vec<String>,
}

pub(super) fn read_schema(fields: &Fields<'_>) -> Result<Option<serde_json::Value>, ParseError> {
    let Some(field) = fields.optional("config_schema") else { return Ok(None) };
    field.open_table()?;
    let schema = field.node.value.to_json();
    let length = schema.to_string().len();
    if length > Manifest::CONFIG_MAX {
        let most = Manifest::CONFIG_MAX;
        return Err(
            field.error(format!("`config_schema` has {length} bytes without white space, over {most}"))
        );
    }
    Ok(Some(schema))
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
        contract.exports = read_exports(&field, reading)?;
    }
    Ok(contract)
}

fn read_exports(field: &Field<'_>, reading: &mut Reading) -> Result<Vec<String>, ParseError> {
    let mut names = Vec::new();
    for export in field.items()? {
        let export = export.table(&children("api_contract.exports[]"))?;
        let name = export.required("name")?;
        let said = text(&name)?;
        if names.len() == EXPORTS_MAX {
            return Err(name.error(format!("more than {EXPORTS_MAX} exports")));
        }
        names.push(said.to_owned());
        for key in ["params", "result"] {
            if let Some(schema) = export.optional(key) {
                schema.open_table()?;
                reading.asks_for(&schema);
            }
        }
    }
    Ok(names)
}
