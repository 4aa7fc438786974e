//! What the sandbox stopped, and what would allow it.
//!
//! Nothing here runs where an act is allowed. What a plugin tried is told as numbers and names that the kernel or the
//! broker gave; no memory of the plugin is read for it, which could change meanwhile: so a path is not told, and what Landlock
//! refuses by itself is not seen. Plans say so. Where a profile has paths observed, they are read to be told, and nothing is
//! decided by them.

use std::fmt;
use std::str::FromStr;

use hotcell_policy::review::{Access, Argument, Question, explain};
use hotcell_policy::{GrantPath, HostCallName, HostPort, ListenAddress, Manifest, Profile};
use hotcell_protocol::Runtime;
use serde::{Deserialize, Serialize};

/// An act that the sandbox stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which layer stopped it.
    pub layer: Refuser,
    /// Who saw it.
    pub observer: Observer,
    /// The system call, or the host call, by name.
    pub act: String,
    /// The register values of a system call.
    pub arguments: Vec<u64>,
    /// The export of the call that ran; `None` while the plugin starts, and where the worker is gone already.
    pub call: Option<String>,
    /// How much it says about the plugin.
    pub severity: Severity,
    /// What would allow it, one way each: lines of profile and manifest; or that nothing can.
    pub remedy: Vec<String>,
}

/// Who saw a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observer {
    /// The host, through the worker's listener or its broker.
    Host,
    /// The kernel, which killed the worker.
    Kernel,
}

/// The layer that stopped an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refuser {
    /// The worker's system call filter, or the host as its listener.
    Seccomp,
    /// The host's table of host calls.
    Broker,
    /// The worker's Landlock rules, as the host concludes from a path that it read.
    Landlock,
}

/// How much a violation says about a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A profile could grant it: most often a grant is missing.
    Low,
    /// No profile can grant it.
    Medium,
    /// It reaches for the kernel, another process or a right that no plugin has use for; or the kernel killed it.
    High,
}

/// System calls that a plugin has no use for but to attack: other processes, privileges, mounts, namespaces, and parts of
/// the kernel with a long record of faults.
const ATTACKS: [&str; 61] = [
    "acct",
    "add_key",
    "bpf",
    "capset",
    "chroot",
    "clone3",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "kill",
    "landlock_restrict_self",
    "mknod",
    "mknodat",
    "modify_ldt",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "reboot",
    "request_key",
    "seccomp",
    "setgid",
    "setns",
    "setresgid",
    "setresuid",
    "setuid",
    "swapoff",
    "swapon",
    "syslog",
    "tkill",
    "umount2",
    "unshare",
    "userfaultfd",
    "vmsplice",
];

/// Explains what is refused to one plugin.
#[derive(Debug)]
pub(crate) struct Adviser {
    profile: Profile,
    runtime: Runtime,
    /// The host calls that the manifest requests.
    requested: Vec<String>,
    /// The connections.
    connects: Vec<HostPort>,
    /// The addresses to listen at.
    listens: Vec<ListenAddress>,
    /// The programs.
    programs: Vec<GrantPath>,
}

impl Adviser {
    pub(crate) fn new(profile: Profile, runtime: Runtime, manifest: &Manifest) -> Adviser {
        let requested = manifest.host_calls().map(ToString::to_string).collect();
        let (connects, listens) = (manifest.connects().cloned().collect(), manifest.listens().collect());
        let programs = manifest.programs().cloned().collect();
        Adviser { profile, runtime, requested, connects, listens, programs }
    }

    /// How severe a refused system call is, and what would allow it.
    pub(crate) fn syscall(&self, name: &str, arguments: &[u64]) -> (Severity, Vec<String>) {
        let args = (0..).zip(arguments.iter().map(|value| Argument::Value(*value))).collect();
        let question = Question::Syscall { name: name.to_owned(), args };
        let advice = match explain(&self.profile, self.runtime, &question) {
            Ok(explanation) if !explanation.advice.is_empty() => {
                explanation.advice.into_iter().map(in_both_files).collect()
            }
            // Only what a plugin does before it may run is refused and allowed afterwards.
            Ok(_) => vec!["it is allowed once the plugin runs".to_owned()],
            Err(error) => vec![format!("nothing can: {error}")],
        };
        let grantable = advice.iter().any(|line| !line.starts_with(NOTHING));
        let severity = match ATTACKS.binary_search(&name) {
            Ok(_) => Severity::High,
            Err(_) if grantable => Severity::Low,
            Err(_) => Severity::Medium,
        };
        (severity, advice)
    }

    /// The same for a host call.
    pub(crate) fn host_call(&self, name: &str) -> (Severity, Vec<String>) {
        let Ok(parsed) = name.parse::<HostCallName>() else {
            return (Severity::Medium, vec![format!("{NOTHING}: it is no name of a host call")]);
        };
        let mut steps = Vec::new();
        if !self.requested.iter().any(|requested| requested == name) {
            steps.push(format!("manifest: \"permissions\": {{ \"host_calls\": [\"{name}\"] }}"));
        }
        let granted = explain(&self.profile, self.runtime, &Question::HostCall(parsed));
        let missing = granted.map(|explanation| explanation.advice).unwrap_or_default();
        steps.extend(missing.into_iter().map(|line| format!("profile: {line}")));
        if steps.is_empty() {
            steps.push(format!("application: HostBuilder::host_call(\"{name}\", ...)"));
        }
        (Severity::Low, vec![steps.join(", and ")])
    }
}

