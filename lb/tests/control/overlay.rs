//! Changes made at run time, after a restart.

use lb::config::Labels;
use lb::control::{Add, AttachedBackend, Change, OverlayStatus};
use lb_test_support::mock;

use crate::harness::{Rig, SLOW_HEALTH, backend, bounded, config, folder};
use crate::launcher::{add, launcher, remove};

#[tokio::test]
async fn changes_survive_a_restart_and_fresh_drops_them() {
    let (folder, one) = (folder(), mock("b1"));
    let text =
        backend("b1", one.addr) + &backend("b2", one.addr) + &backend("b3", one.addr) + SLOW_HEALTH + &launcher(1);
    let rig = Rig::start(folder.path(), &text).await;
    bounded("all replicas", rig.handle().all_joined()).await.unwrap();
    let attached = AttachedBackend {
        id: "a1".into(),
        address: one.addr.to_string(),
        weight: 2,
        backup: false,
        labels: Labels::default(),
    };
    bounded("the attach", rig.handle().add(Add::Attach(vec![attached]))).await.unwrap();
    bounded("/rm", rig.handle().remove(remove(1, &["b1"]))).await.unwrap();
    bounded("/add", rig.handle().add(add(1, &["S9"]))).await.unwrap();
    bounded("a change", rig.handle().change("default", "b2", Change::Weight(7))).await.unwrap();
    bounded("a change", rig.handle().change("default", "b3", Change::Drain)).await.unwrap();
    let before = rig.replicas().await;
    assert_eq!(before, ["b2", "b3", "a1", "Server 1", "S9"]);
    let in_force = OverlayStatus { added: 1, removed: 1, changed: 2, replicas: Some(2), error: None };
    assert_eq!(rig.handle().status().await.unwrap().overlay, in_force);
    rig.stop().await;

    let rig = Rig::start(folder.path(), &text).await;
    assert_eq!((rig.replicas().await, &rig.report().overlay), (before, &in_force));
    assert_eq!(rig.pool().picker.backends().specs()[0].weight, 7);
    assert!(!rig.backend("b3").is_eligible(), "b3 still drains");
    bounded("all replicas", rig.handle().all_joined()).await.unwrap();
    assert!(rig.backend("S9").is_eligible());
    rig.stop().await;

    for fresh in [true, false] {
        let rig = Rig::start_with(config(folder.path(), &text), fresh).await;
        assert_eq!(rig.replicas().await, ["b1", "b2", "b3", "Server 1"], "the changes stay dropped");
        assert_eq!(rig.report().overlay, OverlayStatus::default());
        rig.stop().await;
    }
}

#[tokio::test]
async fn an_entry_lapses_when_the_file_has_another_address() {
    let (folder, one, two) = (folder(), mock("b1"), mock("b1"));
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH)).await;
    bounded("/rm", rig.handle().remove(remove(1, &[]))).await.unwrap();
    rig.stop().await;
    let rig = Rig::start(folder.path(), &(backend("b1", two.addr) + SLOW_HEALTH)).await;
    assert_eq!(rig.replicas().await, ["b1"]);
    assert_eq!(rig.report().lapsed.len(), 1, "{:?}", rig.report().lapsed);
    rig.stop().await;
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH)).await;
    assert_eq!(rig.replicas().await, ["b1"], "a lapsed entry does not come back");
    rig.stop().await;
}

#[tokio::test]
async fn an_attach_of_a_backend_in_the_file_cancels_its_removal() {
    let (folder, one) = (folder(), mock("b1"));
    let text = backend("b1", one.addr) + &backend("b2", one.addr) + SLOW_HEALTH;
    let rig = Rig::start(folder.path(), &text).await;
    bounded("/rm", rig.handle().remove(remove(1, &["b1"]))).await.unwrap();
    let again = AttachedBackend {
        id: "b1".into(),
        address: one.addr.to_string(),
        weight: 1,
        backup: false,
        labels: Labels::default(),
    };
    let replicas = bounded("the attach", rig.handle().add(Add::Attach(vec![again]))).await.unwrap();
    assert_eq!(replicas.0, ["b1", "b2"], "at its place in the file");
    assert_eq!(rig.handle().status().await.unwrap().overlay, OverlayStatus::default());
    rig.stop().await;
}

#[tokio::test]
async fn an_unreadable_overlay_is_renamed_and_lb_starts() {
    let (folder, one) = (folder(), mock("b1"));
    let state = folder.path().join("state");
    Rig::start(folder.path(), "").await.stop().await;
    std::fs::write(state.join("overlay.json"), "{\"schema\":1,").unwrap();
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH)).await;
    assert_eq!(rig.replicas().await, ["b1"]);
    assert!(rig.report().warnings[0].contains("overlay.json.bad"), "{:?}", rig.report().warnings);
    assert_eq!(std::fs::read_to_string(state.join("overlay.json.bad")).unwrap(), "{\"schema\":1,");
    rig.stop().await;
}

#[tokio::test]
async fn without_keep_the_overlay_is_neither_read_nor_written() {
    let (folder, one) = (folder(), mock("b1"));
    let text = backend("b1", one.addr) + &backend("b2", one.addr) + SLOW_HEALTH + "[state]\nkeep = false\n";
    for _ in 0..2 {
        let rig = Rig::start(folder.path(), &text).await;
        assert_eq!(rig.replicas().await, ["b1", "b2"]);
        bounded("/rm", rig.handle().remove(remove(1, &["b1"]))).await.unwrap();
        rig.stop().await;
        assert!(!folder.path().join("state/overlay.json").exists());
    }
}
