//! What is wrong in a manifest is said with its place; `golden/manifest-errors.txt` shows each message as people see it.

#![allow(clippy::panic, reason = "a test fails that way")]

mod common;

use std::fmt::Write;

use common::golden;
use hotcell_policy::Manifest;

/// A manifest that parses; each case replaces one piece of it.
const GOOD: &str = r#"{
  "schema": 1,
  "id": "org.example.x",
  "name": "X",
  "version": "1.2.3",
  "plugin_type": "wasm",
  "wasm_path": "x.wasm",
  "runtime": "command",
  "permissions": {
    "filesystem": { "read_paths": ["${plugin}"], "write_paths": ["${data}/out"], "create_files": true },
    "host_calls": ["log"]
  },
  "config": { "level": 3 },
  "security_policy": { "profile": "wasi-command" }
}
"#;

/// What the case shows, the piece, and what stands there instead.
const CASES: &[(&str, &str, &str)] = &[
    ("an unknown key, close to a known one", "\"permissions\":", "\"permisions\":"),
    ("an unknown key, close to none", "\"permissions\":", "\"zzz\":"),
    ("an unknown key inside", "\"read_paths\":", "\"read_path\":"),
    ("a key twice", "\"name\": \"X\"", "\"name\": \"X\", \"name\": \"Y\""),
    ("a key twice, inside the configuration", "{ \"level\": 3 }", "{ \"a\": { \"b\": 1, \"b\": 2 } }"),
    ("a key twice, in other spelling", "\"name\": \"X\"", "\"name\": \"X\", \"n\\u0061me\": \"Y\""),
    ("a missing key", "  \"name\": \"X\",\n", ""),
    ("another schema", "\"schema\": 1", "\"schema\": 2"),
    ("a wrong type", "\"name\": \"X\"", "\"name\": 7"),
    ("a list instead of a string", "\"name\": \"X\"", "\"name\": [\"X\"]"),
    ("a string instead of a list", "[\"log\"]", "\"log\""),
    ("a string instead of a flag", "\"create_files\": true", "\"create_files\": \"yes\""),
    ("null", "\"name\": \"X\"", "\"name\": null"),
    ("an empty list", "[\"log\"]", "[]"),
    ("an empty name", "\"name\": \"X\"", "\"name\": \"  \""),
    ("an id of one label", "org.example.x", "example"),
    ("an id with an upper-case letter", "org.example.x", "org.Example.x"),
    ("an id with a look-alike letter", "org.example.x", "org.ex\u{430}mple.x"),
    ("an id that is a path", "org.example.x", "../../etc"),
    ("a version that is none", "1.2.3", "1.2"),
    ("a version compatible with no other", "1.2.3", "0.0.7"),
    ("another plugin type", "\"plugin_type\": \"wasm\"", "\"plugin_type\": \"wsam\""),
    ("the other type's path", "\"wasm_path\"", "\"dylib_path\""),
    ("a runtime of the other type", "\"runtime\": \"command\"", "\"runtime\": \"native\""),
    ("an absolute artifact", "x.wasm", "/usr/lib/x.wasm"),
    ("an artifact outside the package", "x.wasm", "../x.wasm"),
    ("an artifact with a NUL", "x.wasm", "x\\u0000.wasm"),
    ("a path with a pattern", "${plugin}", "${plugin}/*.txt"),
    ("a path with a variable", "${plugin}", "$HOME/x"),
    ("a home directory", "${plugin}", "~/x"),
    ("a path that climbs", "${data}/out", "${data}/../out"),
    ("a path glued to a place", "${data}/out", "${data}out"),
    ("a path twice", "[\"${plugin}\"]", "[\"${plugin}\", \"${plugin}\"]"),
    ("writing into the package", "${data}/out", "${plugin}/out"),
    ("creating without writing", "\"write_paths\": [\"${data}/out\"], ", ""),
    ("a root that is not asked for", "\"create_files\": true", "\"root\": \"${scratch}\""),
    ("a file size without a unit", "\"create_files\": true", "\"max_file_size\": \"12\""),
    ("a negative file size", "\"create_files\": true", "\"max_file_size\": -1"),
    ("a file size with a fraction", "\"create_files\": true", "\"max_file_size\": 1.5"),
    ("a file size beyond 64 bits", "\"create_files\": true", "\"max_file_size\": 18446744073709551616"),
    ("a number beyond a double", "{ \"level\": 3 }", "1e400"),
    ("a number with a leading zero", "{ \"level\": 3 }", "[1, 02]"),
    ("a number that is none", "{ \"level\": 3 }", "[1.]"),
    ("a host call that is no name", "[\"log\"]", "[\"Log me\"]"),
    ("a direction override in a name", "\"name\": \"X\"", "\"name\": \"X\u{202e}gnp.exe\""),
    ("an escape sequence in a name", "\"name\": \"X\"", "\"name\": \"\\u001b[2J\""),
    ("an escape sequence in a key", "\"config\":", "\"\\u001b[2Jconfig\":"),
    ("a raw control character", "\"name\": \"X\"", "\"name\": \"a\u{1}b\""),
    ("half a surrogate pair", "\"name\": \"X\"", "\"name\": \"\\ud800\""),
    ("an unknown escape", "\"name\": \"X\"", "\"name\": \"\\x41\""),
    ("a string without end", "\"wasi-command\" }\n}\n", "\"wasi-comm"),
    ("a missing comma", "\"name\": \"X\",", "\"name\": \"X\""),
    ("a comma too many", "\"wasi-command\" }", "\"wasi-command\", }"),
    ("a comment", "\"name\": \"X\",", "// the name\n  \"name\": \"X\","),
    ("a word that is no value", "\"create_files\": true", "\"create_files\": True"),
    ("something behind the end", "\"wasi-command\" }\n}\n", "\"wasi-command\" }\n}\nx"),
    ("a profile that is a path", "\"profile\": \"wasi-command\"", "\"profile\": \"../wasi-command\""),
    (
        "a dependency without version",
        "\"config\":",
        "\"dependencies\": [{ \"id\": \"org.example.y\" }], \"config\":",
    ),
    (
        "a port that is none",
        "\"host_calls\"",
        "\"network\": { \"connect\": [\"example.org:0\"] }, \"host_calls\"",
    ),
    (
        "listening at an address in another form",
        "\"host_calls\"",
        "\"network\": { \"listen\": [\"[0:0::1]:80\"] }, \"host_calls\"",
    ),
    (
        "running what it can write",
        "\"host_calls\"",
        "\"process\": { \"spawn\": [\"${scratch}/x\"] }, \"host_calls\"",
    ),
    ("processes without programs", "\"host_calls\"", "\"process\": { \"max_processes\": 1 }, \"host_calls\""),
    ("too many instances", "\"config\":", "\"instances\": 65, \"config\":"),
    (
        "a signature, which is no part of a manifest",
        "\"config\":",
        "\"signature\": { \"key_id\": \"k\", \"ed25519\": \"00\", \"files\": {} }, \"config\":",
    ),
];

