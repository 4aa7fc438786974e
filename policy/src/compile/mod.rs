//! compile
use crate::{Plan, Platform, Policy, PolicyError};
/// compile
pub fn compile(policy: &Policy, platform: &Platform) -> Result<Plan, PolicyError> { let _ = (policy, platform); todo!() }
/// compiler
pub fn compiler_plan(platform: &Platform) -> Result<Plan, PolicyError> { let _ = platform; todo!() }
