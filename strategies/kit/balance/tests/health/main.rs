//! The rules of health in virtual time: outlier detection and panic, used as lb's control wing uses them.

mod backoff;
mod outliers;
mod pools;
mod random;
mod spared;
mod world;
