//! Checks of `grafana/` without a Prometheus.
//!
//! Every metric and label in the dashboard and the rules exists, and every metric is used or listed with a reason.
//! Every expression parses. The dashboard keeps the rules of Grafana's dashboard-linter. `grafana/verify/verify.py`
//! runs further checks with a real Prometheus.

mod files;
mod layout;
mod lint;
mod names;
mod query;
mod rules;
