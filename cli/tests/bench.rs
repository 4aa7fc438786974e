//! `hotcell bench` as people start it. Nothing here depends on a time.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotcell"));
    command.arg("bench").args(arguments).output().expect("the command was built")
}

/// The report of a quick run over some rows.
fn report(filters: &[&str]) -> Value {
    let mut arguments = vec!["--quick", "--json", "-", "--date", "2026-01-31"];
    filters.iter().for_each(|filter| arguments.extend(["--filter", filter]));
    let output = bench(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("prints JSON")
}

fn rows(report: &Value) -> &Vec<Value> {
    report.get("rows").and_then(Value::as_array).expect("has rows")
}

fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).expect("is text")
}

#[test]
fn floors_execute_this_program_and_are_compared_with_each_other() {
    let report = report(&["call-64/pipe/unpinned", "launch/fork, exec, exit, wait/unpinned"]);
    assert_eq!(report.pointer("/machine/date").and_then(Value::as_str), Some("2026-01-31"));
    let names: Vec<_> = rows(&report).iter().map(|row| field(row, "name")).collect();
    assert_eq!(names, ["shared memory, futex", "pipe", "fork, exec, exit, wait"]);
    for row in rows(&report) {
        assert_eq!(field(row, "kind"), "floor");
        let number = |name: &str| row.get(name).and_then(Value::as_u64);
        assert!(number("median") > Some(0), "{row}");
        assert!(number("p99") >= number("median"), "{row}");
        assert!(row.pointer("/ratios/floor").and_then(Value::as_f64) > Some(0.0), "{row}");
    }
}

#[test]
fn a_row_that_cannot_be_measured_says_why_and_fails_nothing() {
    let output =
        bench(&["--quick", "--plugins", "/nonexistent", "--filter", "memory/hotcell wasm", "--json", "-"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("prints JSON");
    let worker = rows(&report).iter().find(|row| field(row, "name") == "hotcell wasm worker");
    let why = field(worker.expect("has its row"), "not_measured");
    assert!(why.contains("/nonexistent"), "{why}");
}

#[test]
fn every_row_has_an_id_of_its_own() {
    let output = bench(&["--list"]);
    let text = String::from_utf8(output.stdout).expect("is text");
    let mut ids: Vec<&str> = text.lines().collect();
    assert!(ids.contains(&"call-64/hotcell native, async/one core"));
    assert!(ids.contains(&"launch/fork, exit, wait/unpinned"));
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_measured() {
    let cases: [(&[&str], &str); 5] = [
        (&["--filter", "no such row"], "no row has an id with this text"),
        (&["--standards", "--many", "3"], "cannot be used with"),
        (&["--state-dir", "/tmp"], "--state-dir has no meaning for bench"),
        (&["--date", "yesterday"], "YYYY-MM-DD"),
        (&["--many", "0"], "0"),
    ];
    for (arguments, says) in cases {
        let output = bench(arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(says), "{arguments:?}: {message}");
    }
}

#[test]
fn a_peers_program_that_is_not_there_is_an_error() {
    let output = bench(&["--peers", "/nonexistent/peers", "--list"]);
    assert_eq!(output.status.code(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/peers"));
}

#[test]
fn help_says_where_to_read_on() {
    let output = bench(&["--help"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["--standards", "--many", "--peers", "docs/benchmarks.md", "scripts/bench"] {
        assert!(text.contains(part), "{part}");
    }
}
