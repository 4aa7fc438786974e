//! An audit finds what is written down in a package, says nothing against one that is well made, and runs nothing of it.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use hotcell::{Audit, Class, Host, Severity};
use hotcell_tests::command::{command, run};
use hotcell_tests::{Folders, fixture, package, root};
use serde_json::json;

mod common;

/// A library that is well made.
const SOURCE: &str = "#include \"hotcell_plugin.h\"\nHOTCELL_PLUGIN(64)\n\
    HOTCELL_EXPORT(greet)(const uint8_t *input, size_t length) { return hotcell_ok(input, length); }\n";

/// Flags with which nothing can be said against it.
const WELL: [&str; 5] = ["-fPIC", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack", "-O2"];

/// A package whose library is compiled with these flags and this source behind [`SOURCE`].
fn compiled(folders: &Folders, name: &str, more: &str, flags: &[&str]) -> PathBuf {
    let manifest = json!({ "api_contract": { "exports": [{ "name": "greet" }] } });
    let path = common::native(folders, name, "greet/native/greet.so", manifest);
    let source = folders.join(&format!("{name}.c"));
    std::fs::write(&source, format!("{SOURCE}{more}")).expect("writable");
    let done = Command::new("cc")
        .args(["-shared", "-fvisibility=hidden", "-w", "-I"])
        .arg(root().join("sdk/include"))
        .arg(&source)
        .args(flags)
        .arg("-o")
        .arg(path.join("plugin.so"))
        .output();
    let done = done.expect("there is a C compiler");
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    path
}

async fn audited(host: &Host, path: &Path) -> Audit {
    host.audit(path).await.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rules that were broken, without those that every unsigned native plugin breaks.
async fn broken(host: &Host, path: &Path) -> Vec<&'static str> {
    let audit = audited(host, path).await;
    let mut rules: Vec<_> = audit.findings.iter().map(|finding| finding.rule).collect();
    rules.retain(|rule| !matches!(*rule, "signature" | "native-code"));
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[tokio::test]
async fn what_a_library_says_of_itself_is_found_one_by_one() {
    let setup = common::Setup::new().await;
    let (host, folders) = (&setup.host, &setup.folders);
    let well = compiled(folders, "well", "", &WELL);
    assert!(broken(host, &well).await.is_empty(), "control: {:?}", audited(host, &well).await);
    let constructor = "__attribute__((constructor)) static void early(void) { hotcell_table = 0; }";
    let writable = "__asm__(\".section .both,\\\"awx\\\",@progbits\\n.long 0\\n.text\");";
    let relocated = "__asm__(\".text\\n.quad hotcell_plugin_v1\");";
    let cases: [(&str, &str, &[&str], &str); 7] = [
        ("stack", "", &["-Wl,-z,execstack"], "executable-stack"),
        ("lazy", "", &["-Wl,-z,lazy"], "lazy-binding"),
        ("early", constructor, &[], "constructors"),
        ("run-path", "", &["-Wl,-rpath,/opt/lib"], "run-path"),
        ("needs", "", &["-Wl,--no-as-needed", "-lhotcell_nowhere"], "needed-library"),
        ("code", writable, &[], "executable-stack"),
        ("relocated", relocated, &["-Wl,-z,notext"], "text-relocations"),
    ];
    let stubs = folders.join("stubs");
    std::fs::create_dir(&stubs).expect("new");
    let empty = folders.join("empty.c");
    std::fs::write(&empty, "int nothing;").expect("writable");
    let stub = stubs.join("libhotcell_nowhere.so");
    let made = Command::new("cc")
        .args(["-shared", "-o"])
        .arg(&stub)
        .arg(&empty)
        .args(["-Wl,-soname,libhotcell_nowhere.so"])
        .status();
    assert!(made.expect("there is a C compiler").success());
    let search = format!("-L{}", stubs.display());
    for (name, more, flags, rule) in cases {
        let flags = [&WELL[..], flags, &[search.as_str()]].concat();
        let found = broken(host, &compiled(folders, name, more, &flags)).await;
        assert!(found.contains(&rule), "{name}: {found:?}");
    }
    let bare =
        compiled(folders, "norelro", "", &["-fPIC", "-Wl,-z,norelro", "-Wl,-z,now", "-Wl,-z,noexecstack"]);
    assert_eq!(broken(host, &bare).await, ["relro"]);
    let no_export = compiled(folders, "export", "", &WELL);
    let manifest = no_export.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("readable");
    std::fs::write(&manifest, text.replace("\"greet\"", "\"welcome\"")).expect("writable");
    assert_eq!(broken(host, &no_export).await, ["export-missing"]);
    std::fs::write(well.join("plugin.so"), b"\x7fELF\x02\x01\x01").expect("writable");
    assert_eq!(broken(host, &well).await, ["artifact"], "a damaged library is a finding");
    setup.host.shutdown().await;
}

#[tokio::test]
async fn permissions_signatures_and_secrets_are_found() {
    let setup = common::Setup::new().await;
    let (host, folders) = (&setup.host, &setup.folders);
    let plain = compiled(folders, "plain", "", &WELL);
    let audit = audited(host, &plain).await;
    let signature =
        audit.findings.iter().find(|finding| finding.rule == "signature").expect("it is unsigned");
    assert_eq!(signature.severity, Severity::Medium);
    for (name, contents, expected) in [
        ("notes.txt", "nothing", &[][..]),
        ("key.txt", "-----BEGIN PRIVATE KEY-----", &["secret"]),
        (".env", "A=B", &["secret"]),
    ] {
        std::fs::write(plain.join(name), contents).expect("writable");
        assert_eq!(broken(host, &plain).await, expected, "{name}");
        std::fs::remove_file(plain.join(name)).expect("writable");
    }
    let asks = json!({ "permissions": { "host_calls": ["log", "storage.get"], "network": { "connect": ["a.example:1"] } } });
    let asking = common::native(folders, "asking", "greet/native/greet.so", asks);
    let found = broken(host, &asking).await;
    for rule in ["host-call", "network", "permission-refused"] {
        assert!(found.contains(&rule), "{rule}: {found:?}");
    }
    let module = package("greet/core");
    assert!(broken(host, &module).await.is_empty(), "{:?}", audited(host, &module).await);
    // It can connect, and asks for no address.
    assert_eq!(broken(host, &package("dial/component")).await, ["unused-import"]);
    let undeclared = package("crash-lab/modules/undeclared_import");
    assert_eq!(broken(host, &undeclared).await, ["artifact"]);
    setup.host.shutdown().await;
}

#[tokio::test]
async fn a_profile_can_have_findings_refuse_a_load_and_a_reload() {
    let folders = Folders::new();
    let profile = |name: &str, limit: &str| {
        let audit = format!("schema = 1\naudit = \"{limit}\"");
        common::profile("native-strict", name, &[("schema = 1", &audit)], "")
    };
    let host = fixture::host(&folders)
        .profile(profile("audited-high", "high"))
        .profile(profile("audited-medium", "medium"))
        .build()
        .await
        .expect("a host starts");
    let with_profile = |path: &Path, name: &str| {
        let manifest = path.join("manifest.json");
        let text = std::fs::read_to_string(&manifest).expect("readable");
        std::fs::write(&manifest, text.replace("native-strict", name)).expect("writable");
    };
    let path = compiled(&folders, "audited", "", &WELL);
    host.load(&path).await.expect("control: no audit");
    with_profile(&path, "audited-medium");
    let error = host.load(&path).await.expect_err("it is not signed");
    assert!(error.class() == Class::Refused && error.to_string().contains("not signed"), "{error}");
    let text = std::fs::read_to_string(path.join("manifest.json")).expect("readable");
    std::fs::write(path.join("manifest.json"), text.replace("audited-medium", "audited-high"))
        .expect("writable");
    let plugin = host.load(&path).await.expect("control: that is not grave enough");
    std::fs::write(path.join("id_rsa"), "x").expect("writable");
    let error = plugin.reload().await.expect_err("a reload is audited, too");
    assert!(error.to_string().contains("secret"), "{error}");
    std::fs::remove_file(path.join("id_rsa")).expect("writable");
    plugin.reload().await.expect("control");
    // Another manifest of the folder asks for what the audited one does not.
    std::fs::copy(path.join("manifest.json"), path.join("other.json")).expect("writable");
    host.load(path.join("manifest.json")).await.expect("control: the manifest by its name");
    let text = std::fs::read_to_string(path.join("other.json")).expect("readable");
    std::fs::write(path.join("other.json"), text.replace("\"name\":\"audited\"", "\"name\":\"other\""))
        .expect("writable");
    let error = host.load(path.join("other.json")).await.expect_err("it was not audited");
    assert!(error.class() == Class::Refused && error.to_string().contains("not what is loaded"), "{error}");
    host.shutdown().await;
}

#[test]
fn the_command_prints_findings_for_people_programs_and_code_hosts() {
    let folders = Folders::new();
    let path = compiled(&folders, "told", "", &[&WELL[..], &["-Wl,-z,execstack"]].concat());
    let audit = |more: &[&str]| run(command(&folders).args(["plugin", "audit"]).arg(&path).args(more));
    let text = audit(&[]);
    assert!(
        text.code == Some(1) && text.out.contains("high   executable-stack: plugin.so: "),
        "{}{}",
        text.out,
        text.err
    );
    assert_eq!(audit(&["--fail-on", "never"]).code, Some(0));
    let found: serde_json::Value = serde_json::from_str(&audit(&["--json"]).out).expect("JSON");
    assert_eq!(found["findings"][0]["rule"], "executable-stack");
    let sarif: serde_json::Value = serde_json::from_str(&audit(&["--sarif"]).out).expect("JSON");
    let run = &sarif["runs"][0];
    assert_eq!((&sarif["version"], &run["results"][0]["level"]), (&json!("2.1.0"), &json!("error")));
    let rules = run["tool"]["driver"]["rules"].as_array().expect("a list");
    let known = |rule: &serde_json::Value| rules.iter().any(|known| known["id"] == *rule);
    assert!(run["results"].as_array().expect("a list").iter().all(|result| known(&result["ruleId"])));
}

#[tokio::test]
async fn what_is_known_of_the_runtime_is_found_where_there_is_a_database() {
    let folders = Folders::new();
    let database = folders.join("advisory-db");
    let about = database.join("crates/wasmtime");
    std::fs::create_dir_all(&about).expect("the folder is new");
    let advisory = |id: &str, patched: &str| {
        let text = format!(
            "```toml\n[advisory]\nid = \"{id}\"\npackage = \"wasmtime\"\ndate = \"2026-01-01\"\n\n[versions]\npatched = [\"{patched}\"]\n```\n\n# A hole\n"
        );
        std::fs::write(about.join(format!("{id}.md")), text).expect("writable");
    };
    advisory("RUSTSEC-2026-9998", ">= 1.0.0");
    advisory("RUSTSEC-2026-9999", ">= 999.0.0");
    let careful =
        [("runtime = [\"core\", \"component\"]", "runtime = [\"core\", \"component\"]\naudit = \"medium\"")];
    let profile = common::profile("pure-compute", "careful", &careful, "");
    let host =
        fixture::host(&folders).profile(profile).advisories(&database).build().await.expect("a host starts");
    let audit = audited(&host, &package("greet/component")).await;
    assert_eq!(audit.advisories, Some(2));
    let known: Vec<_> = audit.findings.iter().filter(|finding| finding.rule == "advisory").collect();
    assert!(
        known.len() == 1 && known[0].message.starts_with("RUSTSEC-2026-9999 about wasmtime"),
        "{known:?}"
    );
    assert_eq!(known[0].severity, Severity::Medium);
    let native = audited(&host, &package("greet/native")).await;
    assert!(native.advisories.is_none() && native.findings.iter().all(|finding| finding.rule != "advisory"));
    // A load that wants audits is refused for it, and is not where the fault is mended.
    let path = common::dial(&folders, "modern", "careful", json!({}));
    let said = |error: &hotcell::Error| error.to_string();
    let error = host.load(&path).await.expect_err("it runs in what has a hole");
    assert!(said(&error).contains("RUSTSEC-2026-9999"), "{error}");
    std::fs::remove_file(about.join("RUSTSEC-2026-9999.md")).expect("it is there");
    let error = host.load(&path).await.expect_err("it is not signed, which is as grave");
    assert!(!said(&error).contains("RUSTSEC"), "{error}");
    host.shutdown().await;
    // What is no database is told, and not passed over.
    let host =
        fixture::host(&folders).advisories(folders.join("nowhere")).build().await.expect("a host starts");
    assert!(
        host.audit(package("greet/component")).await.expect_err("nowhere").to_string().contains("advisories")
    );
    host.shutdown().await;
}
