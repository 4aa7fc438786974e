//! The committed plans: the widest policy of each shipped profile, for root and for an ordinary user.

#![allow(clippy::panic, reason = "a test fails that way")]

mod common;

use common::{golden, root_platform, shipped, user_platform};
use hotcell_policy::{Plan, Platform, Policy, Profile, compile, compiler_plan, render};

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
