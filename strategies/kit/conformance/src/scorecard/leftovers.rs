//! What the plugin leaves: threads, children and open descriptors.
//!
//! Why: an image is never unloaded, so each reload would add more. The trial before a load refuses such a plugin too.
//! Invariant: the look from before the plugin's code ran is the reference. So a constructor's thread is found as well.

use super::subject::Subject;
use super::{Finding, Found};
use crate::{ClosedLoop, World};

const REQUESTS: usize = 100;

pub(super) fn check(subject: &Subject) -> Found {
    let bar = "nothing is left";
    let instance = subject.instance()?;
    let mut pool = ClosedLoop::new(&instance, World::labelled(3), subject.seed)?;
    // Another row judges the picks.
    let _ = pool.run(REQUESTS);
    if let Err(started) = subject.before.started_since() {
        return Ok(Finding::fail("while it serves", bar, started));
    }
    drop((pool, instance));
    Ok(match subject.before.added_since() {
        Some(left) => Finding::fail("after it was freed", bar, left),
        None => Finding::pass("nothing", bar, "it leaves no thread, no child process and no open file"),
    })
}
