//! policy
use hotcell_protocol::{FileAccess, Limits, Runtime};
use crate::{GrantPath, Manifest, PolicyError, Profile};
/// The requests, each covered by a grant.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy { runtime: Runtime, limits: Limits }
impl Policy {
    /// runtime
    pub fn runtime(&self) -> Runtime { self.runtime }
    /// limits
    pub fn limits(&self) -> &Limits { &self.limits }
}
/// A requested path with what may be done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGrant {
    /// path
    pub path: GrantPath,
    /// access
    pub access: FileAccess,
    /// create
    pub create: bool,
    /// delete
    pub delete: bool,
}
/// resolve
pub fn resolve(manifest: &Manifest, profile: &Profile) -> Result<Policy, PolicyError> { let _ = (manifest, profile); todo!() }
