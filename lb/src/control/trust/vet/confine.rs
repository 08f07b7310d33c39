//! Gives up rights of a trial's process before any plugin code runs.
//!
//! A new plugin is not trusted with the network, root's rights or the admin token. It could call its author or lb's own
//! admin port. The token is in another process's environment, which root and the same user may read. Why the child does
//! it: a parent could do it only between fork and exec, which needs unsafe code.
//!
//! Invariants: the process has one thread, so a right that the thread gives up is given up by the process. If the
//! kernel or a container does not let us give up a right, that is reported. It is never an error, because a balancer
//! must start there, too.

use std::io;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// The user and the group `nobody`, which own nothing.
const NOBODY: u32 = 65_534;

/// Gives up all rights that it can; returns the remaining ones as text. With `keeps_user`, root stays root: it needs
/// its rights to a file.
pub(super) fn confine(keeps_user: bool) -> Vec<String> {
    let mut left = Vec::new();
    let mut note =
        |what: &str, result: io::Result<()>| result.inspect_err(|error| left.push(format!("{what} ({error})"))).is_ok();
    let is_root = geteuid().is_root();
    let has_left_network = is_root && leave_network(UnshareFlags::NEWNET).is_ok();
    if is_root {
        let needed = || Err(io::Error::other("nothing may be run from a file in memory here"));
        note("runs as root", if keeps_user { needed() } else { become_nobody() });
    }
    // Without root, a new network needs a new user namespace, which gives the process all capabilities in it.
    let with_users = UnshareFlags::NEWUSER | UnshareFlags::NEWNET;
    if !has_left_network && note("has the network", leave_network(with_users)) {
        note("has capabilities", drop_capabilities());
    }
    note("may gain rights", set_no_new_privs(true).map_err(io::Error::from));
    left
}

/// Enters an empty network: no way to other machines, to this one's loopback or to abstract sockets.
fn leave_network(flags: UnshareFlags) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "what is unsafe about it is FILES, which is not in these flags; the other one is not safe to call"
    )]
    rustix::thread::unshare(flags).map_err(io::Error::from)
}

fn become_nobody() -> io::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}
