//! Generations: the lists that are published when members change, the state that is kept, and the return of commands.

use std::sync::Arc;

use lb::config::Labels;
use lb::control::{Add, AttachedBackend, Change, ControlError, Remove};
use lb::generation::PoolGeneration;
use lb_test_support::mock;

use crate::harness::{Rig, SLOW_HEALTH, backend, bounded, folder};
use crate::start::HUGE_RING;

fn attach(id: &str, address: std::net::SocketAddr, weight: u16) -> Add {
    Add::Attach(vec![AttachedBackend {
        id: id.into(),
        address: address.to_string(),
        weight,
        backup: false,
        labels: Labels::default(),
    }])
}

#[tokio::test]
async fn an_attach_and_a_removal_publish_the_new_list_before_they_return() {
    let (folder, one, two) = (folder(), mock("b1"), mock("a1"));
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH)).await;
    let first = rig.backend("b1");
    let replicas = bounded("the attach", rig.handle().add(attach("a1", two.addr, 3))).await.unwrap();
    assert_eq!(replicas.0, ["b1", "a1"]);
    let pool = rig.pool();
    assert_eq!(pool.picker.backends().specs()[1].weight, 3);
    assert!(rig.backend("a1").is_eligible());
    assert!(Arc::ptr_eq(&rig.backend("b1"), &first), "an unchanged backend keeps its counters and its identity");
    assert_eq!(rig.metric(r#"lb_backend_weight{pool="default",backend="a1"}"#), Some(3.0));

    rig.backend("a1").attempt_begins();
    let gone = rig.backend("a1");
    let remove = Remove { n: 1, hostnames: vec!["a1".into()], deadline: None };
    let replicas = bounded("the removal", rig.handle().remove(remove)).await.unwrap();
    assert_eq!(replicas.0, ["b1"]);
    assert_eq!(rig.pool().backends.len(), 1);
    assert!(!gone.is_eligible(), "a removed backend that a worker still holds gets no new request");

    bounded("the return", rig.handle().add(attach("a1", two.addr, 1))).await.unwrap();
    assert_eq!(rig.backend("a1").in_flight(), 1, "a backend keeps its counters when it is removed and attached again");
    rig.stop().await;
}

#[tokio::test]
async fn members_epoch_moves_with_ids_addresses_and_weights_only() {
    let (folder, one, two) = (folder(), mock("b1"), mock("a1"));
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH)).await;
    let epochs = || (rig.pool().picker.backends().epoch(), rig.pool().picker.backends().members_epoch());
    let change = async |change| bounded("a change", rig.handle().change("default", "b1", change)).await.unwrap();
    let first = epochs();
    let drained = change(Change::Drain).await;
    assert!(drained.draining && !drained.eligible && !rig.backend("b1").is_eligible());
    assert_eq!(epochs(), (first.0 + 1, first.1));
    change(Change::Ready).await;
    assert_eq!(epochs(), (first.0 + 2, first.1));
    assert_eq!(change(Change::Weight(5)).await.weight, 5);
    assert_eq!(epochs(), (first.0 + 3, first.1 + 1));
    bounded("the attach", rig.handle().add(attach("a1", two.addr, 1))).await.unwrap();
    assert_eq!(epochs(), (first.0 + 4, first.1 + 2));
    change(Change::Weight(5)).await;
    assert_eq!(epochs(), (first.0 + 4, first.1 + 2), "a change to the same value publishes nothing");
    rig.stop().await;
}

#[tokio::test]
async fn pools_that_did_not_change_are_shared_by_generations() {
    let (folder, one) = (folder(), mock("b1"));
    let text = format!(
        "{}{SLOW_HEALTH}[[pools.p.backends]]\nid = \"p1\"\naddress = \"{}\"\n",
        backend("b1", one.addr),
        one.addr
    );
    let rig = Rig::start(folder.path(), &text).await;
    let before = rig.control.hall.current();
    bounded("a change", rig.handle().change("p", "p1", Change::Drain)).await.unwrap();
    let after = rig.control.hall.current();
    assert!(Arc::ptr_eq(&before.pools[0], &after.pools[0]));
    assert!(!Arc::ptr_eq(&before.pools[1], &after.pools[1]));
    rig.stop().await;
}

#[tokio::test]
async fn a_change_returns_when_every_worker_has_it() {
    let (folder, one) = (folder(), mock("b1"));
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH)).await;
    let mut late = rig.control.hall.seat();
    let number = late.take().number;
    late.acknowledge(number);
    let mut change = Box::pin(rig.handle().change("default", "b1", Change::Drain));
    let (seen, answered) = tokio::join!(late.changed(), async {
        tokio::select! {
            biased;
            _ = &mut change => true,
            () = rig.control.hall.acknowledgement() => false,
        }
    });
    assert!(seen && !answered, "published, and one worker has not taken it up");
    let number = late.take().number;
    late.acknowledge(number);
    bounded("the answer", change).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn changes_that_come_together_are_published_together() {
    let (folder, one) = (folder(), mock("b1"));
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH)).await;
    let before = rig.control.hall.current().number;
    let adds: Vec<_> = (0..50)
        .map(|n| {
            let (handle, address) = (rig.handle().clone(), one.addr);
            tokio::spawn(async move { handle.add(attach(&format!("a{n}"), address, 1)).await })
        })
        .collect();
    for add in adds {
        bounded("an attach", add).await.unwrap().unwrap();
    }
    assert_eq!(rig.pool().backends.len(), 51);
    let published = rig.control.hall.current().number - before;
    assert!(published < 50, "{published} generations for 50 changes");
    rig.stop().await;
}

