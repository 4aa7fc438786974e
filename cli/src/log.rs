//! Log lines of plugins and of the library, on standard error.

use tracing_subscriber::filter::LevelFilter;

/// Prints what the library traces, down to a level. The library has escaped every control character of a plugin's text
/// already.
pub(crate) fn to_stderr(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .init();
}
