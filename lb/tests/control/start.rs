//! Starts: the first generation, and the errors of a start that fails.

use lb::config::Config;
use lb::control::{StartError, StateError, check, list_strategies};
use lb_test_support::mock;

use crate::harness::{Rig, backend, bounded, config, folder, listed, try_start};

#[tokio::test]
async fn the_first_generation_has_every_backend_of_the_file_and_all_are_eligible() {
    let (folder, one, two) = (folder(), mock("b1"), mock("b2"));
    let text =
        backend("b1", one.addr) + &backend("b2", two.addr) + "[pools.images.strategy]\nname = \"least_connections\"\n";
    let rig = Rig::start(folder.path(), &text).await;
    let first = rig.control.hall.current();
    assert_eq!((first.number, first.pools.len()), (1, 2));
    assert_eq!(listed(&first.pools[0]), [("b1", true), ("b2", true)]);
    assert_eq!(first.pools[0].backends[1].socket, two.addr);
    let told: Vec<_> = rig.report().strategies.iter().map(|loaded| (&*loaded.pool, &*loaded.strategy)).collect();
    assert_eq!(told, [("default", "round_robin"), ("images", "least_connections")]);
    assert_eq!(rig.report().strategies[0].sha256.as_ref().map(String::len), Some(64));
    assert_eq!(rig.metric("lb_generation"), Some(1.0));
    rig.stop().await;
}

#[tokio::test]
async fn the_error_of_a_failed_start_names_the_fault_the_place_and_the_remedy() {
    let folder = folder();
    let error = async |text: &str| {
        let error = try_start(folder.path(), text, false).await.err().unwrap_or_else(|| panic!("{text} started"));
        let line = error.to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    };
    let missing = error("[strategy]\nname = \"absent\"\n").await;
    assert!(missing.starts_with("pool \"default\", strategy.name: ") && missing.contains("plugin_dirs"), "{missing}");
    let options = error("[pools.p.strategy]\nname = \"consistent_hash\"\n[pools.p.strategy.config.consistent_hash]\nvirtual_nodes = 0\n").await;
    assert!(options.starts_with("pool \"p\", pools.p.strategy.config.consistent_hash: "), "{options}");
    assert!(options.contains("virtual_nodes"), "{options}");
    let list = error(&(HUGE_RING.to_owned() + "[[backends]]\nid = \"b1\"\naddress = \"127.0.0.1:9\"\nweight = 256\n[[backends]]\nid = \"b2\"\naddress = \"127.0.0.1:9\"\n")).await;
    assert!(list.starts_with("pool \"default\", backends: "), "{list}");
    assert!(try_start(folder.path(), "", false).await.is_ok(), "a failed start holds no lock");
}

/// A ring whose limit of points allows a sum of weights of at most 256.
pub(crate) const HUGE_RING: &str =
    "[strategy]\nname = \"consistent_hash\"\n[strategy.config.consistent_hash]\nvirtual_nodes = 4096\n";

#[tokio::test]
async fn a_second_lb_on_the_same_state_is_refused() {
    let folder = folder();
    let rig = Rig::start(folder.path(), "[state]\nkeep = false\n").await;
    let error = try_start(folder.path(), "", false).await.err().expect("locked");
    assert!(matches!(error, StartError::State(StateError::InUse { .. })), "{error}");
    assert!(error.to_string().contains(&format!("another lb (pid {})", std::process::id())), "{error}");
    rig.stop().await;
    let next = bounded("a start after the end of the first lb", try_start(folder.path(), "", false)).await;
    assert!(next.is_ok());
}

#[test]
fn a_check_loads_and_tries_every_plugin_and_leaves_nothing() {
    let folder = folder();
    let checked = |text: &str| check(&config(folder.path(), text), None);
    let report =
        checked("[strategy]\nname = \"consistent_hash\"\n[pools.p.strategy]\nname = \"round_robin\"\n").unwrap();
    let names: Vec<_> = report.strategies.iter().map(|loaded| &*loaded.strategy).collect();
    assert_eq!(names, ["consistent_hash", "round_robin"]);
    let text = HUGE_RING.to_owned()
        + "[[backends]]\nid = \"b1\"\naddress = \"127.0.0.1:9\"\nweight = 256\n[[backends]]\nid = \"b2\"\naddress = \"127.0.0.1:9\"\n";
    assert!(checked(&text).is_err(), "a list that the strategy refuses");
    assert!(!folder.path().join("state").exists(), "a check creates no state directory");
}

#[test]
fn the_list_of_strategies_shows_good_broken_and_shadowed_libraries() {
    let folder = folder();
    let plain = config(folder.path(), "");
    let plugins = &plain.plugin_dirs[0];
    let copy = |name: &str| std::fs::copy(plugins.join("libround_robin.so"), folder.path().join(name)).unwrap();
    copy("libround_robin.so");
    copy("libcut.so");
    let cut = std::fs::OpenOptions::new().write(true).open(folder.path().join("libcut.so")).unwrap();
    cut.set_len(cut.metadata().unwrap().len() - 100).unwrap();
    std::fs::write(folder.path().join("libother.so"), "no strategy").unwrap();
    // Without the folder of this executable, where `cargo build` also leaves libraries.
    let dirs = vec![folder.path().to_owned(), plugins.clone()];
    let found =
        list_strategies(&Config { plugin_dirs: dirs, ..plain.clone() }, env!("CARGO_BIN_EXE_lb").into()).unwrap();
    let of = |name: &str| found.iter().filter(|strategy| strategy.name == name).collect::<Vec<_>>();
    assert!(of("other").is_empty(), "not a strategy, so not listed");
    assert!(of("cut")[0].error.as_ref().unwrap().contains("cut short"), "{:?}", of("cut"));
    let round_robin = of("round_robin");
    assert_eq!(round_robin.len(), 2);
    assert_eq!((&round_robin[0].shadowed_by, &round_robin[0].error), (&None, &None));
    assert_eq!(round_robin[1].shadowed_by, Some(folder.path().join("libround_robin.so")));
    assert!(!of("consistent_hash").is_empty() && !of("least_connections").is_empty());
}
