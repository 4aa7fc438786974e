use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use hotcell_policy::{CgroupLimit, Controller};

use super::find::Version;
use super::{Group, Groups, own};

/// `None` for who may make no groups here: an ordinary user most often.
fn groups() -> Option<Arc<Groups>> {
    let groups = Groups::new(own()).expect("this process has a start time");
    (groups.controllers() == Controller::ALL).then(|| Arc::new(groups))
}

fn limit(controller: Controller, value: u64) -> CgroupLimit {
    CgroupLimit { controller, value }
}

/// Takes this much memory and says so, once it is told to begin.
fn hungry(megabytes: u32) -> std::process::Child {
    let script = format!("read go; x=$(head -c {megabytes}000000 /dev/zero | tr '\\0' x); echo ${{#x}}");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("there is a shell")
}

fn feed(group: Option<&Group>, mut child: std::process::Child) -> (std::process::ExitStatus, String) {
    if let Some(group) = group {
        group.enter(child.id()).expect("it lives");
        let bounds = group.bounds(child.id()).expect("it lives");
        assert!(!bounds.is_empty(), "the kernel says so");
    }
    use std::io::Write;
    child.stdin.take().expect("a pipe").write_all(b"go\n").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    (output.status, String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn memory_over_the_bound_ends_the_group_and_is_counted() {
    let Some(groups) = groups() else { return must_be_unprivileged() };
    let group = groups.make(&[limit(Controller::Memory, 16 << 20)]).expect("made");
    let (status, said) = feed(Some(&group), hungry(64));
    assert!(status.signal() == Some(libc::SIGKILL) || said != "64000000", "{status} {said}");
    assert!(group.memory_kills() > 0);
    let wide = groups.make(&[limit(Controller::Memory, 1 << 30)]).expect("made");
    let (status, said) = feed(Some(&wide), hungry(64));
    assert_eq!((status.code(), said.as_str(), wide.memory_kills()), (Some(0), "64000000", 0), "control");
}

#[test]
fn processes_over_the_bound_are_refused() {
    let Some(groups) = groups() else { return must_be_unprivileged() };
    let group = groups.make(&[limit(Controller::Pids, 1)]).expect("made");
    let (_, said) = feed(Some(&group), hungry(1));
    assert_ne!(said, "1000000", "it needs two more processes");
    let (_, said) = feed(None, hungry(1));
    assert_eq!(said, "1000000", "control");
}

#[test]
fn a_share_of_a_processor_is_not_exceeded() {
    let Some(groups) = groups() else { return must_be_unprivileged() };
    let throttled = |share| {
        let group = groups.make(&[limit(Controller::Cpu, share)]).expect("made");
        let looping = Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        let mut looping = looping.expect("there is a shell");
        group.enter(looping.id()).expect("it lives");
        let [(_, _, folder)] = group.folders.as_slice() else { panic!("one hierarchy") };
        let count = |name: &str| -> u64 {
            let text = fs::read_to_string(folder.join("cpu.stat")).expect("readable");
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            line.expect("it is counted")
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while count("nr_periods ") < 5 {
            assert!(std::time::Instant::now() < deadline, "periods pass");
            std::thread::yield_now();
        }
        looping.kill().expect("it lives");
        looping.wait().expect("it ends");
        count("nr_throttled ")
    };
    assert!(throttled(10) > 0);
    assert_eq!(throttled(400), 0, "control: more than one loop can take");
}

#[test]
fn groups_of_hosts_that_are_gone_are_removed_and_those_of_the_living_stay() {
    let Some(groups) = groups() else { return must_be_unprivileged() };
    let mut gone = Command::new("true").spawn().expect("there is a `true`");
    let pid = gone.id();
    let place = groups.places.first().expect("there are places");
    let left = place.folder.join(format!("hotcell-{pid}-1"));
    gone.wait().expect("it ends");
    fs::create_dir_all(left.join("0")).expect("made");
    let other = place.folder.join(format!("hotcell-{}-{}", 1, super::start_time(1).expect("init lives")));
    fs::create_dir(&other).expect("made");
    let group = groups.make(&[limit(Controller::Pids, 1), limit(Controller::Memory, 1 << 20)]);
    let stays = other.exists();
    fs::remove_dir(&other).expect("empty");
    assert!(stays && !left.exists());
    let folders: Vec<_> =
        group.as_ref().expect("made").folders.iter().map(|(.., folder)| folder.clone()).collect();
    assert!(!folders.is_empty() && folders.iter().all(|folder| folder.exists()));
    drop(group);
    assert!(folders.iter().all(|folder| !folder.exists()), "a group ends with its worker");
    let hosts: Vec<_> = groups.places.iter().map(|place| place.folder.join(&groups.name)).collect();
    drop(groups);
    assert!(hosts.iter().all(|host| !host.exists()), "and the host's with the host");
}

#[test]
fn a_group_of_another_hierarchy_or_worker_does_not_count() {
    let folder = std::path::Path::new("/sys/fs/cgroup/memory/box/hotcell-7-9/3");
    let (memory, pids) = ([Controller::Memory], [Controller::Pids]);
    let within = |line: &str, version, controllers: &[Controller]| {
        super::is_within(line, version, controllers, folder)
    };
    assert!(within("4:memory:/box/hotcell-7-9/3", Version::V1, &memory));
    assert!(within("4:memory,hugetlb:/hotcell-7-9/3", Version::V1, &memory), "seen from a container");
    assert!(within("0::/hotcell-7-9/3", Version::V2, &pids));
    for (line, version, controllers) in [
        ("4:memory:/box/hotcell-7-9/3", Version::V1, &pids),
        ("4:memory:/box/hotcell-7-9/3", Version::V2, &memory),
        ("0::/hotcell-7-9/3", Version::V1, &memory),
        ("4:memory:/box/hotcell-7-9/33", Version::V1, &memory),
        ("4:memory:/box/hotcell-7-8/3", Version::V1, &memory),
        ("4:memory:/3", Version::V1, &memory),
        ("hotcell-7-9/3", Version::V2, &memory),
    ] {
        assert!(!within(line, version, controllers), "{line}");
    }
}

/// Root has cgroups in every place where these tests run; a test that nobody can run would prove nothing.
fn must_be_unprivileged() {
    assert!(!rustix::process::geteuid().is_root(), "root can make no cgroups here");
}
