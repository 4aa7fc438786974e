//! A plugin's project: `hotcell.toml`, which says how the plugin is built and tested.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::outcome::Outcome;

/// The project's file.
pub(super) const PROJECT: &str = "hotcell.toml";

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// The folder of the package.
    #[serde(default = "package")]
    package: PathBuf,
    build: Build,
    #[serde(default, rename = "test")]
    tests: Vec<Case>,
}

fn package() -> PathBuf {
    "package".into()
}

/// How the artifact is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    /// Programs with their arguments, run one after the other in the project's folder. No shell reads them.
    pub(super) steps: Vec<Vec<String>>,
    /// What they leave.
    pub(super) from: PathBuf,
    /// Where it goes in the package: replaced as a whole, so that whoever watches it sees one change.
    pub(super) to: PathBuf,
}

/// One test: a call of an export, or a run of a command.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The export that is called.
    pub(super) call: Option<String>,
    /// Its input.
    #[serde(default)]
    pub(super) input: String,
    /// Its reply: equal as JSON where both are, else byte for byte.
    pub(super) reply: Option<String>,
    /// A part of the error that it returns.
    pub(super) error: Option<String>,
    /// The arguments of a command.
    pub(super) run: Option<Vec<String>>,
    /// Its standard input.
    #[serde(default)]
    pub(super) stdin: String,
    /// Its standard output.
    pub(super) stdout: Option<String>,
    /// Its exit code.
    #[serde(default)]
    pub(super) exit: i32,
}

/// A project, found.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) root: PathBuf,
    /// The folder of the package, from where this command runs.
    pub(super) package: PathBuf,
    pub(super) build: Build,
    pub(super) tests: Vec<Case>,
}

impl Project {
    /// Reads the project in a folder.
    pub(super) fn open(root: &Path) -> Result<Project, Outcome> {
        let file = root.join(PROJECT);
        let text = std::fs::read_to_string(&file).map_err(|error| {
            let help = match error.kind() {
                std::io::ErrorKind::NotFound => "; `hotcell plugin create` makes a project that has one",
                _ => "",
            };
            Outcome::invalid(format!("failed to read {}: {error}{help}", file.display()))
        })?;
        let wrong = |what: &str| Outcome::invalid(format!("{}: {what}", file.display()));
        let document: Document = toml::from_str(&text).map_err(|error| wrong(&error.to_string()))?;
        if document.build.steps.iter().any(Vec::is_empty) {
            return Err(wrong("a step is a program with its arguments, such as [\"cargo\", \"build\"]"));
        }
        if document.tests.iter().any(|case| case.call.is_some() == case.run.is_some()) {
            return Err(wrong("a [[test]] has either `call` with an export, or `run` with arguments"));
        }
        if document
            .tests
            .iter()
            .any(|case| case.call.is_some() && case.reply.is_some() == case.error.is_some())
        {
            return Err(wrong("a [[test]] with `call` has either a `reply` or an `error`"));
        }
        Ok(Project {
            root: root.to_owned(),
            package: root.join(document.package),
            build: document.build,
            tests: document.tests,
        })
    }

    /// A folder for the state of plugins that run only to be tried: neither the user's own nor remembered anywhere else.
    pub(super) fn state(&self) -> PathBuf {
        self.root.join("target").join("hotcell")
    }
}

/// The folder of a package: the one that a project says, or the folder itself.
pub(super) fn package_of(folder: &Path) -> Result<PathBuf, Outcome> {
    match folder.join(PROJECT).exists() {
        true => Ok(Project::open(folder)?.package),
        false => Ok(folder.to_owned()),
    }
}
