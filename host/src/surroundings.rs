//! What runs this host, as far as it takes layers of the sandbox away: a container, a system service, a restricted system.
//!
//! Only what is found is told, with what to set. docs/deployment.md has the recipes.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Something around this process that takes layers away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Surrounding {
    /// What it is.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What to set, where a layer is missing.
    pub advice: &'static str,
}

/// A way to recognise one of them, below a root folder.
struct Sign {
    name: &'static str,
    advice: &'static str,
    found: fn(&Path) -> Option<String>,
}

const SIGNS: [Sign; 7] = [
    Sign {
        name: "Kubernetes",
        advice: "securityContext: seccompProfile of type Localhost that also allows unshare and keyctl, or RuntimeDefault for profiles without `namespaces`; runAsUser 0 with SETUID, SETGID, SETPCAP and KILL for an identity for each plugin",
        found: |root| there(root, "var/run/secrets/kubernetes.io"),
    },
    Sign {
        name: "Docker",
        advice: "its default seccomp profile refuses unshare: allow it for profiles with `namespaces` (--security-opt seccomp=FILE), as root with --cap-add SYS_ADMIN",
        found: |root| there(root, ".dockerenv"),
    },
    Sign {
        name: "Podman",
        advice: "as Docker: --security-opt seccomp=FILE with unshare allowed, for profiles with `namespaces`",
        found: |root| there(root, "run/.containerenv"),
    },
    Sign {
        name: "systemd service",
        advice: "no RestrictNamespaces=, SystemCallFilter= with @sandbox and unshare, LimitNOFILE= for many plugins; Delegate=yes, with the service's own processes in a group of their own, for profiles with `cgroups`",
        found: own_service,
    },
    Sign {
        name: "a seccomp filter on this host",
        advice: "it must allow landlock_*, seccomp, prctl, unshare (for profiles with `namespaces`), pidfd_*, execveat and memfd_create; what it refuses is refused to every worker",
        found: |root| {
            let status = read(root, "proc/self/status");
            status
                .lines()
                .any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
                .then(|| "it is in filter mode".to_owned())
        },
    },
    Sign {
        name: "AppArmor's restriction of user namespaces",
        advice: "as an ordinary user: an AppArmor profile with `userns,` for the host application, or sysctl kernel.apparmor_restrict_unprivileged_userns=0; root is not restricted",
        found: |root| is(root, "proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    },
    Sign {
        name: "user namespaces switched off",
        advice: "as an ordinary user: sysctl user.max_user_namespaces above 0, and kernel.unprivileged_userns_clone=1 where there is one; root needs none",
        found: |root| {
            is(root, "proc/sys/user/max_user_namespaces", "0")
                .or_else(|| is(root, "proc/sys/kernel/unprivileged_userns_clone", "0"))
        },
    },
];

/// Everything that is recognised below a root folder, which is `/` but in tests.
pub(crate) fn surroundings(root: &Path) -> Vec<Surrounding> {
    let look =
        |Sign { name, advice, found }: &Sign| found(root).map(|found| Surrounding { name, found, advice });
    SIGNS.iter().filter_map(look).collect()
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_default()
}

fn there(root: &Path, path: &str) -> Option<String> {
    root.join(path).exists().then(|| format!("/{path}"))
}

fn is(root: &Path, path: &str, value: &str) -> Option<String> {
    (read(root, path).trim() == value).then(|| format!("/{path} is {value}"))
}

/// The unit whose cgroup this process is in.
fn own_service(root: &Path) -> Option<String> {
    let groups = read(root, "proc/self/cgroup");
    let unit = groups.lines().find_map(|line| line.rsplit('/').find(|part| part.ends_with(".service")));
    unit.filter(|unit| !unit.starts_with("user@")).map(|unit| format!("unit {unit}"))
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use super::surroundings;
    use crate::places::tests_support::Folder;

    #[test]
    fn each_is_recognised_by_its_sign_and_nothing_by_none() {
        let rows = [
            ("Docker", ".dockerenv", "", ".dockerenv"),
            ("Podman", "run/.containerenv", "", ".containerenv"),
            ("Kubernetes", "var/run/secrets/kubernetes.io/token", "", "kubernetes"),
            ("systemd service", "proc/self/cgroup", "0::/system.slice/app.service\n", "app.service"),
            ("a seccomp filter on this host", "proc/self/status", "Name:\tx\nSeccomp:\t2\n", "filter"),
            (
                "AppArmor's restriction of user namespaces",
                "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
                "is 1",
            ),
            ("user namespaces switched off", "proc/sys/user/max_user_namespaces", "0\n", "is 0"),
            ("user namespaces switched off", "proc/sys/kernel/unprivileged_userns_clone", "0\n", "is 0"),
        ];
        for (name, path, text, found) in rows {
            let home = Folder::new("surroundings");
            assert_eq!(surroundings(home.path()), [], "{path}");
            let file = home.path().join(path);
            fs::create_dir_all(file.parent().expect("it is below")).expect("made");
            fs::write(file, text).expect("written");
            let all = surroundings(home.path());
            let [one] = all.as_slice() else { panic!("{path}: {all:?}") };
            assert_eq!(one.name, name);
            assert!(one.found.contains(found) && !one.advice.is_empty(), "{one:?}");
        }
    }

    #[test]
    fn what_is_usual_is_no_sign() {
        let home = Folder::new("surroundings-none");
        for (path, text) in [
            ("proc/self/cgroup", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n"),
            ("proc/self/status", "Seccomp:\t0\nSeccomp_filters:\t2\n"),
            ("proc/sys/user/max_user_namespaces", "63000\n"),
        ] {
            let file = home.path().join(path);
            fs::create_dir_all(file.parent().expect("it is below")).expect("made");
            fs::write(file, text).expect("written");
        }
        assert_eq!(surroundings(home.path()), []);
    }
}
