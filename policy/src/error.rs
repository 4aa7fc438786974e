//! Why there is no plan.

use std::fmt;

use hotcell_protocol::Runtime;

/// Why a manifest, a profile and a platform do not make a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The manifest asks for what no grant of the profile covers.
    #[error("denied: {request} ({place}): {reason} in profile `{profile}`; {advice}")]
    Refused {
        /// What is asked for.
        request: String,
        /// Manifest file and line.
        place: String,
        /// Why it is denied.
        reason: String,
        /// The profile.
        profile: String,
        /// The profile line that would grant it, or what else to do.
        advice: String,
    },
    /// The manifest or profile asks for what hotcell cannot do yet.
    #[error("`{key}` ({place}) is not built yet, and hotcell ignores nothing; {advice}")]
    NotBuilt {
        /// The key that asks for it.
        key: String,
        /// File and line, or the name of the profile.
        place: String,
        /// What to do.
        advice: String,
    },
    /// The plugin was made for another version of hotcell.
    #[error("the plugin needs hotcell {wanted} ({place}), and this is {}; use a version that both know", env!("CARGO_PKG_VERSION"))]
    HostApi {
        /// The requirement.
        wanted: String,
        /// Manifest file and line.
        place: String,
    },
    /// The platform lacks a layer that the profile requires.
    #[error("{layer}: this machine has no {feature}, which Linux {}.{} or later provides (here: {}); {advice}", since_kernel.0, since_kernel.1, Kernel(*kernel))]
    Unavailable {
        /// The layer of the sandbox.
        layer: &'static str,
        /// What is missing.
        feature: String,
        /// The first kernel that has it.
        since_kernel: (u32, u32),
        /// The kernel of the platform.
        kernel: (u32, u32),
        /// What to do.
        advice: String,
    },
    /// The profile is not for this runtime.
    #[error("profile `{profile}` is for {allowed}, and the plugin's runtime is {}; choose a profile for it with `security_policy.profile`", runtime_name(*.runtime))]
    RuntimeMismatch {
        /// The profile.
        profile: String,
        /// The runtimes that it is for.
        allowed: String,
        /// The plugin's.
        runtime: Runtime,
    },
    /// The manifest names no runtime and nothing has looked into the artifact yet.
    #[error(
        "the manifest names no `runtime`; compile the module first, or write `\"runtime\": \"core\"`, `\"component\"` or `\"command\"`"
    )]
    RuntimeUnknown,
    /// The manifest's runtime and the module's differ.
    #[error("the manifest says runtime {}, and the module is a {}", runtime_name(*.declared), runtime_name(*.found))]
    RuntimeDiffers {
        /// What the manifest says.
        declared: Runtime,
        /// What the compiler says of the module.
        found: Runtime,
    },
    /// The kernel cannot enforce what manifest and profile say together.
    #[error("{what}; {advice}")]
    Inexpressible {
        /// What cannot be enforced.
        what: String,
        /// What to do.
        advice: String,
    },
}

/// The word for a runtime in manifests, profiles and messages.
pub(crate) fn runtime_name(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Native => "native",
        Runtime::Core => "core",
        Runtime::Component => "component",
        Runtime::Command => "command",
        Runtime::Compiler => "compiler",
        Runtime::Program => "program",
    }
}

struct Kernel((u32, u32));

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}.{}", self.0.0, self.0.1)
    }
}
