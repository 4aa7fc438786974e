//! From a path to a blueprint: manifest, profile, plan, artifact, native code, identity. No plugin code runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hotcell_policy::{Manifest, Plan, Profile, compile, resolve};
use hotcell_protocol::{CompileRequest, Description, Image, Runtime};

use crate::checkpoint::Checkpoint;
use crate::compile::blocking;
use crate::contract::{check_config, check_exports};
use crate::error::Error;
use crate::host::Shared;
use crate::identity::Identity;
use crate::package::artifact::{Sealed, Sha};
use crate::package::{BareUse, Fingerprint, Package, find_profile};
use crate::programs::Programs;
use crate::receipt::Origin;
use crate::spares::Spares;
use crate::violation::Adviser;
use crate::worker::Blueprint;

/// How a plugin is loaded, beside what its package says.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// What a bare artifact is for; of no meaning for a package.
    pub bare_use: BareUse,
    /// Replaces the manifest's `config`.
    pub config: Option<serde_json::Value>,
    /// How callers and workers wait for each other.
    pub waiting: Waiting,
    /// Workers that wait, confined but without any of the plugin's code run, so that a start or the end of another worker
    /// costs only the rest of a launch. Each is a process. Of no meaning for a command.
    pub spares: usize,
    /// When the plugin's state is kept, to be taken over by the worker that replaces one that crashed. Of no meaning for a
    /// command.
    pub checkpoint: Checkpoint,
    /// After so long without a call, the plugin's workers are ended; the next call starts one. Without `checkpoint` a plugin loses
    /// the state that it had. `None`: they wait for ever. Of no meaning for a command.
    pub idle_stop: Option<Duration>,
    /// How often the plugin's workers are asked for their health (`health`), behind the calls that they have. One that says no
    /// is ended as if it had crashed, and replaced as after a crash. `None`: only reloads ask. Of no meaning for a command.
    pub health_every: Option<Duration>,
    /// Loads a version though it is in quarantine since an earlier host.
    pub retry: bool,
    /// Loads a signed version though a newer one was seen.
    pub may_go_back: bool,
}

/// How a caller and a worker that have nothing to do wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// Both sleep at once, on the same processor: no time is spent on waiting, and a wake-up there is quick.
    #[default]
    Sleep,
    /// Both look for 20 microseconds before they sleep, on different processors: several times faster for calls that
    /// follow each other closely, for two busy processors meanwhile. Needs two; on one it is slower.
    Spin,
}

/// How long to look: long enough that calls which follow each other find both sides awake.
const SPIN: Duration = Duration::from_micros(20);

impl Waiting {
    fn spin(self) -> Duration {
        match self {
            Waiting::Sleep => Duration::ZERO,
            Waiting::Spin => SPIN,
        }
    }
}

impl LoadOptions {
    /// A bare `.wasm` or `.wat` is a command to run.
    pub fn command() -> LoadOptions {
        LoadOptions { bare_use: BareUse::Command, ..LoadOptions::default() }
    }
}

/// A plugin that is ready to be started.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What it was read from, and how.
    pub(crate) path: PathBuf,
    pub(crate) options: LoadOptions,
    pub(crate) manifest: Manifest,
    pub(crate) plan: Arc<Plan>,
    pub(crate) description: Option<Description>,
    pub(crate) blueprint: Arc<Blueprint>,
    pub(crate) programs: Programs,
    pub(crate) spares: Spares,
    /// Of the package's artifact.
    pub(crate) digest: Sha,
    manifest_digest: Sha,
}

impl Prepared {
    /// What tells it apart from other versions.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint { manifest: self.manifest_digest, artifact: self.digest }
    }
}

/// The plan for what a path names, on this machine, without starting a process. Signatures are not looked at.
///
/// # Errors
/// As [`Host::load`](crate::Host::load) up to the plan; and where only a compiler could tell what kind of module it is.
pub fn plan(path: &Path, options: &LoadOptions, profiles: &[Profile]) -> Result<Plan, Error> {
    let package = Package::open(path, options.bare_use)?;
    let profile = package.profile(profiles)?;
    Ok(compile(&resolve(&package.manifest, &profile)?, &crate::platform::platform()?)?)
}

