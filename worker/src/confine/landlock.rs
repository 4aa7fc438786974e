//! The worker's own Landlock layer (landlock(7)).
//!
//! Every worker adds one, even if it is identical to its neighbour's: processes in one inherited domain may trace each
//! other. Landlock does not govern UDP, chmod, ioctl on inherited descriptors, pathname sockets (before ABI 9), System
//! V IPC or io_uring; the seccomp program stops those.

use std::os::fd::OwnedFd;

use hotcell_protocol::{Failure, Landlock, Place, Step};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens every granted path and builds the ruleset; changes nothing of the process.
pub(super) fn prepare(orders: &Landlock, places: &[(Place, String)]) -> Result<RulesetCreated, Failure> {
    let abi = ABI::from(i32::try_from(orders.abi).unwrap_or(0));
    let mut ruleset = create(abi)
        .map_err(|error| refused(&format!("create a Landlock ABI {} ruleset", orders.abi), &error))?;
    for rule in &orders.rules {
        let base = base(rule.place, places)?;
        let named = format!("{}/{}", base.trim_end_matches('/'), rule.path);
        let access = BitFlags::<AccessFs>::from_bits(rule.access)
            .map_err(|_| failure(format!("the plan grants unknown rights {:#x} on {named}", rule.access)))?;
        let beneath = open_beneath(base, &rule.path).map_err(|errno| unopened(&named, errno))?;
        let access = fitting(&beneath, access, abi).map_err(|errno| unopened(&named, errno))?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(beneath, access))
            .map_err(|error| refused(&format!("grant {named}"), &error))?;
    }
    Ok(ruleset)
}

/// Makes a granted folder the working directory. As the plugin's uid, and without following a link, as for a rule.
pub(super) fn enter(place: Place, path: &str, places: &[(Place, String)]) -> Result<(), Failure> {
    let base = base(place, places)?;
    let entered = open_beneath(base, path).and_then(|folder| rustix::process::fchdir(&folder));
    entered.map_err(|errno| unopened(&format!("{}/{path}", base.trim_end_matches('/')), errno))
}

fn create(abi: ABI) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    if !AccessNet::from_all(abi).is_empty() {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if !Scope::from_all(abi).is_empty() {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    ruleset.create()
}

/// Puts the ruleset in force, in full or not at all.
pub(super) fn enforce(ruleset: RulesetCreated) -> Result<(), Failure> {
    let status = ruleset.restrict_self().map_err(|error| refused("enforce the Landlock ruleset", &error))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        partial => Err(failure(format!("the kernel enforced the Landlock ruleset only as {partial:?}"))),
    }
}

/// The rights that this kind of file can have: a plan does not know whether a granted path is a file or a folder, and
/// the kernel refuses a rule that grants folder rights on a file.
fn fitting(path: &OwnedFd, access: BitFlags<AccessFs>, abi: ABI) -> Result<BitFlags<AccessFs>, Errno> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(path)?.st_mode);
    Ok(if kind == FileType::Directory { access } else { access & AccessFs::from_file(abi) })
}

/// Opens a granted path. No component below the base may be a symbolic link: the rule would bind to its target, and a
/// package could widen its own grant with one.
pub(super) fn open_beneath(base: &str, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let base = rustix::fs::openat(CWD, base, flags, Mode::empty())?;
    if path.is_empty() {
        return Ok(base);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&base, path, flags, Mode::empty(), resolve)
}

pub(super) fn unopened(path: &str, errno: Errno) -> Failure {
    let why = match errno {
        Errno::LOOP => {
            "a component of it is a symbolic link, which could lead elsewhere; grant the real path".into()
        }
        errno => errno.to_string(),
    };
    Failure {
        step: Step::Files,
        errno: errno.raw_os_error(),
        detail: format!("failed to open the granted path {path}: {why}"),
    }
}

pub(super) fn base(place: Place, places: &[(Place, String)]) -> Result<&str, Failure> {
    match place {
        Place::Root => Ok("/"),
        _ => places
            .iter()
            .find(|(known, _)| *known == place)
            .map(|(_, base)| base.as_str())
            .ok_or_else(|| failure(format!("the host named no folder for {place:?}"))),
    }
}

fn refused(act: &str, error: &RulesetError) -> Failure {
    use std::error::Error;
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    let mut errno = 0;
    while let Some(cause) = source {
        errno =
            cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error).unwrap_or(errno);
        source = cause.source();
    }
    Failure { step: Step::Landlock, errno, detail: format!("failed to {act}: {error}") }
}

fn failure(detail: String) -> Failure {
    Failure { step: Step::Landlock, errno: 0, detail }
}
