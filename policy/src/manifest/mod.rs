//! What a plugin is and requests: `manifest.json`.
//!
//! A manifest is hostile text. Everything in it is bounded and parsed into types that cannot be wrong; what it asks for
//! is no right until a profile grants it.

mod contract;
mod keys;
mod permissions;
mod read;
mod schema;

use hotcell_protocol::Runtime;

pub use contract::{Export, unmet};
pub(crate) use permissions::{Located, Requests};
pub(crate) use read::Unbuilt;
pub use schema::manifest_schema;

use crate::PolicyError;
use crate::input::{Document, ParseError};
use crate::names::{GrantPath, HostCallName, HostPort, ListenAddress, PackagePath, PluginId, ProfileName};

/// A parsed manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub(crate) file: String,
    id: PluginId,
    name: String,
    version: semver::Version,
    description: Option<String>,
    author: Option<String>,
    artifact: PackagePath,
    artifacts: Vec<PackagePath>,
    runtime: Option<Runtime>,
    pub(crate) instances: Option<Located<u32>>,
    pub(crate) requests: Requests,
    pub(crate) host_api: Option<Located<semver::VersionReq>>,
    state_version: u32,
    exports: Vec<Export>,
    dependencies: Vec<Dependency>,
    config_schema: Option<serde_json::Value>,
    config: Option<serde_json::Value>,
    profile: Option<ProfileName>,
    pub(crate) profile_line: usize,
    require_signature: bool,
    restart: RestartPolicy,
    reload: Option<ReloadPolicy>,
    pub(crate) unbuilt: Vec<Unbuilt>,
}

/// Another plugin that a plugin needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Dependency {
    /// Its id.
    pub id: PluginId,
    /// The versions that will do.
    pub version: semver::VersionReq,
    /// Whether the plugin runs without it.
    pub optional: bool,
    /// What the plugin was built for, if it tells.
    pub exports: Vec<Export>,
}

impl Dependency {
    /// Whether a plugin is the one that is needed, in a version that will do. Its exports are another question ([`unmet`]).
    pub fn is_met_by(&self, manifest: &Manifest) -> bool {
        self.id == *manifest.id() && self.version.matches(manifest.version())
    }
}

/// What happens after a crash, as a manifest wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Whether and when a worker is replaced.
    pub mode: RestartMode,
    /// Crashes within a minute before no call is taken for a while; `None` for no bound.
    pub max_restarts: Option<u32>,
    /// The first pause after a start that failed, in milliseconds; `None` for the host's.
    pub backoff_ms: Option<u64>,
}

/// That a plugin wants to be reloaded when its package changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadPolicy {
    /// How long running calls may take to end, in milliseconds; `None` for the host's bound.
    pub drain_ms: Option<u64>,
}

/// Whether and when a worker that crashed is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartMode {
    /// Not before the plugin is reloaded.
    Never,
    /// With the next call.
    #[default]
    OnDemand,
    /// At once.
    OnCrash,
}

impl Manifest {
    /// Largest manifest, in bytes: checked before the first byte is looked at.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// Largest configuration, in bytes of JSON without white space.
    pub const CONFIG_MAX: usize = 24 * 1024;

