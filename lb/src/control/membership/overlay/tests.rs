//! The rules of the overlay, each with its test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{
    Admin, Course, Fallback, HashFunction, Log, OutlierRules, PanicRules, Plugin, PoolConfig, Proxy, Reload,
    RetryPolicy, State, Strategy,
};
use crate::control::health::samples::rules;
use crate::control::membership::{Plan, fresh_names};
use crate::generation::samples;

fn configuration(backends: &[(&str, u16)], launcher: Option<usize>) -> Config {
    let second = Duration::from_secs(1);
    let settings = samples::settings(second);
    let backend = |(id, port): &(&str, u16)| BackendConfig {
        id: (*id).to_owned(),
        address: format!("127.0.0.1:{port}"),
        socket: ([127, 0, 0, 1], *port).into(),
        weight: 1,
        backup: false,
        labels: Labels::default(),
    };
    let pool = |name: &str, backends: &[(&str, u16)]| PoolConfig {
        name: name.to_owned(),
        strategy: Strategy {
            plugin: Plugin::Name("round_robin".into()),
            sha256: None,
            hash_on: Vec::new(),
            hash: HashFunction::Xxh3,
            fallback: Fallback::LeastConnections,
            load_reports: None,
            probe: None,
            options: serde_json::json!({}),
            shadows: Vec::new(),
        },
        backends: backends.iter().map(backend).collect(),
        health: Arc::new(rules()),
        outlier: OutlierRules::off(),
        panic: PanicRules::OFF,
        slow_start: None,
    };
    Config {
        file: None,
        plugin_dirs: Vec::new(),
        allow_group_writable: false,
        proxy: Proxy {
            allow_link_local: false,
            listen: Vec::new(),
            workers: 1,
            trusted_proxies: Vec::new(),
            request_id: true,
            explain_header: false,
            upgrades: Vec::new(),
            allow_trace: false,
        },
        admin: Admin { listen: ([127, 0, 0, 1], 0).into(), token: None },
        pools: vec![pool(DEFAULT_POOL, backends), pool("images", &[("i1", 7001), ("i2", 7002)])],
        routes: Vec::new(),
        policies: samples::policies(&settings, RetryPolicy::default(), 2),
        launcher: launcher.map(|replicas| Launcher {
            replicas,
            names: "Server {n}".into(),
            first_port: 5001,
            command: vec!["mock-server".into()],
            max_replicas: 8,
            host: [127, 0, 0, 1].into(),
            labels: Labels::default(),
        }),
        course: Course { on_proxy_port: false, missing_path_is_400: false, seed: None },
        health: Arc::new(rules()),
        timeouts: settings.timeouts,
        limits: settings.limits,
        reload: Reload { watch: false, settle: second, poll: second, max_images: 1, probation: second },
        state: State { keep: true, dir: PathBuf::from("/nowhere"), save_every: None },
        log: Log { level: "info".into() },
        access_log: None,
    }
}

/// The members made from `config` and `overlay`, launched ones included.
fn members(config: &Config, overlay: &Overlay) -> Vec<Vec<Entry>> {
    let plan = Plan::of(config, overlay, &[]);
    let mut pools = plan.pools;
    pools[0].extend(plan.replicas.into_iter().enumerate().map(|(order, replica)| Entry {
        id: replica.name,
        address: "127.0.0.1:5001".into(),
        socket: ([127, 0, 0, 1], 5001).into(),
        weight: replica.weight,
        origin: Origin::Launched,
        order,
        draining: replica.draining,
        backup: false,
        labels: replica.labels,
    }));
    pools
}

fn attached(id: &str) -> Entry {
    let (address, socket) = ("127.0.0.1:6001".to_owned(), ([127, 0, 0, 1], 6001).into());
    Entry {
        id: id.into(),
        address,
        socket,
        weight: 3,
        origin: Origin::Attached,
        order: 0,
        draining: true,
        backup: true,
        labels: Labels::default(),
    }
}

fn launched(id: &str) -> Entry {
    Entry { origin: Origin::Launched, weight: 1, draining: false, backup: false, order: 9, ..attached(id) }
}

fn ids(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.id).collect()
}

