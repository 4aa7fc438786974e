//! What a plugin says: its log host call, its stdout and its stderr, as bounded, escaped `tracing` events.
//!
//! A flood costs the plugin, not the host: lines over the rate are dropped and counted, and a pipe that delivers more
//! than a fixed volume per window is left unread until the window ends, so that the plugin blocks.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::crash::LINES;
use crate::text::{LINE_MAX, Lines, escape};

/// Bytes read from a pipe at once.
const PIECE: usize = 16 << 10;

/// Fewest bytes that are drained per window: one pipe.
const WINDOW_BYTES: usize = 64 << 10;

/// The window.
const WINDOW: Duration = Duration::from_millis(100);

/// Fewest bytes of lines that any plugin may log at once: one line of full length.
const BURST_MIN: u64 = 8 << 10;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
    Log,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Log => "log",
        }
    }
}

/// Longest input of the log host call that is looked at, in bytes: a line of full length, each byte escaped in JSON.
const RECORD_MAX: usize = 6 * LINE_MAX;

/// How much a record matters, as its plugin says.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// What the log host call takes.
#[derive(Debug, Deserialize)]
struct Record<'a> {
    level: Level,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// Takes the lines of one worker, within the plan's rate.
#[derive(Clone, Debug)]
pub(crate) struct Logger {
    plugin: Arc<str>,
    generation: u32,
    bucket: Arc<Mutex<Bucket>>,
    /// The last lines.
    kept: Arc<Mutex<VecDeque<String>>>,
}

/// A token bucket that holds one second of the rate.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    tokens: u64,
    filled: Instant,
    dropped: u64,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Bucket {
        Bucket { rate, tokens: rate.max(BURST_MIN), filled: now, dropped: 0 }
    }

    /// Whether a line may pass, and how many were dropped before it.
    fn take(&mut self, bytes: u64, now: Instant) -> Option<u64> {
        if self.refuse(bytes, now) {
            return None;
        }
        self.tokens -= bytes;
        Some(std::mem::take(&mut self.dropped))
    }

    /// Whether a line of at least this size cannot pass; it is then counted as dropped.
    fn refuse(&mut self, bytes: u64, now: Instant) -> bool {
        let elapsed = u64::try_from(now.duration_since(self.filled).as_millis()).unwrap_or(u64::MAX);
        let earned = elapsed.saturating_mul(self.rate) / 1000;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(self.rate.max(BURST_MIN));
            self.filled = now;
        }
        let refused = self.rate == 0 || self.tokens < bytes;
        self.dropped += u64::from(refused);
        refused
    }
}

impl Logger {
    /// `rate` is in bytes per second; 0 keeps nothing but the count.
    pub(crate) fn new(plugin: &str, generation: u32, rate: u64) -> Logger {
        let bucket = Arc::new(Mutex::new(Bucket::new(rate, Instant::now())));
        Logger { plugin: plugin.into(), generation, bucket, kept: Arc::default() }
    }

