//! The metrics of a strategy, as it writes them: JSON lines that the host exports.
//!
//! Invariant: one line is one sample. The host checks names and numbers, because a plugin in C writes lines itself.

use serde_json::json;

use super::Host;
use crate::abi::{LbSink, LbStr};

/// Where a strategy writes its metrics. `lb` exports each as `lb_plugin_<name>{pool,strategy[,backend]}`.
///
/// `name` is 1 to 64 bytes of `[a-z0-9_]`, and begins with a letter. By the custom of Prometheus a counter's name ends
/// in `_total`. `help` is one sentence. Give a name always the same kind and help. A value must be finite. At most 64
/// names and 1,000 samples are kept; `lb` counts what it drops.
pub struct Metrics<'a> {
    host: Host,
    sink: &'a mut LbSink,
}

// === impl Metrics ===

impl<'a> Metrics<'a> {
    pub(crate) fn new(host: Host, sink: &'a mut LbSink) -> Self {
        Self { host, sink }
    }

    /// A value that only grows while the instance lives. It is never negative.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.write(json!({ "name": name, "type": "counter", "help": help, "value": value }));
    }

    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.write(json!({ "name": name, "type": "gauge", "help": help, "value": value }));
    }

    /// A counter of one backend, by its [name](crate::Backend::name).
    pub fn counter_of(&mut self, backend: &str, name: &str, help: &str, value: f64) {
        self.write(json!({ "name": name, "type": "counter", "help": help, "value": value, "backend": backend }));
    }

    /// A gauge of one backend, by its [name](crate::Backend::name).
    pub fn gauge_of(&mut self, backend: &str, name: &str, help: &str, value: f64) {
        self.write(json!({ "name": name, "type": "gauge", "help": help, "value": value, "backend": backend }));
    }

    fn write(&mut self, sample: serde_json::Value) {
        let line = format!("{sample}\n");
        // SAFETY: the host is null or valid, and the call that lent the sink still runs.
        if let Some(write) = unsafe { self.host.as_raw().as_ref() }.and_then(|host| host.sink_write) {
            // SAFETY: as above; the line is valid during the call.
            unsafe { write(self.sink, LbStr::new(line.as_bytes())) }
        }
    }
}
