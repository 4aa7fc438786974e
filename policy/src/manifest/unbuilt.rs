//! The parts of a manifest that hotcell reads but does not do yet: checked like all others, refused when asked for.

use super::read::{Reading, table, text};
use crate::input::{Field, Fields, ParseError};
use crate::names::{NameError, PackagePath};

pub(super) fn read(fields: &Fields<'_>, reading: &mut Reading) -> Result<(), ParseError> {
    if let Some(signature) = fields.optional("signature") {
        read_signature(&signature)?;
        reading.asks_for(&signature);
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
