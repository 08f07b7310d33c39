//! Launched replicas: real processes that join, crash, start again, drain and end.

use std::collections::HashMap;
use std::net::TcpStream;
use std::time::Instant;

use lb::control::{Add, ControlError, Remove};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::harness::{NO_PANIC, QUICK_HEALTH, Rig, bounded, folder};

/// No claim: the launcher of these tests runs this test in another process, so that no other program must be built.
#[test]
fn serves_as_a_replica_when_launched() {
    let (Ok(id), Ok(port)) = (std::env::var("REPLICA_ID"), std::env::var("REPLICA_PORT")) else { return };
    let options = mock_server::Options { id, port: port.parse().unwrap(), ..mock_server::Options::default() };
    let _server = mock_server::MockServer::start(options).unwrap();
    // lb holds the other end of stdin, which closes when lb ends.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

/// A `[launcher]` section with `count` replicas of this executable.
pub(crate) fn launcher(count: usize) -> String {
    let script = r#"REPLICA_ID="$1" REPLICA_PORT="$2" exec "$0" --exact launcher::serves_as_a_replica_when_launched"#;
    section(count, &["/bin/sh", "-c", script, std::env::current_exe().unwrap().to_str().unwrap(), "{name}", "{port}"])
}

fn section(count: usize, command: &[&str]) -> String {
    format!(
        "[course]\nseed = 1\n[launcher]\nkind = \"process\"\nreplicas = {count}\nmax_replicas = 6\nfirst_port = 0\ncommand = {command:?}\n"
    )
}

pub(crate) fn add(n: usize, hostnames: &[&str]) -> Add {
    Add::Launch { n, hostnames: hostnames.iter().map(|name| (*name).to_owned()).collect() }
}

pub(crate) fn remove(n: usize, hostnames: &[&str]) -> Remove {
    Remove { n, hostnames: hostnames.iter().map(|name| (*name).to_owned()).collect(), deadline: None }
}

async fn pids(rig: &Rig) -> HashMap<String, Pid> {
    let backends = rig.handle().backends().await.unwrap();
    let pid = |pid: Option<u32>| pid.and_then(|pid| Pid::from_raw(pid as i32));
    backends.into_iter().filter_map(|backend| Some((backend.id, pid(backend.pid)?))).collect()
}

#[tokio::test]
async fn replicas_are_listed_from_the_start_and_join_at_their_first_heartbeat() {
    let folder = folder();
    let mut rig = Rig::start(folder.path(), &(launcher(3) + "[health]\nenabled = false\n")).await;
    let names = ["Server 1", "Server 2", "Server 3"];
    assert_eq!(rig.report().launching, names);
    assert_eq!(rig.replicas().await, names);
    assert!(rig.pool().backends.iter().all(|backend| !backend.is_eligible()), "no replica has responded yet");
    let ring = rig.pool().picker.backends().members_epoch();
    bounded("all replicas", rig.handle().all_joined()).await.unwrap();
    rig.until_pool(&names.map(|name| (name, true))).await;
    assert_eq!(rig.pool().picker.backends().members_epoch(), ring, "a join moves no point on a ring");
    let addresses: Vec<_> = rig.pool().backends.iter().map(|backend| backend.socket).collect();
    let pids = pids(&rig).await;
    rig.stop().await;
    for (pid, address) in pids.values().zip(addresses) {
        assert!(test_kill_process(*pid).is_err(), "no orphan and no zombie");
        assert!(TcpStream::connect(address).is_err());
    }
}

#[tokio::test]
async fn a_killed_replica_is_ineligible_at_once_and_starts_again_under_its_name() {
    let folder = folder();
    // Checks are off, so lb can only see the end of the process, not a failed check.
    let mut rig = Rig::start(folder.path(), &(launcher(2) + "[health]\nenabled = false\n")).await;
    bounded("all replicas", rig.handle().all_joined()).await.unwrap();
    let before = pids(&rig).await["Server 2"];
    let killed = Instant::now();
    kill_process(before, Signal::KILL).unwrap();
    // Waits on a counter: the next process may already run before the test reads a list without the replica.
    let downs = r#"lb_backend_health_transitions_total{pool="default",backend="Server 2",to="down"}"#;
    bounded("the replica to be ineligible", async {
        while rig.metric(downs) != Some(1.0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let noticed = killed.elapsed();
    bounded("the next process of that name to be eligible", async {
        loop {
            let is_up = rig.backend("Server 2").is_eligible();
            if is_up && pids(&rig).await.get("Server 2").is_some_and(|pid| *pid != before) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    rig.until_pool(&[("Server 1", true), ("Server 2", true)]).await;
    println!("kill -9: ineligible after {noticed:?}, the next process eligible after {:?}", killed.elapsed());
    assert_ne!(pids(&rig).await["Server 2"], before);
    assert!(test_kill_process(before).is_err(), "lb waited for the process");
    rig.stop().await;
}

#[tokio::test]
async fn a_replica_that_was_down_and_recovers_ends_the_wait_for_all() {
    let folder = folder();
    let health = NO_PANIC.to_owned() + "[health]\ninterval_ms = 10\ntimeout_ms = 200\n";
    let mut rig = Rig::start(folder.path(), &(launcher(1) + &health)).await;
    bounded("all replicas", rig.handle().all_joined()).await.unwrap();
    let pid = pids(&rig).await["Server 1"];
    kill_process(pid, Signal::STOP).unwrap();
    rig.until_pool(&[("Server 1", false)]).await;
    let recovers = async {
        // Commands are handled in order, so the wait has begun when this one returns.
        rig.replicas().await;
        kill_process(pid, Signal::CONT).unwrap();
    };
    let (joined, ()) = bounded("its recovery", async { tokio::join!(rig.handle().all_joined(), recovers) }).await;
    assert_eq!(joined, Ok(()));
    rig.stop().await;
}

#[tokio::test]
async fn removed_replicas_drain_before_they_are_stopped() {
    let folder = folder();
    let rig = Rig::start(folder.path(), &(launcher(2) + QUICK_HEALTH)).await;
    bounded("all replicas", rig.handle().all_joined()).await.unwrap();
    let (busy, pid) = (rig.backend("Server 1"), pids(&rig).await["Server 1"]);
    busy.attempt_begins();
    assert_eq!(bounded("/rm", rig.handle().remove(remove(1, &["Server 1"]))).await.unwrap().0, ["Server 2"]);
    assert!(!busy.is_eligible());
    // This command returns after the draining of Server 1 began. Without draining, the replica would have ended by now.
    bounded("/add", rig.handle().add(add(1, &["S3"]))).await.unwrap();
    assert!(test_kill_process(pid).is_ok() && TcpStream::connect(busy.socket).is_ok(), "a request is in flight");
    busy.attempt_ends();
    bounded("the end of the process", async {
        while test_kill_process(pid).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn a_removed_replica_ends_after_its_deadline_also_if_it_is_busy() {
    let folder = folder();
    // Without the deadline it would have a day.
    let config = launcher(1) + QUICK_HEALTH + "[timeouts]\ndrain_ms = 86400000\n";
    let rig = Rig::start(folder.path(), &config).await;
    bounded("all replicas", rig.handle().all_joined()).await.unwrap();
    let (busy, pid) = (rig.backend("Server 1"), pids(&rig).await["Server 1"]);
    busy.attempt_begins();
    let deadline = Some(std::time::Duration::from_millis(20));
    let command = Remove { deadline, ..remove(1, &["Server 1"]) };
    bounded("/rm", rig.handle().remove(command)).await.unwrap();
    bounded("the end of the process", async {
        while test_kill_process(pid).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((busy.cuts(), busy.in_flight()), (1, 1), "workers were told to end it first");
    rig.stop().await;
}

#[tokio::test]
async fn an_add_returns_when_the_new_replicas_are_eligible() {
    let folder = folder();
    let rig = Rig::start(folder.path(), &(launcher(1) + QUICK_HEALTH)).await;
    bounded("all replicas", rig.handle().all_joined()).await.unwrap();
    let replicas = bounded("/add", rig.handle().add(add(3, &["S9"]))).await.unwrap();
    assert_eq!(replicas.0, ["Server 1", "S9", "Server 2", "Server 3"], "the lowest free numbers, by order of start");
    assert!(rig.pool().backends.iter().all(|backend| backend.is_eligible()));
    let sockets: std::collections::HashSet<_> = rig.pool().backends.iter().map(|backend| backend.socket).collect();
    assert_eq!(sockets.len(), 4);
    let replicas = bounded("/rm", rig.handle().remove(remove(2, &["S9"]))).await.unwrap();
    assert_eq!(replicas.0.len(), 2);
    assert!(!replicas.0.contains(&"S9".to_owned()));
    rig.stop().await;
}

#[tokio::test]
async fn a_replica_that_always_exits_fails_its_add_and_leaves_nothing() {
    let folder = folder();
    let dying = section(0, &["/bin/sh", "-c", "echo it is broken >&2; exit 3", "{port}"]);
    let rig = Rig::start(folder.path(), &(dying + QUICK_HEALTH)).await;
    let error = bounded("/add", rig.handle().add(add(1, &[]))).await.unwrap_err();
    assert_eq!(
        error,
        ControlError::Failed(
            "<Error> Replica 'Server 1' did not start: its process ended with status 3: it is broken".into()
        )
    );
    assert_eq!(rig.replicas().await, [""; 0]);
    assert_eq!(rig.handle().status().await.unwrap().overlay.replicas, None, "an error changed nothing");
    rig.stop().await;
}

#[tokio::test]
async fn a_missing_command_is_reported_at_once() {
    let folder = folder();
    let rig = Rig::start(folder.path(), &section(1, &["no-such-program-here", "{port}"])).await;
    let error = bounded("the failure", rig.handle().all_joined()).await.unwrap_err().to_string();
    assert!(
        error.contains("'Server 1'") && error.contains("no-such-program-here") && error.contains("PATH"),
        "{error}"
    );
    let again = bounded("the failure", rig.handle().all_joined()).await.unwrap_err().to_string();
    assert_eq!(again, error, "a later caller gets the same error");
    rig.stop().await;
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed() {
    let folder = folder();
    let trapped = folder.path().join("trapped");
    let script = "trap '' TERM; : > \"$0\"; while :; do sleep 60; done";
    let stubborn = section(1, &["/bin/sh", "-c", script, trapped.to_str().unwrap(), "{port}"]);
    let rig = Rig::start(folder.path(), &stubborn).await;
    let pid = bounded("its start", async {
        while !trapped.exists() {
            tokio::task::yield_now().await;
        }
        pids(&rig).await["Server 1"]
    })
    .await;
    rig.stop().await;
    assert!(test_kill_process(pid).is_err());
}
