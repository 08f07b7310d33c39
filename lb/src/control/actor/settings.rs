//! What a configuration says beside pools, and a reload can put in force by itself.

use super::Actor;
use crate::config::{Config, Course};
use crate::telemetry::logs;

/// What names and victims are drawn from.
pub(super) fn random(course: &Course) -> fastrand::Rng {
    course.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)
}

// === impl Actor: settings ===

impl Actor {
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
