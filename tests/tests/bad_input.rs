//! Bad packages: each a clear error with exit code 2 or 3, and nothing is executed.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hotcell_tests::command::{Said, hotcell};
use hotcell_tests::{Folders, package};

const GOOD: &str = r#"{
  "schema": 1,
  "id": "dev.hotcell.test",
  "name": "Test",
  "version": "0.1.0",
  "description": "A copy of the counter.",
  "author": "hotcell",
  "plugin_type": "dylib",
  "dylib_path": "plugin.so",
  "runtime": "native",
  "security_policy": { "profile": "native-strict" }
}
"#;

/// A package that works: what each test spoils.
struct Package {
    _folders: Folders,
    path: PathBuf,
}

impl Package {
    fn new() -> Package {
        let folders = Folders::new();
        let path = folders.join("package");
        fs::create_dir(&path).expect("the folder is new");
        let package = Package { _folders: folders, path };
        package.manifest(GOOD);
        fs::copy(package_file("counter/counter.so"), package.artifact()).expect("the counter is built");
        package
    }

    fn artifact(&self) -> PathBuf {
        self.path.join("plugin.so")
    }

    fn manifest(&self, text: &str) {
        fs::write(self.path.join("manifest.json"), text).expect("the manifest is writable");
    }

    fn call(&self) -> Said {
        hotcell(&[Path::new("call"), &self.path, Path::new("value")])
    }

    /// The package is refused with this code, and each of these texts is said.
    fn must_fail(&self, code: i32, texts: &[&str]) {
        must_fail(&self.call(), code, texts);
    }
}

fn package_file(name: &str) -> PathBuf {
    package(name)
}

fn must_fail(said: &Said, code: i32, texts: &[&str]) {
    assert_eq!(said.code, Some(code), "{said:?}");
    assert!(said.out.is_empty(), "{said:?}");
    for text in texts {
        assert!(said.err.contains(text), "`{text}` is not in {}", said.err);
    }
    assert!(said.err.starts_with("error: "), "{said:?}");
}