/// Reads, plans, measures and, where it is wasm, compiles. `first` is the number of its first worker.
pub(crate) async fn prepare(
    shared: &Arc<Shared>,
    path: PathBuf,
    options: LoadOptions,
    first: u32,
) -> Result<Prepared, Error> {
    let (opener, from) = (Arc::clone(shared), path.clone());
    let (bare_use, may_go_back) = (options.bare_use, options.may_go_back);
    let (package, plan, artifact) = blocking(move || read(&opener, &from, bare_use, may_go_back)).await?;
    let (manifest, folder) = (package.manifest.clone(), package.folder.clone());
    let (bare, manifest_digest) = (package.bare, package.manifest_digest);
    let digest = artifact.digest;
    let profile = find_profile(manifest.profile().as_str(), &shared.gate.profiles)?;
    let loaded = Fingerprint { manifest: manifest_digest, artifact: digest };
    shared.refuse_by_audit(folder.as_deref(), &manifest, &profile, loaded).await?;
    let native = manifest.runtime() == Some(Runtime::Native);
    let Measured { manifest, plan, artifact, description } = if native {
        let plan = plan.ok_or(hotcell_policy::PolicyError::RuntimeUnknown)?;
        Measured { manifest, plan, artifact: Arc::new(artifact), description: None }
    } else {
        compile_module(shared, manifest, bare && bare_use == BareUse::Library, artifact).await?
    };
    if let Some(description) = &description {
        check_exports(&manifest, description)?;
    }
    let identity = identity(shared, &manifest, &plan).await?;
    let profile = find_profile(manifest.profile().as_str(), &shared.gate.profiles)?;
    let adviser = |runtime| Adviser::new(profile.clone(), runtime, &manifest);
    let (plan, copies) = match plan.programs {
        None => (plan, Vec::new()),
        Some(_) => {
            let copy = move || crate::programs::copy(&package, &plan).map(|copies| (plan, copies));
            blocking(copy).await?
        }
    };
    let config = options.config.as_ref().or(manifest.config()).map(serde_json::Value::to_string);
    if let Some(config) = &config {
        check_config(shared, &manifest, config).await?;
    }
    let blueprint = Arc::new(Blueprint {
        origin: Some(Origin::new(&plan, &profile, digest)),
        plugin: manifest.id().as_str().to_owned(),
        subject: subject(&manifest),
        version: manifest.version().to_string(),
        image: if native { Image::Native } else { Image::Wasm },
        orders: plan.orders.clone(),
        cgroups: plan.cgroups.clone(),
        artifact,
        package: folder,
        config,
        identity,
        has_network: plan.has_network(),
        observed: plan.observed.clone(),
        keeps_inputs: profile.reports_inputs(),
        spin: options.waiting.spin(),
        adviser: Some(adviser(plan.orders.runtime)),
    });
    let adviser = || adviser(Runtime::Program);
    let programs = Programs::new(&shared.surroundings, &plan, &copies, &blueprint, adviser);
    let kept = if plan.orders.runtime == Runtime::Command { 0 } else { options.spares };
    let spares = Spares::keep(kept, first, shared, &blueprint)?;
    let plan = Arc::new(plan);
    Ok(Prepared {
        path,
        options,
        manifest,
        plan,
        description,
        blueprint,
        programs,
        spares,
        digest,
        manifest_digest,
    })
}

/// Everything that blocks on a file system. Plans first, where the manifest says enough, so that what nothing grants
/// is refused before a byte of the artifact is read.
fn read(
    shared: &Shared,
    path: &Path,
    bare_use: BareUse,
    may_go_back: bool,
) -> Result<(Package, Option<Plan>, Sealed), Error> {
    let package = shared.gate.open(path, bare_use, may_go_back)?;
    let profile = package.profile(&shared.gate.profiles)?;
    let plan = match package.manifest.runtime() {
        Some(_) => Some(compile(&resolve(&package.manifest, &profile)?, &shared.platform)?),
        None => None,
    };
    let artifact = package.artifact()?;
    Ok((package, plan, artifact))
}

struct Measured {
    manifest: Manifest,
    plan: Plan,
    artifact: Arc<Sealed>,
    description: Option<Description>,
}

/// Compiles a module, and plans for what it turned out to be.
async fn compile_module(
    shared: &Arc<Shared>,
    manifest: Manifest,
    bare_library: bool,
    module: Sealed,
) -> Result<Measured, Error> {
    // A bare library may be a core module or a component: its content decides.
    let declared = manifest.runtime().filter(|_| !bare_library);
    let subject = subject(&manifest);
    let asked = find_profile(manifest.profile().as_str(), &shared.gate.profiles)?;
    let request = CompileRequest { runtime: declared, exceptions: asked.allows_exceptions() };
    let code = shared.compilers.code(&shared.surroundings, &subject, &Arc::new(module), &request).await?;
    let found = code.description.runtime;
    let manifest = match bare_library {
        true => Manifest::bare(manifest.artifact().as_str(), found, manifest.profile().as_str())?,
        false => manifest.with_runtime(found)?,
    };
    let profile = find_profile(manifest.profile().as_str(), &shared.gate.profiles)?;
    let plan = compile(&resolve(&manifest, &profile)?, &shared.platform)?;
    Ok(Measured { manifest, plan, artifact: Arc::new(code.sealed), description: Some(code.description) })
}

fn subject(manifest: &Manifest) -> String {
    format!("{} of {}", manifest.artifact(), manifest.id())
}

async fn identity(shared: &Arc<Shared>, manifest: &Manifest, plan: &Plan) -> Result<Option<Identity>, Error> {
    if !plan.orders.distinct_uid {
        return Ok(None);
    }
    let registry = shared.registry.clone();
    let plugin = manifest.id().as_str().to_owned();
    blocking(move || registry.identity(&plugin).map(Some)).await
}
