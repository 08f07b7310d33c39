//! The cost of one pick through the plugin boundary, by strategy and number of backends.
//!
//! Run `cargo bench -p lb --bench pick`. The strategies are those of the workspace, built at the start.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use divan::Bencher;
use lb::pool::Eligibility;
use lb_strategy_host::{BackendList, BackendSpec, Decision, Loader, PickRequest, Picker, Strategy, Wanted};
use serde_json::json;

fn main() {
    divan::main();
}

fn strategy(name: &str) -> Arc<Strategy> {
    let path = lb_strategy_built::library(name);
    let copies = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-plugins");
    let plugin = Loader::new(copies, 1).load(&Wanted { path: &path, name: Some(name), sha256: None });
    Strategy::new(plugin.expect("it loads"), &json!({})).expect("its default options are valid")
}

fn picker(name: &str, backends: usize) -> Picker {
    let flags = Eligibility::of(true, false, 1).flags();
    let spec = |index: usize| BackendSpec {
        name: format!("b{index}").into(),
        address: format!("192.0.2.1:{}", 1000 + index).into(),
        labels: Arc::default(),
        weight: 1,
        effective: 1000,
        flags,
        stats: Arc::default(),
        slot: Arc::default(),
    };
    Picker::new(strategy(name), BackendList::new((0..backends).map(spec).collect(), 1, 1)).expect("it makes a picker")
}

#[divan::bench(args = ["round_robin", "least_connections", "two_choices", "consistent_hash", "assignment_ring"], consts = [3, 50])]
fn pick<const BACKENDS: usize>(bencher: Bencher<'_, '_>, name: &str) {
    let picker = picker(name, BACKENDS);
    let mut random = fastrand::Rng::with_seed(12);
    bencher.bench_local(|| {
        let random = random.u64(..);
        let request = PickRequest {
            worker: Some(0),
            attempt: 1,
            tried: &[],
            key: Some((b"client", random)),
            random,
            now_ns: 1,
            dry: false,
            body_length: Some(0),
            lookup: &(),
        };
        assert!(matches!(black_box(picker.pick(&request)), Decision::Backend { .. }));
    });
}
