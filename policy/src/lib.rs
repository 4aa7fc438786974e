//! Who may what: a manifest's requests and a profile's grants become a policy, and a policy becomes a plan for one
//! platform.
//!
//! Declared ([`Manifest`], [`Profile`]), resolved ([`Policy`]) and compiled ([`Plan`]) are separate types, and data moves
//! one way. Nothing here opens a file, asks the kernel, reads a clock or starts a thread: the platform is an argument.
//! What this crate does *not* do is enforce: a worker executes [`Plan::orders`] and the host checks the evidence.

#![forbid(unsafe_code)]

mod compile;
mod dependencies;
mod error;
mod input;
mod manifest;
mod names;
mod plan;
mod platform;
mod policy;
mod profile;
mod render;
pub mod review;
mod schema;
mod seccomp;
mod units;

pub use compile::{compile, compiler_plan};
pub use dependencies::{DependencyError, needed_besides, start_order};
pub use error::PolicyError;
pub use input::ParseError;
pub use manifest::{
    Dependency, Export, Manifest, ReloadPolicy, RestartMode, RestartPolicy, manifest_schema, unmet,
};
pub use names::{
    GrantPath, HostCallName, HostPort, ListenAddress, NameError, PackagePath, PluginId, ProfileName,
};
pub use plan::{CgroupLimit, Fact, Plan, Topic};
pub use platform::{Arch, Controller, Platform};
pub use policy::{ConnectGrant, FileGrant, Policy, ProgramGrant, resolve};
pub use profile::{AuditLimit, Profile};
pub use render::{render, render_json};
pub use seccomp::{Action, SeccompData, evaluate, for_pid, syscall_name, syscall_number};
