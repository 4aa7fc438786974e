//! A plan as text: one fact per line, with its source, so that a diff shows each permission that was widened.

use std::fmt::Write;

use serde_json::json;

use crate::error::runtime_name;
use crate::plan::{Plan, Topic};

/// Column of the sources; a longer fact pushes its own further.
const SOURCE_COLUMN: usize = 100;

/// The plan as JSON: its facts, in order.
pub fn render_json(plan: &Plan) -> serde_json::Value {
    let facts = plan.facts.iter().map(
        |fact| json!({ "topic": word(fact.topic), "text": fact.text.trim_end(), "source": fact.source }),
    );
    json!({ "runtime": runtime_name(plan.orders.runtime), "facts": facts.collect::<Vec<_>>() })
}

/// The plan as text, the same for the same plan.
pub fn render(plan: &Plan) -> String {
    let mut text = String::new();
    let mut topic = None;
    for fact in &plan.facts {
        if topic.is_some_and(|last| last != fact.topic) {
            text.push('\n');
        }
        topic = Some(fact.topic);
        let line = format!("{:<9} {}", word(fact.topic), fact.text);
        let _ = writeln!(text, "{line:<SOURCE_COLUMN$} # {}", fact.source);
    }
    text
}

/// The word that a line of a plan begins with.
pub(crate) fn word(topic: Topic) -> &'static str {
    match topic {
        Topic::Plan => "plan",
        Topic::Limit => "limit",
        Topic::Rlimit => "rlimit",
        Topic::Cgroup => "cgroup",
        Topic::Process => "process",
        Topic::Landlock => "landlock",
        Topic::File => "file",
        Topic::Connect => "connect",
        Topic::Listen => "listen",
        Topic::Spawn => "spawn",
        Topic::HostCall => "host-call",
        Topic::Syscall => "syscall",
        Topic::Absent => "absent",
    }
}
