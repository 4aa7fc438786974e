//! A component: any exported function, called with JSON that is checked against the function's own types.

use std::collections::BTreeMap;
use std::fs::File;

use hotcell_protocol::{Failure, ReplyStatus, Start};
use hotcell_worker::{Link, Reply, load_failure};
use tokio::runtime::Runtime;
use wasmtime::Store;
use wasmtime::component::{self, Func, Instance, InstancePre, Val};

use crate::artifact;
use crate::command::{link_failure, start_failure};
use crate::export::{Exports, Found};
use crate::guest::{self, Guest, drive};
use crate::imports;
use crate::trap::Fault;
use crate::value::{self, Signature};
use crate::wasi;

/// A component at work.
pub struct Component {
    pub(crate) runtime: Runtime,
    pub(crate) store: Store<Guest>,
    code: InstancePre<Guest>,
    exports: Exports,
    instance: Option<Instance>,
    known: BTreeMap<String, Callable>,
}

/// An export that was called before.
#[derive(Clone, Debug)]
struct Callable {
    function: Func,
    /// Why it cannot be called, if its types cannot cross.
    signature: Result<Signature, String>,
}

impl std::fmt::Debug for Component {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Component").field("exports", &self.exports).finish_non_exhaustive()
    }
}

impl Component {
    pub(crate) fn load(file: File, start: &Start) -> Result<Component, Failure> {
        let component = artifact::component(&file)?;
        let exports = Exports::of(&component).map_err(load_failure)?;
        let code = link(&component)?;
        let store = guest::store(wasi::context(start)?.build(), start)?;
        let runtime = guest::runtime(start)?;
        Ok(Component { runtime, store, code, exports, instance: None, known: BTreeMap::new() })
    }

    pub(crate) fn ready(&mut self, start: &Start, link: &mut Link) -> Result<(), Failure> {
        self.store.data_mut().broker.link.begin(link);
        let made = drive(&self.runtime, self.code.instantiate_async(&mut self.store));
        self.store.data_mut().broker.link.end();
        let made = made.and_then(|made| made.map_err(|error| Fault::of(&error)));
        self.instance = Some(made.map_err(|fault| start_failure(self.store.data().refusal(), &fault))?);
        start.config.as_ref().map_or(Ok(()), |config| self.configure(config, link))
    }

    pub(crate) fn call(&mut self, export: &str, input: &[u8], link: &mut Link) -> Reply {
        if let Some(reply) = self.hook(export, input, link) {
            return reply;
        }
        let callable = match self.find(export) {
            Ok(callable) => callable,
            Err(text) => return Reply::text(ReplyStatus::NoSuchExport, text),
        };
        let signature = match &callable.signature {
            Ok(signature) => signature,
            Err(reason) => {
                return Reply::text(ReplyStatus::BadInput, format!("`{export}` cannot be called: {reason}"));
            }
        };
        let arguments = match value::arguments(input, signature) {
            Ok(arguments) => arguments,
            Err(bad) => return Reply::text(ReplyStatus::BadInput, bad.to_string()),
        };
        self.store.data_mut().broker.link.begin(link);
        let outcome = self.run(&callable, &arguments, signature.has_result);
        self.store.data_mut().broker.link.end();
        match outcome {
            Ok(result) => reply(result),
            Err(fault) => fault.reply(),
        }
    }

    fn run(
        &mut self,
        callable: &Callable,
        arguments: &[Val],
        has_result: bool,
    ) -> Result<Option<Val>, Fault> {
        let mut results = vec![Val::Bool(false); usize::from(has_result)];
        let called = callable.function.call_async(&mut self.store, arguments, &mut results);
        drive(&self.runtime, called)?.map_err(|error| Fault::of(&error))?;
        Ok(results.pop())
    }

    /// The export, its types read once.
    fn find(&mut self, export: &str) -> Result<Callable, String> {
        if let Some(callable) = self.known.get(export) {
            return Ok(callable.clone());
        }
        let index = match self.exports.find(export) {
            Some(Found::One(index)) => *index,
            Some(Found::Ambiguous) => {
                return Err(format!(
                    "the component exports several versions of `{export}`: name one with its version"
                ));
            }
            None => return Err(format!("the component has no export `{export}`")),
        };
        let instance = self.instance.ok_or("the component is not instantiated")?;
        let function = instance
            .get_func(&mut self.store, index)
            .ok_or_else(|| format!("`{export}` is not a function"))?;
        let callable = Callable { function, signature: Signature::of(&function.ty(&self.store)) };
        self.known.insert(export.to_owned(), callable.clone());
        Ok(callable)
    }
}

// Beside the functions that are called with JSON.
impl Component {
    /// A function that the host knows the types of.
    pub(crate) fn function(&mut self, export: &str) -> Option<Func> {
        let Some(Found::One(index)) = self.exports.find(export) else { return None };
        self.instance?.get_func(&mut self.store, index)
    }
}

fn link(component: &component::Component) -> Result<InstancePre<Guest>, Failure> {
    let linker = imports::linker().map_err(load_failure)?;
    linker.instantiate_pre(component).map_err(|error| link_failure(&error))
}

/// A function whose result is a `result` has failed if that says so; what is inside is the payload.
fn reply(result: Option<Val>) -> Reply {
    let (status, value) = match result {
        Some(Val::Result(Ok(value))) => (ReplyStatus::Ok, value.map(|value| *value)),
        Some(Val::Result(Err(value))) => (ReplyStatus::PluginError, value.map(|value| *value)),
        value => (ReplyStatus::Ok, value),
    };
    match value::to_json(value.as_ref()) {
        Ok(payload) => Reply::bytes(status, payload),
        Err(text) => Reply::text(ReplyStatus::PluginError, text),
    }
}
