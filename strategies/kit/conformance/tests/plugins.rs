//! The shipped strategies as built libraries: each is loaded from its file through all stages and makes right picks.
//!
//! Invariant: this file links no strategy crate, because two in one program would define the same entry symbol.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lb_strategy_built::{library, shipped};
use lb_strategy_conformance::statistics::{counts, spread};
use lb_strategy_conformance::{Decision, Refusal, Requests, Strategy, World, small_worlds};
use lb_strategy_host::{Loader, Plugin, Stage, Wanted, file_name};
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

/// The example with this name in Rust, and the same in C.
fn examples(name: &str, directory: &Path, loader: &Loader) -> [Arc<Strategy>; 2] {
    let strategies = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("strategies/");
    let c = directory.join(file_name(name));
    let compiled = Command::new("cc")
        .args(["-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-O2", "-I"])
        .arg(strategies.join("kit/api/include"))
        .arg("-o")
        .args([&c, &strategies.join(format!("examples/{name}.c"))])
        .status();
    assert!(compiled.expect("cc runs").success());
    [library(name), c].map(|path| Strategy::new(load(loader, &path), &json!({})).unwrap())
}

#[test]
fn an_example_in_rust_and_the_same_in_c_pick_alike() {
    for name in ["two_choices", "least_utilized"] {
        let (directory, loader) = loader();
        let [rust, c] = examples(name, directory.path(), &loader);
        let mut requests = Requests::seeded(47);
        for world in small_worlds([1, 1, 1, 1]) {
            let (rust, c) = (world.picker(&rust).unwrap(), world.picker(&c).unwrap());
            for tried in [vec![], vec![0], vec![2, 1]] {
                let ask = requests.ask().tried(&tried);
                assert_eq!(ask.pick(&rust), ask.pick(&c), "{ask:?} in {world:?}");
            }
        }
    }
}

#[test]
fn examples_in_rust_and_in_c_pick_alike_by_load_reports() {
    let (directory, loader) = loader();
    let [rust, c] = examples("least_utilized", directory.path(), &loader);
    let (mut requests, mut random) = (Requests::seeded(48), fastrand::Rng::with_seed(48));
    for _ in 0..500 {
        let world = World::of(4).weights(&[1, 2, 0, 3]);
        for index in 0..4 {
            let utilization = [None, Some(random.f64()), Some(random.f64()), Some(random.f64() * 2.0)];
            world.set_report(index, *random.choice(&utilization).unwrap());
            world.set_load(index, random.u32(0..3));
        }
        let (rust, c) = (world.picker(&rust).unwrap(), world.picker(&c).unwrap());
        for tried in [vec![], vec![0], vec![0, 1, 3]] {
            let ask = requests.ask().tried(&tried);
            assert_eq!(ask.pick(&rust), ask.pick(&c), "{ask:?} in {world:?}");
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