#[tokio::test]
async fn a_list_that_the_strategy_refuses_is_undone_and_reported() {
    let (folder, one) = (folder(), mock("b1"));
    let rig = Rig::start(folder.path(), &(HUGE_RING.to_owned() + &backend("b1", one.addr) + SLOW_HEALTH)).await;
    let before = rig.control.hall.current();
    let error = bounded("the refusal", rig.handle().add(attach("a1", one.addr, 256))).await.unwrap_err();
    assert!(matches!(&error, ControlError::Failed(text) if text.contains("points")), "{error}");
    assert_eq!(rig.replicas().await, ["b1"]);
    let error = bounded("the refusal", rig.handle().change("default", "b1", Change::Weight(257))).await.unwrap_err();
    assert!(matches!(error, ControlError::Refused(_)), "{error}");
    // After a refusal one more list is made, because checks may have ended meanwhile: it has the same backends.
    let backends = |pool: &PoolGeneration| pool.backends.iter().map(Arc::as_ptr).collect::<Vec<_>>();
    assert_eq!(backends(&before.pools[0]), backends(&rig.pool()), "the old backends are still in force");
    assert!(rig.backend("b1").is_eligible());
    bounded("a list that the strategy accepts", rig.handle().add(attach("a1", one.addr, 2))).await.unwrap();
    assert_eq!(rig.replicas().await, ["b1", "a1"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_backend_whose_removal_is_refused_drains_on_to_its_deadline() {
    let (folder, one, two) = (folder(), mock("b1"), mock("b2"));
    let library = folder.path().join("libbroken.so");
    lb_test_support::compile("examples/broken/refuses_one.c", &[], &library);
    let list = backend("b1", one.addr) + &backend("b2", two.addr);
    let text = format!("[strategy]\npath = {library:?}\n{SLOW_HEALTH}[slow_start]\nenabled = true\n{list}");
    let rig = Rig::start(folder.path(), &text).await;
    let drain = Change::DrainWithin(std::time::Duration::from_secs(86_400));
    bounded("the drain", rig.handle().change("default", "b2", drain)).await.unwrap();
    let remove = Remove { n: 1, hostnames: vec!["b2".into()], deadline: None };
    let error = bounded("the refusal", rig.handle().remove(remove)).await.unwrap_err();
    assert!(matches!(error, ControlError::Failed(_)), "{error}");
    let backends = rig.handle().backends().await.unwrap();
    let b2 = backends.iter().find(|backend| backend.id == "b2").unwrap();
    assert!(b2.draining && b2.drain.as_ref().is_some_and(|drain| drain.left_ms.is_some()), "{b2:?}");
    rig.stop().await;
}

#[tokio::test]
async fn first_checks_are_over_also_if_the_strategy_refuses_the_list_that_they_lead_to() {
    let (folder, one) = (folder(), mock("b1"));
    let library = folder.path().join("libbroken.so");
    lb_test_support::compile("examples/broken/refuses_eligible.c", &[], &library);
    let strategy = format!("[strategy]\npath = {library:?}\n");
    let health = "initial = \"wait\"\ntimeout_ms = 60000\n";
    let text = strategy + SLOW_HEALTH + health + &backend("b1", one.addr);
    let mut rig = Rig::start(folder.path(), &text).await;
    rig.until("the first check", |generation| (generation.awaited == 0).then_some(())).await;
    rig.stop().await;
}

#[tokio::test]
async fn old_generations_are_freed_once_every_worker_has_a_newer_one() {
    let (folder, one) = (folder(), mock("b1"));
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + SLOW_HEALTH)).await;
    let old = Arc::downgrade(&rig.pool());
    bounded("a change", rig.handle().change("default", "b1", Change::Drain)).await.unwrap();
    // The builder frees generations in order, so a later build ends after the old one is freed.
    bounded("a change", rig.handle().change("default", "b1", Change::Ready)).await.unwrap();
    bounded("a change", rig.handle().change("default", "b1", Change::Drain)).await.unwrap();
    assert!(old.upgrade().is_none());
    rig.stop().await;
}

#[tokio::test]
async fn a_change_of_an_unknown_backend_or_pool_is_not_found() {
    let folder = folder();
    let rig = Rig::start(folder.path(), "").await;
    for (pool, id) in [("default", "b1"), ("absent", "b1")] {
        let error = rig.handle().change(pool, id, Change::Drain).await.unwrap_err();
        assert!(matches!(error, ControlError::NotFound(_)), "{error}");
    }
    let handle = rig.handle().clone();
    rig.stop().await;
    assert_eq!(handle.replicas().await.unwrap_err(), ControlError::Stopping);
}
