//! `disk`: what `${data}` and `${scratch}` may hold, where a plugin may write there.
//!
//! No rlimit bounds several files together, and a quota of the file system is not there for everybody. So the host looks, ten
//! times a second while the worker has used CPU time since the last look, and ends a worker that went over. What is written
//! between two looks is bounded by the disk's speed and by `file-size` for each file; files that were removed and are still
//! open are not seen: `open-files` times `file-size` bounds them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hotcell_protocol::{Orders, Place};

use super::{Record, StopTask};
use crate::exit::ExitCause;
use crate::places::{Excess, measure};
use crate::sys::clock::cpu_time;

/// Between two looks.
const TICK: Duration = Duration::from_millis(100);

/// `LANDLOCK_ACCESS_FS_EXECUTE`, `READ_FILE` and `READ_DIR`: whatever else is allowed takes room.
const READING: u64 = 1 | 1 << 2 | 1 << 3;

/// Starts looking after the folders of one worker, if it may write there.
pub(super) fn watch(
    orders: &Orders,
    paths: &[(Place, String)],
    pid: u32,
    record: &Arc<Record>,
) -> Option<StopTask> {
    let written = |place: &Place| {
        matches!(place, Place::Data | Place::Scratch)
            && orders.landlock.rules.iter().any(|rule| rule.place == *place && rule.access & !READING != 0)
    };
    let folders: Vec<PathBuf> =
        paths.iter().filter(|(place, _)| written(place)).map(|(_, path)| path.into()).collect();
    let quota = Quota { folders: folders.into(), limit: orders.limits.disk, pid, record: Arc::clone(record) };
    (!quota.folders.is_empty()).then(|| StopTask(tokio::spawn(quota.keep()).abort_handle()))
}

struct Quota {
    folders: Arc<[PathBuf]>,
    limit: u64,
    pid: u32,
    record: Arc<Record>,
}

impl Quota {
    async fn keep(self) {
        let mut before = None;
        loop {
            // Another process may have the number by now: then one look too many or too few, of a worker that is gone.
            let used = cpu_time(self.pid);
            if used.is_none() || used != before {
                before = used;
                if let Err(excess) = self.look().await {
                    return self.record.kill(ExitCause::DiskFull(excess.to_string()));
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn look(&self) -> Result<u64, Excess> {
        let (folders, limit) = (Arc::clone(&self.folders), self.limit);
        let look = move || measure(folders.iter().map(PathBuf::as_path), limit);
        match tokio::task::spawn_blocking(look).await {
            Ok(result) => result,
            // The runtime ends, and the worker with it.
            Err(_) => Ok(0),
        }
    }
}
