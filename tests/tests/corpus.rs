//! The attack corpus under the shipped profiles: every attack is stopped, and succeeds where there is no sandbox.
//!
//! `HOTCELL_CORPUS_LINES=1` prints a line for each attack, of which scripts/corpus makes docs/attack-corpus.md.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::Write;

use hotcell::policy::Profile;
use hotcell_corpus::{Bare, Control, Corpus, Finding, Lab, markdown};
use hotcell_tests::{Folders, fixture, root};

mod common;

/// The behaviours that must be accounted for.
const IDS: &str = include_str!("../../corpus/ids.txt");

/// Whom the controls run as, if the tests are run by root.
const ORDINARY_UID: u32 = 64321;

fn shipped(name: &str) -> Profile {
    Profile::shipped(name).expect("it ships").unwrap_or_else(|error| panic!("{error}"))
}

fn corpora() -> Vec<Corpus> {
    Corpus::shipped().unwrap_or_else(|error| panic!("{error}"))
}

fn ordinary_uid() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(ORDINARY_UID)
}

/// A line of the report, past the test's captured output.
fn tell(profile: &str, id: &str, what: &str, seen: &str) {
    if std::env::var_os("HOTCELL_CORPUS_LINES").is_some() {
        // The test's name stands at the beginning of a line.
        writeln!(std::io::stdout(), "\ncorpus\t{profile}\t{id}\t{what}\t{seen}")
            .expect("standard output is open");
    }
}

/// qemu's software emulation, of which only scripts/kernels knows, raises SIGSEGV for the fault of a stack segment.
fn is_emulated_wrongly(export: Option<&str>) -> bool {
    let emulated =
        std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.contains("hotcell.emulated"));
    emulated && export == Some("bus_error")
}

/// Runs all attacks of a profile's runtime with their controls, and says what is not as it must be.
fn run(name: &str) {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let folders = Folders::new();
        let host = fixture::host(&folders).build().await.expect("a host starts");
        let plugins = root().join("plugins");
        let (packages, controls) = (folders.join("packages"), folders.join("controls"));
        std::fs::create_dir(&packages).expect("new");
        let lab = Lab::open(host, shipped(name), &plugins, &packages).await;
        let lab = lab.unwrap_or_else(|error| panic!("{error}"));
        let bare = Bare::new(fixture::programs().join("bare"), &plugins, &controls, ordinary_uid());
        let (mut wrong, mut ran) = (Vec::new(), 0);
        for attack in corpora().iter().flat_map(|corpus| &corpus.attacks) {
            if is_emulated_wrongly(attack.export.as_deref()) {
                continue;
            }
            let finding = lab.run(attack).await.unwrap_or_else(|error| panic!("{error}"));
            let Finding::Ran { seen, stopped } = finding else { continue };
            ran += 1;
            tell(name, &attack.id, &attack.what, &seen.to_string());
            let named = format!("{} ({})", attack.id, attack.what);
            if !stopped {
                wrong.push(format!("{named}: {seen}, expected {:?}", attack.expect));
            }
            let control = bare.run(attack, lab.sibling()).expect("the control runs");
            if let Control::Ran { seen, succeeds } = control {
                tell("control", &attack.id, &attack.what, &seen.to_string());
                if !succeeds {
                    wrong.push(format!("control of {named}: {seen}, expected {}", attack.control));
                }
            }
        }
        lab.close().await;
        assert!(ran > 15, "only {ran} attacks ran");
        assert!(wrong.is_empty(), "{} of {ran}:\n{}", wrong.len(), wrong.join("\n"));
    });
}

#[test]
fn native_plugins_are_held() {
    run("native-strict");
}

#[test]
fn modules_are_held() {
    run("pure-compute");
}

#[test]
fn every_behaviour_is_shown_or_said_not_to_be() {
    let corpora = corpora();
    let shown: BTreeSet<&str> = corpora
        .iter()
        .flat_map(|corpus| {
            let attacks = corpus.attacks.iter().map(|attack| attack.id.as_str());
            let elsewhere = corpus.elsewhere.iter().map(|one| one.id.as_str());
            attacks.chain(elsewhere).chain(corpus.uncovered.iter().map(|one| one.id.as_str()))
        })
        .collect();
    let missing: Vec<&str> = IDS.lines().filter(|id| !shown.contains(id)).collect();
    assert!(missing.is_empty(), "nothing is said of {missing:?}");
}

#[test]
fn the_document_is_made_of_the_attacks_and_what_was_found() {
    let folder = root().join("docs/attack-corpus");
    let found = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let systems = ["6.18", "6.12", "6.1"].map(|system| (system, found(&format!("{system}.tsv"))));
    let text = markdown(&corpora(), &systems.each_ref().map(|(name, lines)| (*name, lines.as_str())));
    let path = root().join("docs/attack-corpus.md");
    if std::env::var_os("HOTCELL_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the document is writable");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{} is stale; HOTCELL_BLESS=1 renews it", path.display());
}
