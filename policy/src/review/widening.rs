//! What an update of a plugin may do that the plugin could not do before.

use hotcell_protocol::PathRule;

use super::diff::limit_values;
use crate::profile::written;
use crate::{ConnectGrant, Plan};

/// Each right and each bound of `new` that goes beyond `old`, in words; empty if there is none.
///
/// Both are plans for the same profile and platform: what their system call programs allow follows from the profile and from
/// what is compared here.
pub fn widened(old: &Plan, new: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let (before, after) = (&old.orders, &new.orders);
    if before.runtime != after.runtime {
        lines.push(format!("runtime {:?} in place of {:?}", after.runtime, before.runtime).to_lowercase());
    }
    let calls = after.host_calls.iter().filter(|call| !before.host_calls.contains(call));
    lines.extend(calls.map(|call| format!("host call `{call}`")));
    let connects = new.connects.iter().filter(|connect| {
        let is_it = |other: &&ConnectGrant| other.address == connect.address;
        old.connects.iter().find(is_it).is_none_or(|other| connect.private && !other.private)
    });
    lines.extend(connects.map(|connect| format!("connection to {}", connect.address)));
    let listens = new.listens.iter().filter(|address| !old.listens.contains(address));
    lines.extend(listens.map(|address| format!("listening at {address}")));
    let programs =
        |plan: &Plan| plan.programs.as_ref().map_or(Vec::new(), |programs| programs.granted.clone());
    let before_programs = programs(old);
    let more = programs(new).into_iter().filter(|grant| !before_programs.contains(grant));
    lines.extend(more.map(|grant| format!("program {}", grant.words())));
    let paths =
        after.landlock.rules.iter().filter(|rule| rule.access & !allowed(rule, &before.landlock.rules) != 0);
    lines.extend(
        paths.map(|rule| {
            format!("files: `{:?}/{}` (Landlock rights {:#x})", rule.place, rule.path, rule.access)
        }),
    );
    let values = limit_values(&before.limits).into_iter().zip(limit_values(&after.limits));
    let texts = written(&before.limits).into_iter().zip(written(&after.limits));
    let larger = values.zip(texts).filter(|((before, after), _)| after > before);
    lines.extend(
        larger.map(|(_, ((name, before), (_, after)))| format!("limit {name}: {after} in place of {before}")),
    );
    lines
}

/// What a set of rules allows at the path of a rule.
fn allowed(rule: &PathRule, rules: &[PathRule]) -> u64 {
    let covers = |other: &&PathRule| {
        let below = rule.path.strip_prefix(other.path.as_str());
        let inside = |rest: &str| rest.is_empty() || rest.starts_with('/') || other.path.is_empty();
        other.place == rule.place && below.is_some_and(inside)
    };
    rules.iter().filter(covers).fold(0, |access, other| access | other.access)
}
