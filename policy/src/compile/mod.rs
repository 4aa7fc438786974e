//! A policy, compiled for one platform. The kernel is an argument: nothing here asks it.
//!
//! What the kernel cannot enforce is refused in words, or, where something else carries it, printed as `absent`.

mod absent;
mod cgroups;
mod facts;
mod filters;
mod landlock;
mod process;
mod rlimits;

use hotcell_protocol::{Orders, Runtime};

pub(crate) use facts::{everything_else, rule_text};
pub(crate) use filters::in_force;
pub(crate) use landlock::{KERNELS, LANDLOCK_ABI_MAX, abi_for};
pub(crate) use process::namespace_name;

use crate::plan::{Plan, Programs};
use crate::{Platform, Policy, PolicyError, Profile};

/// Compiles a policy for a platform.
///
/// # Errors
/// The platform lacks a layer, the kernel cannot express the policy, or the profile asks for what is not built.
pub fn compile(policy: &Policy, platform: &Platform) -> Result<Plan, PolicyError> {
    refuse_unbuilt(policy)?;
    let cgroups = cgroups::compile(policy, platform)?;
    let orders = orders(policy, platform)?;
    let programs = programs(policy, platform)?;
    let facts = facts::write(policy, platform, &orders, &cgroups, programs.as_deref());
    let connects = policy.connects.iter().map(|(grant, _)| grant.clone()).collect();
    let listens = policy.listens.iter().map(|(address, _)| *address).collect();
    let observed = filters::observed(policy, platform)?;
    Ok(Plan { orders, cgroups, connects, listens, observed, programs, platform: platform.clone(), facts })
}

fn orders(policy: &Policy, platform: &Platform) -> Result<Orders, PolicyError> {
    let landlock = landlock::compile(policy, platform)?;
    let namespaces = process::namespaces(policy, platform)?;
    let filters = filters::compile(policy, platform)?;
    Ok(Orders {
        runtime: policy.runtime,
        launch: policy.launch.0,
        limits: policy.limits.clone(),
        rlimits: rlimits::compile(policy, platform).iter().map(|(rlimit, _)| *rlimit).collect(),
        namespaces,
        distinct_uid: platform.root,
        dumpable: !platform.root,
        debuggable: policy.debuggable.is_some(),
        landlock,
        filters,
        files: landlock::guest_files(policy)?,
        folder: landlock::working_folder(policy),
        host_calls: policy.host_calls.iter().map(|(name, _)| name.to_string()).collect(),
    })
}

/// How the programs that the host runs for this plugin are confined; `None` if it runs none.
fn programs(policy: &Policy, platform: &Platform) -> Result<Option<Box<Programs>>, PolicyError> {
    if policy.programs.is_empty() {
        return Ok(None);
    }
    let own = policy.of_programs();
    let (orders, cgroups) = (orders(&own, platform)?, cgroups::compile(&own, platform)?);
    Ok(Some(Box::new(Programs { granted: policy.programs.clone(), orders, cgroups })))
}

/// The plan of hotcell's own compiler, which no manifest and no profile of a user can change.
///
/// # Errors
/// As for [`compile`].
pub fn compiler_plan(platform: &Platform) -> Result<Plan, PolicyError> {
    let profile = Profile::compiler().map_err(|error| PolicyError::Inexpressible {
        what: format!("the profile of the compiler does not parse: {}", error.message()),
        advice: "this is a fault of hotcell".to_owned(),
    })?;
    let policy =
        Policy { plugin: "hotcell's compiler".to_owned(), ..Policy::widest(&profile, Runtime::Compiler)? };
    compile(&policy, platform)
}

fn refuse_unbuilt(policy: &Policy) -> Result<(), PolicyError> {
    // The compiler starts its threads before its filter forbids more; no runtime of plugins does.
    if policy.limits.threads == 0 || policy.runtime == Runtime::Compiler {
        return Ok(());
    }
    Err(PolicyError::NotBuilt {
        key: "limits.threads".to_owned(),
        place: format!("profile {}", policy.limits_source),
        advice: "write `threads = 0`: a worker has one thread".to_owned(),
    })
}