    /// Takes an input of the log host call: a [`Record`] in JSON, else any text.
    pub(crate) fn log(&self, bytes: &[u8]) {
        if self.refuse(1) {
            return;
        }
        let bytes = bytes.get(..RECORD_MAX).unwrap_or(bytes);
        let (level, text) = match serde_json::from_slice::<Record<'_>>(bytes) {
            Ok(record) => (record.level, escape(record.message.as_bytes())),
            Err(_) => (Level::Info, escape(bytes)),
        };
        if let Some(dropped) = self.admit(&text) {
            self.report_dropped(Stream::Log, dropped);
            self.emit(level, Stream::Log, &text);
        }
    }

    /// Reads a pipe to its end.
    pub(crate) async fn drain(self, mut pipe: pipe::Receiver, stream: Stream) {
        let mut piece = vec![0; PIECE];
        let mut lines = Lines::default();
        let mut window = (tokio::time::Instant::now(), 0);
        let bound = self.window_bytes();
        while let Ok(count @ 1..) = pipe.read(&mut piece).await {
            let bytes = piece.get(..count).unwrap_or_default();
            lines.feed(bytes, |line| self.line(stream, line));
            throttle(&mut window, count, bound).await;
        }
        lines.finish(|line| self.line(stream, line));
        self.finish(stream);
    }

    /// Takes a line as it came: one over the rate is counted without a look into it.
    fn line(&self, stream: Stream, line: &[u8]) {
        if self.refuse(line.len() as u64 + 1) {
            return;
        }
        let line = escape(line);
        if let Some(dropped) = self.admit(&line) {
            self.report_dropped(stream, dropped);
            self.emit(Level::Info, stream, &line);
        }
    }

    /// Bytes that are drained per window: enough for the rate.
    fn window_bytes(&self) -> usize {
        let rate = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).rate;
        let part = u128::from(rate) * WINDOW.as_millis() / 1000;
        usize::try_from(part).unwrap_or(usize::MAX).max(WINDOW_BYTES)
    }

    /// Whether a line of at least this size is over the rate; it is counted then.
    fn refuse(&self, bytes: u64) -> bool {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).refuse(bytes, Instant::now())
    }

    /// Whether a line is within the rate, and how many were not before it.
    fn admit(&self, line: &str) -> Option<u64> {
        let bytes = line.len() as u64 + 1;
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, Instant::now())
    }

    /// The last lines that passed, the newest last.
    pub(crate) fn last_lines(&self) -> VecDeque<String> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn emit(&self, level: Level, stream: Stream, line: &str) {
        self.keep(format!("{}: {line}", stream.name()));
        macro_rules! emit {
            ($level:ident) => {
                tracing::event!(
                    target: "hotcell::plugin",
                    tracing::Level::$level,
                    plugin = %self.plugin,
                    generation = self.generation,
                    stream = stream.name(),
                    "{line}"
                )
            };
        }
        match level {
            Level::Trace => emit!(TRACE),
            Level::Debug => emit!(DEBUG),
            Level::Info => emit!(INFO),
            Level::Warn => emit!(WARN),
            Level::Error => emit!(ERROR),
        }
    }

    fn keep(&self, line: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }

    fn finish(&self, stream: Stream) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = std::mem::take(&mut bucket.dropped);
        drop(bucket);
        self.report_dropped(stream, dropped);
    }

    fn report_dropped(&self, stream: Stream, dropped: u64) {
        if dropped == 0 {
            return;
        }
        tracing::warn!(
            target: "hotcell::plugin",
            plugin = %self.plugin,
            generation = self.generation,
            stream = stream.name(),
            dropped,
            "{dropped} lines over the log rate were dropped"
        );
    }
}

/// Counts what was drained; sleeps out the window when it was too much.
async fn throttle(window: &mut (tokio::time::Instant, usize), count: usize, bound: usize) {
    if window.0.elapsed() >= WINDOW {
        *window = (tokio::time::Instant::now(), 0);
    }
    window.1 += count;
    if window.1 >= bound {
        tokio::time::sleep_until(window.0 + WINDOW).await;
    } else if window.1 % (PIECE * 4) < count {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Bucket, Logger, WINDOW_BYTES};

    #[test]
    fn lines_over_the_rate_are_dropped_and_counted() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10_000, start);
        assert_eq!(bucket.take(10_000, start), Some(0), "one second at once");
        assert_eq!(bucket.take(100, start), None);
        assert_eq!(bucket.take(100, start), None);
        assert_eq!(
            bucket.take(100, start + Duration::from_millis(20)),
            Some(2),
            "refilled, two were dropped"
        );
        assert_eq!(Bucket::new(0, start).take(1, start), None, "a rate of nothing keeps nothing");
    }

    #[test]
    fn a_line_over_the_rate_is_counted_before_it_is_escaped() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10_000, start);
        assert!(!bucket.refuse(10_000, start), "control: there is room, and none is taken");
        assert_eq!(bucket.take(10_000, start), Some(0));
        assert!(bucket.refuse(1, start));
        assert_eq!(bucket.take(10, start + Duration::from_millis(20)), Some(1), "it was counted");
    }

    #[test]
    fn a_window_drains_one_pipe_or_what_the_rate_needs() {
        assert_eq!(Logger::new("p", 1, 1000).window_bytes(), WINDOW_BYTES);
        assert_eq!(Logger::new("p", 1, 10 << 20).window_bytes(), 1 << 20);
        assert!(Logger::new("p", 1, u64::MAX).window_bytes() > WINDOW_BYTES);
    }
}
