//! A core module with the ABI of `sdk/`: bytes in, bytes out.
//!
//! Every number that the guest hands over is checked here; a bad one is a trap of its own kind.

pub(crate) mod imports;

use std::collections::BTreeMap;
use std::fs::File;

use hotcell_plugin::abi;
use hotcell_protocol::{Failure, ReplyStatus, Start, hook};
use hotcell_worker::{Link, Reply, Started, load_failure, no_hook, split_state};
use wasmtime::{Instance, InstancePre, Memory, Store, TypedFunc, WasmParams, WasmResults};

use crate::artifact;
use crate::budget::Budget;
use crate::engine::engine;
use crate::lent::Lent;
use crate::trap::{Fault, failed};

/// An export of the plugin: address and length of the input, status.
type Export = TypedFunc<(u32, u32), i32>;

/// A core module at work.
pub struct Core {
    store: Store<Guest>,
    program: InstancePre<Guest>,
    running: Option<Running>,
}

/// What only exists once the module is instantiated.
struct Running {
    instance: Instance,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    exports: BTreeMap<String, Export>,
}

/// What the imports work on.
#[derive(Debug)]
pub(crate) struct Guest {
    link: Lent,
    budget: Budget,
    message_limit: u64,
    memory: Option<Memory>,
    /// Size of a reply that is over the limit and was not copied.
    over_limit: Option<u32>,
    /// The answer, or the error text, of the last host call.
    answer: Vec<u8>,
}

/// How a guest function ended.
enum Outcome {
    Returned(Reply),
    Trapped(Fault),
}

fn no_export(text: String) -> Outcome {
    Outcome::Returned(Reply::text(ReplyStatus::NoSuchExport, text))
}

