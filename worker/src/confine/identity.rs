//! Who the worker is: its own uid and gid where the host is root, no group, no capability, no new privilege. The launcher
//! has emptied the bounding set already.
//!
//! As an ordinary user the uid stays the user's own, which same-uid processes could abuse through what Landlock does not
//! govern; seccomp carries those cases.

use hotcell_protocol::{Failure, Step};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::failed;

pub(super) fn become_nobody(distinct: bool, identity: Option<(u32, u32)>) -> Result<(), Failure> {
    if distinct {
        let Some((uid, gid)) = identity.filter(|(uid, gid)| *uid != 0 && *gid != 0) else {
            let detail = "the plan asks for a uid of the worker's own, and the host sent none".to_owned();
            return Err(Failure { step: Step::Identity, errno: 0, detail });
        };
        switch(uid, gid)?;
    }
    clear_ambient_capability_set().map_err(failed(Step::Identity, "clear the ambient capabilities"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(failed(Step::Identity, "drop all capabilities"))?;
    set_no_new_privs(true).map_err(failed(Step::Identity, "set PR_SET_NO_NEW_PRIVS"))
}

fn switch(uid: u32, gid: u32) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[]).map_err(failed(Step::Identity, "drop the supplementary groups"))?;
    set_thread_res_gid(gid, gid, gid).map_err(failed(Step::Identity, format!("become gid {gid}")))?;
    set_thread_res_uid(uid, uid, uid).map_err(failed(Step::Identity, format!("become uid {uid}")))
}