impl Adviser {
    /// How severe a refused connection is, and what would allow it.
    pub(crate) fn connection(&self, wanted: &[u8]) -> (Severity, Vec<String>) {
        match parsed::<HostPort>(wanted) {
            None => (Severity::Medium, vec![format!("{NOTHING}: it is no address")]),
            Some(address) => {
                let asked = self.connects.contains(&address);
                self.listed("network", "connect", &address.to_string(), asked, &Question::Connect(address))
            }
        }
    }

    /// The same for listening.
    pub(crate) fn listening(&self, wanted: &[u8]) -> (Severity, Vec<String>) {
        match parsed::<ListenAddress>(wanted) {
            None => (Severity::Medium, vec![format!("{NOTHING}: it is no address and port to listen at")]),
            Some(address) => {
                let asked = self.listens.contains(&address);
                self.listed("network", "listen", &address.to_string(), asked, &Question::Listen(address))
            }
        }
    }

    /// The same for what is done at a path, as a grant writes it.
    pub(crate) fn path(&self, path: &str, access: Access) -> (Severity, Vec<String>) {
        let Ok(path) = path.parse::<GrantPath>() else {
            return (Severity::Medium, vec![format!("{NOTHING}: no grant can name this path")]);
        };
        let keys = match access {
            Access::Read => format!("\"read_paths\": [\"{path}\"]"),
            Access::Write => format!("\"write_paths\": [\"{path}\"]"),
            Access::Create => format!("\"write_paths\": [\"{path}\"], \"create_files\": true"),
            Access::Delete => format!("\"write_paths\": [\"{path}\"], \"delete_files\": true"),
        };
        let manifest = format!("manifest: \"permissions\": {{ \"filesystem\": {{ {keys} }} }}");
        let granted = explain(&self.profile, self.runtime, &Question::Path { path, access });
        let missing = granted.map(|explanation| explanation.advice).unwrap_or_default();
        if missing.iter().any(|line| line.starts_with(NOTHING)) {
            return (Severity::Medium, missing);
        }
        let steps =
            std::iter::once(manifest).chain(missing.into_iter().map(|line| format!("profile: {line}")));
        (Severity::Low, vec![steps.collect::<Vec<_>>().join(", and ")])
    }

    /// The same for a program.
    pub(crate) fn program(&self, wanted: &str) -> (Severity, Vec<String>) {
        match wanted.parse::<GrantPath>() {
            Err(_) => (Severity::Medium, vec![format!("{NOTHING}: it is no path of a program")]),
            Ok(program) => {
                let asked = self.programs.contains(&program);
                self.listed("process", "spawn", &program.to_string(), asked, &Question::Program(program))
            }
        }
    }

    /// What the manifest lacks in a list of `permissions`, and the profile.
    fn listed(
        &self,
        table: &str,
        key: &str,
        item: &str,
        asked: bool,
        question: &Question,
    ) -> (Severity, Vec<String>) {
        let mut steps = Vec::new();
        if !asked {
            steps
                .push(format!("manifest: \"permissions\": {{ \"{table}\": {{ \"{key}\": [\"{item}\"] }} }}"));
        }
        let granted = explain(&self.profile, self.runtime, question);
        let missing = granted.map(|explanation| explanation.advice).unwrap_or_default();
        steps.extend(missing.into_iter().map(|line| format!("profile: {line}")));
        (Severity::Low, vec![steps.join(", and ")])
    }
}

impl Adviser {
    /// How severe the refused look-up of a name is, and what would allow it.
    pub(crate) fn look_up(&self, name: &[u8]) -> (Severity, Vec<String>) {
        // A name is looked up for connections to it, at whatever port.
        let address = std::str::from_utf8(name)
            .ok()
            .map(|name| format!("{name}:1"))
            .filter(|it| it.parse::<HostPort>().is_ok());
        let Some(address) = address else {
            return (Severity::Medium, vec![format!("{NOTHING}: it is no name")]);
        };
        let (severity, remedy) = self.connection(address.as_bytes());
        let any_port =
            |line: String| line.replace(&address, &format!("{}PORT", address.trim_end_matches('1')));
        (severity, remedy.into_iter().map(any_port).collect())
    }
}

fn parsed<T: FromStr>(wanted: &[u8]) -> Option<T> {
    std::str::from_utf8(wanted).ok()?.parse().ok()
}

/// Advice for a profile's author, who must not forget that the manifest has to request what the profile grants.
fn in_both_files(advice: String) -> String {
    match advice {
        advice if advice.starts_with(NOTHING) => advice,
        advice if advice.contains("[[file]]") => {
            format!("profile: {advice}, and manifest: request the path in `permissions.filesystem`")
        }
        advice if advice.contains("[[connect]]") => {
            format!(
                "profile: {advice}, and manifest: request the address in `permissions.network.connect` or `listen`"
            )
        }
        advice if advice.contains("[[listen]]") => {
            format!("profile: {advice}, and manifest: request the address in `permissions.network.listen`")
        }
        advice => format!("profile: {advice}"),
    }
}

