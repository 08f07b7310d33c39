//! The shipped strategies as built libraries: each is loaded from its file through all stages and makes right picks.
//!
//! Invariant: this file links no strategy crate, because two in one program would define the same entry symbol.

#[path = "plugins/ends.rs"]
mod ends;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lb_strategy_built::{library, shipped};
use lb_strategy_conformance::statistics::{counts, spread};
use lb_strategy_conformance::{Decision, Refusal, Requests, Strategy, World, small_worlds};
use lb_strategy_host::{Loader, Outcome, Part, Plugin, Probe, Stage, Wanted, backend_id, file_name};
use serde_json::json;
use tempfile::TempDir;

fn loader() -> (TempDir, Loader) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let loader = Loader::new(directory.path().join("private"), 4);
    (directory, loader)
}

fn load(loader: &Loader, path: &Path) -> Arc<Plugin> {
    loader.load(&Wanted { path, name: None, sha256: None }).unwrap_or_else(|error| panic!("{error}"))
}

/// The names and values of a strategy's own metrics.
fn samples(strategy: &Strategy) -> Vec<(String, f64)> {
    let text = strategy.metrics().expect("it has metrics").expect("they can be collected");
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let samples = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).expect("JSON"));
    samples.map(|one| (one["name"].as_str().unwrap().to_owned(), one["value"].as_f64().unwrap())).collect()
}

fn expectation(plugin: &Plugin) -> serde_json::Value {
    serde_json::from_str(plugin.expectation()).expect("JSON")
}

#[test]
fn every_strategy_passes_all_stages_and_picks_only_candidates() {
    let (_directory, loader) = loader();
    for name in shipped() {
        let path = library(name);
        let plugin =
            loader.load(&Wanted { path: &path, name: Some(name), sha256: None }).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((plugin.name(), plugin.path()), (name, Some(&*path)));
        assert!(plugin.build().contains("lb-strategy"), "{}", plugin.build());
        assert!(expectation(&plugin).is_object(), "{name}: {}", plugin.expectation());
        let strategy = Strategy::new(plugin, &json!({})).unwrap();
        let world = World::of(5).up(&[true, false, true, true, false]);
        let picker = world.picker(&strategy).unwrap();
        let mut requests = Requests::seeded(41);
        for tried in [vec![], vec![0], vec![3, 2]] {
            for _ in 0..1000 {
                let picked = requests.ask().tried(&tried).pick_backend(&picker);
                let index = picked.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(world.candidates(&tried).contains(&index), "{name} picked {index} after {tried:?}");
            }
        }
        assert_eq!(requests.ask().tried(&[0, 2, 3]).pick(&picker), Decision::NoBackend, "{name}");
        assert_eq!(requests.ask().pick(&World::of(0).picker(&strategy).unwrap()), Decision::NoBackend, "{name}");
    }
    assert_eq!(loader.images(), shipped().count());
}

#[test]
fn weights_are_declared_by_the_strategies_that_follow_them() {
    let (_directory, loader) = loader();
    let declares = |name: &str| expectation(&load(&loader, &library(name)))["weights"] == true;
    let names = ["round_robin", "least_connections", "consistent_hash", "assignment_ring"];
    assert_eq!(names.map(declares), [true, true, true, false]);
}

