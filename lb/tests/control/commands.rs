//! The course's commands: which input they refuse, the text of each error, and that an error changes nothing.

use lb::config::Labels;
use lb::control::{Add, AttachedBackend, ControlError};
use lb_test_support::mock;

use crate::harness::{Rig, SLOW_HEALTH, backend, bounded, folder};
use crate::launcher::{add, launcher, remove};

fn refused<T: std::fmt::Debug>(result: Result<T, ControlError>) -> String {
    match result {
        Err(ControlError::Refused(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn every_mistake_of_an_add_is_refused_and_changes_nothing() {
    let (folder, one) = (folder(), mock("b1"));
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH + &launcher(0))).await;
    let before = rig.control.hall.current().number;
    for (n, hostnames, text) in [
        (0, &[][..], "<Error> n must be a positive integer"),
        (1, &["S1", "S2"], "<Error> Length of hostname list is more than newly added instances"),
        (1, &["b1"], "<Error> Hostname 'b1' is already in use"),
        (2, &["S1", "S1"], "<Error> Hostname 'S1' is already in use"),
        (7, &[], "<Error> At most 6 replicas may run (launcher.max_replicas) and 0 do"),
        (usize::MAX, &[], "<Error> At most 6 replicas may run (launcher.max_replicas) and 0 do"),
    ] {
        assert_eq!(refused(bounded("/add", rig.handle().add(add(n, hostnames))).await), text);
    }
    let text = refused(bounded("/add", rig.handle().add(add(1, &["a/b"]))).await);
    assert!(text.starts_with("<Error> Hostname 'a/b' is no name for a server"), "{text}");
    assert_eq!((rig.replicas().await, rig.control.hall.current().number), (vec!["b1".to_owned()], before));
    rig.stop().await;
}

#[tokio::test]
async fn every_mistake_of_a_removal_is_refused_and_changes_nothing() {
    let (folder, one) = (folder(), mock("b1"));
    let text = backend("b1", one.addr) + &backend("b2", one.addr) + SLOW_HEALTH;
    let rig = Rig::start(folder.path(), &text).await;
    for (n, hostnames, text) in [
        (0, &[][..], "<Error> n must be a positive integer"),
        (1, &["b1", "b2"], "<Error> Length of hostname list is more than removable instances"),
        (3, &["b1", "b2", "b3"], "<Error> Length of hostname list is more than removable instances"),
        (3, &["b1"], "<Error> At most 2 replicas can be removed, not 3"),
        (10, &[], "<Error> At most 2 replicas can be removed, not 10"),
        (2, &["b1", "S9"], "<Error> Hostname 'S9' is not a replica"),
        (2, &["b1", "b1"], "<Error> Hostname 'b1' is listed twice"),
    ] {
        assert_eq!(refused(bounded("/rm", rig.handle().remove(remove(n, hostnames))).await), text);
    }
    assert_eq!((rig.replicas().await, rig.control.hall.current().number), (vec!["b1".into(), "b2".into()], 1));
    assert_eq!(
        bounded("/rm", rig.handle().remove(remove(2, &[]))).await.unwrap().0,
        [""; 0],
        "every replica may be removed"
    );
    rig.stop().await;
}

#[tokio::test]
async fn the_same_seed_removes_the_same_replicas() {
    let mut survivors = Vec::new();
    for _ in 0..2 {
        let (folder, one) = (folder(), mock("b"));
        let backends: String = (0..8).map(|n| backend(&format!("b{n}"), one.addr)).collect();
        let rig = Rig::start(folder.path(), &(backends + SLOW_HEALTH + "[course]\nseed = 8\n")).await;
        survivors.push(bounded("/rm", rig.handle().remove(remove(4, &["b7"]))).await.unwrap().0);
        rig.stop().await;
    }
    assert_eq!(survivors[0], survivors[1]);
    assert_ne!(survivors[0], ["b0", "b1", "b2", "b3"], "drawn by the seed, not only the last ones");
}

#[tokio::test]
async fn without_a_launcher_the_error_of_an_add_names_the_attach() {
    let folder = folder();
    let rig = Rig::start(folder.path(), "").await;
    let text = refused(bounded("/add", rig.handle().add(add(1, &[]))).await);
    assert!(text.starts_with("<Error> No launcher is configured") && text.contains("backends"), "{text}");
    rig.stop().await;
}

#[tokio::test]
async fn every_mistake_of_an_attach_is_refused_and_changes_nothing() {
    let (folder, one) = (folder(), mock("b1"));
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH)).await;
    let attached = |id: &str, address: &str, weight| AttachedBackend {
        id: id.into(),
        address: address.into(),
        weight,
        backup: false,
        labels: Labels::default(),
    };
    let good = attached("a1", &one.addr.to_string(), 1);
    for (wrong, word) in [
        (vec![], "empty"),
        (vec![good.clone(), attached("b1", "127.0.0.1:9", 1)], "'b1' is already in use"),
        (vec![good.clone(), good.clone()], "'a1' is already in use"),
        (vec![good.clone(), attached("a\n", "127.0.0.1:9", 1)], "an id is made of"),
        (vec![good.clone(), attached("a2", "127.0.0.1", 1)], "is not IP:port"),
        (vec![good.clone(), attached("a2", "no.such.name.invalid:9", 1)], "could not be resolved"),
        (vec![good.clone(), attached("a2", "127.0.0.1:9", 257)], "a weight is"),
    ] {
        let text = refused(bounded("the attach", rig.handle().add(Add::Attach(wrong))).await);
        assert!(text.starts_with("<Error> ") && text.contains(word), "{text}");
    }
    assert_eq!((rig.replicas().await, rig.control.hall.current().number), (vec!["b1".to_owned()], 1));
    let named = attached("a1", &format!("localhost:{}", one.addr.port()), 1);
    let replicas = bounded("the attach", rig.handle().add(Add::Attach(vec![named]))).await.unwrap();
    assert_eq!(replicas.0, ["b1", "a1"]);
    assert_eq!(&*rig.backend("a1").address, format!("localhost:{}", one.addr.port()));
    rig.stop().await;
}
