//! What a manifest means.

#![allow(clippy::panic, reason = "a test fails that way")]

mod common;

use common::{golden, manifest, root};
use hotcell_policy::{Arch, Manifest, PluginId, PolicyError, manifest_schema};
use hotcell_protocol::Runtime;

#[test]
fn the_runtime_of_a_module_is_found_and_that_of_a_library_is_known() {
    assert_eq!(manifest("wasm", "").runtime(), None);
    assert_eq!(manifest("dylib", "").runtime(), Some(Runtime::Native));
    assert_eq!(manifest("wasm", r#""runtime": "core""#).runtime(), Some(Runtime::Core));
}

#[test]
fn the_profile_follows_the_runtime_unless_one_is_named() {
    let profile = |manifest: &Manifest| manifest.profile().to_string();
    assert_eq!(profile(&manifest("dylib", "")), "native-strict");
    assert_eq!(profile(&manifest("wasm", "")), "pure-compute");
    let found = manifest("wasm", "").with_runtime(Runtime::Command).expect("none was named");
    assert_eq!(profile(&found), "wasi-command");
    assert_eq!(profile(&manifest("dylib", r#""security_policy": {"profile": "mine"}"#)), "mine");
}

#[test]
fn what_the_compiler_claims_replaces_no_declared_runtime() {
    let declared = manifest("wasm", r#""runtime": "core""#);
    assert!(declared.clone().with_runtime(Runtime::Core).is_ok());
    let error = declared.with_runtime(Runtime::Command).expect_err("differs");
    assert!(matches!(error, PolicyError::RuntimeDiffers { .. }), "{error}");
    for claim in [Runtime::Native, Runtime::Compiler] {
        manifest("wasm", "").with_runtime(claim).expect_err("no module is that");
        manifest("dylib", "").with_runtime(Runtime::Core).expect_err("a library is native");
    }
}

#[test]
fn a_bare_artifact_asks_for_nothing_and_gets_a_safe_id() {
    for (file, id) in [
        ("wordcount.wasm", "local.wordcount"),
        ("Word Count.v2.wasm", "local.word-count"),
        ("7z.wat", "local.p-7z"),
        ("\u{fc}ber.wasm", "local.p--ber"),
    ] {
        let bare =
            Manifest::bare(file, Runtime::Core, "pure-compute").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(bare.id().as_str(), id);
        assert_eq!(bare.artifact().as_str(), file);
        assert_eq!(bare.host_calls().count() + bare.paths().count(), 0);
    }
    let long = format!("{}.wasm", "x".repeat(240));
    Manifest::bare(&long, Runtime::Core, "pure-compute").expect("a long name is cut to an id");
    for wrong in ["", "..", "/x.wasm", "a/../b", "x\u{1b}.wasm"] {
        Manifest::bare(wrong, Runtime::Core, "pure-compute").expect_err("names no file");
    }
    Manifest::bare("x.wasm", Runtime::Core, "../x").expect_err("names no profile");
    Manifest::bare("x.wasm", Runtime::Compiler, "pure-compute").expect_err("is no plugin");
}

#[test]
fn the_artifact_for_this_target_goes_before_the_common_one() {
    let this = Arch::of_this_build().expect("tests run where hotcell does").target();
    let other = r#""artifacts": {"riscv64gc-unknown-linux-gnu": "riscv.so"}"#;
    assert_eq!(manifest("dylib", other).artifact().as_str(), "a");
    assert_eq!(
        manifest("dylib", &other.replace("riscv64gc-unknown-linux-gnu", this)).artifact().as_str(),
        "riscv.so"
    );
    let text = format!(
        r#"{{"schema": 1, "id": "a.b", "name": "X", "version": "1.0.0", "plugin_type": "dylib", {other}}}"#
    );
    let error = Manifest::parse("m", text.as_bytes()).expect_err("has no artifact for this machine");
    assert!(error.message().contains(this), "{error}");
}

#[test]
fn configuration_keeps_its_numbers_and_texts() {
    let config =
        r#"{"a": [18446744073709551615, -9223372036854775808, 0.1, 1e3, true, null], "é": "\ud83d\ude00\n"}"#;
    let parsed = manifest("wasm", &format!("\"config\": {config}"));
    let expected: serde_json::Value = serde_json::from_str(config).expect("is JSON");
    assert_eq!(parsed.config(), Some(&expected));
}

#[test]
fn ids_are_reverse_domains_in_lower_case_ascii() {
    for good in ["a.b", "org.example.image-decoder", "x1.y2-z"] {
        good.parse::<PluginId>().unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    let long = format!("a.{}", "b".repeat(127));
    for bad in ["", "a", ".a.b", "a..b", "a.b.", "a.1b", "a.-b", "A.b", "a.b/c", "a.b\0", "a.b\n", &long] {
        bad.parse::<PluginId>().expect_err(bad);
    }
}

#[test]
fn the_schema_is_as_committed() {
    golden("docs/manifest.schema.json", &manifest_schema());
}

#[test]
fn every_sample_manifest_of_the_repository_parses() {
    let mut folders = vec![root().join("plugins")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "manifest.json") {
                let text = std::fs::read(&path).expect("reads");
                Manifest::parse(&path.display().to_string(), &text).unwrap_or_else(|error| panic!("{error}"));
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "there are sample plugins");
}

#[test]
fn a_list_as_long_as_a_manifest_costs_no_more_than_reading_it() {
    let list = |item: &dyn Fn(usize) -> String| {
        let items: Vec<_> = (0..70_000).map(|number| format!("\"{}\"", item(number))).collect();
        items.join(",\n")
    };
    let parse = |permissions: String| {
        let text = format!(
            r#"{{"schema": 1, "id": "org.example.x", "name": "X", "version": "1.0.0", "plugin_type": "dylib", "dylib_path": "a",
"permissions": {{{permissions}}}}}"#
        );
        Manifest::parse("manifest.json", text.as_bytes())
    };
    let calls = list(&|number| format!("a{number}"));
    let error = parse(format!("\"host_calls\": [{calls}]")).expect_err("too many");
    assert_eq!(error.message(), "more than 128 host calls");
    let paths = list(&|number| format!("/{number}"));
    let error = parse(format!("\"filesystem\": {{\"read_paths\": [{paths}]}}")).expect_err("too many");
    assert_eq!(error.message(), "more than 128 paths");
    parse(format!("\"ui\": [{calls}]")).expect("control: read to its end, and not built");
}

#[test]
fn a_version_is_short_enough_to_be_shown() {
    let parse = |version: &str| {
        let text = format!(
            r#"{{"schema": 1, "id": "org.example.x", "name": "X", "version": "{version}", "plugin_type": "wasm", "wasm_path": "a"}}"#
        );
        Manifest::parse("manifest.json", text.as_bytes())
    };
    let pre = |len: usize| format!("1.2.3-{}", "a".repeat(len));
    let longest = parse(&pre(122)).expect("control: 128 characters");
    assert_eq!(longest.version().to_string(), pre(122));
    assert_eq!(parse(&pre(123)).expect_err("one more").message(), "`version` has more than 128 characters");
}
