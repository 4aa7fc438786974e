//! A report for people.

use std::fmt::{Display, Formatter, Result};
use std::time::{Duration, UNIX_EPOCH};

use hotcell_protocol::crash::PLUGIN;

use super::report::{CrashBacktrace, CrashFrame, CrashReport};

/// Frames that are told beyond the last one of the plugin.
const FRAMES: usize = 6;

impl Display for CrashReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let when = UNIX_EPOCH + Duration::from_millis(self.time_ms);
        writeln!(f, "{}", self.title)?;
        writeln!(f)?;
        writeln!(f, "report      {}", self.id)?;
        writeln!(f, "signature   {}", self.signature)?;
        writeln!(f, "when        {}", humantime::format_rfc3339_millis(when))?;
        writeln!(f, "plugin      {} {}, generation {}", self.plugin, self.version, self.generation)?;
        writeln!(f, "artifact    {}", self.artifact)?;
        // The text of a wasm trap has lines, which were escaped.
        writeln!(f, "end         {}", self.exit.to_string().replace("\\n", "\n            "))?;
        let (used, limit) = (self.exit.max_rss >> 10, self.limits.memory >> 10);
        writeln!(f, "memory      {used} KiB resident at most, limit {limit} KiB")?;
        writeln!(f, "cpu         {:?}, limit {} ms", self.exit.cpu, self.limits.cpu_ms)?;
        if self.unreported > 0 {
            writeln!(f, "unreported  {} crashes before this one", self.unreported)?;
        }
        if let Some(backtrace) = &self.backtrace {
            backtrace.fmt(f)?;
        }
        if let Some(why) = &self.no_backtrace {
            writeln!(f, "\nno backtrace: {why}")?;
        }
        part(
            f,
            "last calls",
            self.calls.iter().map(|call| {
                let state = if call.replied { "" } else { "  no reply" };
                let input = call.input.as_ref().map(|input| format!("  {input}")).unwrap_or_default();
                format!("{}, {} bytes{state}{input}", call.export, call.input_bytes)
            }),
        )?;
        part(f, "last lines", self.log.iter().cloned())?;
        part(f, "violations", self.violations.iter().map(ToString::to_string))
    }
}

impl Display for CrashBacktrace {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "signal      {}, code {}, address {}", self.signal, self.code, self.address)?;
        let own = |frame: &CrashFrame| frame.module.as_deref() == Some(PLUGIN);
        let told = self.frames.iter().rposition(own).map_or(FRAMES, |last| last + FRAMES);
        let frames = self.frames.iter().take(told).enumerate().map(|(depth, frame)| {
            let module = frame.module.as_deref().unwrap_or("?");
            let function = frame.function.as_deref().unwrap_or("?");
            let source = frame.source.as_deref().map(|source| format!("  at {source}")).unwrap_or_default();
            format!("{depth:>2}  {module}+{}  {function}{source}", frame.offset)
        });
        part(f, "backtrace, as the worker noted it", frames)?;
        if let Some(more @ 1..) = self.frames.len().checked_sub(told) {
            writeln!(f, "  and {more} more of the worker")?;
        }
        let registers = self.registers.iter().map(|(name, value)| format!("{name:<7} {value}"));
        part(f, "registers", registers)?;
        part(
            f,
            "modules",
            self.modules.iter().map(|module| {
                let build_id = if module.build_id.is_empty() { "no build id" } else { &module.build_id };
                format!("{}  {} bytes  {}  {build_id}", module.base, module.size, module.name)
            }),
        )
    }
}

fn part(f: &mut Formatter<'_>, title: &str, lines: impl Iterator<Item = String>) -> Result {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(f, "\n{title}")?;
    }
    lines.try_for_each(|line| writeln!(f, "  {line}"))
}
