//! Landlock rules (landlock(7)). The worker handles every right that the ABI has, and only these rules allow any.

use hotcell_protocol::{FileAccess, FileOrder, Landlock, PathRule, Place, Runtime};

use crate::names::GrantPath;
use crate::policy::{FileGrant, ProgramGrant};
use crate::{Platform, Policy, PolicyError};

/// The newest Landlock ABI that plans are made for; on a newer kernel they are the same.
pub(crate) const LANDLOCK_ABI_MAX: u32 = 7;

/// The first kernel of each Landlock ABI, from ABI 1 on.
pub(crate) const KERNELS: [(u32, u32); 7] = [(5, 13), (5, 19), (6, 2), (6, 7), (6, 10), (6, 12), (6, 15)];

/// `LANDLOCK_ACCESS_FS_*` and the ABI that brought it.
pub(super) const RIGHTS: [(&str, u64, u32); 10] = [
    ("execute", 1 << 0, 1),
    ("write-file", 1 << 1, 1),
    ("read-file", 1 << 2, 1),
    ("read-dir", 1 << 3, 1),
    ("remove-dir", 1 << 4, 1),
    ("remove-file", 1 << 5, 1),
    ("make-dir", 1 << 7, 1),
    ("make-reg", 1 << 8, 1),
    ("refer", 1 << 13, 2),
    ("truncate", 1 << 14, 3),
];

pub(super) fn compile(policy: &Policy, platform: &Platform) -> Result<Landlock, PolicyError> {
    if platform.landlock_abi < policy.landlock {
        let index = usize::try_from(policy.landlock.saturating_sub(1)).unwrap_or(usize::MAX);
        return Err(PolicyError::Unavailable {
            layer: "landlock",
            feature: format!("Landlock ABI {} (it has {})", policy.landlock, written_abi(platform.landlock_abi)),
            since_kernel: KERNELS.get(index).copied().unwrap_or((6, 15)),
            kernel: platform.kernel,
            advice: "boot such a kernel with `landlock` in its `lsm=` list; `cat /sys/kernel/security/lsm` shows it"
                .to_owned(),
        });
    }
    refuse_read_only_inside_writable(policy)?;
    let abi = platform.landlock_abi.min(LANDLOCK_ABI_MAX);
    let rule =
        |path: &GrantPath, access| PathRule { place: path.place(), path: path.path().to_owned(), access };
    let files = policy.files.iter().map(|file| rule(&file.path, access(file, abi)));
    let code = code(policy).into_iter().map(|(path, _)| rule(path, CODE));
    Ok(Landlock { abi, rules: files.chain(code).collect() })
}

/// To execute, read and list.
const CODE: u64 = 1 | 1 << 2 | 1 << 3;

/// Where the code of programs is that no plugin file grant covers, and where each comes from. The program itself is executed
/// from a sealed copy; what it is made of beside is opened by the kernel (its loader) and by the loader.
pub(super) fn code(policy: &Policy) -> Vec<(&GrantPath, &str)> {
    let of_programs: &[ProgramGrant] = match policy.runtime {
        Runtime::Program => &policy.programs,
        _ => &[],
    };
    let mut all: Vec<(&GrantPath, &str)> = Vec::new();
    for grant in of_programs {
        for path in &grant.code {
            if !all.iter().any(|(known, _)| *known == path) {
                all.push((path, &grant.source));
            }
        }
    }
    all
}

fn written_abi(abi: u32) -> String {
    if abi == 0 { "none".to_owned() } else { format!("ABI {abi}") }
}

/// The rights of a grant, as far as the ABI has them.
fn access(file: &FileGrant, abi: u32) -> u64 {
    let writing = file.access == FileAccess::Write;
    let wanted = |name: &str| match name {
        "read-file" | "read-dir" => true,
        "write-file" | "truncate" => writing,
        "make-dir" | "make-reg" => file.create,
        "remove-dir" | "remove-file" => file.delete,
        // Renames between folders: as much as deleting here and creating there, which both are granted.
        "refer" => file.create && file.delete,
        _ => false,
    };
    RIGHTS.iter().filter(|(name, _, since)| abi >= *since && wanted(name)).map(|(_, bit, _)| bit).sum()
}

/// The first ABI that has every right of a grant.
pub(crate) fn abi_for(file: &FileGrant) -> u32 {
    let rights = access(file, LANDLOCK_ABI_MAX);
    RIGHTS.iter().filter(|(_, bit, _)| rights & bit != 0).map(|(_, _, since)| *since).max().unwrap_or(1)
}

/// Landlock adds rights on the way down and never takes any away.
fn refuse_read_only_inside_writable(policy: &Policy) -> Result<(), PolicyError> {
    for inner in &policy.files {
        let wider = policy.files.iter().find(|outer| {
            outer.path != inner.path && outer.path.covers(&inner.path) && has_more(outer, inner)
        });
        if let Some(outer) = wider {
            return Err(PolicyError::Inexpressible {
                what: format!(
                    "`{}` would be less than `{}` around it allows, and Landlock cannot take rights away inside a granted folder",
                    inner.path, outer.path
                ),
                advice: "leave the inner path out of the manifest, or ask for separate folders".to_owned(),
            });
        }
    }
    Ok(())
}

fn has_more(outer: &FileGrant, inner: &FileGrant) -> bool {
    let rights = |grant: &FileGrant| [grant.access == FileAccess::Write, grant.create, grant.delete];
    rights(outer).into_iter().zip(rights(inner)).any(|(outer, inner)| outer && !inner)
}

/// The paths as a WASI runtime offers them to its guest. A native library opens paths itself.
pub(super) fn guest_files(policy: &Policy) -> Result<Vec<FileOrder>, PolicyError> {
    if policy.runtime != Runtime::Command {
        return Ok(Vec::new());
    }
    let orders: Vec<FileOrder> = policy.files.iter().map(file_order).collect();
    let mut names: Vec<&str> = orders.iter().map(|order| order.guest.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first) {
        None => Ok(orders),
        Some(name) => Err(PolicyError::Inexpressible {
            what: format!("two granted paths would both be `{name}` to the plugin"),
            advice: "ask for only one of them".to_owned(),
        }),
    }
}

/// Where the relative paths of a native plugin or a program are.
pub(super) fn working_folder(policy: &Policy) -> Option<(Place, String)> {
    let has_one = matches!(policy.runtime, Runtime::Native | Runtime::Program);
    let root = policy.files.iter().find(|file| file.is_root && has_one)?;
    Some((root.path.place(), root.path.path().to_owned()))
}

fn file_order(file: &FileGrant) -> FileOrder {
    FileOrder {
        place: file.path.place(),
        path: file.path.path().to_owned(),
        guest: if file.is_root { "/".to_owned() } else { file.path.guest() },
        access: file.access,
        create: file.create,
        delete: file.delete,
    }
}
