//! What `grafana/` promises, as far as it can be held without a Prometheus: each metric and label that the dashboard and the
//! rules name exists, each that exists is used, every expression parses, and the dashboard keeps the rules that Grafana's
//! dashboard-linter made common. `grafana/verify/verify.py` goes on from here with a real Prometheus.

mod files;
mod layout;
mod lint;
mod names;
mod query;
mod rules;
