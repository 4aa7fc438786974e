//! The functions of `hotcell:plugin/lifecycle`, which a component may export: state, health, configuration.

use hotcell_protocol::{Failure, ReplyStatus, hook};
use hotcell_worker::{Link, Reply, load_failure, no_hook, split_state};
use wasmtime::component::{ComponentNamedList, Lift, Lower};

use crate::component::Component;
use crate::guest::drive;
use crate::trap::Fault;

/// The interface; a component may export any version of it that has the same types.
const INTERFACE: &str = "hotcell:plugin/lifecycle";

/// What a component said, if it has the function.
type Said<T> = Result<Option<Result<T, String>>, Fault>;

impl Component {
    /// Answers the host's own calls. `None` for all others.
    pub(crate) fn hook(&mut self, export: &str, input: &[u8], link: &mut Link) -> Option<Reply> {
        Some(match export {
            hook::HEALTH => reply("health", self.ask::<_, ()>("health", (), link), |()| Vec::new()),
            hook::STATE_SAVE => {
                reply("state-save", self.ask::<_, Vec<u8>>("state-save", (), link), |state| state)
            }
            hook::STATE_LOAD => match split_state(input) {
                Ok((version, state)) => {
                    let taken = self.ask::<_, ()>("state-load", (version, state.to_vec()), link);
                    reply("state-load", taken, |()| Vec::new())
                }
                Err(reply) => reply,
            },
            hook::CONFIGURE => match str::from_utf8(input) {
                Ok(config) => {
                    let taken = self.ask::<_, ()>("configure", (config.to_owned(),), link);
                    reply("configure", taken, |()| Vec::new())
                }
                Err(error) => Reply::text(ReplyStatus::BadInput, error.to_string()),
            },
            _ => return None,
        })
    }

    /// Gives a component that starts the configuration that it was loaded with.
    pub(crate) fn configure(&mut self, config: &str, link: &mut Link) -> Result<(), Failure> {
        match self.ask::<_, ()>("configure", (config.to_owned(),), link) {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(text))) => Err(load_failure(format!("the plugin refused its configuration: {text}"))),
            Ok(None) => Err(load_failure(format!(
                "the manifest has a `config`, but the component does not export `{INTERFACE}`"
            ))),
            Err(fault) => {
                Err(load_failure(format!("the plugin trapped on its configuration: {}", fault.text())))
            }
        }
    }

    fn ask<P, R>(&mut self, name: &str, parameters: P, link: &mut Link) -> Said<R>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: Lift + Send + Sync + 'static,
    {
        let Some(function) = self.function(&format!("{INTERFACE}#{name}")) else { return Ok(None) };
        let typed = function.typed::<P, (Result<R, String>,)>(&self.store);
        let typed = typed.map_err(|error| Fault::of(&error))?;
        self.store.data_mut().broker.link.begin(link);
        let called = drive(&self.runtime, typed.call_async(&mut self.store, parameters));
        self.store.data_mut().broker.link.end();
        let (said,) = called?.map_err(|error| Fault::of(&error))?;
        Ok(Some(said))
    }
}

fn reply<T>(name: &str, said: Said<T>, payload: impl FnOnce(T) -> Vec<u8>) -> Reply {
    match said {
        Ok(Some(Ok(value))) => Reply::bytes(ReplyStatus::Ok, payload(value)),
        Ok(Some(Err(text))) => Reply::text(ReplyStatus::PluginError, text),
        Ok(None) => no_hook(name),
        Err(fault) => fault.reply(),
    }
}
