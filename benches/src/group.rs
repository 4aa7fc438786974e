//! What belongs together in a report, and what its figures count.

use crate::placement::Placement;

/// What a row belongs to; all rows of one group and placement are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// 64 bytes there and back.
    Call,
    /// The same, from a caller that slept before.
    Sparse,
    /// 64 bytes there and back, while many other calls are outstanding.
    Pipelined,
    /// 1 MiB there and back.
    Mebibyte,
    /// 16 MiB there and back.
    SixteenMebibytes,
    /// From a plugin to the host and back.
    HostCall,
    /// A process that starts.
    Launch,
    /// Private memory of one process.
    Memory,
}

/// Calls of one caller that wait for their replies, in the pipelined group.
pub(crate) const OUTSTANDING: usize = 256;

impl Group {
    /// All, in the order of the report.
    pub(crate) const ALL: [Group; 8] = [
        Group::Call,
        Group::Sparse,
        Group::Pipelined,
        Group::Mebibyte,
        Group::SixteenMebibytes,
        Group::HostCall,
        Group::Launch,
        Group::Memory,
    ];

    /// Those whose messages any channel could carry.
    pub(crate) const ECHOES: [Group; 4] =
        [Group::Call, Group::Sparse, Group::Mebibyte, Group::SixteenMebibytes];

    /// Its heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Group::Call => "64 bytes there and back",
            Group::Sparse => "64 bytes there and back, 200 µs after the last reply",
            Group::Pipelined => "64 bytes there and back, 256 calls outstanding, time per call",
            Group::Mebibyte => "1 MiB there and back",
            Group::SixteenMebibytes => "16 MiB there and back",
            Group::HostCall => "64 bytes from the plugin to the host and back",
            Group::Launch => "Start of a process, to its end or to a ready plugin",
            Group::Memory => "Private memory of a process",
        }
    }

    /// The start of the ids of its rows; its name for programs.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Group::Call => "call-64",
            Group::Sparse => "sparse-64",
            Group::Pipelined => "pipelined-64",
            Group::Mebibyte => "echo-1m",
            Group::SixteenMebibytes => "echo-16m",
            Group::HostCall => "host-call-64",
            Group::Launch => "launch",
            Group::Memory => "memory",
        }
    }

    /// Where its rows run.
    pub(crate) fn placements(self) -> &'static [Placement] {
        match self {
            Group::Call | Group::Sparse | Group::Pipelined | Group::Mebibyte | Group::HostCall => {
                &[Placement::OneCore, Placement::TwoCores, Placement::Unpinned]
            }
            Group::SixteenMebibytes | Group::Launch => &[Placement::OneCore, Placement::Unpinned],
            Group::Memory => &[Placement::Unpinned],
        }
    }

    /// Samples that a case takes in one round, unless it is slower than most of its group.
    pub(crate) fn count(self) -> usize {
        match self {
            Group::Call => 500,
            Group::Sparse => 100,
            Group::HostCall => 300,
            Group::Mebibyte | Group::Launch => 20,
            Group::SixteenMebibytes => 2,
            Group::Pipelined | Group::Memory => 1,
        }
    }

    /// Bytes of one message in one direction, where messages are what is measured.
    pub(crate) fn payload(self) -> usize {
        match self {
            Group::Mebibyte => 1 << 20,
            Group::SixteenMebibytes => 16 << 20,
            _ => 64,
        }
    }

    /// What its samples count.
    pub(crate) fn unit(self) -> Unit {
        if self == Group::Memory { Unit::Bytes } else { Unit::Nanoseconds }
    }
}

impl serde::Serialize for Group {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// What a sample counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    /// Wall time of one operation.
    Nanoseconds,
    /// Memory of one process.
    Bytes,
}
