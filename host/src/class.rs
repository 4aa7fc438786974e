//! What an error means to a caller, in the eleven ways that the `hotcell` command tells apart.

use serde::Serialize;

/// The kind of an outcome. One error has one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The plugin itself returned an error.
    Plugin,
    /// Wrong use: a manifest, profile, artifact, export or input that is not what it must be.
    Invalid,
    /// A permission that nothing grants, an undeclared import, a full queue, or a feature that is not built.
    Refused,
    /// The worker ended by itself, or by a signal.
    Crashed,
    /// A deadline passed.
    Deadline,
    /// A resource limit was reached.
    Resource,
    /// The worker broke the protocol of its channel.
    Protocol,
    /// This system lacks a layer of the sandbox that the plan needs.
    Unavailable,
    /// hotcell failed, or its environment did.
    Internal,
    /// The caller gave up, or the host was shut down.
    Interrupted,
}

impl Class {
    /// The exit code of the `hotcell` command for this class.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Plugin => 1,
            Class::Invalid => 2,
            Class::Refused => 3,
            Class::Crashed => 4,
            Class::Deadline => 5,
            Class::Resource => 6,
            Class::Protocol => 7,
            Class::Unavailable => 8,
            Class::Internal => 9,
            Class::Interrupted => 130,
        }
    }
}
