//! A kernel that lacks a layer: the start is refused with exit code 8, the layer, and what to do. Never weaker.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use hotcell_tests::command::{self, Said};
use hotcell_tests::{Folders, package};

fn call(layers: &[&str]) -> Said {
    let folders = Folders::new();
    let arguments = [Path::new("call"), &package("counter"), Path::new("value")];
    command::run(command::command_lacking(layers, &folders).args(arguments))
}

#[test]
fn with_every_layer_the_same_call_works() {
    let said = call(&[]);
    assert_eq!((said.code, said.out.trim()), (Some(0), r#"{"value":0}"#), "{said:?}");
}

#[test]
fn without_landlock_nothing_starts() {
    let said = call(&["landlock"]);
    assert_eq!(said.code, Some(8), "{said:?}");
    for text in ["Landlock", "Linux", "lsm="] {
        assert!(said.err.contains(text), "`{text}` is not in {}", said.err);
    }
    assert!(said.out.is_empty(), "{said:?}");
}

#[test]
fn without_seccomp_nothing_starts() {
    let said = call(&["seccomp"]);
    assert_eq!(said.code, Some(8), "{said:?}");
    assert!(said.err.contains("seccomp"), "{said:?}");
}

#[test]
fn without_the_right_to_make_namespaces_a_profile_that_requires_them_does_not_start() {
    let said = call(&["namespaces"]);
    assert_eq!(said.code, Some(8), "{said:?}");
    assert!(said.err.contains("namespace"), "{said:?}");
}

#[test]
fn where_nothing_can_be_mounted_only_a_profile_with_a_file_tree_of_its_own_does_not_start() {
    let said = call(&["mounts"]);
    assert_eq!((said.code, said.out.trim()), (Some(0), r#"{"value":0}"#), "{said:?}");
    let folders = Folders::new();
    let arguments = [Path::new("call"), &package("thumbnail"), Path::new("info")];
    let said = command::run(command::command_lacking(&["mounts"], &folders).args(arguments));
    assert_eq!(said.code, Some(8), "{said:?}");
    assert!(said.err.contains("mounting in a mount namespace"), "{said:?}");
}

#[test]
fn doctor_names_the_missing_layer_and_the_profiles_that_it_stops() {
    let folders = Folders::new();
    let said = command::run(command::command_lacking(&["landlock"], &folders).args(["doctor", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&said.out).expect("doctor prints JSON");
    let layers = report["layers"].as_array().expect("layers");
    let landlock = layers.iter().find(|layer| layer["name"] == "Landlock").expect("a Landlock line");
    assert_eq!(landlock["status"], "absent", "{report}");
    assert!(landlock["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{report}");
    let profiles = report["profiles"].as_array().expect("profiles");
    assert!(profiles.iter().all(|profile| profile["problem"].is_string()), "{report}");
}

/// A container's usual filter: what needs no namespace starts, and what does is refused with what to do.
#[test]
fn in_a_container_profiles_without_namespaces_start_and_the_others_are_refused() {
    let said = |plugin: &str, export: &str, input: &str| {
        let folders = Folders::new();
        let arguments = ["call".into(), package(plugin).into_os_string(), export.into(), input.into()];
        command::run(command::command_lacking(&["container"], &folders).args(arguments))
    };
    let wasm = said("greet/core", "greet", r#"{"name":"Ada"}"#);
    assert_eq!(wasm.code, Some(0), "{wasm:?}");
    let native = said("counter", "value", "null");
    assert_eq!(native.code, Some(8), "{native:?}");
    assert!(native.err.contains("namespaces"), "{native:?}");
    let folders = Folders::new();
    let doctor = command::run(command::command_lacking(&["container"], &folders).args(["doctor", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&doctor.out).expect("doctor prints JSON");
    let names: Vec<_> =
        report["surroundings"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert!(names.iter().any(|name| **name == "a seccomp filter on this host"), "{report}");
}
