//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::key::{KEY, KeyAction};
use crate::plugin::Plugin;
use crate::profile_args::Profile;
use crate::trust::{TRUST, TrustAction};

/// Exit codes, as `--help` and the README print them.
const EXIT_CODES: &str = "\
Exit codes:
  0 ok                        5 deadline passed
  1 plugin returned an error  6 resource limit reached
  2 usage, invalid manifest,  7 worker broke the protocol
    profile or artifact       8 the sandbox is not available here
  3 permission refused        9 internal error
  4 worker crashed          130 interrupted
`run` passes the command's own code through; its own failures exit 120 + code.
`profile explain` exits 3 for what is not allowed, `profile diff` 1 where something
widens, `profile lint` 1 where it warns, `profile test` 1 where an attack got through,
`plugin test` 1 where a case fails, `plugin audit` 1 where a finding is grave enough.";

/// Runs plugins that nobody has to trust: each in a confined process of its own.
#[derive(Debug, Parser)]
#[command(name = "hotcell", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// What the options of every subcommand stand under, apart from its own.
const GLOBAL: &str = "Options of every command";

/// Options of every subcommand.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Folder of hotcell-launcher and its siblings [default: beside this command, then ../libexec/hotcell]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    pub(crate) worker_dir: Option<PathBuf>,
    /// Folder for plugin data [default: /var/lib/hotcell, or ~/.local/state/hotcell]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Registry of plugin uids, for root; hosts with different ones may give two plugins one uid
    /// [default: /var/lib/hotcell/uids]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    pub(crate) uid_registry: Option<PathBuf>,
    /// A cgroup v2 without processes in which workers get groups of their own, for profiles with `cgroups` [default: this
    /// process's own groups, where they can be used]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Folder for compiled wasm [default: /var/cache/hotcell, or ~/.cache/hotcell]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// An additional profile (TOML); a manifest may name it by its file name
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub(crate) profile: Vec<PathBuf>,
    /// Load only what a trusted key has signed; see `hotcell trust`
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) require_signatures: bool,
    /// Take a signed version though a newer one was seen
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) allow_downgrade: bool,
    /// Less on standard error: no log lines of the plugin
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Run a command plugin (WASI) with this terminal's standard input, output and error
    Run(Run),
    /// Call one export of a plugin and print its reply
    Call(Call),
    /// Try whether a new version of a plugin would take the place of an old one, with its state
    #[command(after_help = RELOAD)]
    Reload(Reload),
    /// Print the effective plan: everything that a plugin may do here, and why
    Plan(Plan),
    /// Create, build, test, sign, audit and install plugins
    Plugin(Plugin),
    /// Whose signatures count here
    #[command(after_help = TRUST)]
    Trust {
        #[command(subcommand)]
        action: TrustAction,
    },
    /// The key with which you sign your plugins
    #[command(after_help = KEY)]
    Key {
        #[command(subcommand)]
        action: KeyAction,
    },
    /// What a reviewer asks of a profile: its widest plan, why something is allowed, what differs, what looks wrong
    Profile(Profile),
    /// What the kernel says is in force on a plugin's workers, signed by this host
    Receipt {
        #[command(subcommand)]
        action: ReceiptAction,
    },
    /// What is known of plugins that crashed: reports, groups of reports, minidumps
    #[command(after_help = CRASHES)]
    Crashes {
        #[command(subcommand)]
        action: CrashesAction,
    },
    /// Report what this kernel and user provide, and which shipped profiles can start here
    Doctor(Doctor),
    /// Measure hotcell beside the floors of this machine and beside the alternatives
    #[command(after_help = BENCH)]
    Bench(hotcell_bench::Bench),
    /// Reload, update badly and crash a plugin under continuous load; exits 1 if a call is lost, doubled or failed
    #[command(after_help = STRESS)]
    Stress(hotcell_bench::Stress),
}

/// How to read what `bench` prints.
const BENCH: &str = "\
One run takes samples of every row in turn, in rounds: the floors of this machine (pipe, futex, memcpy, fork, exec), the
alternatives (with --peers) and hotcell. Compare ratios, not times; docs/benchmarks.md says what each row is. It uses folders
of its own under the temporary folder, and the sample plugins of the repository, so run it there: scripts/bench builds all
that it needs. No figure makes it fail, but for --standards, which exits 1 where a promise is not kept.";

