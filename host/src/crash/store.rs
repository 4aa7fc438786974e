//! The folder of reports: `crashes/PLUGIN/WHEN/` in the state folder, bounded in number and size.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::report::{CrashGroup, CrashReport, FORMAT};
use crate::class::Class;
use crate::error::Error;
use crate::places::passage;
use crate::receipt::Receipt;

/// Reports that are kept of one plugin: the newest.
const KEPT: usize = 32;

/// Largest file that is read back, in bytes.
const REPORT_MAX: u64 = 1 << 20;

const REPORT: &str = "report.json";
const TEXT: &str = "report.txt";
const MINIDUMP: &str = "minidump.dmp";
const RECEIPT: &str = "receipt.json";

/// What lies beside a report, where there is any.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) minidump: Option<Vec<u8>>,
    pub(super) receipt: Option<Receipt>,
}

/// The crash reports in a host's state folder.
#[derive(Clone, Debug)]
pub struct Crashes {
    folder: PathBuf,
}

impl Crashes {
    /// Those of hosts with this [`state_dir`](crate::HostBuilder::state_dir). No host has to be there.
    pub fn new(state_dir: impl AsRef<Path>) -> Crashes {
        Crashes { folder: state_dir.as_ref().join("crashes") }
    }

    /// All reports, the newest first; those that cannot be read are left out. Blocks.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<CrashReport>, Error> {
        let mut reports = Vec::new();
        for plugin in names(&self.folder).map_err(|source| self.failed(source))? {
            let folder = self.folder.join(&plugin);
            for when in names(&folder).map_err(|source| self.failed(source))? {
                reports.extend(read(&folder.join(when)));
            }
        }
        reports.sort_by(|one, other| (other.time_ms, &other.id).cmp(&(one.time_ms, &one.id)));
        Ok(reports)
    }

    /// A report by its id, or `latest`. Blocks.
    ///
    /// # Errors
    /// There is none, or the folder cannot be read.
    pub fn find(&self, id: &str) -> Result<CrashReport, Error> {
        let found = match id {
            "latest" => self.list()?.into_iter().next(),
            id => self.place(id).and_then(|folder| read(&folder)),
        };
        found.ok_or_else(|| Error::Package {
            subject: format!("crash report {id}"),
            detail: format!("there is none in {}; `hotcell crashes list` shows all", self.folder.display()),
            class: Class::Invalid,
        })
    }

    /// The folder of a report: `report.json`, `report.txt`, `receipt.json`, and `minidump.dmp` where there is one.
    pub fn folder(&self, report: &CrashReport) -> PathBuf {
        self.folder.join(&report.id)
    }

    /// Groups reports by signature, the newest group first.
    pub fn group(reports: &[CrashReport]) -> Vec<CrashGroup> {
        let mut groups: Vec<CrashGroup> = Vec::new();
        for report in reports {
            match groups.iter_mut().find(|group| group.signature == report.signature) {
                Some(group) => {
                    group.reports += 1;
                    if !group.versions.contains(&report.version) {
                        group.versions.push(report.version.clone());
                    }
                }
                None => groups.push(CrashGroup {
                    signature: report.signature.clone(),
                    title: report.title.clone(),
                    plugin: report.plugin.clone(),
                    versions: vec![report.version.clone()],
                    reports: 1,
                    newest: report.id.clone(),
                    newest_ms: report.time_ms,
                }),
            }
        }
        groups
    }

    /// Writes a report, whole or not at all, and removes the oldest ones. Returns its id. Blocks.
    pub(super) fn write(&self, mut report: CrashReport, beside: &Beside) -> Result<String, Error> {
        passage(self.folder.parent().unwrap_or(&self.folder))?;
        let folder = self.folder.join(&report.plugin);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|source| self.failed(source))?;
        let when = free_name(&folder, &report);
        report.id = format!("{}/{when}", report.plugin);
        let new = folder.join(format!(".{when}"));
        self.fill(&new, &report, beside).map_err(|source| self.failed(source))?;
        std::fs::rename(&new, folder.join(&when)).map_err(|source| self.failed(source))?;
        prune(&folder).map_err(|source| self.failed(source))?;
        Ok(report.id)
    }

    fn fill(&self, folder: &Path, report: &CrashReport, beside: &Beside) -> std::io::Result<()> {
        DirBuilder::new().mode(0o700).create(folder)?;
        let write = |name: &str, bytes: &[u8]| {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600).open(folder.join(name))?.write_all(bytes)
        };
        write(REPORT, serde_json::to_string_pretty(report)?.as_bytes())?;
        write(TEXT, report.to_string().as_bytes())?;
        if let Some(receipt) = &beside.receipt {
            write(RECEIPT, format!("{receipt}\n").as_bytes())?;
        }
        beside.minidump.as_ref().map_or(Ok(()), |minidump| write(MINIDUMP, minidump))
    }

    /// Where a report of this id is, if it can be one.
    fn place(&self, id: &str) -> Option<PathBuf> {
        let (plugin, when) = id.split_once('/')?;
        let sound = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        (sound(plugin) && sound(when)).then(|| self.folder.join(plugin).join(when))
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::io(format!("use {}", self.folder.display()), source)
    }
}

/// The entries of a folder in their order, without what is being written.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}

fn read(folder: &Path) -> Option<CrashReport> {
    let path = folder.join(REPORT);
    let size = std::fs::metadata(&path).ok()?.len();
    let text = (size <= REPORT_MAX).then(|| std::fs::read_to_string(&path).ok())??;
    serde_json::from_str(&text).ok().filter(|report: &CrashReport| report.format == FORMAT)
}

/// A name that sorts by time: 20260102T030405.678Z-1.
fn free_name(folder: &Path, report: &CrashReport) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(report.time_ms);
    let stamp = humantime::format_rfc3339_millis(time).to_string().replace(['-', ':'], "");
    let mut names = (0..).map(|count| match count {
        0 => format!("{stamp}-{}", report.generation),
        count => format!("{stamp}-{}-{count}", report.generation),
    });
    names.find(|name| !folder.join(name).exists()).unwrap_or(stamp)
}

/// Removes the oldest reports of a plugin, and what was left half-written an hour ago.
fn prune(folder: &Path) -> std::io::Result<()> {
    let names = names(folder)?;
    for name in names.iter().take(names.len().saturating_sub(KEPT)) {
        std::fs::remove_dir_all(folder.join(name))?;
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let old = |time: SystemTime| time.elapsed().is_ok_and(|age| age > Duration::from_secs(3600));
        if entry.file_name().as_encoded_bytes().starts_with(b".")
            && entry.metadata()?.modified().is_ok_and(old)
        {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
