//! What a manifest promises, tried before anybody relies on it: configurations meet their schema, exports are there.

use std::sync::Arc;
use std::time::Duration;

use hotcell_policy::Manifest;
use hotcell_protocol::Description;
use hotcell_protocol::compile::{NAMES_MAX, VALIDATE};

use crate::class::Class;
use crate::compile::Question;
use crate::error::Error;
use crate::host::{Host, Shared};
use crate::package::artifact::Sealed;
use crate::text::escape;

/// How long a schema may take: an honest one takes a thousandth of it.
const TIME: Duration = Duration::from_secs(5);

/// Whether a configuration meets its manifest's `config_schema`. A confined process finds out, since the schema is the
/// plugin author's.
///
/// # Errors
/// It does not, or the schema is none, or took too long.
pub(crate) async fn check_config(shared: &Shared, manifest: &Manifest, config: &str) -> Result<(), Error> {
    let Some(schema) = manifest.config_schema() else { return Ok(()) };
    validate(shared, format!("the configuration of {}", manifest.id()), schema, config).await
}

impl Host {
    /// Whether JSON meets a JSON Schema, such as those of [`Export`](hotcell_policy::Export). A confined process finds out, since
    /// either may be hostile.
    ///
    /// # Errors
    /// It does not, or the schema is none, or took too long.
    pub async fn validate(&self, schema: &serde_json::Value, json: &str) -> Result<(), Error> {
        validate(self.shared(), "the value".to_owned(), schema, json).await
    }
}

async fn validate(
    shared: &Shared,
    subject: String,
    schema: &serde_json::Value,
    json: &str,
) -> Result<(), Error> {
    let schema = Arc::new(Sealed::from_bytes(schema.to_string().as_bytes())?);
    let question = Question { export: VALIDATE, input: json.into(), time: TIME };
    let (answer, _) =
        shared.compilers.ask_confined(&shared.surroundings, &subject, &schema, question).await?;
    answer.map_err(|why: String| Error::Package {
        subject,
        detail: format!("it does not meet its schema: {}", escape(why.as_bytes())),
        class: Class::Invalid,
    })
}

/// Whether a module has the exports that its manifest promises.
///
/// # Errors
/// It lacks some. A description that names as many as it can is believed to have the others.
pub(crate) fn check_exports(manifest: &Manifest, description: &Description) -> Result<(), Error> {
    let known = |name: &&str| {
        description.exports.iter().any(|export| export == name) || description.exports.len() >= NAMES_MAX
    };
    let promised = manifest.exports().iter().map(|export| export.name.as_str());
    let missing: Vec<_> = promised.filter(|name| !known(name)).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(lacks(manifest, &missing.join(", "))),
    }
}

/// An artifact does not keep what its manifest promises.
pub(crate) fn lacks(manifest: &Manifest, missing: &str) -> Error {
    Error::Package {
        subject: format!("{} of {}", manifest.artifact(), manifest.id()),
        detail: format!("it lacks exports that `api_contract.exports` promises: {missing}"),
        class: Class::Invalid,
    }
}