    /// Reads a manifest; `file` is its name in messages.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(file: &str, text: &[u8]) -> Result<Manifest, ParseError> {
        if text.len() > Manifest::MAX_BYTES {
            let message =
                format!("the manifest has {} bytes; at most {} are read", text.len(), Manifest::MAX_BYTES);
            return Err(Document { file, text: "" }.error(&(0..0), message));
        }
        match std::str::from_utf8(text) {
            Ok(text) => read::read(&Document { file, text }),
            Err(error) => {
                let at = error.valid_up_to();
                let lossy = String::from_utf8_lossy(text);
                Err(Document { file, text: &lossy }
                    .error(&(at..at + 1), "the manifest is not UTF-8 from here on"))
            }
        }
    }

    /// The manifest of a bare artifact: no permission, no configuration. `artifact_name` is its file name.
    ///
    /// # Errors
    /// The name is not that of a file in a package, the profile name is none, or the runtime is the compiler's.
    pub fn bare(artifact_name: &str, runtime: Runtime, profile: &str) -> Result<Manifest, ParseError> {
        let wrong = |text: &str, message: String| {
            Document { file: "command line", text }.error(&(0..text.len()), message)
        };
        if runtime == Runtime::Compiler {
            return Err(wrong(artifact_name, "no plugin runs as the compiler".to_owned()));
        }
        let artifact: PackagePath =
            artifact_name.parse().map_err(|error| wrong(artifact_name, format!("{error}")))?;
        let profile = profile.parse().map_err(|error| wrong(profile, format!("{error}")))?;
        let id = bare_id(artifact_name);
        Ok(Manifest {
            file: artifact_name.to_owned(),
            id: id.parse().map_err(|error| wrong(&id, format!("{error}")))?,
            name: artifact_name.to_owned(),
            version: semver::Version::new(0, 1, 0),
            description: None,
            author: None,
            artifacts: vec![artifact.clone()],
            artifact,
            runtime: Some(runtime),
            instances: None,
            requests: Requests::default(),
            host_api: None,
            state_version: read::STATE_VERSION,
            exports: Vec::new(),
            dependencies: Vec::new(),
            config_schema: None,
            config: None,
            profile: Some(profile),
            profile_line: 1,
            require_signature: false,
            restart: RestartPolicy::default(),
            reload: None,
            unbuilt: Vec::new(),
        })
    }

    /// The manifest with the runtime that was found in its module, where it named none.
    ///
    /// What the compiler finds is a claim, so a runtime that is named is never replaced.
    ///
    /// # Errors
    /// The manifest names another one, or the claim is no runtime of a module.
    pub fn with_runtime(mut self, found: Runtime) -> Result<Manifest, PolicyError> {
        match (self.runtime, found) {
            (Some(declared), _) if declared != found => Err(PolicyError::RuntimeDiffers { declared, found }),
            (None, Runtime::Native | Runtime::Compiler) => Err(PolicyError::RuntimeUnknown),
            _ => {
                self.runtime = Some(found);
                Ok(self)
            }
        }
    }

    /// Names the plugin for ever.
    pub fn id(&self) -> &PluginId {
        &self.id
    }

    /// The name that people see; no control characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version; never 0.0.x.
    pub fn version(&self) -> &semver::Version {
        &self.version
    }

    /// What the plugin does, in its author's words.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Who made it, in their own words.
    pub fn author(&self) -> Option<&str> {
        self.author.as_deref()
    }

    /// The artifact for this machine, inside the package.
    pub fn artifact(&self) -> &PackagePath {
        &self.artifact
    }

    /// The artifacts for all machines.
    pub fn artifacts(&self) -> &[PackagePath] {
        &self.artifacts
    }

    /// How the artifact is run; `None` where that is to be found in the module.
    pub fn runtime(&self) -> Option<Runtime> {
        self.runtime
    }

    /// The version of the state that the plugin saves.
    pub fn state_version(&self) -> u32 {
        self.state_version
    }

    /// The exports that the plugin promises.
    pub fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// The plugins that this one needs.
    pub fn dependencies(&self) -> &[Dependency] {
        &self.dependencies
    }

    /// The JSON Schema that configurations meet.
    pub fn config_schema(&self) -> Option<&serde_json::Value> {
        self.config_schema.as_ref()
    }

    /// What the plugin gets when it starts.
    pub fn config(&self) -> Option<&serde_json::Value> {
        self.config.as_ref()
    }

    /// The profile whose grants are asked for: the named one, or that of the runtime.
    pub fn profile(&self) -> ProfileName {
        let by_runtime = match self.runtime {
            Some(Runtime::Native) => ProfileName::NATIVE_STRICT,
            Some(Runtime::Command) => ProfileName::WASI_COMMAND,
            _ => ProfileName::PURE_COMPUTE,
        };
        self.profile.clone().unwrap_or_else(|| ProfileName::of_shipped(by_runtime))
    }

    /// Whether the plugin wants to be refused where it is not signed.
    pub fn requires_signature(&self) -> bool {
        self.require_signature
    }

    /// What happens after a crash.
    pub fn restart(&self) -> &RestartPolicy {
        &self.restart
    }

    /// Whether and how the plugin is reloaded when its package changes.
    pub fn reload(&self) -> Option<&ReloadPolicy> {
        self.reload.as_ref()
    }

    /// The host calls that are asked for.
    pub fn host_calls(&self) -> impl Iterator<Item = &HostCallName> {
        self.requests.host_calls.iter().map(|call| &call.value)
    }

    /// The addresses that are asked for, to connect to.
    pub fn connects(&self) -> impl Iterator<Item = &HostPort> {
        self.requests.connects.iter().map(|address| &address.value)
    }

    /// The addresses that are asked for, to listen at.
    pub fn listens(&self) -> impl Iterator<Item = ListenAddress> {
        self.requests.listens.iter().map(|address| address.value)
    }

    /// The programs that are asked for.
    pub fn programs(&self) -> impl Iterator<Item = &GrantPath> {
        self.requests.programs.iter().map(|program| &program.value)
    }

    /// The paths that are asked for to write to.
    pub fn write_paths(&self) -> impl Iterator<Item = &GrantPath> {
        self.requests.write_paths.iter().map(|path| &path.value)
    }

    /// The paths that are asked for, for reading only and for writing.
    pub fn paths(&self) -> impl Iterator<Item = &GrantPath> {
        self.requests.read_paths.iter().chain(&self.requests.write_paths).map(|path| &path.value)
    }
}

/// `local.` and what of a file name can stand in an id.
fn bare_id(artifact_name: &str) -> String {
    /// Leaves room for `local.p-` below the longest id.
    const STEM_MAX: usize = 100;
    let file = artifact_name.rsplit('/').next().unwrap_or_default();
    let stem = file.split('.').find(|part| !part.is_empty()).unwrap_or_default();
    let plain: String = stem
        .chars()
        .take(STEM_MAX)
        .map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '-' })
        .collect();
    if plain.starts_with(|first: char| first.is_ascii_lowercase()) {
        format!("local.{plain}")
    } else {
        format!("local.p-{plain}")
    }
}
