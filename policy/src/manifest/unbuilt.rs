//! The parts of a manifest that hotcell reads but does not do yet: checked like all others, refused when asked for.

use super::keys::children;
use super::read::{Reading, table, text};
use crate::input::{Field, Fields, ParseError};
use crate::names::{NameError, PackagePath, PluginId};
use crate::units::Duration;

pub(super) fn read(fields: &Fields<'_>, reading: &mut Reading) -> Result<(), ParseError> {
    if let Some(schema) = fields.optional("config_schema") {
        schema.open_table()?;
        reading.asks_for(&schema);
    }
    if let Some(dependencies) = fields.optional("dependencies") {
        for dependency in dependencies.items()? {
            read_dependency(&dependency)?;
        }
        reading.asks_for(&dependencies);
    }
    if let Some(contract) = fields.optional("api_contract") {
        read_contract(&contract, reading)?;
    }
    if let Some(signature) = fields.optional("signature") {
        read_signature(&signature)?;
        reading.asks_for(&signature);
    }
    Ok(())
}

fn read_dependency(field: &Field<'_>) -> Result<(), ParseError> {
    let fields = table(field)?;
    fields.required("id")?.parsed::<PluginId>()?;
    fields.required("version")?.parsed::<semver::VersionReq>()?;
    fields.optional("optional").map(|field| field.flag()).transpose()?;
    Ok(())
}

fn read_contract(field: &Field<'_>, reading: &mut Reading) -> Result<(), ParseError> {
    let fields = table(field)?;
    if let Some(field) = fields.optional("host_api") {
        field.parsed::<semver::VersionReq>()?;
        reading.asks_for(&field);
    }
    if let Some(field) = fields.optional("wit") {
        field.parsed::<PackagePath>()?;
        reading.asks_for(&field);
    }
    let Some(exports) = fields.optional("exports") else { return Ok(()) };
    for export in exports.items()? {
        let export = export.table(&children("api_contract.exports[]"))?;
        text(&export.required("name")?)?;
        for key in ["params", "result"] {
            export.optional(key).map(|schema| schema.open_table().map(|_| ())).transpose()?;
        }
    }
    reading.asks_for(&exports);
    Ok(())
}

pub(super) fn read_lifecycle(security: &Fields<'_>, reading: &mut Reading) -> Result<(), ParseError> {
    if let Some(reload) = security.optional("reload") {
        let fields = table(&reload)?;
        fields.optional("drain").map(|field| field.parsed::<Duration>()).transpose()?;
        if fields.required("mode")?.choice(&[("never", false), ("on-change", true)])? {
            reading.asks_for(&reload);
        }
    }
    Ok(())
}

/// So many hexadecimal digits.
struct Hex<const DIGITS: usize>;

impl<const DIGITS: usize> std::str::FromStr for Hex<DIGITS> {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if text.len() == DIGITS && text.bytes().all(lower) {
            return Ok(Hex);
        }
        Err(NameError(format!("must be {DIGITS} lower-case hexadecimal digits")))
    }
}

fn read_signature(field: &Field<'_>) -> Result<(), ParseError> {
    let fields = table(field)?;
    text(&fields.required("key_id")?)?;
    fields.required("ed25519")?.parsed::<Hex<128>>()?;
    let files = fields.required("files")?;
    for (path, _, digest) in files.open_table()?.entries() {
        if let Err(error) = path.parse::<PackagePath>() {
            return Err(digest.error(format!("`{}` names no file of the package: {error}", digest.path)));
        }
        digest.parsed::<Hex<64>>()?;
    }
    Ok(())
}
