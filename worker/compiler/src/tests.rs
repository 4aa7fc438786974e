//! Modules in, verdicts out.

use hotcell_protocol::{CompileFailure, CompileRequest, FailureKind, Runtime};

use crate::{Compiled, compile};

const COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")))"#;

const CORE: &str = r#"(module
    (import "hotcell" "reply" (func (param i32 i32)))
    (memory (export "memory") 1)
    (func (export "hotcell_export_echo") (param i32 i32) (result i32) i32.const 0))"#;

const COMPONENT: &str = r#"(component
    (import "hotcell:plugin/host@0.1.0" (instance
        (export "host-call" (func (param "name" string) (param "input" (list u8))))))
    (import "wasi:io/poll@0.2.3" (instance (export "pollable" (type (sub resource)))))
    (core module $m (func (export "f") (result i32) i32.const 7))
    (core instance $i (instantiate $m))
    (func $f (result u32) (canon lift (core func $i "f")))
    (instance $api (export "seven" (func $f)))
    (export "seven" (func $f))
    (export "example:numbers/api@1.0.0" (instance $api)))"#;

fn run(source: &str, runtime: Option<Runtime>) -> Result<Compiled, CompileFailure> {
    compile(source.as_bytes().to_vec(), &CompileRequest { runtime, exceptions: false })
}

fn refusal(source: &str, runtime: Option<Runtime>) -> (FailureKind, String) {
    let failure = run(source, runtime).expect_err("is refused");
    (failure.kind, failure.message)
}

#[test]
fn the_kind_is_found_and_the_exports_are_listed() {
    let found = |source, runtime| {
        let description = run(source, runtime).expect("compiles").description;
        (description.runtime, description.exports.join(" "), description.imports.join(" "))
    };
    let named = |runtime, exports: &str, imports: &str| (runtime, exports.to_owned(), imports.to_owned());
    assert_eq!(found(CORE, None), named(Runtime::Core, "echo", "hotcell.reply"));
    assert_eq!(found(COMMAND, None), named(Runtime::Command, "run", "wasi_snapshot_preview1.proc_exit"));
    assert_eq!(found(CORE, Some(Runtime::Core)).0, Runtime::Core);
    assert_eq!(
        found(COMPONENT, None),
        named(
            Runtime::Component,
            "seven example:numbers/api@1.0.0#seven",
            "hotcell:plugin/host@0.1.0 wasi:io/poll@0.2.3"
        )
    );
}

#[test]
fn the_code_is_what_was_announced() {
    let compiled = run(CORE, None).expect("compiles");
    assert_eq!(compiled.code.len() as u64, compiled.description.code_len);
    assert!(compiled.code.starts_with(b"\x7fELF"));
}

#[test]
fn another_kind_than_the_manifest_says_is_unsupported() {
    for (source, said) in [
        (CORE, Runtime::Component),
        (CORE, Runtime::Command),
        (COMPONENT, Runtime::Core),
        (COMPONENT, Runtime::Command),
        (CORE, Runtime::Native),
    ] {
        let (kind, message) = refusal(source, Some(said));
        assert_eq!(kind, FailureKind::Unsupported, "{said:?}");
        assert!(message.contains("manifest says"), "{message}");
    }
    let start = r#"(module (func (export "_start")))"#;
    let description = run(start, Some(Runtime::Command)).expect("a command without imports").description;
    assert_eq!(description.runtime, Runtime::Command);
}