/// The overlay after it was written to disk and read again.
fn stored(overlay: &Overlay) -> Overlay {
    Overlay::from_json(&overlay.to_json()).unwrap()
}

#[test]
fn without_changes_the_overlay_is_empty_and_the_pool_is_the_file() {
    let config = configuration(&[("b1", 1), ("b2", 2)], Some(2));
    let now = members(&config, &Overlay::default());
    assert_eq!(ids(&now[0]), ["b1", "b2", "Server 1", "Server 2"]);
    assert_eq!(Overlay::of(&config, &now), Overlay::default());
    assert_eq!(Overlay::default().status(), OverlayStatus::default());
}

#[test]
fn a_pool_is_the_file_plus_added_minus_removed_with_changes_on_top() {
    let config = configuration(&[("b1", 1), ("b2", 2), ("b3", 3)], None);
    let mut now = members(&config, &Overlay::default());
    now[0].remove(1);
    now[0][1].weight = 7;
    now[1][0].draining = true;
    now[1].remove(1);
    now[0].push(attached("a1"));
    let overlay = stored(&Overlay::of(&config, &now));
    assert_eq!(overlay.status(), OverlayStatus { added: 1, removed: 2, changed: 2, replicas: None, error: None });
    assert_eq!(members(&config, &overlay), now, "applying gives the same members");
    assert_eq!(Plan::of(&config, &overlay, &[]).lapsed, [""; 0]);
}

#[test]
fn an_entry_lapses_when_the_file_changes_its_backend() {
    let config = configuration(&[("b1", 1), ("b2", 2)], None);
    let mut now = members(&config, &Overlay::default());
    now[0].remove(0);
    now[0][0].weight = 7;
    let overlay = Overlay::of(&config, &now);
    let newer = configuration(&[("b1", 11), ("b2", 22)], None);
    let plan = Plan::of(&newer, &overlay, &[]);
    assert_eq!(ids(&plan.pools[0]), ["b1", "b2"]);
    assert_eq!(plan.pools[0][1].weight, 1);
    assert_eq!(plan.lapsed.len(), 2, "{:?}", plan.lapsed);
    let gone = configuration(&[], None);
    assert_eq!(Plan::of(&gone, &overlay, &[]).lapsed.len(), 2, "it is no longer in the file at all");
}

#[test]
fn an_attached_backend_that_the_file_adds_belongs_to_the_file() {
    let config = configuration(&[("b1", 1)], None);
    let mut now = members(&config, &Overlay::default());
    now[0].push(attached("b2"));
    let overlay = Overlay::of(&config, &now);
    let newer = configuration(&[("b1", 1), ("b2", 2)], None);
    let plan = Plan::of(&newer, &overlay, &[]);
    assert_eq!(plan.pools[0][1].origin, Origin::File);
    assert_eq!(plan.lapsed.len(), 1);
}

#[test]
fn a_removed_backend_that_was_attached_elsewhere_stays_attached() {
    let config = configuration(&[("b1", 1)], None);
    let now = vec![vec![attached("b1")], members(&config, &Overlay::default())[1].clone()];
    let overlay = stored(&Overlay::of(&config, &now));
    assert_eq!(members(&config, &overlay), now);
}

#[test]
fn wanted_replicas_keep_number_names_and_order() {
    let config = configuration(&[("b1", 1)], Some(3));
    let mut now = members(&config, &Overlay::default());
    now[0].remove(2);
    now[0].push(launched("S5"));
    let overlay = stored(&Overlay::of(&config, &now));
    assert_eq!(overlay.status().replicas, Some(3));
    assert_eq!(ids(&members(&config, &overlay)[0]), ["b1", "Server 1", "Server 3", "S5"]);
    now[0].truncate(1);
    let none = stored(&Overlay::of(&config, &now));
    assert_eq!(none.status().replicas, Some(0), "none wanted is a wish too");
    assert_eq!(ids(&members(&config, &none)[0]), ["b1"]);
}

