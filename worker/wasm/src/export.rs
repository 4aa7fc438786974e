//! The exports of a component, by the names under which they are called.

use std::collections::BTreeMap;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex};

use crate::engine::engine;

/// Where an exported function is.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// This one.
    One(ComponentExportIndex),
    /// Several versions of the interface have it.
    Ambiguous,
}

/// Every exported function: `func`, or `namespace:package/interface@version#func`, and the latter also without its
/// version where only one is exported.
#[derive(Debug, Default)]
pub(crate) struct Exports(BTreeMap<String, Found>);

impl Exports {
    pub(crate) fn of(component: &Component) -> Result<Exports, String> {
        let engine = engine()?;
        let mut exports = Exports::default();
        for (name, item) in component.component_type().exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    exports.note(name.to_owned(), component.get_export_index(None, name));
                }
                ComponentItem::ComponentInstance(instance) => {
                    let interface = component.get_export_index(None, name);
                    let functions = instance.exports(engine);
                    let functions =
                        functions.filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
                    for (function, _) in functions {
                        let index = component.get_export_index(interface.as_ref(), function);
                        exports.note_in(name, function, index);
                    }
                }
                _ => {}
            }
        }
        Ok(exports)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Found> {
        self.0.get(name)
    }

    /// The one function of an interface whose name starts like this, as for a command.
    pub(crate) fn starting(&self, prefix: &str) -> Option<ComponentExportIndex> {
        self.0.iter().filter(|(name, _)| name.starts_with(prefix)).find_map(|(_, found)| match found {
            Found::One(index) => Some(*index),
            Found::Ambiguous => None,
        })
    }

    fn note_in(&mut self, interface: &str, function: &str, index: Option<ComponentExportIndex>) {
        self.note(format!("{interface}#{function}"), index);
        if let Some((unversioned, _)) = interface.split_once('@') {
            self.note(format!("{unversioned}#{function}"), index);
        }
    }

    fn note(&mut self, name: String, index: Option<ComponentExportIndex>) {
        let Some(index) = index else { return };
        self.0.entry(name).and_modify(|found| *found = Found::Ambiguous).or_insert(Found::One(index));
    }
}
