//! What this kernel and user provide, layer by layer, and which shipped profiles can start here.

use hotcell_policy::{Controller, Manifest, Platform, Profile, compile, resolve};
use hotcell_protocol::Runtime;
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use crate::platform::platform;
use crate::surroundings::{Surrounding, surroundings};

/// The Landlock ABI from which nothing that hotcell uses is missing: scopes came last (Linux 6.12).
const LANDLOCK_FULL: u32 = 6;

/// A report for `hotcell doctor`.
#[derive(Clone, Debug, Serialize)]
pub struct Doctor {
    /// Kernel version, major and minor.
    pub kernel: (u32, u32),
    /// The processor.
    pub arch: String,
    /// The layers of the sandbox.
    pub layers: Vec<Layer>,
    /// What runs this host, where it may take layers away.
    pub surroundings: Vec<Surrounding>,
    /// The shipped profiles.
    pub profiles: Vec<ProfileStatus>,
}

/// One layer of the sandbox.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub status: LayerStatus,
    /// What was found.
    pub detail: String,
    /// The kernel that has it.
    pub since: &'static str,
    /// What to do where it is missing.
    pub advice: &'static str,
}

/// Whether a layer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerStatus {
    /// In full.
    Present,
    /// In part; the detail says what is missing.
    Partial,
    /// Not at all.
    Absent,
    /// Not what this user's host uses.
    NotUsed,
}

/// Whether a profile can start here.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileStatus {
    /// Its name.
    pub name: String,
    /// Why not; `None` where it can.
    pub problem: Option<String>,
}

/// Examines this machine for this user. Starts no worker.
///
/// # Errors
/// hotcell knows no system calls of this processor.
pub fn doctor() -> Result<Doctor, Error> {
    let platform = platform()?;
    let profiles = Profile::shipped_names().iter().map(|name| profile_status(name, &platform)).collect();
    let arch = platform.arch.to_string();
    let surroundings = surroundings(Path::new("/"));
    Ok(Doctor { kernel: platform.kernel, arch, layers: layers(&platform), surroundings, profiles })
}

fn layers(platform: &Platform) -> Vec<Layer> {
    vec![
        landlock(platform.landlock_abi),
        Layer {
            name: "seccomp",
            status: present(platform.seccomp_filter),
            detail: found(platform.seccomp_filter, "filters that refuse with an errno and kill a process"),
            since: "Linux 4.14 with CONFIG_SECCOMP_FILTER",
            advice: "use such a kernel, or lift what filters seccomp(2) for this process",
        },
        Layer {
            name: "seccomp listener",
            status: present(platform.seccomp_listener),
            detail: found(platform.seccomp_listener, "user notification, which native plugins need to load"),
            since: "Linux 5.5",
            advice: "use such a kernel; wasm plugins work without it",
        },
        identity(platform.root),
        namespaces(platform),
        cgroups(platform),
    ]
}

fn landlock(abi: u32) -> Layer {
    let status = match abi {
        0 => LayerStatus::Absent,
        LANDLOCK_FULL.. => LayerStatus::Present,
        _ => LayerStatus::Partial,
    };
    let detail = if abi == 0 { "the kernel has none".to_owned() } else { format!("ABI {abi}") };
    Layer {
        name: "Landlock",
        status,
        detail,
        since: "Linux 5.13; 6.12 for scopes (ABI 6)",
        advice: "use a newer kernel, or add landlock to the lsm= boot parameter",
    }
}

fn identity(root: bool) -> Layer {
    Layer {
        name: "distinct identity",
        status: present(root),
        detail: if root { "a uid for every plugin" } else { "an ordinary user cannot give out uids" }
            .to_owned(),
        since: "every kernel, as root",
        advice: "run the host as root to give every plugin a uid of its own",
    }
}

fn namespaces(platform: &Platform) -> Layer {
    let (there, how) = match platform.root {
        true => (platform.namespaces, "IPC, mount, network and UTS namespaces, as root"),
        false => {
            (platform.user_namespaces, "IPC, mount, network and UTS namespaces, through a user namespace")
        }
    };
    let how = if there && !platform.mounting {
        "IPC, network and UTS namespaces; nothing can be mounted"
    } else {
        how
    };
    Layer {
        name: "namespaces",
        status: present(there),
        detail: found(there, how),
        since: "Linux 3.8",
        advice: "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or run as root",
    }
}

fn cgroups(platform: &Platform) -> Layer {
    let names: Vec<_> = platform.cgroups.iter().map(|controller| controller.name()).collect();
    let (status, detail) = match names.len() {
        0 => (
            LayerStatus::Absent,
            "no controller is writable for this host; rlimits bound its workers".to_owned(),
        ),
        len if len < Controller::ALL.len() => (LayerStatus::Partial, names.join(", ")),
        _ => (LayerStatus::Present, names.join(", ")),
    };
    Layer {
        name: "cgroups",
        status,
        detail,
        since: "version 1, or Linux 4.5 for version 2",
        advice: "only profiles with `cgroups` need it: run the host as root with cgroup v1, or in a delegated cgroup v2 (systemd: Delegate=yes), or name one with --cgroup",
    }
}

fn present(there: bool) -> LayerStatus {
    if there { LayerStatus::Present } else { LayerStatus::Absent }
}

fn found(there: bool, what: &str) -> String {
    if there { what.to_owned() } else { format!("refused here: {what}") }
}

fn profile_status(name: &str, platform: &Platform) -> ProfileStatus {
    let problem = check(name, platform).err().map(|error| error.to_string());
    ProfileStatus { name: name.to_owned(), problem }
}

/// Plans a plugin that asks for nothing, for any runtime that the profile is for.
fn check(name: &str, platform: &Platform) -> Result<(), Error> {
    let profile = match Profile::shipped(name) {
        Some(profile) => profile?,
        None => return Ok(()),
    };
    let mut last = Ok(());
    for runtime in [Runtime::Native, Runtime::Core, Runtime::Component, Runtime::Command] {
        let artifact = if runtime == Runtime::Native { "probe.so" } else { "probe.wasm" };
        let manifest = Manifest::bare(artifact, runtime, name)?;
        let planned = resolve(&manifest, &profile).and_then(|policy| compile(&policy, platform).map(|_| ()));
        match planned {
            Ok(()) => return Ok(()),
            // Another runtime's turn.
            Err(hotcell_policy::PolicyError::RuntimeMismatch { .. }) => {}
            Err(error) => last = Err(error.into()),
        }
    }
    last
}