#[test]
fn an_import_that_no_runtime_offers_is_refused_by_name() {
    for (source, named) in [
        (r#"(module (import "env" "abort" (func)))"#, "env.abort"),
        (r#"(module (import "hotcell" "replay" (func (param i32 i32))))"#, "hotcell.replay"),
        (r#"(module (import "hotcell" "memory" (memory 1)))"#, "hotcell.memory"),
        (
            r#"(module (import "wasi_snapshot_preview1" "fd_evil" (func)) (func (export "_start")))"#,
            "fd_evil",
        ),
        (
            r#"(component (import "wasi:sockets/tls@0.2.0" (instance (export "f" (func)))))"#,
            "wasi:sockets/tls@0.2.0",
        ),
        (
            r#"(component (import "wasi:http/incoming-handler@0.2.0" (instance (export "f" (func)))))"#,
            "wasi:http/incoming-handler@0.2.0",
        ),
        (r#"(component (import "loose" (func)))"#, "loose"),
    ] {
        let (kind, message) = refusal(source, None);
        assert_eq!(kind, FailureKind::UndeclaredImport, "{message}");
        assert!(message.contains(named), "{message}");
    }
    let (_, message) = refusal("(module (import \"\\1b[2J\" \"x\" (func)))", None);
    assert!(message.contains("\\u{1b}[2J"), "{message}");
}

#[test]
fn an_import_of_the_wrong_type_is_refused_with_both_types() {
    let (kind, message) = refusal(r#"(module (import "hotcell" "reply" (func (param i64 i32))))"#, None);
    assert_eq!(kind, FailureKind::UndeclaredImport);
    assert!(message.contains("i64"), "{message}");
}

#[test]
fn features_that_are_off_are_unsupported_not_malformed() {
    for (source, named) in [
        (r#"(module (memory 1 1 shared))"#, "thread"),
        (r#"(module (memory i64 1))"#, "memory64"),
        (r#"(module (func $f return_call $f))"#, "tail call"),
        (r#"(module (type (struct)))"#, "gc"),
        (r#"(module (tag (param i32)))"#, "`wasm = [\"exceptions\"]`"),
        (r#"(module (func (block (try_table (catch_all 0)))))"#, "`wasm = [\"exceptions\"]`"),
        (r#"(module (func (param externref)))"#, "`wasm = [\"exceptions\"]`"),
        (r#"(module (func try catch_all end))"#, "exception"),
        (r#"(module (func (param anyref)))"#, ""),
        (r#"(component (type (stream u8)))"#, ""),
    ] {
        let (kind, message) = refusal(source, None);
        assert_eq!(kind, FailureKind::Unsupported, "{source}: {message}");
        assert!(message.contains(named), "{source}: {message}");
    }
}

#[test]
fn exceptions_compile_where_they_are_granted_and_nothing_else_does() {
    let granted = CompileRequest { runtime: None, exceptions: true };
    for source in [
        "(module (tag $t (param i32)) (func (block $h (result i32)
            (try_table (catch $t $h) i32.const 1 throw $t) unreachable) drop))",
        "(module (func (param externref)))",
    ] {
        assert!(compile(source.as_bytes().to_vec(), &granted).is_ok(), "{source}");
    }
    for source in ["(module (type (struct)))", "(module (func try catch_all end))", "(module (memory i64 1))"]
    {
        let refused = compile(source.as_bytes().to_vec(), &granted).expect_err("is off");
        assert_eq!(refused.kind, FailureKind::Unsupported, "{source}");
    }
}

#[test]
fn what_is_not_wasm_is_malformed() {
    let truncated = compile(
        b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f".to_vec(),
        &CompileRequest { runtime: None, exceptions: false },
    );
    assert_eq!(truncated.expect_err("is refused").kind, FailureKind::Malformed);
    let header = compile(b"\0asm".to_vec(), &CompileRequest { runtime: None, exceptions: false });
    assert_eq!(header.expect_err("is refused").kind, FailureKind::Malformed);
    assert_eq!(refusal("(module (func (result i32)))", None).0, FailureKind::Malformed);
    let precompiled = run(CORE, None).expect("compiles").code;
    let again = compile(precompiled, &CompileRequest { runtime: None, exceptions: false });
    assert_eq!(again.expect_err("is refused").kind, FailureKind::Malformed);
}

#[test]
fn what_compilers_emit_unasked_compiles() {
    for source in [
        "(module (memory 1) (func i32.const 0 i32.const 0 i32.const 0 memory.fill))",
        "(module (func (param i32) (result i32) local.get 0 i32.extend8_s))",
        "(module (func (param f32) (result i32) local.get 0 i32.trunc_sat_f32_s))",
        "(module (func (result i32 i32) i32.const 0 i32.const 0))",
        "(module (func (param v128) (result v128) local.get 0))",
        "(module (table 1 funcref) (func (param i32) i32.const 0 ref.null func table.set 0))",
        "(module (global (mut i32) (i32.const 0)) (global i32 (i32.add (i32.const 1) (i32.const 2))))",
    ] {
        assert!(run(source, None).is_ok(), "{source}");
    }
}
