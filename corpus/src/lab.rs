//! A laboratory: the crash lab's packages under one profile, and what comes of attacks there.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotcell::policy::Profile;
use hotcell::policy::review::{Question, Verdict, explain};
use hotcell::{CallError, Error, Host, Plugin, Runtime};

use crate::attack::{Attack, AttackRuntime};
use crate::seen::Seen;

/// How long an attack that never ends may go on.
const DEADLINE: Duration = Duration::from_millis(700);

/// How long an unload may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The export that makes system calls.
const SCRIPT: &str = "try_syscall";

/// The packages of one profile, and the plugins that are loaded of them.
#[derive(Debug)]
pub struct Lab {
    host: Host,
    profile: Profile,
    plugins: PathBuf,
    folder: PathBuf,
    native: Option<Plugin>,
    core: Option<Plugin>,
    /// Another plugin of the same host, the victim of some.
    sibling: Option<Plugin>,
}

/// Why there is no laboratory.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file of the crash lab cannot be copied.
    #[error("failed to copy {}: {source}; scripts/build-plugins crash-lab builds it", .path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The crash lab does not start under this profile.
    #[error("the crash lab does not start under this profile: {0}")]
    Start(#[from] Error),
}

/// What came of one attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It ran.
    Ran {
        /// What came of it.
        seen: Seen,
        /// Whether that is what must come of it.
        stopped: bool,
    },
    /// It does not run here, and why.
    LeftOut(&'static str),
}

impl Lab {
    /// Copies the crash lab below `folder`, which workers can reach, and loads it under the profile.
    ///
    /// # Errors
    /// It is not built, or the profile does not start here.
    pub async fn open(host: Host, profile: Profile, plugins: &Path, folder: &Path) -> Result<Lab, LabError> {
        let mut lab = Lab {
            host,
            profile,
            plugins: plugins.join("crash-lab"),
            folder: folder.to_owned(),
            native: None,
            core: None,
            sibling: None,
        };
        let runtimes = lab.profile.runtimes().to_vec();
        if runtimes.contains(&Runtime::Native) {
            lab.native = Some(lab.load("native", "native").await?);
            lab.sibling = Some(lab.load("native", "sibling").await?);
        }
        if runtimes.contains(&Runtime::Core) {
            lab.core = Some(lab.load("wasm", "core").await?);
        }
        Ok(lab)
    }

    /// Loads a package of the crash lab under the profile, by a name of its own.
    async fn load(&self, package: &str, name: &str) -> Result<Plugin, LabError> {
        let copy = self.copy(package, name)?;
        Ok(self.host.load(copy).await?)
    }

    fn copy(&self, package: &str, name: &str) -> Result<PathBuf, LabError> {
        let from = self.plugins.join(package);
        let to = self.folder.join(name);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LabError::Copy { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&to).map_err(failed(&to))?;
        for entry in fs::read_dir(&from).map_err(failed(&from))? {
            let path = entry.map_err(failed(&from))?.path();
            if let Some(file) = path.file_name().filter(|_| path.is_file()) {
                fs::copy(&path, to.join(file)).map_err(failed(&path))?;
            }
        }
        let manifest = to.join("manifest.json");
        let text = fs::read_to_string(&manifest).map_err(failed(&manifest))?;
        let mut value: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).map_err(|error| failed(&manifest)(error.into()))?;
        // Ids have letters, digits and dashes.
        let id = format!("dev.hotcell.corpus.{}", name.replace(['/', '_'], "-"));
        value.insert("id".to_owned(), id.into());
        value.insert("security_policy".to_owned(), serde_json::json!({ "profile": self.profile.name() }));
        value.remove("permissions");
        if self.may_log() {
            value.insert("permissions".to_owned(), serde_json::json!({ "host_calls": ["log"] }));
        }
        let text = serde_json::Value::Object(value).to_string();
        fs::write(&manifest, text).map_err(failed(&manifest))?;
        Ok(to)
    }

    fn may_log(&self) -> bool {
        let log = "log".parse().map(Question::HostCall);
        let runtime = self.profile.runtimes().first();
        log.ok().zip(runtime).is_some_and(|(log, runtime)| {
            explain(&self.profile, *runtime, &log).is_ok_and(|answer| answer.verdict == Verdict::Allowed)
        })
    }

    /// The process that is the victim of some attacks.
    pub fn sibling(&self) -> u32 {
        self.sibling.as_ref().and_then(Plugin::evidence).map_or(0, |evidence| evidence.pid)
    }

    /// Tries one attack. The plugin that tried it is as good as new afterwards.
    ///
    /// # Errors
    /// A package of the crash lab is not there.
    pub async fn run(&self, attack: &Attack) -> Result<Finding, LabError> {
        if !self.profile.runtimes().contains(&attack.runtime.into()) {
            return Ok(Finding::LeftOut("another runtime than the profile's"));
        }
        if attack.unless.is_some() && self.profile.grants_files() && !self.profile.hides_files() {
            return Ok(Finding::LeftOut("the profile grants files"));
        }
        let plugin = match attack.runtime {
            AttackRuntime::Native => &self.native,
            AttackRuntime::Core => &self.core,
        };
        let Some(plugin) = plugin else { return Ok(Finding::LeftOut("another runtime than the profile's")) };
        let seen = match (&attack.load, &attack.export) {
            (Some(package), _) => self.try_to_load(package, attack).await?,
            (None, Some(export)) => Seen::of_call(&call(plugin, export, Vec::new()).await),
            (None, None) => {
                let Some(script) = attack.script(std::process::id(), self.sibling()) else {
                    return Ok(Finding::LeftOut("no such system call on this processor"));
                };
                match call(plugin, SCRIPT, script.into_bytes()).await {
                    Ok(reply) => Seen::of_script(&String::from_utf8_lossy(&reply)),
                    ended => Seen::of_call(&ended),
                }
            }
        };
        let stopped = attack.expect.iter().any(|wanted| seen.is(wanted));
        Ok(Finding::Ran { seen, stopped })
    }

    async fn try_to_load(&self, package: &str, attack: &Attack) -> Result<Seen, LabError> {
        let copy = self.copy(package, package)?;
        let plugin = match self.host.load(copy).await {
            Ok(plugin) => plugin,
            Err(error) => return Ok(Seen::of_load(&error)),
        };
        Ok(match &attack.call {
            Some(export) => Seen::of_call(&call(&plugin, export, b"input".to_vec()).await),
            None => match tokio::time::timeout(PATIENCE, plugin.unload()).await {
                Ok(()) => Seen::new("unloaded"),
                Err(_) => Seen::new("it cannot be unloaded"),
            },
        })
    }

    /// Ends every plugin and the host.
    pub async fn close(self) {
        self.host.shutdown().await;
    }
}

async fn call(plugin: &Plugin, export: &str, input: Vec<u8>) -> Result<Vec<u8>, CallError> {
    let endless = ENDLESS.contains(&export);
    let request = plugin.request(export);
    let request = if endless { request.deadline(DEADLINE) } else { request };
    request.raw(input).await
}

/// Exports that never return.
const ENDLESS: [&str; 6] = ["spin", "stdout_flood", "stderr_flood", "log_flood", "deadlock", "sleep_forever"];
