//! What confines a worker, in words: the plan says what was ordered, the evidence what the kernel confirmed.

use hotcell::policy::{Plan, Topic};
use hotcell::{Evidence, Plugin};
use hotcell_protocol::Filters;

use crate::report::Layers;

/// Adds the layers of a plugin that was loaded, unless it is known; plugins with the same layers stand together.
pub(super) fn note(all: &mut Vec<Layers>, plugin: &Plugin) {
    if all.iter().any(|layers| layers.plugins.iter().any(|id| id == plugin.id())) {
        return;
    }
    let (id, lines) = (plugin.id().to_owned(), lines_of(plugin));
    match all.iter_mut().find(|layers| layers.lines == lines) {
        Some(same) => same.plugins.push(id),
        None => all.push(Layers { plugins: vec![id], lines }),
    }
}

fn lines_of(plugin: &Plugin) -> Vec<String> {
    let plan = plugin.plan();
    let mut lines: Vec<String> = topics(plan, &[Topic::Process, Topic::Landlock]).collect();
    lines.push(format!("seccomp   {}", seccomp(&plan.orders.filters)));
    lines.extend(plugin.evidence().as_ref().map(|evidence| format!("evidence  {}", confirmed(evidence))));
    lines.extend(topics(plan, &[Topic::Absent]));
    lines
}

fn topics<'a>(plan: &'a Plan, wanted: &'a [Topic]) -> impl Iterator<Item = String> + 'a {
    let facts = plan.facts.iter().filter(|fact| wanted.contains(&fact.topic));
    facts.map(|fact| format!("{:<9} {}", word(fact.topic), fact.text))
}

fn word(topic: Topic) -> &'static str {
    match topic {
        Topic::Process => "process",
        Topic::Landlock => "landlock",
        Topic::Absent => "absent",
        _ => "plan",
    }
}

fn seccomp(filters: &Filters) -> String {
    match filters {
        Filters::Staged { load, run: Some(run) } => format!(
            "{} instructions before load, {} more before the first call",
            load.program.len(),
            run.program.len()
        ),
        Filters::Staged { load, run: None } => format!("{} instructions before load", load.program.len()),
        Filters::Supervised { filter, .. } => {
            format!("{} instructions before load, with a listener", filter.program.len())
        }
    }
}

fn confirmed(evidence: &Evidence) -> String {
    let Evidence { landlock_abi, seccomp_filters, no_new_privs, capabilities, threads, descriptors, .. } =
        evidence;
    format!(
        "Landlock ABI {landlock_abi}, seccomp filters before load {seccomp_filters}, no new privileges {no_new_privs}, \
         capabilities {capabilities:#x}, threads {threads}, descriptors {}",
        descriptors.len()
    )
}
