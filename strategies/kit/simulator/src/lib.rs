//! Discrete events in virtual time around real strategy libraries: a minute with 10,000 backends takes seconds.
//!
//! Why: in live runs on a few cores the strategies look alike, because the machine is the bottleneck. Here time is a
//! number. The strategy's library is the one that routes production traffic, and the rules around it are those of
//! `lb-balance`. Only clients, the network and the servers are models.
//!
//! A [`World`] says what is modelled. [`Simulation::new`] makes the balancers, each with its own instance of the
//! strategy, and [`Simulation::run`] returns [`Results`]. The parts: `source` makes requests, `calendar` orders events,
//! `balancer` decides, `server` works, `record` counts.
//!
//! Invariants: one seed gives the same results byte by byte, in every process. All random numbers come from the seed,
//! by purpose and request, so arms with one seed get the same requests. No code here decides about a request: a library
//! or `lb-balance` does.

mod balancer;
mod calendar;
mod job;
mod law;
mod meter;
mod pace;
mod record;
mod server;
mod simulation;
mod source;
mod streams;
mod time;
pub mod world;

pub use job::{Job, JobError};
pub use law::{BadLaw, Law};
pub use record::{BackendResults, Endings, Results, Sample, Stopped, Times};
pub use simulation::{Simulation, SimulationError};
pub use streams::{Draws, Purpose, Stream};
pub use time::{BadTime, Time};
pub use world::{Arrivals, Backends, Fault, FaultKind, Keys, World, WorldError};
