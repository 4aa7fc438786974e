//! A profile that has paths observed: what Landlock refuses a native plugin is told with its path and the lines that would allow it. Without,
//! nothing is told, as plans say.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use hotcell::policy::{Arch, Profile, syscall_number};
use hotcell::{Host, Plugin, Refuser, Severity};
use hotcell_tests::{Folders, fixture};

mod common;

/// The profile of `native_files`, observing or not.
fn profile(folders: &Folders, observing: bool) -> Profile {
    let plain = common::native_files(folders, "1 MiB");
    let observe = if observing { "\nobserve = \"paths\"\n" } else { "\n" };
    let text = plain.text().replacen("\nlandlock", &format!("{observe}landlock"), 1);
    Profile::parse("native-files.toml", &text).unwrap_or_else(|error| panic!("{error}"))
}

async fn load(folders: &Folders, observing: bool) -> (Host, Plugin) {
    let profile = profile(folders, observing);
    let host = fixture::host(folders).profile(profile).build().await.expect("a host starts");
    let plugin = host.load(common::filer(folders)).await.unwrap_or_else(|error| panic!("{error}"));
    (host, plugin)
}

/// What came of the last of these calls: its errno, or 0.
async fn call(plugin: &Plugin, lines: &str) -> i32 {
    let arch = Arch::of_this_build().expect("it is known");
    let line = |line: &str| {
        let (name, rest) = line.split_once(' ').expect("a name and arguments");
        format!("{} {rest}", syscall_number(arch, name).expect("it has one"))
    };
    let lines: Vec<String> = lines.lines().map(line).collect();
    let said = plugin.call_raw("try_syscall", lines.join("\n").into_bytes()).await.expect("a reply");
    let said = String::from_utf8(said).expect("text");
    let last = said.lines().last().and_then(|line| line.split_once(' ')).expect("a result and an errno");
    if last.0 == "-1" { last.1.parse().expect("a number") } else { 0 }
}

#[tokio::test]
async fn what_landlock_refuses_is_told_with_its_path_and_what_would_allow_it() {
    let folders = Folders::new();
    let (host, plugin) = load(&folders, true).await;
    let at = |path: &str| folders.join(path).display().to_string();
    let (granted, beside) = (at("granted/text"), at("beside/text"));
    let mut events = host.events();
    // What is allowed is not told.
    assert_eq!(call(&plugin, &format!("openat -100 s:{granted} 0")).await, 0);
    let data = at("state/data/dev.hotcell.test.filer");
    assert_eq!(call(&plugin, &format!("openat -100 s:{data}/new 0x41 0x180")).await, 0);
    assert_eq!(call(&plugin, &format!("openat -100 s:{data}/../dev.hotcell.test.filer/new 0")).await, 0);
    assert_eq!(call(&plugin, &format!("openat -100 s:{data} 0x10000\nopenat $1 s:new 0")).await, 0);
    // What is not there is not told, and neither is what the kernel refuses before Landlock.
    assert_eq!(call(&plugin, &format!("openat -100 s:{beside}-missing 0")).await, libc::ENOENT);
    assert_eq!(call(&plugin, "openat -100 1 0").await, libc::EFAULT);
    assert_eq!(common::violations(&mut events), []);
    for (lines, act, line) in [
        (format!("openat -100 s:{beside} 0"), format!("reading {beside}"), "\"read_paths\""),
        (format!("openat -100 s:{granted} 1"), format!("writing {granted}"), "\"write_paths\""),
        (
            format!("openat -100 s:{beside}-new 0x41 0x180"),
            format!("creating {beside}-new"),
            "\"create_files\": true",
        ),
        (
            format!("unlinkat -100 s:{beside} 0"),
            format!("deleting or renaming {beside}"),
            "\"delete_files\": true",
        ),
        (
            format!("openat -100 s:{data} 0x10000\nopenat $1 s:../../../beside/text 0"),
            format!("reading {beside}"),
            "\"read_paths\"",
        ),
        (
            "openat -100 s:/etc/passwd 0".to_owned(),
            "reading /etc/passwd".to_owned(),
            "profile: file = [{ path = \"/etc/passwd\"",
        ),
    ] {
        assert_eq!(call(&plugin, &lines).await, libc::EACCES, "{lines}");
        let told = common::violations(&mut events);
        let [only] = told.as_slice() else { panic!("{lines}: {told:?}") };
        assert_eq!(
            (only.layer, only.severity, only.act.as_str()),
            (Refuser::Landlock, Severity::Low, act.as_str())
        );
        assert!(only.remedy.join("; ").contains(line), "{only}");
        assert_eq!(only.call.as_deref(), Some("try_syscall"));
    }
    // What no set allows is refused and told as before.
    assert_eq!(call(&plugin, &format!("linkat -100 s:{granted} -100 s:{data}/link 0")).await, libc::EPERM);
    let told = common::violations(&mut events);
    assert_eq!((told.len(), told[0].layer, told[0].act.as_str()), (1, Refuser::Seccomp, "linkat"));
    host.shutdown().await;
}

#[tokio::test]
async fn without_observing_a_path_is_refused_and_not_seen() {
    let folders = Folders::new();
    let (host, plugin) = load(&folders, false).await;
    let mut events = host.events();
    let beside = folders.join("beside/text").display().to_string();
    assert_eq!(call(&plugin, &format!("openat -100 s:{beside} 0")).await, libc::EACCES);
    assert_eq!(common::violations(&mut events), []);
    let plan = plugin.plan();
    assert!(plan.absent().any(|line| line.contains("what Landlock refuses is not seen")));
    host.shutdown().await;
}
