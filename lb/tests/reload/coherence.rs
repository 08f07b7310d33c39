//! Picker, list and backends of a generation always belong together, also while members and strategies change.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use lb::config::{self, Labels, Source};
use lb::control::{self, Add, AttachedBackend, Change, Options, ReloadRequest, ReloadResult, Remove};
use lb::generation::{Generation, Seat};
use lb::telemetry::Metrics;
use lb_strategy_host::{Decision, PickRequest, backend_id};
use lb_test_support::folder;

use crate::bench::{compiled_from, filed};

const PICKERS: u32 = 3;
/// Number of changes of members. Every tenth comes with a reload.
const CHANGES: usize = 200;

/// Asserts that a pick names a backend of the same generation: the token of the plugin is the id that it saw.
fn check(generation: &Generation, worker: u32, turn: u64) -> bool {
    let pool = &generation.pools[0];
    assert_eq!(pool.backends.len(), pool.picker.backends().len());
    let decision = pool.picker.pick(&PickRequest {
        worker: Some(worker),
        attempt: 0,
        tried: &[],
        key: None,
        random: turn,
        now_ns: turn,
        dry: false,
        body_length: Some(0),
        lookup: &(),
    });
    match decision {
        Decision::Backend { index, token } => {
            let backend = &pool.backends[index];
            assert_eq!((backend.number, backend_id(&backend.id)), (token, token), "generation {}", generation.number);
            assert_eq!(pool.picker.backends().specs()[index].name, backend.id);
            true
        }
        Decision::NoBackend => false,
        refused => panic!("{refused:?} in generation {}", generation.number),
    }
}

/// A worker that only picks.
fn work(mut seat: Seat, worker: u32, stop: &AtomicBool, picks: &AtomicU64) {
    let mut turn = 0;
    while !stop.load(Relaxed) {
        let generation = seat.take();
        for _ in 0..100 {
            turn += 1;
            picks.fetch_add(u64::from(check(&generation, worker, turn)), Relaxed);
        }
        let number = generation.number;
        drop(generation);
        seat.acknowledge(number);
    }
}

#[tokio::test]
async fn every_pick_is_a_backend_of_its_own_list_while_members_and_strategies_change() {
    // Without probation: the pickers below do not show that they are alive, as workers do. After 5 s probation would
    // count them as stuck, roll back and end the trial of a reload.
    let folder = folder(&format!(
        "{}[[backends]]\nid = \"b1\"\naddress = \"127.0.0.1:9\"\n[health]\nenabled = false\n\
         [reload]\nwatch = false\nprobation_ms = 0\n",
        filed("libfrozen.so")
    ));
    let good = compiled_from("kit/host/tests/fixtures/abi-1.0/plugin.c", &[]);
    let plugin = folder.path().join("libfrozen.so");
    std::fs::write(&plugin, &good).unwrap();
    let source = Source {
        path: folder.path().join("lb.toml"),
        command_line: vec![
            ("state.dir".to_owned(), folder.path().join("state").display().to_string()),
            ("proxy.listen".to_owned(), "127.0.0.1:0".to_owned()),
            ("admin.listen".to_owned(), "127.0.0.1:0".to_owned()),
        ],
        ..Source::default()
    };
    let config = config::load(&source).unwrap().config;
    let options = Options { fresh: true, source: Some(source), ..Options::new(config, Metrics::new()) };
    let control = control::start(options).await.unwrap();
    let (handle, hall) = (&control.handle, control.hall.clone());
    let first = hall.current().pools[0].backends[0].clone();
    first.stats.ewma_latency_ns.store(123_456, Relaxed);
    first.attempt_begins();

    let (stop, picks) = (AtomicBool::new(false), AtomicU64::new(0));
    let seats: Vec<Seat> = (0..PICKERS).map(|_| hall.seat()).collect();
    // This function awaits, so threads cannot borrow from it. They own their data.
    let shared = std::sync::Arc::new((stop, picks));
    let workers: Vec<_> = seats
        .into_iter()
        .zip(0..)
        .map(|(seat, worker)| {
            let shared = shared.clone();
            std::thread::spawn(move || work(seat, worker, &shared.0, &shared.1))
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(12);
    let mut there: Vec<String> = Vec::new();
    for change in 0..CHANGES {
        match random.u8(0..3) {
            0 if !there.is_empty() => {
                let id = there.swap_remove(random.usize(..there.len()));
                handle.remove(Remove { n: 1, hostnames: vec![id], deadline: None }).await.unwrap();
            }
            1 => drop(handle.change("default", "b1", Change::Weight(random.u16(0..=3))).await.unwrap()),
            _ => {
                let id = format!("a{change}");
                let attached = AttachedBackend {
                    id: id.clone(),
                    address: "127.0.0.1:9".into(),
                    weight: 1,
                    backup: false,
                    labels: Labels::default(),
                };
                handle.add(Add::Attach(vec![attached])).await.unwrap();
                there.push(id);
            }
        }
        if change % 10 == 9 {
            std::fs::write(&plugin, [&good[..], &[change as u8]].concat()).unwrap();
            let report = handle.reload(ReloadRequest::default()).await.unwrap();
            assert_eq!(report.result, ReloadResult::Done);
        }
    }
    shared.0.store(true, Relaxed);
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(shared.1.load(Relaxed) > 1000, "{} picks", shared.1.load(Relaxed));
    let last = hall.current().pools[0].backends[0].clone();
    assert_eq!((&*last.id, last.in_flight()), ("b1", 1));
    assert_eq!(last.stats.ewma_latency_ns.load(Relaxed), 123_456, "20 reloads keep the measured latency");
    handle.stop().await;
    control.task.await.unwrap();
}