#[test]
fn the_unspoiled_package_works() {
    let said = Package::new().call();
    assert_eq!((said.code, said.out.trim()), (Some(0), r#"{"value":0}"#), "{said:?}");
}

#[test]
fn broken_json_points_at_the_place() {
    let package = Package::new();
    package.manifest(&GOOD.replace("\"schema\": 1,", "\"schema\": 1"));
    package.must_fail(2, &["manifest.json:3:", "^"]);
}

#[test]
fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    let package = Package::new();
    package.manifest(&GOOD.replace("\"author\"", "\"permisions\": {}, \"author\""));
    package.must_fail(2, &["permisions", "permissions", "^"]);
}

#[test]
fn a_wrong_type_says_what_is_expected() {
    let package = Package::new();
    package.manifest(&GOOD.replace("\"schema\": 1", "\"schema\": \"one\""));
    package.must_fail(2, &["manifest.json:2:", "^"]);
}

#[test]
fn a_duplicate_key_is_an_error() {
    let package = Package::new();
    package.manifest(&GOOD.replace("\"name\"", "\"id\": \"dev.hotcell.other\", \"name\""));
    package.must_fail(2, &["id", "^"]);
}

#[test]
fn a_missing_manifest_and_a_missing_artifact_are_named() {
    let package = Package::new();
    fs::remove_file(package.artifact()).expect("it was there");
    package.must_fail(2, &["plugin.so"]);
    fs::remove_file(package.path.join("manifest.json")).expect("it was there");
    package.must_fail(2, &["manifest.json"]);
    must_fail(&hotcell(&["call", "/nonexistent/plugin", "value"]), 2, &["/nonexistent/plugin"]);
}

#[test]
fn what_is_no_library_is_malformed() {
    let package = Package::new();
    fs::write(package.artifact(), "#!/bin/sh\necho hello\n").expect("writable");
    package.must_fail(2, &["plugin.so"]);
    fs::write(package.artifact(), b"\x7fELF\x02\x01\x01").expect("writable");
    package.must_fail(2, &["plugin.so"]);
}

#[test]
fn a_library_for_another_architecture_is_malformed() {
    let package = Package::new();
    let mut bytes = fs::read(package.artifact()).expect("readable");
    // e_machine (elf(5)): one that no supported host has.
    bytes[18..20].copy_from_slice(&8_u16.to_le_bytes());
    fs::write(package.artifact(), bytes).expect("writable");
    package.must_fail(2, &["plugin.so"]);
}

#[test]
fn empty_and_oversized_artifacts_are_refused_by_size() {
    let package = Package::new();
    fs::write(package.artifact(), "").expect("writable");
    package.must_fail(2, &["plugin.so", "empty"]);
    let file = File::create(package.artifact()).expect("writable");
    file.set_len(1 << 30).expect("sparse files are supported");
    package.must_fail(2, &["plugin.so", "MiB"]);
}

#[test]
fn a_path_that_leaves_the_package_is_refused() {
    let package = Package::new();
    for path in ["../plugin.so", "/etc/passwd", "a/../../plugin.so", "./plugin.so", ""] {
        package.manifest(&GOOD.replace("\"plugin.so\"", &format!("\"{path}\"")));
        package.must_fail(2, &["dylib_path", "^"]);
    }
}

#[test]
fn a_symlink_out_of_the_package_is_refused() {
    let package = Package::new();
    fs::rename(package.artifact(), package.path.with_file_name("outside.so")).expect("same folder tree");
    symlink("../outside.so", package.artifact()).expect("links are supported");
    package.must_fail(2, &["plugin.so"]);
}

#[test]
fn text_that_is_not_utf8_is_an_error() {
    let package = Package::new();
    let mut bytes = GOOD.as_bytes().to_vec();
    bytes[GOOD.find("Test").expect("it is there")] = 0xff;
    fs::write(package.path.join("manifest.json"), bytes).expect("writable");
    package.must_fail(2, &["UTF-8"]);
}

#[test]
fn a_package_path_that_is_not_utf8_is_an_error_or_works() {
    let package = Package::new();
    let odd = package.path.with_file_name(std::ffi::OsStr::from_bytes(b"pack\xffage"));
    fs::rename(&package.path, &odd).expect("same folder");
    let said = hotcell(&[Path::new("call"), &odd, Path::new("value")]);
    assert!(matches!(said.code, Some(0 | 2)), "{said:?}");
}

#[test]
fn a_version_of_zero_and_a_bad_id_are_refused() {
    let package = Package::new();
    package.manifest(&GOOD.replace("0.1.0", "0.0.1"));
    package.must_fail(2, &["version", "^"]);
    for id in ["..", "test", "Dev.Hotcell.Test", "dev.hotcell/test", "dev..test", "d\u{435}v.hotcell.test"] {
        package.manifest(&GOOD.replace("dev.hotcell.test", id));
        package.must_fail(2, &["id", "^"]);
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let package = Package::new();
    for (key, value) in
        [("storage", r#"{ "quota": "1 MiB" }"#), ("ui", r#"["ui.show"]"#), ("voice", r#"["voice.say"]"#)]
    {
        let permissions = format!(r#""permissions": {{ "{key}": {value} }}, "author""#);
        package.manifest(&GOOD.replace("\"author\"", &permissions));
        let said = package.call();
        assert!(matches!(said.code, Some(2 | 3)), "{said:?}");
        assert!(said.err.contains(key), "{said:?}");
    }
}

#[test]
fn a_request_that_nothing_grants_is_refused_with_the_line_that_would() {
    let package = Package::new();
    package.manifest(
        &GOOD.replace("\"author\"", r#""permissions": { "host_calls": ["launch-missiles"] }, "author""#),
    );
    package.must_fail(3, &["launch-missiles", "native-strict"]);
    package.manifest(
        &GOOD.replace(
            "\"author\"",
            r#""permissions": { "filesystem": { "read_paths": ["/etc"] } }, "author""#,
        ),
    );
    package.must_fail(3, &["/etc", "native-strict"]);
}

#[test]
fn a_granted_path_that_is_not_there_is_an_error() {
    let package = Package::new();
    let profile = package.path.with_file_name("missing.toml");
    let shipped = fs::read_to_string(hotcell_tests::root().join("sandbox-profiles/image-decoder.toml"));
    let there = package.path.with_file_name("there");
    let grant = format!(
        "\n[[file]]\npath = \"{}\"\naccess = \"read\"\nwhy = \"A test looks there.\"\n",
        there.display()
    );
    fs::write(&profile, shipped.expect("it ships") + &grant).expect("writable");
    let asks = format!(
        r#""permissions": {{ "filesystem": {{ "read_paths": ["{}"] }} }}, "author""#,
        there.display()
    );
    package.manifest(&GOOD.replace("\"author\"", &asks).replace("native-strict", "missing"));
    let call =
        || hotcell(&[Path::new("--profile"), &profile, Path::new("call"), &package.path, Path::new("value")]);
    let said = call();
    assert!(said.code != Some(0) && said.err.contains("there"), "{said:?}");
    fs::create_dir(&there).expect("new");
    assert_eq!(call().code, Some(0), "control");
}

#[test]
fn a_manifest_of_a_hundred_megabytes_or_levels_is_refused_before_it_is_parsed() {
    let package = Package::new();
    package.manifest(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    package.must_fail(2, &["manifest.json"]);
    let file = File::create(package.path.join("manifest.json")).expect("writable");
    file.set_len(100 << 20).expect("sparse files are supported");
    package.must_fail(2, &["manifest.json"]);
}

/// A bare wasm text.
fn wat(text: &str, arguments: &[&str]) -> Said {
    let folders = Folders::new();
    let path = folders.join("plugin.wat");
    fs::write(&path, text).expect("writable");
    let mut all = vec![Path::new("call"), &path];
    all.extend(arguments.iter().map(Path::new));
    hotcell(&all)
}

const ECHO: &str = r#"(module
  (import "hotcell" "reply" (func $reply (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "hotcell_plugin_v1") (result i32) i32.const 0)
  (func (export "hotcell_alloc") (param i32) (result i32) i32.const 1024)
  (func (export "hotcell_export_echo") (param i32 i32) (result i32)
    local.get 0 local.get 1 call $reply i32.const 0))"#;

#[test]
fn a_bare_text_module_works() {
    let said = wat(ECHO, &["echo", "{\"a\":1}"]);
    assert_eq!((said.code, said.out.trim()), (Some(0), "{\"a\":1}"), "{said:?}");
}

#[test]
fn an_undeclared_import_is_refused_by_name() {
    let said = wat(&ECHO.replace("\"reply\"", "\"format_disk\""), &["echo", "1"]);
    must_fail(&said, 3, &["format_disk"]);
    let said = wat(&ECHO.replace("\"hotcell\"", "\"env\""), &["echo", "1"]);
    must_fail(&said, 3, &["env"]);
}

#[test]
fn broken_text_and_unknown_exports_are_errors() {
    must_fail(&wat("(module (func", &["echo"]), 2, &[]);
    must_fail(&wat(ECHO, &["nope", "1"]), 2, &["nope"]);
    must_fail(&wat(ECHO, &["echo", "{broken"]), 2, &["JSON"]);
}
