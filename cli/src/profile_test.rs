//! `hotcell profile test`: the attack corpus against a profile, in real workers.

use std::fs::DirBuilder;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hotcell::policy::Profile;
use hotcell::{Class, Host};
use hotcell_corpus::{Attack, Corpus, Finding, Lab, LabError};
use serde_json::json;

use crate::args::Global;
use crate::outcome::Outcome;
use crate::profile::{found, print_json, read};
use crate::profile_args::Test;
use crate::{host, with_runtime};

/// Passed through by workers, which have uids of their own; listed by nobody else.
const PASSAGE: u32 = 0o711;

/// An attack and what came of it.
struct Tried {
    category: String,
    attack: Attack,
    finding: Finding,
}

pub(crate) fn test(global: &Global, arguments: Test) -> ExitCode {
    with_runtime(async {
        match perform(global, &arguments).await {
            Ok(tried) => report(&tried, arguments.json),
            Err(outcome) => outcome.report(),
        }
    })
}

async fn perform(global: &Global, arguments: &Test) -> Result<Vec<Tried>, Outcome> {
    let profile = read(&arguments.of)?;
    let wanted = attacks(arguments)?;
    let folder = Folder::make()?;
    let host = build(global, &profile, &folder.0).await?;
    let lab = Lab::open(host, profile, &arguments.plugins, &folder.0).await.map_err(outcome)?;
    let progress = std::io::stderr().is_terminal() && !global.quiet;
    let mut tried = Vec::new();
    for (category, attack) in wanted {
        if progress {
            eprint!("\r\x1b[K{} {}", attack.id, attack.what);
        }
        let finding = lab.run(&attack).await.map_err(outcome)?;
        tried.push(Tried { category, attack, finding });
    }
    if progress {
        eprint!("\r\x1b[K");
    }
    lab.close().await;
    Ok(tried)
}

/// A host with folders of its own, unless they are named.
async fn build(global: &Global, profile: &Profile, folder: &Path) -> Result<Host, Outcome> {
    let mut builder = host::builder(global)?;
    if global.state_dir.is_none() {
        builder = builder.state_dir(folder.join("state"));
    }
    if global.uid_registry.is_none() {
        builder = builder.uid_registry(folder.join("uids"));
    }
    Ok(builder.profile(profile.clone()).build().await?)
}

fn attacks(arguments: &Test) -> Result<Vec<(String, Attack)>, Outcome> {
    let invalid = |error: hotcell_corpus::CorpusError| Outcome::invalid(error.to_string());
    let mut corpora = Corpus::shipped().map_err(invalid)?;
    for path in &arguments.attacks {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Outcome::invalid(format!("failed to read {name}: {error}")))?;
        let category = path.file_stem().unwrap_or_default().to_string_lossy();
        corpora.push(Corpus::parse(&category, &text).map_err(invalid)?);
    }
    let of = |corpus: Corpus| corpus.attacks.into_iter().map(move |attack| (corpus.category.clone(), attack));
    let all = corpora.into_iter().flat_map(of);
    let wanted = |(category, attack): &(String, Attack)| {
        let text = format!("{category} {} {} {}", attack.id, attack.what, attack.calls.join(" "));
        arguments.only.as_ref().is_none_or(|only| text.contains(only.as_str()))
    };
    Ok(all.filter(wanted).collect())
}

fn outcome(error: LabError) -> Outcome {
    match error {
        LabError::Copy { .. } => Outcome::invalid(error.to_string()),
        LabError::Start(ref cause) => Outcome { class: cause.class(), message: error.to_string() },
    }
}

fn report(tried: &[Tried], as_json: bool) -> ExitCode {
    let through =
        tried.iter().filter(|one| matches!(one.finding, Finding::Ran { stopped: false, .. })).count();
    let ran = tried.iter().filter(|one| matches!(one.finding, Finding::Ran { .. })).count();
    if as_json {
        print_json(
            &json!({ "attacks": tried.iter().map(to_json).collect::<Vec<_>>(), "stopped": ran - through, "not_stopped": through }),
        );
    } else if let Err(error) = print(tried) {
        return Outcome::internal(format!("failed to write the report: {error}")).report();
    } else {
        println!(
            "{} attacks: {} stopped, {through} NOT STOPPED; {} left out",
            tried.len(),
            ran - through,
            tried.len() - ran
        );
    }
    if ran == 0 {
        let what =
            "no attack is meant for this profile; the corpus has some for `native` and `core`".to_owned();
        return Outcome { class: Class::Invalid, message: what }.report();
    }
    found(through > 0)
}

fn print(tried: &[Tried]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for Tried { attack, finding, .. } in tried {
        // Those that are left out are counted.
        let Finding::Ran { seen, stopped } = finding else { continue };
        let verdict = if *stopped { "stopped" } else { "NOT STOPPED" };
        writeln!(out, "{verdict:<12} {:<7} {:<55} {seen}", attack.id, attack.what)?;
    }
    out.flush()
}

fn to_json(tried: &Tried) -> serde_json::Value {
    let Tried { category, attack, finding } = tried;
    let (verdict, seen) = match finding {
        Finding::Ran { seen, stopped } => {
            (if *stopped { "stopped" } else { "not-stopped" }, seen.text.clone())
        }
        Finding::LeftOut(why) => ("left-out", (*why).to_owned()),
    };
    json!({
        "category": category, "id": attack.id, "what": attack.what, "expected": attack.expect, "seen": seen,
        "layer": attack.layer, "verdict": verdict,
    })
}

/// A folder of this run, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Folder, Outcome> {
        let path = std::env::temp_dir().join(format!("hotcell-test-{}", std::process::id()));
        let made = DirBuilder::new().mode(PASSAGE).create(&path);
        made.map_err(|error| Outcome::internal(format!("failed to make {}: {error}", path.display())))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("failed to remove {}: {error}", self.0.display());
        }
    }
}
