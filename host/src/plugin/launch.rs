//! From a version to a worker that serves: launched, configured, its promises checked, its state restored.

use std::sync::atomic::Ordering;

use hotcell_protocol::{CommandLine, Evidence, Image, hook};

use super::actor::Common;
use super::errand::{ask, bury, state_input};
use super::version::Version;
use crate::checkpoint::Kept;
use crate::compile::blocking;
use crate::contract::lacks;
use crate::error::Error;
use crate::event::EventKind;
use crate::reentry::Chain;
use crate::start::{Failed, load, start};
use crate::stdio::CommandIo;
use crate::text::escape;
use crate::worker::{Particulars, Worker};

/// A worker of a version, with the configuration that the application gave last.
pub(super) async fn bring_up(
    common: &Common,
    version: &Version,
    command: CommandLine,
    io: CommandIo,
) -> Result<(Worker, Evidence), Failed> {
    let (worker, evidence) = launch(common, version, command, io).await?;
    let worker = check_promises(common, version, worker).await?;
    let Some(config) = common.config.get() else { return Ok((worker, evidence)) };
    let asked = ask(common, worker, version, hook::CONFIGURE, config.into_bytes()).await;
    let (worker, taken) = asked.map_err(Failed::Ended)?;
    match taken {
        Ok(_) => Ok((worker, evidence)),
        Err(error) => {
            bury(vec![Some(worker)], "it does not take its configuration").await;
            let detail = format!("it does not take the configuration that it was given: {error}");
            Err(Failed::Host(Error::malformed(common.id.as_ref(), detail)))
        }
    }
}

/// The newest state that was kept for a seat.
pub(super) async fn newest(common: &Common, seat: usize) -> Result<Option<Kept>, Error> {
    let Some(checkpoints) = common.checkpoints.clone() else { return Ok(None) };
    blocking(move || Ok(checkpoints.kept(seat).into_iter().next())).await
}

/// Gives a fresh worker a state that was kept. `None` if it did not take it: the state is forgotten, and the worker has ended.
pub(super) async fn restore(
    common: &Common,
    worker: Worker,
    version: &Version,
    kept: Kept,
) -> Option<Worker> {
    let input = state_input(kept.version, &kept.state, Vec::new());
    let reason = match ask(common, worker, version, hook::STATE_LOAD, input).await {
        Ok((sound, Ok(_))) => {
            common.tell(EventKind::StateRestored { bytes: kept.state.len() });
            return Some(sound);
        }
        Ok((unsound, Err(error))) => {
            bury(vec![Some(unsound)], "it does not take the state that was kept").await;
            error.to_string()
        }
        Err(exit) => exit.to_string(),
    };
    common.tell(EventKind::StateRefused { reason });
    common.checkpoints.iter().for_each(|checkpoints| checkpoints.forget(&kept));
    None
}

/// Has the first worker of a native version say whether it has the exports that the manifest promises.
async fn check_promises(common: &Common, version: &Version, worker: Worker) -> Result<Worker, Failed> {
    let Version { prepared, promises_checked, .. } = version;
    let promised: Vec<_> = prepared.manifest.exports().iter().map(|export| export.name.as_str()).collect();
    let native = prepared.blueprint.image == Image::Native;
    if !native || promised.is_empty() || promises_checked.load(Ordering::Relaxed) {
        return Ok(worker);
    }
    let asked = ask(common, worker, version, hook::MISSING, promised.join("\n").into_bytes()).await;
    let (worker, missing) = asked.map_err(Failed::Ended)?;
    match missing {
        Ok(missing) if missing.is_empty() => {
            promises_checked.store(true, Ordering::Relaxed);
            Ok(worker)
        }
        said => {
            bury(vec![Some(worker)], "it lacks what its manifest promises").await;
            let missing = said.map_or_else(|error| error.to_string(), |missing| escape(&missing));
            Err(Failed::Host(lacks(&prepared.manifest, &missing)))
        }
    }
}

/// A worker from the spares of a version, or a new one.
async fn launch(
    common: &Common,
    version: &Version,
    command: CommandLine,
    io: CommandIo,
) -> Result<(Worker, Evidence), Failed> {
    let Version { prepared, broker, .. } = version;
    let chain = Chain::default().with(common.number);
    if let Some(spare) = prepared.spares.take().await {
        common.generation.fetch_max(spare.worker.generation(), Ordering::Relaxed);
        return load(spare, broker, &chain).await;
    }
    let generation = prepared.spares.next_generation();
    common.generation.fetch_max(generation, Ordering::Relaxed);
    let particulars = Particulars { generation, command, output: None };
    start(&common.shared.surroundings, &prepared.blueprint, particulars, io, broker, &chain).await
}
