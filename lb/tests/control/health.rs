//! Health checks against real servers that stop, start again, stall and fail.

use lb_test_support::{mock, mock_with};
use mock_server::Change;

use crate::harness::{NO_PANIC, QUICK_HEALTH, Rig, backend, bounded, folder};

#[tokio::test]
async fn a_backend_that_stops_is_unhealthy_until_it_responds_again() {
    let (folder, one, two) = (folder(), mock("b1"), mock("b2"));
    let text = backend("b1", one.addr) + &backend("b2", two.addr) + QUICK_HEALTH;
    let mut rig = Rig::start(folder.path(), &text).await;
    let port = two.addr.port();
    two.shutdown().await;
    rig.until_pool(&[("b1", true), ("b2", false)]).await;
    assert!(!rig.backend("b2").is_eligible());
    let down = rig.handle().backends().await.unwrap().remove(1);
    assert_eq!((down.healthy, down.eligible, down.reason.as_deref()), (false, false, Some("connection refused")));
    assert_eq!(rig.metric(r#"lb_backend_up{pool="default",backend="b2"}"#), Some(0.0));

    let _two = mock_with("b2", |options| options.port = port);
    rig.until_pool(&[("b1", true), ("b2", true)]).await;
    for to in ["down", "up"] {
        let series = format!(r#"lb_backend_health_transitions_total{{pool="default",backend="b2",to="{to}"}}"#);
        assert_eq!(rig.metric(&series), Some(1.0), "{}", rig.metrics.render());
    }
    assert!(rig.backend("b2").is_eligible());
    rig.stop().await;
}

#[tokio::test]
async fn a_backend_that_stalls_is_unhealthy_and_the_reason_names_the_timeout() {
    let (folder, one) = (folder(), mock("b1"));
    let health = NO_PANIC.to_owned() + "[health]\ninterval_ms = 10\ntimeout_ms = 50\n";
    let mut rig = Rig::start(folder.path(), &(backend("b1", one.addr) + &health)).await;
    one.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    rig.until_pool(&[("b1", false)]).await;
    let down = rig.handle().backends().await.unwrap().remove(0);
    assert_eq!(down.reason.as_deref(), Some("no response within 50ms"));
    one.change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    rig.until_pool(&[("b1", true)]).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_check_passes_with_any_status_below_500_and_fails_with_500() {
    let (folder, one) = (folder(), mock("b1"));
    // This path does not exist: the server returns 404, and the check passes.
    let missing = "[health]\ninterval_ms = 10\npath = \"/no-such-path\"\n";
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + missing)).await;
    bounded("some checks", async {
        let good = r#"lb_backend_health_checks_total{pool="default",backend="b1",result="ok"}"#;
        while rig.metric(good).is_none_or(|count| count < 3.0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(rig.backend("b1").is_eligible());
    rig.stop().await;

    one.change(&Change { failure_rate: Some(1.0), ..Change::default() }).unwrap();
    let home = NO_PANIC.to_owned() + "[health]\ninterval_ms = 10\npath = \"/home\"\n";
    let mut rig = Rig::start(folder.path(), &(backend("b1", one.addr) + &home)).await;
    rig.until_pool(&[("b1", false)]).await;
    assert_eq!(rig.handle().backends().await.unwrap()[0].reason.as_deref(), Some("/home returned 500"));
    rig.stop().await;
}

#[tokio::test]
async fn without_health_checks_every_backend_stays_eligible() {
    let (folder, one) = (folder(), mock("b1"));
    let rig = Rig::start(folder.path(), &(backend("b1", one.addr) + "[health]\nenabled = false\n")).await;
    assert!(rig.handle().backends().await.unwrap()[0].healthy);
    assert_eq!(one.stats().heartbeats, 0);
    rig.stop().await;
}

#[tokio::test]
async fn ready_from_an_operator_holds_until_the_next_failed_check() {
    let (folder, one) = (folder(), mock("b1"));
    let mut rig = Rig::start(folder.path(), &(backend("b1", one.addr) + QUICK_HEALTH)).await;
    one.shutdown().await;
    rig.until_pool(&[("b1", false)]).await;
    let told = bounded("ready", rig.handle().change("default", "b1", lb::control::Change::Ready)).await.unwrap();
    assert_eq!(told.id, "b1");
    rig.until_pool(&[("b1", false)]).await;
    let ups = rig.metric(r#"lb_backend_health_transitions_total{pool="default",backend="b1",to="up"}"#);
    assert_eq!(ups, Some(1.0), "the backend was up between the two failures");
    rig.stop().await;
}
