//! What can be said against a package before anything of it runs.
//!
//! An audit finds what is written down: signatures, permissions, what a library or a module says of itself, secrets that were packed
//! by mistake. It does not find what code does: the sandbox is for that.

mod advisories;
mod rules;
mod secrets;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hotcell_package::{Contents, Standing};
use hotcell_policy::{AuditLimit, Manifest, Profile};
use hotcell_protocol::compile::{EXAMINE, LibraryFacts};
use hotcell_protocol::{CompileRequest, Runtime};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::class::Class;
use crate::compile::{Question, blocking};
use crate::error::Error;
use crate::host::{Host, Shared};
use crate::package::Fingerprint;
use crate::package::artifact::Sealed;
use crate::text::escape;
use crate::violation::Severity;
pub use rules::{AUDIT_RULES, AuditRule};

/// How long a library may take to be read: an honest one takes a hundredth of it.
const TIME: Duration = Duration::from_secs(10);

/// What was found in a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// The plugin's id.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The gravest first.
    pub findings: Vec<Finding>,
    /// How many advisories about the runtime were read. `None`: none were looked for, since there is no database of them
    /// ([`HostBuilder::advisories`](crate::HostBuilder::advisories)), or the plugin does not run in it.
    pub advisories: Option<usize>,
}

/// One thing that can be said against a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the rule, one of [`AUDIT_RULES`].
    pub rule: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// The file of the package that it is about.
    pub file: Option<String>,
    /// What it is, and what to do. Names from the package are escaped.
    pub message: String,
}

impl Audit {
    /// The gravest finding's severity.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    fn new(manifest: &Manifest, mut findings: Vec<Finding>, advisories: Option<usize>) -> Audit {
        findings.sort_by(|one, other| other.severity.cmp(&one.severity).then(one.rule.cmp(other.rule)));
        Audit {
            plugin: manifest.id().to_string(),
            version: manifest.version().to_string(),
            findings,
            advisories,
        }
    }
}

impl Host {
    /// Audits a package: an `.lbplugin` file, a folder with a manifest, or `@ID`. Nothing of it runs; what is hostile in its artifact
    /// is read by a confined process.
    ///
    /// # Errors
    /// It is no package, or its manifest is not right. What is wrong with its signatures or its artifact is a finding.
    pub async fn audit(&self, path: impl AsRef<Path>) -> Result<Audit, Error> {
        self.shared().audit(path.as_ref()).await.map(|(audit, _)| audit)
    }
}

impl Shared {
    /// The audit of a package, and the files that it had.
    async fn audit(self: &Arc<Shared>, path: &Path) -> Result<(Audit, Contents), Error> {
        let (shared, path) = (Arc::clone(self), path.to_owned());
        let (manifest, contents, judged, artifact, mut findings) = blocking(move || {
            let measured = shared.gate.measure(&path)?;
            let judged = shared.gate.judge(&measured);
            let artifact = measured.artifact()?;
            let mut findings = Vec::new();
            measured.each_file(&mut |path, bytes| findings.extend(secrets::look(path, bytes)))?;
            Ok((measured.manifest, measured.contents, judged, artifact, findings))
        })
        .await?;
        findings.extend(rules::standing(&judged));
        findings.extend(rules::files(&manifest, &contents));
        let profile = crate::package::find_profile(manifest.profile().as_str(), &self.gate.profiles);
        match &profile {
            Ok(profile) => findings.extend(rules::permissions(&manifest, profile)),
            Err(error) => findings.push(rules::refused(error)),
        }
        if let Some(artifact) = artifact {
            let exceptions = profile.is_ok_and(|profile| profile.allows_exceptions());
            let request = CompileRequest { runtime: manifest.runtime(), exceptions };
            findings.extend(self.examine(&manifest, &contents, &Arc::new(artifact), request).await?);
        }
        let database = self.advisories.clone().filter(|_| manifest.runtime() != Some(Runtime::Native));
        let advisories = match database {
            None => None,
            Some(database) => {
                let failed = format!("read the advisories in {}", database.display());
                let read =
                    move || advisories::of_runtime(&database).map_err(|source| Error::io(failed, source));
                let (known, read) = blocking(read).await?;
                findings.extend(known);
                Some(read)
            }
        };
        Ok((Audit::new(&manifest, findings, advisories), contents))
    }

    /// Refuses what is about to be loaded, where its profile wants audits and this one finds too much.
    pub(crate) async fn refuse_by_audit(
        self: &Arc<Shared>,
        folder: Option<&Path>,
        manifest: &Manifest,
        profile: &Profile,
        loaded: Fingerprint,
    ) -> Result<(), Error> {
        let Some(limit) = profile.audit() else { return Ok(()) };
        let subject = format!("{} {}", manifest.id(), manifest.version());
        let refused = |detail: String| Error::Package { subject, detail, class: Class::Refused };
        let Some(folder) = folder else {
            return Err(refused("its profile wants an audit, which takes a package".to_owned()));
        };
        let (audit, contents) = self.audit(folder).await?;
        // What was audited has to be what is loaded: nothing changed meanwhile, and no other manifest was named.
        let artifact = contents.listing.get(manifest.artifact()).map(|(digest, _)| *digest);
        let audited = Sha256::digest(&contents.manifest).into();
        if artifact.map(|artifact| Fingerprint { manifest: audited, artifact }) != Some(loaded) {
            let what = "what its profile wants audited is not what is loaded: it changed meanwhile, or its manifest is not manifest.json";
            return Err(refused(what.to_owned()));
        }
        let limit = match limit {
            AuditLimit::Low => Severity::Low,
            AuditLimit::Medium => Severity::Medium,
            AuditLimit::High => Severity::High,
        };
        let grave = audit.findings.iter().filter(|finding| finding.severity >= limit);
        let texts: Vec<_> = grave.map(|finding| format!("{}: {}", finding.rule, finding.message)).collect();
        match texts.is_empty() {
            true => Ok(()),
            false => Err(refused(format!("the audit that its profile wants says: {}", texts.join("; ")))),
        }
    }

    /// What an artifact says of itself, read by a confined process.
    async fn examine(
        &self,
        manifest: &Manifest,
        contents: &Contents,
        artifact: &Arc<Sealed>,
        request: CompileRequest,
    ) -> Result<Vec<Finding>, Error> {
        let name = manifest.artifact().as_str();
        let subject = format!("{name} of {}", manifest.id());
        let unusable = |error: String| vec![rules::unusable(name, &error)];
        if manifest.runtime() == Some(Runtime::Native) {
            let question = Question { export: EXAMINE, input: Vec::new(), time: TIME };
            let asked = self.compilers.ask_confined(&self.surroundings, &subject, artifact, question).await;
            let facts: Result<LibraryFacts, String> = match asked {
                Ok((answer, _)) => answer,
                // A library that ends the process that reads it.
                Err(error @ Error::Package { .. }) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            return Ok(match facts {
                Ok(facts) => rules::library(manifest, contents, &facts),
                Err(why) => unusable(escape(why.as_bytes())),
            });
        }
        let code = self.compilers.code(&self.surroundings, &subject, artifact, &request).await;
        match code {
            Ok(code) => Ok(rules::module(manifest, &code.description)),
            Err(error @ Error::Package { .. }) => Ok(unusable(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

/// What the package's signatures are worth, or what is wrong with them.
type Judged = Result<Standing, Error>;
