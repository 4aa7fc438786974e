//! What belongs together in a report, and what its figures count.

/// What a row belongs to; floors and peers of one group are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// 64 bytes there and back.
    Call,
    /// 1 MiB there and back.
    Mebibyte,
    /// 16 MiB there and back.
    SixteenMebibytes,
    /// A process that starts.
    Launch,
    /// Private memory of one process.
    Memory,
}

impl Group {
    /// All, in the order of the report.
    pub(crate) const ALL: [Group; 5] =
        [Group::Call, Group::Mebibyte, Group::SixteenMebibytes, Group::Launch, Group::Memory];

    /// Its heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Group::Call => "64 bytes there and back",
            Group::Mebibyte => "1 MiB there and back",
            Group::SixteenMebibytes => "16 MiB there and back",
            Group::Launch => "Start of a process, to its end or to a ready plugin",
            Group::Memory => "Private memory of a process",
        }
    }

    /// The start of the ids of its rows; its name for programs.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Group::Call => "call-64",
            Group::Mebibyte => "echo-1m",
            Group::SixteenMebibytes => "echo-16m",
            Group::Launch => "launch",
            Group::Memory => "memory",
        }
    }

    /// Bytes of one message in one direction, where messages are what is measured.
    pub(crate) fn payload(self) -> usize {
        match self {
            Group::Mebibyte => 1 << 20,
            Group::SixteenMebibytes => 16 << 20,
            Group::Call | Group::Launch | Group::Memory => 64,
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
