//! The committed plans: the widest policy of each shipped profile, for root and for an ordinary user.

#![allow(clippy::panic, reason = "a test fails that way")]

mod common;

use std::collections::BTreeSet;
use std::io::Write;

use common::{golden, root_platform, shipped, user_platform};
use hotcell_policy::{Plan, Platform, Policy, Profile, Topic, compile, compiler_plan, render};

fn widest_plan(profile: &Profile, platform: &Platform) -> Plan {
    let runtime = *profile.runtimes().first().expect("has a runtime");
    let policy = Policy::widest(profile, runtime).expect("fits");
    compile(&policy, platform).unwrap_or_else(|error| panic!("{}: {error}", profile.name()))
}

#[test]
fn the_plan_of_each_shipped_profile_is_as_committed() {
    for name in Profile::shipped_names() {
        for (who, platform) in [("root", root_platform()), ("user", user_platform())] {
            let plan = widest_plan(&shipped(name), &platform);
            golden(&format!("sandbox-profiles/plans/{name}.{who}.plan"), &render(&plan));
        }
    }
}

#[test]
fn the_plan_of_the_compiler_is_as_committed() {
    for (who, platform) in [("root", root_platform()), ("user", user_platform())] {
        let plan = compiler_plan(&platform).unwrap_or_else(|error| panic!("{error}"));
        golden(&format!("sandbox-profiles/plans/compiler.{who}.plan"), &render(&plan));
    }
}

/// Most system calls that a plugin of these may make once it runs. (Firecracker's filters allow 27 to a virtual processor
/// and 50 to its monitor.)
const BUDGET: [(&str, usize); 2] = [("native-strict", 30), ("pure-compute", 30)];

/// The names that some arguments are allowed of, while loading only and for ever.
fn allowed(plan: &Plan) -> [usize; 2] {
    let names = |stage: &str| {
        let line =
            |fact: &&hotcell_policy::Fact| fact.topic == Topic::Syscall && fact.text.starts_with(stage);
        let rules = plan.facts.iter().filter(line).map(|fact| fact.text.trim_start_matches(stage).trim());
        let granted =
            rules.filter(|rule| !rule.contains("fails with") && !rule.starts_with("everything else"));
        granted.map(|rule| rule.split('(').next().unwrap_or_default().to_owned()).collect::<BTreeSet<_>>()
    };
    let run = names("run ");
    [names("load").difference(&run).count(), run.len()]
}

#[test]
fn few_system_calls_are_allowed_and_how_many_is_told() {
    for name in Profile::shipped_names() {
        let [load, run] = allowed(&widest_plan(&shipped(name), &root_platform()));
        // Past the test's captured output.
        writeln!(std::io::stdout(), "\nsystem calls of {name}: {run} for ever, {load} more until it may run")
            .expect("standard output is open");
        assert!(run > 20, "control: the plan's lines are understood");
        if let Some((_, budget)) = BUDGET.iter().find(|(of, _)| of == name) {
            assert!(run <= *budget, "{name}: {run}");
        }
    }
}
