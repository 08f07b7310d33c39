//! The load balancer: see docs/architecture.md for the house.
pub mod config;
pub mod telemetry;