/// What `crashes` reads.
const CRASHES: &str = "\
Hosts write a report when a worker ends abnormally, into the folder `crashes` of their state folder (--state-dir). The newest 32
of each plugin are kept. What a report says of a crash is what the crashed process noted, and its plugin can have forged it.";

/// What `reload` does.
const RELOAD: &str = "\
Starts the old version, starts the new one beside it, asks it for its health, and moves the state that the old one has after its
start. Nothing is changed. Applications reload with Plugin::reload; docs/lifecycle.md says how.";

/// What `stress` does.
const STRESS: &str = "\
The sample plugin `notebook` counts the calls that it gets and keeps its count over reloads, so a call that is lost or
doubled shows. It is run as a native library and as a wasm module, in folders of its own under the temporary folder; run it
in the repository, after scripts/build and scripts/build-plugins. A call that ran in a worker when that crashed ends as
crashed, and is expected; every other call has to be replied to.";

/// Names a plugin.
const PLUGIN: &str = "An .lbplugin file, a folder with manifest.json, @ID of an installed plugin, or a bare .wasm, .wat or .so without any permission";

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[arg(help = PLUGIN)]
    pub(crate) plugin: PathBuf,
    /// A variable of the command's environment, which is empty otherwise
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// The command's own arguments
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
    /// Stop the command after this time, e.g. 500ms, 10s, 5m [default and most: the profile's call limit]
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print a machine-readable report on standard error at the end
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    #[arg(help = PLUGIN)]
    pub(crate) plugin: PathBuf,
    /// The export: NAME, or for components also NAMESPACE:PACKAGE/INTERFACE#FUNC
    pub(crate) export: String,
    /// JSON text, @FILE, or - for standard input [default: none]
    pub(crate) input: Option<String>,
    /// A plugin that this one needs (`dependencies`), to be loaded before it; what else it needs is taken from the installed ones
    #[arg(long, value_name = "PLUGIN")]
    pub(crate) with: Vec<PathBuf>,
    /// Input and reply are bytes as they are, not JSON
    #[arg(long)]
    pub(crate) raw: bool,
    /// Give up after this time, e.g. 500ms, 10s, 5m [default and most: the profile's call limit]
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print a machine-readable envelope: outcome, reply, duration, exit
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// The package of the version that runs
    pub(crate) old: PathBuf,
    /// The package of the new version
    pub(crate) new: PathBuf,
    /// Only try it. Required: there is no host of this command that goes on running
    #[arg(long, required = true)]
    pub(crate) check: bool,
    /// Let the new version do more than the old one may
    #[arg(long)]
    pub(crate) may_widen: bool,
    /// Start the new version without a state that it does not take
    #[arg(long)]
    pub(crate) drop_state: bool,
    /// Print what would come of it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[arg(help = PLUGIN)]
    pub(crate) plugin: PathBuf,
}

/// What `receipt` does.
#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptAction {
    /// Start a plugin and print a receipt for each of its workers, one to a line
    Show {
        #[arg(help = PLUGIN)]
        plugin: PathBuf,
    },
    /// Check receipts, one to a line, and print what they say; exits 3 where one was changed or has another key
    Verify {
        /// The file that `show` has written
        file: PathBuf,
        /// The public key of the host that signed it, as `key` prints it [default: this host's]
        #[arg(long)]
        key: Option<String>,
    },
    /// Print the public key of this host's receipts
    Key,
}

/// What `crashes` does.
#[derive(Debug, Subcommand)]
pub(crate) enum CrashesAction {
    /// List reports, the newest first: id, version, signature, what happened
    List {
        /// Only those of the plugin with this id
        plugin: Option<String>,
        /// Group them: crashes with the same signature most likely have the same fault
        #[arg(long)]
        groups: bool,
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a report: how the worker ended, backtrace, registers, last calls and log lines, violations
    Show {
        /// The report's id, or `latest`
        #[arg(default_value = "latest")]
        id: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy a report into a new folder: report.json, report.txt, receipt.json, and minidump.dmp for lldb or minidump-stackwalk
    Export {
        /// The report's id, or `latest`
        id: String,
        /// The folder to make
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads `NAME=VALUE`.
fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads `500ms`, `10s`, `5m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| "expected a whole number with ms, s or m, e.g. 10s".to_owned())?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        other => return Err(format!("unknown unit `{other}`; use ms, s or m")),
    };
    if duration.is_zero() {
        Err("a deadline of zero would refuse every call".to_owned())
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::duration;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "1h", "-1s", "1.5s", "0", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
