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

use crate::plan::Plan;
use crate::{Platform, Policy, PolicyError, Profile};

/// Compiles a policy for a platform.
///
/// # Errors
/// The platform lacks a layer, the kernel cannot express the policy, or the profile asks for what is not built.
pub fn compile(policy: &Policy, platform: &Platform) -> Result<Plan, PolicyError> {
    refuse_unbuilt(policy)?;
    let landlock = landlock::compile(policy, platform)?;
    let namespaces = process::namespaces(policy, platform)?;
    let cgroups = cgroups::compile(policy, platform)?;
    let compiled = filters::compile(policy, platform)?;
    let orders = Orders {
        runtime: policy.runtime,
        launch: policy.launch.0,
        limits: policy.limits.clone(),
        rlimits: rlimits::compile(policy, platform).iter().map(|(rlimit, _)| *rlimit).collect(),
        namespaces,
        distinct_uid: platform.root,
        dumpable: !platform.root,
        landlock,
        filters: compiled,
        files: landlock::guest_files(policy)?,
        folder: landlock::working_folder(policy),
        host_calls: policy.host_calls.iter().map(|(name, _)| name.to_string()).collect(),
    };
    let facts = facts::write(policy, platform, &orders, &cgroups);
    let connects = policy.connects.iter().map(|(grant, _)| grant.clone()).collect();
    let listens = policy.listens.iter().map(|(address, _)| *address).collect();
    Ok(Plan { orders, cgroups, connects, listens, platform: platform.clone(), facts })
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
    for (key, value) in [("processes", policy.limits.processes), ("threads", policy.limits.threads)] {
        if value > 0 {
            return Err(PolicyError::NotBuilt {
                key: format!("limits.{key}"),
                place: format!("profile {}", policy.limits_source),
                advice: format!(
                    "write `{key} = 0`: a worker has one thread until all of its descendants can be killed"
                ),
            });
        }
    }
    Ok(())
}
