//! Labels of every source: they reach the list that a strategy gets, and survive a restart.

use lb::config::{LABELS_BYTES_MAX, Labels};
use lb::control::{Add, AttachedBackend};
use lb_test_support::mock;
use serde_json::{Value, json};

use crate::harness::{Rig, SLOW_HEALTH, backend, bounded, folder};
use crate::launcher::{add, launcher, remove};

fn labels(value: Value) -> Labels {
    serde_json::from_value(value).unwrap()
}

/// Id and labels of each backend in the list of the strategy.
fn listed(rig: &Rig) -> Vec<(String, String)> {
    let pool = rig.pool();
    pool.picker.backends().specs().iter().map(|spec| (spec.name.to_string(), spec.labels.to_string())).collect()
}

#[tokio::test]
async fn labels_of_every_source_reach_the_strategy_and_survive_a_restart() {
    let (folder, one) = (folder(), mock("b1"));
    let launched = launcher(1) + "labels = { zone = \"l\" }\n";
    let file = backend("b1", one.addr) + "labels = { zone = \"a\", n = 1, spot = true }\n" + &backend("b2", one.addr);
    let text = file + SLOW_HEALTH + &launched;
    let rig = Rig::start(folder.path(), &text).await;
    bounded("all replicas", rig.handle().all_joined()).await.unwrap();
    let attached = AttachedBackend {
        id: "a1".into(),
        address: one.addr.to_string(),
        weight: 1,
        backup: false,
        labels: labels(json!({ "zone": "x" })),
    };
    bounded("the attach", rig.handle().add(Add::Attach(vec![attached]))).await.unwrap();
    bounded("/add", rig.handle().add(add(1, &["S9"]))).await.unwrap();
    let wanted = [
        ("b1", r#"{"n":1,"spot":true,"zone":"a"}"#),
        ("b2", ""),
        ("a1", r#"{"zone":"x"}"#),
        ("Server 1", r#"{"zone":"l"}"#),
        ("S9", r#"{"zone":"l"}"#),
    ]
    .map(|(id, labels)| (id.to_owned(), labels.to_owned()));
    assert_eq!(listed(&rig), wanted);
    rig.stop().await;
    let rig = Rig::start(folder.path(), &text).await;
    assert_eq!(listed(&rig), wanted);
    rig.stop().await;
}

#[tokio::test]
async fn an_attach_with_other_labels_than_the_file_has_keeps_its_own() {
    let (folder, one) = (folder(), mock("b1"));
    let text = backend("b1", one.addr) + "labels = { zone = \"a\" }\n" + SLOW_HEALTH;
    let rig = Rig::start(folder.path(), &text).await;
    for (zone, added) in [("b", 1), ("a", 0)] {
        bounded("/rm", rig.handle().remove(remove(1, &["b1"]))).await.unwrap();
        let labels = labels(json!({ "zone": zone }));
        let again =
            AttachedBackend { id: "b1".into(), address: one.addr.to_string(), weight: 1, backup: false, labels };
        bounded("the attach", rig.handle().add(Add::Attach(vec![again]))).await.unwrap();
        assert_eq!(listed(&rig), [("b1".to_owned(), format!(r#"{{"zone":"{zone}"}}"#))]);
        assert_eq!(rig.handle().status().await.unwrap().overlay.added, added);
    }
    rig.stop().await;
}

#[tokio::test]
async fn the_largest_labels_are_kept() {
    let (folder, one) = (folder(), mock("b1"));
    let long = "x".repeat(LABELS_BYTES_MAX - r#"{"k":""}"#.len());
    let text = backend("b1", one.addr) + &format!("labels = {{ k = \"{long}\" }}\n") + SLOW_HEALTH;
    let rig = Rig::start(folder.path(), &text).await;
    assert_eq!(listed(&rig)[0].1.len(), LABELS_BYTES_MAX);
    rig.stop().await;
}