#[test]
fn the_manifest_that_the_cases_spoil_parses() {
    Manifest::parse("manifest.json", GOOD.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn each_error_reads_as_committed() {
    let mut text = String::new();
    for (what, piece, instead) in CASES {
        assert!(GOOD.contains(piece), "{what}: `{piece}` is not in the manifest");
        let spoiled = GOOD.replacen(piece, instead, 1);
        let error = Manifest::parse("manifest.json", spoiled.as_bytes())
            .map(|_| panic!("{what}: was accepted"))
            .unwrap_or_else(|error| error);
        writeln!(text, "## {what}\n{error}\n").expect("a string takes all");
    }
    golden("policy/tests/golden/manifest-errors.txt", &text);
}

#[test]
fn what_is_not_text_is_an_error_at_its_first_byte() {
    let mut bytes = GOOD.as_bytes().to_vec();
    let position = GOOD.find("\"X\"").expect("has a name") + 1;
    *bytes.get_mut(position).expect("is inside") = 0xff;
    let error = Manifest::parse("manifest.json", &bytes).expect_err("is not UTF-8");
    assert_eq!((error.line(), error.column()), (4, 12), "{error}");
    for empty in [&b""[..], b" \n", b"\xef\xbb\xbf{}", b"\0"] {
        Manifest::parse("manifest.json", empty).expect_err("is no manifest");
    }
}

#[test]
fn a_manifest_over_the_limit_is_not_even_read() {
    let mut text = GOOD.to_owned();
    text.push_str(&" ".repeat(Manifest::MAX_BYTES - text.len()));
    Manifest::parse("manifest.json", text.as_bytes()).expect("control: one of exactly the limit is read");
    text.push(' ');
    let error = Manifest::parse("manifest.json", text.as_bytes()).expect_err("is too large");
    assert!(error.message().contains("1048577 bytes"), "{error}");
}

#[test]
fn nesting_ends_at_a_depth_and_costs_no_stack() {
    let nested =
        |depth: usize| GOOD.replacen("{ \"level\": 3 }", &("[".repeat(depth) + &"]".repeat(depth)), 1);
    Manifest::parse("manifest.json", nested(31).as_bytes())
        .expect("control: 32 levels with the manifest's own");
    for depth in [32, 100_000] {
        let error = Manifest::parse("manifest.json", nested(depth).as_bytes()).expect_err("is too deep");
        assert!(error.message().contains("levels"), "{error}");
    }
    let open = "[".repeat(500_000);
    Manifest::parse("manifest.json", open.as_bytes()).expect_err("is too deep");
}

#[test]
fn a_message_is_short_and_harmless_whatever_the_line_holds() {
    let key = "\u{1b}[2J\u{202e}".repeat(50_000);
    let escaped = serde_json::Value::from(key).to_string();
    let error =
        Manifest::parse("manifest.json", format!("{{{escaped}: 1}}").as_bytes()).expect_err("is unknown");
    let text = error.to_string();
    assert!(text.len() < 4096, "{} bytes", text.len());
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
}

#[test]
fn cutting_a_manifest_anywhere_is_an_error_and_never_a_panic() {
    for end in 0..GOOD.trim_end().len() {
        Manifest::parse("manifest.json", GOOD.as_bytes().get(..end).unwrap_or_default()).expect_err("is cut");
    }
}
