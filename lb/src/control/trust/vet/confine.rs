//! What a trial's process may not do: taken away, by itself, before any plugin code runs.
//!
//! A plugin that is tried is not trusted yet with what lb has: the network (it could call its author, or lb's own admin port), root's
//! rights, the admin token (in another process's environment, which root and the same user may read). Why by itself: a parent can only
//! do it between fork and exec, which is no safe code. Invariants: one thread, so that what is taken from a thread is taken from the
//! process; what the kernel or a container does not let us take is told, never an error, because a balancer has to start there too.

use std::io;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

/// Takes away what can be; says what is left, in words. With `keeps_user`, root stays root: it needs its rights to a file.
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
    // Who is not root may have a network of his own only among users of his own, where he has all capabilities.
    let with_users = UnshareFlags::NEWUSER | UnshareFlags::NEWNET;
    if !has_left_network && note("has the network", leave_network(with_users)) {
        note("has capabilities", drop_capabilities());
    }
    note("may gain rights", set_no_new_privs(true).map_err(io::Error::from));
    left
}

/// A network with nothing in it: no way to other machines, to this one's loopback or to abstract sockets.
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
