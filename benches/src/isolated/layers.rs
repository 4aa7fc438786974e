//! What confines a worker, in words: the plan says what was ordered, the evidence what the kernel confirmed.

use std::time::Duration;

use hotcell::policy::{Plan, Topic};
use hotcell::{Evidence, Plugin};
use hotcell_protocol::{Filters, Namespace};

use crate::failure::Failure;
use crate::measure::{Case, Samples};
use crate::report::Layers;

/// Adds the layers of a plugin that was loaded, unless it is known; plugins with the same layers stand together. Returns
/// them in short.
pub(super) fn note(all: &mut Vec<Layers>, plugin: &Plugin) -> String {
    let key = key(plugin);
    if all.iter().any(|layers| layers.plugins.iter().any(|id| id == plugin.id())) {
        return key;
    }
    let (id, lines) = (plugin.id().to_owned(), lines_of(plugin));
    match all.iter_mut().find(|layers| layers.lines == lines) {
        Some(same) => same.plugins.push(id),
        None => all.push(Layers { key: key.clone(), plugins: vec![id], lines }),
    }
    key
}

/// A case with the layers that confine its other end.
pub(super) struct Confined {
    pub(super) case: Box<dyn Case>,
    pub(super) layers: String,
}

impl Case for Confined {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        self.case.sample(count, samples)
    }

    fn pause(&mut self, time: Duration) {
        self.case.pause(time);
    }

    fn layers(&self) -> Option<String> {
        Some(self.layers.clone())
    }
}

/// The layers in force, in short: what of them the kernel confirmed, and which are not there.
fn key(plugin: &Plugin) -> String {
    let orders = &plugin.plan().orders;
    let uid = if orders.distinct_uid { "uid" } else { "no uid" };
    let landlock = match plugin.evidence() {
        Some(evidence) => format!("Landlock {}", evidence.statement.landlock_abi),
        None => "Landlock not confirmed".to_owned(),
    };
    let plan = plugin.plan();
    let absent = plan.facts.iter().filter(|fact| fact.topic == Topic::Absent);
    let cgroup = if absent.into_iter().any(|fact| fact.text.contains("memory cgroup")) {
        "no cgroup"
    } else {
        "cgroup"
    };
    let namespaces = namespaces(&orders.namespaces);
    let seccomp = match &orders.filters {
        Filters::Staged { load, run: Some(run), .. } => {
            format!("{}+{}", load.program.len(), run.program.len())
        }
        Filters::Staged { load, run: None, .. } => load.program.len().to_string(),
        Filters::Supervised { filter, .. } => filter.program.len().to_string(),
    };
    format!("{uid}, {namespaces}, {landlock}, seccomp {seccomp}, {cgroup}")
}

fn namespaces(namespaces: &[Namespace]) -> String {
    if namespaces.is_empty() {
        return "no ns".to_owned();
    }
    let names: Vec<String> = namespaces
        .iter()
        .map(|namespace| match namespace {
            Namespace::Network => "net".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        })
        .collect();
    format!("{} ns", names.join("+"))
}

fn lines_of(plugin: &Plugin) -> Vec<String> {
    let plan = plugin.plan();
    let mut lines: Vec<String> = topics(&plan, &[Topic::Process, Topic::Landlock]).collect();
    lines.push(format!("seccomp   {}", seccomp(&plan.orders.filters)));
    lines.extend(plugin.evidence().as_ref().map(|evidence| format!("evidence  {}", confirmed(evidence))));
    lines.extend(topics(&plan, &[Topic::Absent]));
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
        Filters::Staged { load, run: Some(run), .. } => format!(
            "{} instructions before load, {} more before the first call",
            load.program.len(),
            run.program.len()
        ),
        Filters::Staged { load, run: None, .. } => format!("{} instructions before load", load.program.len()),
        Filters::Supervised { filter, .. } => {
            format!("{} instructions before load, with a listener", filter.program.len())
        }
    }
}

fn confirmed(evidence: &Evidence) -> String {
    let Evidence { statement, seccomp_filters, no_new_privs, capabilities, threads, .. } = evidence;
    let landlock_abi = statement.landlock_abi;
    format!(
        "Landlock ABI {landlock_abi}, seccomp filters before load {seccomp_filters}, no new privileges {no_new_privs}, \
         capabilities {capabilities:#x}, threads {threads}, descriptors {}",
        statement.descriptors.len()
    )
}
