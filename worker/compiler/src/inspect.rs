//! What a module is, imports and exports, read without looking at its code.

use std::collections::BTreeMap;

use hotcell_plugin::abi;
use hotcell_protocol::compile::NAMES_MAX;
use hotcell_protocol::{CompileFailure, FailureKind, Runtime};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::{EntityType, Types, TypesRef};
use wasmparser::{
    FuncType, FuncValidatorAllocations, Parser, Payload, ValidPayload, Validator, WasmFeatures,
};

use crate::failure::{NAME_MAX, failure, printable, refuse_invalid};

/// Bytes of all names in one list of a description, so that it fits a message.
const LIST_MAX: usize = 96 * 1024;

/// The export that makes a component a command.
const RUN_INTERFACE: &str = "wasi:cli/run@0.2.";

/// The one export of a command, as a call names it.
const RUN: &str = "run";

/// Core module or component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Core,
    Component,
}

/// What is imported.
#[derive(Debug)]
pub(crate) enum Import {
    /// A function of a core module.
    Function(FuncType),
    /// An interface of a component, with the number of its functions and resources.
    Interface { functions: usize },
    /// A memory, table, global, core module, value.
    Other(&'static str),
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    /// Exports a start function that a command runs.
    pub(crate) has_start: bool,
    /// Is a command unless the manifest says otherwise.
    pub(crate) is_command: bool,
    /// Module (empty for a component), name, type.
    pub(crate) imports: Vec<(String, String, Import)>,
    exports: Vec<String>,
}

impl Kind {
    /// How it runs when it is not a command.
    pub(crate) fn library(self) -> Runtime {
        match self {
            Kind::Core => Runtime::Core,
            Kind::Component => Runtime::Component,
        }
    }

    /// For a message.
    pub(crate) fn article(self) -> &'static str {
        match self {
            Kind::Core => "a core module",
            Kind::Component => "a component",
        }
    }
}

impl Facts {
    /// The functions that may be called, as a call names them.
    pub(crate) fn callable(&self, runtime: Runtime) -> Vec<String> {
        match runtime {
            Runtime::Command => vec![RUN.to_owned()],
            Runtime::Core => {
                let names = self.exports.iter().filter_map(|name| name.strip_prefix(abi::EXPORT_PREFIX));
                cut(names.filter(|name| abi::is_export_name(name)).map(str::to_owned))
            }
            _ => cut(self.exports.iter().filter(|name| name.len() <= NAME_MAX).cloned()),
        }
    }

    /// The imports, for people.
    pub(crate) fn import_names(&self) -> Vec<String> {
        let name = |(module, name, _): &(String, String, Import)| match module.as_str() {
            "" => printable(name),
            _ => format!("{}.{}", printable(module), printable(name)),
        };
        cut(self.imports.iter().map(name))
    }
}