/// How advice begins where there is none.
const NOTHING: &str = "nothing can";

/// One line: the act, who refused it and when, and what would allow it.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.act)?;
        if !self.arguments.is_empty() {
            let arguments: Vec<_> = self.arguments.iter().map(|value| format!("{value:#x}")).collect();
            write!(f, "({})", arguments.join(", "))?;
        }
        let layer = match self.layer {
            Refuser::Seccomp => "seccomp",
            Refuser::Broker => "the broker",
            Refuser::Landlock => "Landlock",
        };
        write!(f, " refused by {layer}")?;
        if let Some(call) = &self.call {
            write!(f, " in call `{}`", crate::text::escape(call.as_bytes()))?;
        }
        let severity = match self.severity {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
        };
        write!(f, ", severity {severity}")?;
        match self.remedy.as_slice() {
            [] => Ok(()),
            remedy => write!(f, "; to allow it: {}", remedy.join(", or ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use hotcell_policy::{Manifest, Profile};
    use hotcell_protocol::Runtime;

    use super::{ATTACKS, Adviser, NOTHING, Severity};

    fn adviser(profile: &str, runtime: Runtime, requested: &[&str]) -> Adviser {
        let profile = Profile::shipped(profile).expect("it ships").expect("it is valid");
        let manifest = Manifest::bare("a.so", Runtime::Native, profile.name()).expect("valid");
        let requested = requested.iter().map(|name| (*name).to_owned()).collect();
        Adviser { requested, ..Adviser::new(profile, runtime, &manifest) }
    }

    #[test]
    fn the_list_of_attacks_is_sorted_and_names_system_calls() {
        assert!(ATTACKS.is_sorted());
        let adviser = adviser("native-strict", Runtime::Native, &[]);
        for name in ATTACKS {
            let (_, remedy) = adviser.syscall(name, &[]);
            assert!(!remedy.iter().any(|line| line.contains("no architecture")), "{name}: {remedy:?}");
        }
    }

    #[test]
    fn a_system_call_that_a_grant_covers_is_a_missing_grant() {
        let adviser = adviser("native-strict", Runtime::Native, &[]);
        let (severity, remedy) = adviser.syscall("openat", &[u64::MAX - 99, 0x7fff_0000, 0, 0]);
        assert_eq!(severity, Severity::Low, "{remedy:?}");
        assert!(remedy.iter().any(|line| line.contains("[[file]]")), "{remedy:?}");
    }

    #[test]
    fn what_no_set_holds_is_worse_and_an_attack_is_worst() {
        let adviser = adviser("native-strict", Runtime::Native, &[]);
        let (severity, remedy) = adviser.syscall("socket", &[2, 1, 0]);
        assert_eq!(severity, Severity::Low);
        assert!(
            remedy.iter().all(|line| line.contains("`[[connect]]`") && line.contains("manifest: ")),
            "{remedy:?}"
        );
        let (severity, remedy) = adviser.syscall("socket", &[1, 1, 0]);
        assert_eq!(severity, Severity::Medium, "a unix socket");
        assert!(remedy.iter().all(|line| line.starts_with(NOTHING)), "{remedy:?}");
        assert_eq!(adviser.syscall("ptrace", &[16, 1]).0, Severity::High);
        let (severity, remedy) = adviser.syscall("system call 7 of architecture 0x1", &[]);
        assert_eq!((severity, remedy.len()), (Severity::Medium, 1), "of no architecture that is known");
    }

    #[test]
    fn a_connection_says_both_lines() {
        let (severity, remedy) =
            adviser("native-strict", Runtime::Native, &[]).connection(b"api.example.org:443");
        let line = remedy.join("; ");
        assert_eq!(severity, Severity::Low);
        assert!(
            line.contains("\"connect\": [\"api.example.org:443\"]") && line.contains("profile: connect = "),
            "{line}"
        );
        assert_eq!(adviser("native-strict", Runtime::Native, &[]).connection(b"\xff").0, Severity::Medium);
    }

    #[test]
    fn a_host_call_says_which_of_the_three_is_missing() {
        let lines = |requested: &[&str], name: &str| {
            let (severity, remedy) = adviser("native-strict", Runtime::Native, requested).host_call(name);
            (severity, remedy.join("; "))
        };
        let (severity, all) = lines(&[], "weather.today");
        assert_eq!(severity, Severity::Low);
        assert!(all.starts_with("manifest: ") && all.contains(", and profile: host-call"), "{all}");
        let (_, profile) = lines(&["weather.today"], "weather.today");
        assert!(profile.starts_with("profile: "), "{profile}");
        let (_, application) = lines(&["log"], "log");
        assert!(application.starts_with("application: "), "{application}");
        assert_eq!(lines(&[], "No Name").0, Severity::Medium);
    }
}
