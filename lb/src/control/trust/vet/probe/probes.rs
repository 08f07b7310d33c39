//! The ends of probes in a trial: with every outcome, of known and unknown backends, by workers and periodic ones.

use lb_strategy_host::{Outcome, Picker, Probe, backend_id};

use super::{STEP_NS, Trial, is_of_gone_backend};

/// Ends on each list.
const ENDS: usize = 128;
const OUTCOMES: [Outcome; 4] = [Outcome::Ok, Outcome::ConnectError, Outcome::Timeout, Outcome::Reset];

// === impl Trial: probes ===

impl Trial<'_> {
    pub(super) fn end_probes(&mut self, picker: &Picker) {
        let specs = picker.backends().specs();
        let names = picker.strategy().plugin().response_headers().len();
        let values: [Option<&[u8]>; 4] = [Some(b"3"), None, Some(b""), Some(b"no number")];
        for number in 0..ENDS {
            self.now_ns += STEP_NS;
            let outcome = OUTCOMES[if number % 4 == 3 { number / 4 % OUTCOMES.len() } else { 0 }];
            let known = specs.get(number % specs.len().max(1)).filter(|_| !is_of_gone_backend(number));
            let is_ok = outcome == Outcome::Ok;
            picker.probe(&Probe {
                worker: (number % 16 != 15).then_some((number % self.request.workers.max(1)) as u32),
                backend_id: backend_id(known.map_or("gone", |spec| &spec.name)),
                outcome,
                http_status: is_ok.then_some(if number % 8 == 7 { 503 } else { 200 }),
                latency_ns: if is_ok { 1_000_000 } else { 0 },
                now_ns: self.now_ns,
                headers: &vec![values[number % values.len()].filter(|_| is_ok); names],
                body: if is_ok { b"{\"in_flight\":3}" } else { b"" },
            });
        }
    }
}