impl std::fmt::Debug for Core {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Core").field("running", &self.running.is_some()).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn load(file: File, start: &Start) -> Result<Core, Failure> {
        let engine = engine().map_err(load_failure)?;
        let module = artifact::module(file)?;
        let linker = imports::linker().map_err(load_failure)?;
        let program = linker
            .instantiate_pre(&module)
            .map_err(|error| failed(&format!("failed to link the module: {}", Fault::of(&error).text())))?;
        let mut store = Store::new(engine, Guest::new(start));
        store.limiter(|guest| &mut guest.budget);
        Ok(Core { store, program, running: None })
    }

    pub(crate) fn ready(&mut self, started: &Started, link: &mut Link) -> Result<(), Failure> {
        self.store.data_mut().link.begin(link);
        let result = self.meet(started.start.config.as_deref());
        self.store.data_mut().link.end();
        result
    }

    /// Instantiates, asks the entry function, hands the configuration over.
    fn meet(&mut self, config: Option<&str>) -> Result<(), Failure> {
        let instance = self.program.instantiate(&mut self.store).map_err(|error| {
            let reason = self.store.data().budget.refusal();
            failed(
                &reason
                    .unwrap_or_else(|| format!("failed to start the module: {}", Fault::of(&error).text())),
            )
        })?;
        let memory = instance
            .get_memory(&mut self.store, "memory")
            .ok_or_else(|| load_failure("the module does not export its `memory`"))?;
        self.store.data_mut().memory = Some(memory);
        let alloc = self.required(&instance, abi::ALLOC)?;
        let entry: TypedFunc<(), u32> = self.required(&instance, abi::ENTRY)?;
        self.running = Some(Running { instance, memory, alloc, exports: BTreeMap::new() });
        let verdict = entry.call(&mut self.store, ()).map_err(|error| {
            failed(&format!("the plugin trapped in `{}`: {}", abi::ENTRY, Fault::of(&error).text()))
        })?;
        if verdict != abi::ENTRY_ACCEPTED {
            let text = self.given_text();
            return Err(failed(&format!("the plugin refused its host with code {verdict}: {text}")));
        }
        config.map_or(Ok(()), |config| self.configure(config))
    }

    fn required<P: WasmParams, R: WasmResults>(
        &mut self,
        instance: &Instance,
        name: &str,
    ) -> Result<TypedFunc<P, R>, Failure> {
        let function = instance
            .get_func(&mut self.store, name)
            .ok_or_else(|| load_failure(format!("the module has no function `{name}`")))?;
        function.typed(&self.store).map_err(|error| {
            load_failure(format!("the function `{name}` has another type than the ABI: {error:#}"))
        })
    }

    fn configure(&mut self, config: &str) -> Result<(), Failure> {
        let name = abi::CONFIGURE;
        let Some(export) = self.find(name) else {
            let message = format!("the manifest has a `config`, but the module has no `{name}`");
            return Err(load_failure(message));
        };
        match self.invoke(&export, config.as_bytes()) {
            Outcome::Returned(Reply { status: ReplyStatus::Ok, .. }) => Ok(()),
            Outcome::Returned(_) => {
                let text = self.given_text();
                Err(failed(&format!("the plugin refused its configuration: {text}")))
            }
            Outcome::Trapped(fault) => {
                Err(failed(&format!("the plugin trapped in `{name}`: {}", fault.text())))
            }
        }
    }

    pub(crate) fn call(&mut self, export: &str, input: &[u8], link: &mut Link) -> Reply {
        self.store.data_mut().link.begin(link);
        let outcome = self.dispatch(export, input);
        self.store.data_mut().link.end();
        match outcome {
            Outcome::Returned(reply) => reply,
            Outcome::Trapped(fault) => fault.reply(),
        }
    }

    fn dispatch(&mut self, export: &str, input: &[u8]) -> Outcome {
        match export {
            hook::HEALTH => return self.hook(abi::HEALTH),
            hook::STATE_SAVE => return self.hook(abi::STATE_SAVE),
            hook::STATE_LOAD => return self.load_state(input),
            hook::CONFIGURE => {
                return match self.find(abi::CONFIGURE) {
                    Some(found) => self.invoke(&found, input),
                    None => Outcome::Returned(no_hook(abi::CONFIGURE)),
                };
            }
            name if !abi::is_export_name(name) => {
                return no_export(format!("`{name}` cannot name an export"));
            }
            _ => {}
        }
        match self.find(&format!("{}{export}", abi::EXPORT_PREFIX)) {
            Some(found) => self.invoke(&found, input),
            None => no_export(format!("the plugin has no export `{export}`")),
        }
    }

    fn hook(&mut self, symbol: &str) -> Outcome {
        let Some(function) = self.optional::<(), i32>(symbol) else {
            return Outcome::Returned(no_hook(symbol));
        };
        self.store.data_mut().over_limit = None;
        match function.call(&mut self.store, ()) {
            Ok(status) => Outcome::Returned(self.store.data_mut().take_reply(status)),
            Err(error) => Outcome::Trapped(Fault::of(&error)),
        }
    }

    fn load_state(&mut self, input: &[u8]) -> Outcome {
        let (version, state) = match split_state(input) {
            Ok(parts) => parts,
            Err(reply) => return Outcome::Returned(reply),
        };
        let Some(function) = self.optional::<(u32, u32, u32), i32>(abi::STATE_LOAD) else {
            return Outcome::Returned(no_hook(abi::STATE_LOAD));
        };
        self.with_input(state, |store, address, length| function.call(store, (version, address, length)))
    }

    fn optional<P: WasmParams, R: WasmResults>(&mut self, symbol: &str) -> Option<TypedFunc<P, R>> {
        self.running.as_ref()?.instance.get_typed_func(&mut self.store, symbol).ok()
    }

    fn given_text(&mut self) -> String {
        self.store.data_mut().link.link().map(Link::given_text).unwrap_or_default()
    }

    /// A function of the ABI's type, looked up once.
    fn find(&mut self, symbol: &str) -> Option<Export> {
        let running = self.running.as_mut()?;
        if let Some(export) = running.exports.get(symbol) {
            return Some(export.clone());
        }
        let export = running.instance.get_typed_func(&mut self.store, symbol).ok()?;
        running.exports.insert(symbol.to_owned(), export.clone());
        Some(export)
    }

    fn invoke(&mut self, export: &Export, input: &[u8]) -> Outcome {
        self.with_input(input, |store, address, length| export.call(store, (address, length)))
    }

    /// Hands an input over and runs guest code on it.
    fn with_input(
        &mut self,
        input: &[u8],
        run: impl FnOnce(&mut Store<Guest>, u32, u32) -> wasmtime::Result<i32>,
    ) -> Outcome {
        self.store.data_mut().over_limit = None;
        let address = match self.hand_over(input) {
            Ok(Some(address)) => address,
            Ok(None) => {
                let text = format!("the plugin has no room for {} bytes of input", input.len());
                return Outcome::Returned(Reply::text(ReplyStatus::PluginError, text));
            }
            Err(error) => return Outcome::Trapped(Fault::of(&error)),
        };
        let length = u32::try_from(input.len()).unwrap_or(u32::MAX);
        match run(&mut self.store, address, length) {
            Ok(status) => Outcome::Returned(self.store.data_mut().take_reply(status)),
            Err(error) => Outcome::Trapped(Fault::of(&error)),
        }
    }

    /// Copies the input into a buffer that the guest allocates; `None` if it has none to give.
    fn hand_over(&mut self, input: &[u8]) -> wasmtime::Result<Option<u32>> {
        let Some(running) = &self.running else {
            return Err(wasmtime::Error::msg("the module is not instantiated"));
        };
        if input.is_empty() {
            return Ok(Some(0));
        }
        let Ok(length) = u32::try_from(input.len()) else {
            return Ok(None);
        };
        let address = running.alloc.call(&mut self.store, length)?;
        if address == 0 {
            return Ok(None);
        }
        let memory = running.memory.data_mut(&mut self.store);
        imports::range_mut(memory, address, length, abi::ALLOC)?.copy_from_slice(input);
        Ok(Some(address))
    }
}

impl Guest {
    fn new(start: &Start) -> Guest {
        let limits = &start.orders.limits;
        Guest {
            link: Lent::default(),
            budget: Budget::new(limits.memory),
            message_limit: limits.message,
            memory: None,
            over_limit: None,
            answer: Vec::new(),
        }
    }

    fn take_reply(&mut self, status: i32) -> Reply {
        if let Some(size) = self.over_limit.take() {
            let text = format!("the reply of {size} bytes is over the limit of {} bytes", self.message_limit);
            return Reply::text(ReplyStatus::OverLimit, text);
        }
        Reply::given(if status == abi::STATUS_OK { ReplyStatus::Ok } else { ReplyStatus::PluginError })
    }
}
