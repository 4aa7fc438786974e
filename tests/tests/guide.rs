//! Every command of docs/plugin-guide.md works, and says what the guide says.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hotcell_tests::{Folders, fixture, root};

/// A `hotcell` that keeps to the test's folders: all but projects, which have a state of their own.
fn wrapper(folders: &Folders, to: &Path) {
    let hotcell = fixture::hotcell();
    let line = format!(
        "#!/bin/sh\ncase \"$1 $2\" in 'plugin test') ;; *) set -- --state-dir '{}' \"$@\" ;; esac\n\
         exec '{}' --uid-registry '{}' --cache-dir '{}' \"$@\"\n",
        folders.join("state").display(),
        hotcell.display(),
        folders.join("uids").display(),
        fixture::shared_cache().display(),
    );
    std::fs::write(to, line).expect("writable");
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).expect("own");
}

/// The commands of the guide, each with the lines that it must print.
fn commands(guide: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in guide.lines() {
        match line.strip_prefix("$ ") {
            _ if line.starts_with("```") => inside = line == "```console",
            Some(command) if inside => found.push((command, Vec::new())),
            None if inside => found.last_mut().expect("a command comes first").1.push(line),
            _ => {}
        }
    }
    found
}

#[test]
fn the_guide_leads_from_nothing_to_a_signed_plugin() {
    let folders = Folders::new();
    let (home, programs) = (folders.join("home"), folders.join("bin"));
    std::fs::create_dir(&home).expect("new");
    std::fs::create_dir(&programs).expect("new");
    wrapper(&folders, &programs.join("hotcell"));
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("there is one"));
    let guide = std::fs::read_to_string(root().join("docs/plugin-guide.md")).expect("it is there");
    let commands = commands(&guide);
    assert!(commands.len() > 15, "only {} commands were found", commands.len());
    let mut folder = folders.join("work");
    std::fs::create_dir(&folder).expect("new");
    for (command, expected) in commands {
        if let Some(into) = command.strip_prefix("cd ") {
            folder = folder.join(into);
            continue;
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&folder).env("HOME", &home).env("PATH", &path);
        let done = shell.output().expect("there is a shell");
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{command}: {err}");
        for line in expected {
            assert!(out.contains(line), "{command} does not say {line:?}: {out}{err}");
        }
    }
}