#[test]
fn wanted_replicas_lapse_with_the_launcher_section() {
    let config = configuration(&[], Some(3));
    let mut now = members(&config, &Overlay::default());
    now[0].truncate(1);
    now[0][0].weight = 5;
    let overlay = Overlay::of(&config, &now);
    let newer = configuration(&[], Some(2));
    let plan = Plan::of(&newer, &overlay, &[]);
    let names: Vec<_> = plan.replicas.iter().map(|replica| (&*replica.name, replica.weight)).collect();
    assert_eq!(names, [("Server 1", 1), ("Server 2", 1)]);
    assert_eq!(plan.lapsed.len(), 2, "{:?}", plan.lapsed);
    assert_eq!(Plan::of(&configuration(&[], None), &overlay, &[]).replicas, []);
}

#[test]
fn a_wanted_name_that_the_file_uses_is_replaced_by_a_fresh_one() {
    let config = configuration(&[], Some(2));
    let mut now = members(&config, &Overlay::default());
    now[0].push(launched("S5"));
    let overlay = Overlay::of(&config, &now);
    let newer = configuration(&[("Server 1", 1)], Some(2));
    assert_eq!(ids(&members(&newer, &overlay)[0]), ["Server 1", "Server 2", "S5", "Server 3"]);
}

#[test]
fn fresh_names_are_the_lowest_free_numbers() {
    let names = fresh_names("Server {n}", 3, |name| ["Server 1", "Server 3"].contains(&name));
    assert_eq!(names, ["Server 2", "Server 4", "Server 5"]);
}

#[test]
fn an_overlay_file_with_invalid_values_is_refused() {
    for wrong in [
        r#"{"schema":1,"added":[{"id":"a/b","address":"127.0.0.1:1","socket":"127.0.0.1:1","weight":1}]}"#,
        r#"{"schema":1,"added":[{"id":"a","address":"127.0.0.1:1","socket":"127.0.0.1:1","weight":257}]}"#,
        r#"{"schema":1,"replicas":{"names":[""],"launcher":""}}"#,
        r#"{"schema":1,"added":[{"id":"a"}]}"#,
    ] {
        assert!(Overlay::from_json(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_backup_is_kept_by_the_overlay_and_a_change_of_role_in_the_file_is_newer() {
    let mut config = configuration(&[("b1", 6001)], None);
    let mut there = members(&config, &Overlay::default());
    there[0].push(Entry { backup: true, ..attached("a1") });
    there[0][0].draining = true;
    let overlay = stored(&Overlay::of(&config, &there));
    assert_eq!(members(&config, &overlay), there);
    config.pools[0].backends[0].backup = true;
    let again = members(&config, &overlay);
    assert!(again[0][0].backup && !again[0][0].draining, "the drain was of another role");
    let plain = Entry { backup: false, ..attached("a1") };
    assert!(!Overlay::of(&config, &[vec![plain], Vec::new()]).to_json().contains("backup\": false"), "as before");
}

#[test]
fn labels_are_kept_by_the_overlay_and_a_drain_stays_when_those_in_the_file_change() {
    let labels = |text: &str| -> Labels { serde_json::from_str(text).unwrap() };
    let mut config = configuration(&[("b1", 6001)], Some(1));
    config.launcher.as_mut().unwrap().labels = labels(r#"{"zone":"l"}"#);
    let mut there = members(&config, &Overlay::default());
    assert_eq!(there[0][1].labels, labels(r#"{"zone":"l"}"#), "of a launched one");
    there[0].insert(1, Entry { labels: labels(r#"{"zone":"a"}"#), ..attached("a1") });
    there[0][0].draining = true;
    let overlay = stored(&Overlay::of(&config, &there));
    assert_eq!(members(&config, &overlay), there);
    config.pools[0].backends[0].labels = labels(r#"{"zone":"b"}"#);
    let again = members(&config, &overlay);
    assert!(again[0][0].draining && again[0][0].labels == config.pools[0].backends[0].labels);
    assert!(!Overlay::of(&config, &[vec![attached("a1")], Vec::new()]).to_json().contains("labels"), "as before");
    let wrong = overlay.to_json().replace("\"zone\"", "\"z z\"");
    assert!(Overlay::from_json(&wrong).unwrap_err().contains("labels.\"z z\""));
}