#[test]
fn counts_of_round_robin_differ_by_at_most_one_over_threads_of_one_library() {
    let (_directory, loader) = loader();
    let strategy = Strategy::new(load(&loader, &library("round_robin")), &json!({})).unwrap();
    let picker = World::of(3).picker(&strategy).unwrap();
    let picks: Vec<usize> = std::thread::scope(|scope| {
        let work = |worker: u32| {
            let mut requests = Requests::seeded(42 + u64::from(worker));
            let ask = |_| requests.ask().worker(worker).pick_backend(&picker).expect("a backend is up");
            (0..10_001).map(ask).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|worker| scope.spawn(move || work(worker))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let counted = counts(3, picks);
    assert!(spread(&counted) <= 1 && counted.iter().sum::<u64>() == 40_004, "{counted:?}");
}

#[test]
fn two_instances_of_one_image_share_nothing() {
    let (_directory, loader) = loader();
    let plugin = load(&loader, &library("round_robin"));
    let instance = || World::of(3).picker(&Strategy::new(plugin.clone(), &json!({})).unwrap()).unwrap();
    let (one, two) = (instance(), instance());
    let mut requests = Requests::seeded(43);
    for turn in 0..7 {
        assert_eq!(requests.ask().pick_backend(&one), Ok(turn % 3));
        assert_eq!(requests.ask().pick_backend(&two), Ok(turn % 3));
    }
}

#[test]
fn a_counter_survives_the_hand_over_to_another_image() {
    let (directory, loader) = loader();
    let old = Strategy::new(load(&loader, &library("round_robin")), &json!({})).unwrap();
    let picker = World::of(5).picker(&old).unwrap();
    let mut requests = Requests::seeded(44);
    for _ in 0..12 {
        requests.ask().pick_backend(&picker).unwrap();
    }
    let other_build = directory.path().join(file_name("round_robin"));
    let mut bytes = fs::read(library("round_robin")).unwrap();
    bytes.extend_from_slice(b"another build");
    fs::write(&other_build, bytes).unwrap();
    let new = Strategy::new(load(&loader, &other_build), &json!({})).unwrap();
    assert_ne!(new.plugin().sha256(), old.plugin().sha256());
    assert_eq!(new.plugin().state_schema(), old.plugin().state_schema());
    new.import_state(1, &old.export_state().unwrap().unwrap()).unwrap();
    assert_eq!(requests.ask().pick_backend(&World::of(5).picker(&new).unwrap()), Ok(2));
}

#[test]
fn without_a_key_the_hash_strategy_leaves_the_choice_to_the_host() {
    let (_directory, loader) = loader();
    let plugin = load(&loader, &library("consistent_hash"));
    assert!(plugin.wants().hash);
    let picker = World::of(3).picker(&Strategy::new(plugin, &json!({})).unwrap()).unwrap();
    let ask = Requests::seeded(45).ask();
    assert_eq!(ask.clone().without_key().pick(&picker), Decision::Refused(Refusal::Undecided));
    assert!(ask.explain(&picker).expect("it explains").contains("\"backend\""));
}

/// The example in Rust and its twin in C.
fn twins(directory: &TempDir, loader: &Loader, name: &str, options: &serde_json::Value) -> [Arc<Strategy>; 2] {
    let strategies = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("strategies/");
    let source = strategies.join("examples").join(format!("{name}.c"));
    let c = directory.path().join(file_name(name));
    let compiled = Command::new("cc")
        .args(["-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-O2", "-I"])
        .arg(strategies.join("kit/api/include"))
        .arg("-o")
        .args([&c, &source])
        .status();
    assert!(compiled.expect("cc runs").success());
    [library(name), c].map(|path| Strategy::new(load(loader, &path), options).unwrap())
}

#[track_caller]
fn assert_alike([rust, c]: &[Arc<Strategy>; 2], worlds: impl Iterator<Item = World>, seed: u64) {
    let (mut requests, mut length) = (Requests::seeded(seed), 0_usize);
    for world in worlds {
        let (rust, c) = (world.picker(rust).unwrap(), world.picker(c).unwrap());
        for tried in [vec![], vec![0], vec![2, 1]] {
            // The last word of a body may have any length.
            length += 1;
            let ask = requests.ask().tried(&tried).part(Part::Body, vec![length as u8; length % 100]);
            assert_eq!(ask.pick(&rust), ask.pick(&c), "{ask:?} in {world:?}");
        }
    }
}

#[test]
fn the_examples_with_ticks_pick_alike_and_have_the_same_metrics() {
    let (directory, loader) = loader();
    let twins = twins(&directory, &loader, "fastest_half", &json!({}));
    let mut requests = Requests::seeded(49);
    // Latencies with equal ones and unknown ones (0) among them.
    let latencies = |number: u64| [number % 3, number / 3 % 3, number / 9 % 3, 2].map(|latency| latency * 1_000);
    for (number, world) in (0..).zip(small_worlds([1, 1, 1, 1])) {
        for (spec, latency) in world.list().specs().iter().zip(latencies(number)) {
            spec.stats.ewma_latency_ns.store(latency, Relaxed);
        }
        let [rust, c] = twins.each_ref().map(|strategy| world.picker(strategy).unwrap());
        for tried in [vec![], vec![0], vec![2, 1]] {
            let ask = requests.ask().tried(&tried);
            assert_eq!(ask.pick(&rust), ask.pick(&c), "{ask:?} in {world:?}");
        }
        let told = twins.each_ref().map(|strategy| samples(strategy));
        assert_eq!(told[0], told[1], "{world:?}");
    }
    assert!(twins.iter().all(|strategy| strategy.plugin().tick_ms() == 1_000 && strategy.tick(1).unwrap()));
}

#[test]
fn the_example_in_rust_and_the_one_in_c_pick_alike() {
    let (directory, loader) = loader();
    for name in ["two_choices", "prefix_affinity", "least_utilized", "probed_latency", "by_cost"] {
        let twins = twins(&directory, &loader, name, &json!({}));
        assert_alike(&twins, small_worlds([1, 1, 1, 1]), 47);
    }
}

#[test]
fn the_least_utilized_examples_pick_alike_by_any_load_reports() {
    let (directory, loader) = loader();
    let twins = twins(&directory, &loader, "least_utilized", &json!({}));
    let mut random = fastrand::Rng::with_seed(48);
    let world = |_| {
        let world = World::of(4).weights(&[1, 2, 0, 3]);
        for index in 0..4 {
            let utilization = [None, Some(random.f64()), Some(random.f64()), Some(random.f64() * 2.0)];
            world.set_report(index, *random.choice(&utilization).unwrap());
            world.set_load(index, random.u32(0..3));
        }
        world
    };
    assert_alike(&twins, (0..500).map(world), 48);
}

#[test]
fn the_least_loaded_probed_examples_pick_and_probe_alike_by_any_answers() {
    let (directory, loader) = loader();
    let twins = twins(&directory, &loader, "least_loaded_probed", &json!({}));
    let mut random = fastrand::Rng::with_seed(53);
    let mut requests = Requests::seeded(53);
    let answers: [Option<&[u8]>; 6] = [Some(b"0"), Some(b"3"), Some(b"12"), Some(b""), Some(b"x1"), None];
    for world in small_worlds([1, 2, 0, 3]) {
        let pickers = twins.each_ref().map(|strategy| world.picker(strategy).unwrap());
        for turn in 0..4 {
            let ask = requests.ask();
            if let Some(index) = (!world.is_empty()).then(|| random.usize(..world.len())) {
                let outcome = if random.u8(..4) == 0 { Outcome::Timeout } else { Outcome::Ok };
                // The slots are those of the world, so both see what either stores. Some answers are old.
                let now_ns = if random.bool() { u64::MAX } else { 1 };
                pickers[turn % 2].probe(&Probe {
                    worker: Some(0),
                    backend_id: backend_id(world.name(index)),
                    outcome,
                    http_status: Some(200),
                    latency_ns: 1,
                    now_ns,
                    headers: &[*random.choice(&answers).unwrap()],
                    body: b"",
                });
            }
            for tried in [vec![], vec![0], vec![2, 1]] {
                let ask = ask.clone().tried(&tried);
                let [rust, c] = pickers.each_ref().map(|picker| ask.pick_and_probe(picker));
                assert_eq!(rust, c, "{ask:?} in {world:?}");
                assert_eq!(rust.1.refused, 0, "{ask:?} in {world:?}");
            }
            let [rust, c] = pickers.each_ref().map(|picker| ask.clone().dry().explain(picker).unwrap());
            assert_eq!(rust, c);
        }
    }
}

#[test]
fn the_central_queues_pick_and_wait_alike() {
    for options in [json!({}), json!({ "most": 3 })] {
        let (directory, loader) = loader();
        let twins = twins(&directory, &loader, "central_queue", &options);
        assert_alike(&twins, small_worlds([1, 1, 1, 1]), 48);
    }
}

#[test]
fn the_own_zone_examples_pick_alike_whatever_the_labels_are() {
    let (directory, loader) = loader();
    let labels = [
        "",
        r#"{"zone":"a"}"#,
        r#"{"zone":"b"}"#,
        r#"{"zone":"a b"}"#,
        r#"{"zone":""}"#,
        r#"{"zone":1}"#,
        r#"{"zone":12}"#,
        r#"{"zone":"1"}"#,
        r#"{"n":1,"zone":true,"zonea":"a"}"#,
        r#"{"a":"\"zone\":\"a\"","zone":"c"}"#,
        r#"{"a":"zone","subzone":"a"}"#,
        r#"{"zone":"q\"a\\","zone.2":"a"}"#,
    ];
    for zone in ["a", "b", "", "1", "true", "q\"a\\", "\u{e4}"] {
        let twins = twins(&directory, &loader, "own_zone", &json!({ "zone": zone }));
        let rows = (0..labels.len()).flat_map(|first| (1..labels.len()).map(move |step| (first, step)));
        let world = |(first, step): (usize, usize)| {
            let row: Vec<&str> = (0..4).map(|i| labels[(first + i * step) % labels.len()]).collect();
            World::of(4).labels(&row).up(&[first % 3 > 0, step % 2 > 0, true, (first + step) % 4 > 0])
        };
        assert_alike(&twins, rows.map(world), 48);
    }
}

#[test]
fn the_own_zone_examples_take_only_the_zone_as_an_option() {
    let (directory, loader) = loader();
    let twins = twins(&directory, &loader, "own_zone", &json!({ "zone": "a" }));
    for wrong in [json!({}), json!({ "zone": 1 }), json!({ "zones": "a" }), json!({ "zone": "a", "x": "b" })] {
        for one in &twins {
            assert!(Strategy::new(one.plugin().clone(), &wrong).is_err(), "{wrong}");
        }
    }
}

#[test]
fn a_file_with_a_wrong_name_is_refused_with_the_name_that_it_contains() {
    let (directory, loader) = loader();
    let path = directory.path().join(file_name("round_robin"));
    fs::copy(library("least_connections"), &path).unwrap();
    let Err(error) = loader.load(&Wanted { path: &path, name: Some("round_robin"), sha256: None }) else {
        panic!("least_connections was taken for round_robin")
    };
    assert_eq!(error.stage, Stage::Name);
    assert!(error.to_string().contains("\"least_connections\", not \"round_robin\""), "{error}");
}

#[test]
fn every_truncation_of_a_built_strategy_is_refused_before_it_can_be_mapped() {
    let (directory, loader) = loader();
    let good = fs::read(library("round_robin")).unwrap();
    let lengths: Vec<usize> = (1..100).map(|percent| good.len() * percent / 100).chain([good.len() - 1]).collect();
    // Two threads, because the unoptimised hash of megabytes is slow, and it is computed a hundred times.
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (path, good, loader, lengths) =
                (directory.path().join(format!("libcut{half}.so")), &good, &loader, &lengths);
            scope.spawn(move || {
                for &length in lengths.iter().skip(half).step_by(2) {
                    fs::write(&path, &good[..length]).unwrap();
                    let Err(error) = loader.load(&Wanted { path: &path, name: None, sha256: None }) else {
                        panic!("{length} of {} bytes were taken", good.len())
                    };
                    assert_eq!(error.stage, Stage::Elf, "{error}");
                }
            });
        }
    });
}

#[test]
fn overwriting_the_file_of_a_serving_strategy_does_not_disturb_it() {
    let (directory, loader) = loader();
    let path = directory.path().join(file_name("round_robin"));
    fs::copy(library("round_robin"), &path).unwrap();
    let picker = World::of(3).picker(&Strategy::new(load(&loader, &path), &json!({})).unwrap()).unwrap();
    let mut requests = Requests::seeded(46);
    let length = fs::metadata(&path).unwrap().len();
    for content in [vec![0; length as usize], Vec::new(), fs::read(library("least_connections")).unwrap()] {
        fs::write(&path, content).unwrap();
        let picks = counts(3, (0..300).map(|_| requests.ask().pick_backend(&picker).unwrap()));
        assert_eq!(picks, [100, 100, 100]);
    }
    assert_eq!(load(&loader, &path).name(), "least_connections");
}