fn cut(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut room = LIST_MAX;
    let fits = |name: &String| {
        let left = room.checked_sub(name.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    names.take(NAMES_MAX).take_while(fits).collect()
}

/// Validates a module or component against what it may use.
pub(crate) fn inspect(wasm: &[u8], features: WasmFeatures) -> Result<Facts, CompileFailure> {
    read(wasm, features)
        .map_err(|error| refuse_invalid(wasm, &error))?
        .ok_or_else(|| failure(FailureKind::Malformed, "not valid WebAssembly: the module does not end"))
}

fn read(wasm: &[u8], features: WasmFeatures) -> Result<Option<Facts>, wasmparser::BinaryReaderError> {
    let mut validator = Validator::new_with_features(features);
    let mut allocations = FuncValidatorAllocations::default();
    let mut names = Names::default();
    let mut depth = 0_usize;
    let mut facts = None;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if depth == 1 {
            names.note(&payload)?;
        }
        if matches!(payload, Payload::Version { .. }) {
            depth += 1;
        }
        match validator.payload(&payload)? {
            // The compiler validates bodies, too, but against all that it can compile.
            ValidPayload::Func(function, body) => {
                let mut validator = function.into_validator(allocations);
                validator.validate(&body)?;
                allocations = validator.into_allocations();
            }
            ValidPayload::End(types) => {
                depth = depth.saturating_sub(1);
                facts = (depth == 0).then(|| names.facts(&types));
            }
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
    }
    Ok(facts)
}

/// Names of a component's own imports and exports; a core module's are in its types.
#[derive(Debug, Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Names {
    fn note(&mut self, payload: &Payload<'_>) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    self.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn facts(&self, types: &Types) -> Facts {
        match types.as_ref().core_exports() {
            Some(_) => core_facts(types.as_ref()),
            None => self.component_facts(types.as_ref()),
        }
    }

    fn component_facts(&self, types: TypesRef<'_>) -> Facts {
        let mut imports = Vec::new();
        for name in &self.imports {
            let import = match types.component_item_for_import(name).map(|item| item.ty) {
                Some(ComponentEntityType::Instance(id)) => {
                    let exports = types.get(id).map(|instance| instance.exports.iter());
                    let functions =
                        exports.into_iter().flatten().filter(|(_, item)| is_linked(item.ty)).count();
                    Import::Interface { functions }
                }
                Some(ComponentEntityType::Func(_)) => Import::Other("a function outside of an interface"),
                // The name of a type, which needs nobody to provide it.
                Some(ComponentEntityType::Type { .. }) => continue,
                _ => Import::Other("a module, component or value"),
            };
            imports.push((String::new(), name.clone(), import));
        }
        let has_start = self.exports.iter().any(|name| name.starts_with(RUN_INTERFACE));
        let exports = self.exports.iter().flat_map(|name| functions(types, name)).collect();
        Facts { kind: Kind::Component, has_start, is_command: has_start, imports, exports }
    }
}

/// Functions need a host; a resource comes with its destructor.
fn is_linked(entity: ComponentEntityType) -> bool {
    matches!(entity, ComponentEntityType::Func(_))
}

fn functions(types: TypesRef<'_>, name: &str) -> Vec<String> {
    match types.component_item_for_export(name).map(|item| item.ty) {
        Some(ComponentEntityType::Func(_)) => vec![name.to_owned()],
        Some(ComponentEntityType::Instance(id)) => {
            let exports = types.get(id).map(|instance| instance.exports.iter());
            let functions = exports.into_iter().flatten().filter(|(_, item)| is_linked(item.ty));
            functions.map(|(function, _)| format!("{name}#{function}")).collect()
        }
        _ => Vec::new(),
    }
}

fn core_facts(types: TypesRef<'_>) -> Facts {
    let mut imports = Vec::new();
    for (module, name, entity) in types.core_imports().into_iter().flatten() {
        imports.push((module.to_owned(), name.to_owned(), core_import(types, entity)));
    }
    let exports: BTreeMap<&str, EntityType> = types.core_exports().into_iter().flatten().collect();
    let has_start = matches!(exports.get("_start"), Some(EntityType::Func(_)));
    let wasi = imports.iter().any(|(module, _, _)| module == crate::offer::PREVIEW1);
    let exports = exports.into_iter().filter(|(_, entity)| matches!(entity, EntityType::Func(_)));
    Facts {
        kind: Kind::Core,
        has_start,
        is_command: has_start && wasi,
        imports,
        exports: exports.map(|(name, _)| name.to_owned()).collect(),
    }
}

fn core_import(types: TypesRef<'_>, entity: EntityType) -> Import {
    match entity {
        EntityType::Func(id) => match types.get(id).map(|ty| &ty.composite_type.inner) {
            Some(wasmparser::CompositeInnerType::Func(ty)) => Import::Function(ty.clone()),
            _ => Import::Other("a function of a strange type"),
        },
        EntityType::Memory(_) => Import::Other("a memory"),
        EntityType::Table(_) => Import::Other("a table"),
        EntityType::Global(_) => Import::Other("a global"),
        EntityType::Tag(_) | EntityType::FuncExact(_) => Import::Other("a tag"),
    }
}
