//! What a configuration says beside pools, and a reload can put in force by itself.

use super::Actor;
use crate::access_log::AccessLog;
use crate::config::{Config, Course};
use crate::telemetry::logs;

/// What names and victims are drawn from.
pub(super) fn random(course: &Course) -> fastrand::Rng {
    course.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)
}

// === impl Actor: settings ===

impl Actor {
    /// The one that requests write to.
    pub(super) fn access_log(&self) -> Option<AccessLog> {
        self.hall.current().settings.access_log.clone()
    }

    /// Whoever asks for a reload may have moved the file away: where `next` is the log that runs, it takes the file that is there now.
    pub(super) fn reopen_access_log(&self, next: Option<&AccessLog>) {
        if let Some(running) = self.access_log().filter(|running| Some(running) == next) {
            running.reopen();
        }
    }

    /// From now on this is what runs.
    pub(super) fn take_up(&mut self, config: Config) {
        if config.log != self.config.log {
            logs::set_level(&config.log.level);
        }
        if config.course.seed != self.config.course.seed {
            self.random = random(&config.course);
        }
        self.config = config;
    }
}
