//! Cgroups: what is bounded there, and whether this host can.
//!
//! They count what rlimits miss (page tables, pipes, sockets, memory files), and a worker's whole time on processors.

use super::rlimits::WASM_RUNTIME;
use crate::plan::CgroupLimit;
use crate::{Controller, Platform, Policy, PolicyError};
use hotcell_protocol::Runtime;

pub(super) fn compile(policy: &Policy, platform: &Platform) -> Result<Vec<CgroupLimit>, PolicyError> {
    let wanted = |controller| policy.cgroups.iter().any(|(known, _)| *known == controller);
    let limit = |controller: Controller| {
        if platform.cgroups.contains(&controller) {
            return Ok(CgroupLimit { controller, value: value(policy, controller) });
        }
        Err(PolicyError::Unavailable {
            layer: "cgroups",
            feature: format!("the `{}` controller, writable for this host", controller.name()),
            since_kernel: (4, 5),
            kernel: platform.kernel,
            advice: "run the host where cgroup v1 is writable, or in a cgroup v2 that is delegated to it (systemd: `Delegate=yes`, and the host's own processes in a sub-group), or name one with `Host::builder().cgroup(path)` or `--cgroup`".to_owned(),
        })
    };
    Controller::ALL.into_iter().filter(|controller| wanted(*controller)).map(limit).collect()
}

fn value(policy: &Policy, controller: Controller) -> u64 {
    let limits = &policy.limits;
    match controller {
        Controller::Memory => match policy.runtime {
            Runtime::Native | Runtime::Compiler | Runtime::Program => limits.memory,
            Runtime::Core | Runtime::Component | Runtime::Command => {
                limits.memory.saturating_add(WASM_RUNTIME)
            }
        },
        // The worker itself is one.
        Controller::Pids => 1 + u64::from(limits.threads),
        Controller::Cpu => u64::from(limits.cpu_share),
    }
}
