//! Slow start in the published lists: the first list with a backend that joins, and the steps after it.

use lb::config::Labels;
use lb::control::{Add, AttachedBackend};
use lb_test_support::mock;

use crate::harness::{Rig, SLOW_HEALTH, backend, bounded, folder};

/// Only the steps of a ramp wake control: neither outlier detection nor a probation looks.
const QUIET: &str = "[outlier]\nenabled = false\n[reload]\nprobation_ms = 0\n";

fn text(window_ms: u64, address: std::net::SocketAddr) -> String {
    let ramp = format!("[slow_start]\nenabled = true\nwindow_ms = {window_ms}\n");
    [SLOW_HEALTH, QUIET, &ramp, &backend("b1", address)].concat()
}

async fn attach(rig: &Rig, id: &str, address: std::net::SocketAddr) {
    let backend = AttachedBackend {
        id: id.into(),
        address: address.to_string(),
        weight: 2,
        backup: false,
        labels: Labels::default(),
    };
    bounded("the attach", rig.handle().add(Add::Attach(vec![backend]))).await.unwrap();
}

#[tokio::test]
async fn the_first_list_with_a_backend_that_joins_has_its_small_share() {
    let (folder, one, two) = (folder(), mock("b1"), mock("a1"));
    let rig = Rig::start(folder.path(), &text(86_400_000, one.addr)).await;
    let before = rig.control.hall.current().number;
    attach(&rig, "a1", two.addr).await;
    let effective: Vec<_> = rig.pool().picker.backends().specs().iter().map(|spec| spec.effective).collect();
    assert_eq!((rig.control.hall.current().number, effective), (before + 1, vec![1000, 200]));
    rig.stop().await;
}

#[tokio::test]
async fn a_share_grows_by_publishes_of_its_own_to_the_whole_and_members_stay_the_same() {
    let (folder, one, two) = (folder(), mock("b1"), mock("a1"));
    let mut rig = Rig::start(folder.path(), &text(1_000, one.addr)).await;
    attach(&rig, "a1", two.addr).await;
    let mut seen = vec![(0, rig.pool().picker.backends().members_epoch())];
    while seen.last().unwrap().0 < 2000 {
        let last = seen.last().unwrap().0;
        let next = rig
            .until("a larger share", |generation| {
                let list = generation.pools[0].picker.backends();
                let effective = list.specs()[1].effective;
                assert!(effective >= last, "a share falls from {last} to {effective}");
                (effective > last).then(|| (effective, list.members_epoch()))
            })
            .await;
        seen.push(next);
    }
    assert!(seen.iter().all(|(effective, epoch)| effective % 200 == 0 && *epoch == seen[0].1), "{seen:?}");
    assert_eq!(rig.metric(r#"lb_backend_share{pool="default",backend="a1"}"#), Some(1.0));
    rig.stop().await;
}
