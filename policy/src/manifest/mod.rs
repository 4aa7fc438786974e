//! What a plugin is and requests.

use hotcell_protocol::Runtime;

use crate::input::ParseError;
use crate::names::{HostCallName, PackagePath, PluginId, ProfileName};
use crate::{GrantPath, PolicyError};

/// A manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    id: PluginId,
    name: String,
    version: semver::Version,
    artifact: PackagePath,
    runtime: Option<Runtime>,
    host_calls: Vec<HostCallName>,
    config: Option<serde_json::Value>,
    profile: Option<ProfileName>,
}

impl Manifest {
    /// Largest manifest, in bytes.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// Reads a manifest; `file` is its name in messages.
    pub fn parse(file: &str, text: &[u8]) -> Result<Manifest, ParseError> { let _ = (file, text); todo!() }
    /// The manifest of a bare artifact: no permission, no configuration.
    pub fn bare(artifact_name: &str, runtime: Runtime, profile: &str) -> Result<Manifest, ParseError> { let _ = (artifact_name, runtime, profile); todo!() }
    /// The manifest with the runtime that was found in the module. A claim of the compiler.
    pub fn with_runtime(self, found: Runtime) -> Result<Manifest, PolicyError> { let _ = found; todo!() }
    /// id
    pub fn id(&self) -> &PluginId { &self.id }
    /// name
    pub fn name(&self) -> &str { &self.name }
    /// version
    pub fn version(&self) -> &semver::Version { &self.version }
    /// description
    pub fn description(&self) -> Option<&str> { None }
    /// author
    pub fn author(&self) -> Option<&str> { None }
    /// artifact
    pub fn artifact(&self) -> &PackagePath { &self.artifact }
    /// runtime
    pub fn runtime(&self) -> Option<Runtime> { self.runtime }
    /// config
    pub fn config(&self) -> Option<&serde_json::Value> { self.config.as_ref() }
    /// profile
    pub fn profile(&self) -> ProfileName { self.profile.clone().unwrap() }
    /// host calls asked for
    pub fn host_calls(&self) -> impl Iterator<Item = &HostCallName> { self.host_calls.iter() }
    /// paths asked for
    pub fn read_paths(&self) -> impl Iterator<Item = &GrantPath> { std::iter::empty() }
}

/// The JSON Schema of manifests.
pub fn manifest_schema() -> String { todo!() }
