//! The attacks, as they are written down.

use hotcell::Runtime;
use hotcell::policy::{Arch, syscall_number};
use serde::Deserialize;

/// One hostile behaviour.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// The behaviour that it is one form of; several forms share an id.
    pub id: String,
    /// What is tried, in words.
    pub what: String,
    /// The runtime whose plugins try it: `native` unless it says `core`.
    #[serde(default)]
    pub runtime: AttackRuntime,
    /// System calls by name or number with their arguments, as the crash lab's export `try_syscall` reads them; what comes
    /// of the last one counts. `@host` and `@sibling` are process ids.
    #[serde(default)]
    pub calls: Vec<String>,
    /// An export of the crash lab.
    pub export: Option<String>,
    /// A package of the crash lab that misbehaves while it is loaded.
    pub load: Option<String>,
    /// The export that is called after `load`, if it loads; without one the plugin is unloaded then.
    pub call: Option<String>,
    /// What must come of it: one of these.
    pub expect: Vec<String>,
    /// What stops it.
    pub layer: String,
    /// What comes of the same code without a sandbox: one of the words of `expect`, `not` and one of them, or `none:` and
    /// why there is no such control.
    pub control: String,
    /// What a profile has that makes the attack no attack: `files`.
    pub unless: Option<String>,
}

/// The runtimes of the crash lab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttackRuntime {
    /// A native library.
    #[default]
    Native,
    /// A core module.
    Core,
}

impl From<AttackRuntime> for Runtime {
    fn from(runtime: AttackRuntime) -> Runtime {
        match runtime {
            AttackRuntime::Native => Runtime::Native,
            AttackRuntime::Core => Runtime::Core,
        }
    }
}

/// A behaviour that another test shows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// Its id.
    pub id: String,
    /// The test, or what else shows it.
    #[serde(rename = "where")]
    pub place: String,
}

/// A behaviour that nothing shows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncovered {
    /// Its id.
    pub id: String,
    /// Why.
    pub why: String,
}

/// One category of attacks: a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// The file's name without its ending.
    #[serde(skip)]
    pub category: String,
    /// Those that run here.
    #[serde(default, rename = "attack")]
    pub attacks: Vec<Attack>,
    /// Those that another test shows.
    #[serde(default)]
    pub elsewhere: Vec<Elsewhere>,
    /// Those that nothing shows.
    #[serde(default)]
    pub uncovered: Vec<Uncovered>,
}

/// A corpus that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {detail}")]
pub struct CorpusError {
    file: String,
    detail: String,
}

/// The files that hotcell ships.
const SHIPPED: [(&str, &str); 11] = [
    ("fs", include_str!("../attacks/fs.toml")),
    ("net", include_str!("../attacks/net.toml")),
    ("process", include_str!("../attacks/process.toml")),
    ("kernel", include_str!("../attacks/kernel.toml")),
    ("leak", include_str!("../attacks/leak.toml")),
    ("resource", include_str!("../attacks/resource.toml")),
    ("load", include_str!("../attacks/load.toml")),
    ("crash", include_str!("../attacks/crash.toml")),
    ("wasm", include_str!("../attacks/wasm.toml")),
    ("hot-reload", include_str!("../attacks/hot-reload.toml")),
    ("package", include_str!("../attacks/package.toml")),
];

impl Corpus {
    /// The shipped ones, in the order of the report. They always parse, as a test proves.
    ///
    /// # Errors
    /// Never, for a build whose tests pass.
    pub fn shipped() -> Result<Vec<Corpus>, CorpusError> {
        SHIPPED.iter().map(|(category, text)| Corpus::parse(category, text)).collect()
    }

    /// Reads one file.
    ///
    /// # Errors
    /// It is no corpus, or an attack names nothing to try, or a system call that does not exist.
    pub fn parse(category: &str, text: &str) -> Result<Corpus, CorpusError> {
        let wrong = |detail: String| CorpusError { file: format!("{category}.toml"), detail };
        let corpus: Corpus = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        for attack in &corpus.attacks {
            attack.check().map_err(|detail| wrong(format!("{} ({}): {detail}", attack.id, attack.what)))?;
        }
        Ok(Corpus { category: category.to_owned(), ..corpus })
    }
}

impl Attack {
    fn check(&self) -> Result<(), String> {
        let ways = [!self.calls.is_empty(), self.export.is_some(), self.load.is_some()];
        if ways.into_iter().filter(|way| *way).count() != 1 {
            return Err("one of `calls`, `export` and `load` says what is tried".to_owned());
        }
        if self.expect.is_empty() {
            return Err("`expect` is empty".to_owned());
        }
        if self.unless.as_ref().is_some_and(|unless| unless != "files") {
            return Err("`unless` can only be `files`".to_owned());
        }
        let known = |name: &str| {
            name.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit())
                || [Arch::X86_64, Arch::Aarch64].iter().any(|arch| syscall_number(*arch, name).is_some())
        };
        let mut names = self.calls.iter().filter_map(|line| line.split(' ').next());
        match names.find(|name| !known(name)) {
            Some(name) => Err(format!("no system call `{name}`")),
            None => Ok(()),
        }
    }

    /// The system calls as `try_syscall` reads them; `None` where this processor lacks one.
    pub(crate) fn script(&self, host: u32, sibling: u32) -> Option<String> {
        let arch = Arch::of_this_build()?;
        let line = |line: &String| {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            let number = match name.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit())
            {
                true => name.to_owned(),
                false => syscall_number(arch, name)?.to_string(),
            };
            let rest = rest.replace("@host", &host.to_string()).replace("@sibling", &sibling.to_string());
            Some(format!("{number} {rest}"))
        };
        self.calls.iter().map(line).collect::<Option<Vec<_>>>().map(|lines| lines.join("\n"))
    }

    /// Whether the victim is a process of the host's user, so that the control must be, too.
    pub(crate) fn has_victim(&self) -> bool {
        self.calls.iter().any(|line| line.contains("@host") || line.contains("@sibling"))
    }

    /// Why there is no control, if there is none.
    pub fn no_control(&self) -> Option<&str> {
        self.control.strip_prefix("none:").map(str::trim)
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::Corpus;

    #[test]
    fn the_shipped_attacks_parse() {
        let corpora = Corpus::shipped().unwrap_or_else(|error| panic!("{error}"));
        assert!(corpora.iter().map(|corpus| corpus.attacks.len()).sum::<usize>() > 150);
    }

    #[test]
    fn what_is_no_attack_is_refused() {
        let attack = |what: &str| {
            format!("[[attack]]\nid = \"X\"\nwhat = \"x\"\nlayer = \"l\"\ncontrol = \"done\"\n{what}")
        };
        for wrong in [
            attack("expect = [\"EPERM\"]"),
            attack("expect = [\"EPERM\"]\ncalls = [\"read 0\"]\nexport = \"x\""),
            attack("expect = []\ncalls = [\"read 0\"]"),
            attack("expect = [\"EPERM\"]\ncalls = [\"raed 0\"]"),
            attack("expect = [\"EPERM\"]\ncalls = [\"read 0\"]\nunless = \"x\""),
            attack("expect = [\"EPERM\"]\ncalls = [\"read 0\"]\nmore = 1"),
            "[attack]".to_owned(),
        ] {
            Corpus::parse("x", &wrong).expect_err(&wrong);
        }
        Corpus::parse("x", &attack("expect = [\"EPERM\"]\ncalls = [\"read 0\"]")).expect("one that is right");
    }
}
