//! A thousand swaps under all kinds of traffic: no request fails.
//!
//! Counted clients send a fixed number of requests over connections that are opened once. Long clients stay connected
//! from before the first swap until after the last one. One thread swaps. Afterwards the counts of clients, balancer
//! and servers must agree, and no old generation may be left.

use std::collections::BTreeMap;

use lb_test_support::{Balancer, Client, folder, get, metrics, mock, parse, wait_for};
use mock_server::Running;
use serde_json::Value;

use crate::bench::post;
use crate::long_clients::{LONG_CLIENTS, LongClient, Served};
use crate::pace::{Pace, REQUESTS_PER_SWAP, SWAPS};

/// Connections of the counted clients.
const CONNECTIONS: u64 = 16;
const SEED: u64 = 20;
const STRATEGIES: [&str; 3] = ["round_robin", "least_connections", "consistent_hash"];
const RING: usize = 2;
/// The pool that has a route only sometimes.
const SIDE: &str = "side";

/// The settings in the configuration that a swap may change.
struct Wanted {
    random: fastrand::Rng,
    /// Strategies of the pool `default` and of the other pool.
    strategies: [usize; 2],
    virtual_nodes: u32,
    weights: [u32; 3],
    connect_ms: u32,
    checks_ms: u32,
    is_routed: bool,
}

/// The part of the report of a reload that shows a change.
#[derive(Debug, PartialEq)]
enum Change {
    /// A swap: pool and kind, as in the metrics.
    Swap(&'static str, &'static str),
    /// The key in `applied`.
    Key(&'static str),
}

#[test]
fn a_thousand_swaps_under_all_kinds_of_traffic_lose_nothing_and_leave_nothing() {
    let servers: Vec<Running> = ["1", "2", "3"].map(mock).into_iter().collect();
    let mut wanted = Wanted::new();
    let mut lb = Balancer::start_in(folder(&wanted.text(&servers)), &["--set", "proxy.workers=2"]);
    let pace = Pace::new(LONG_CLIENTS.len());
    let mut swaps = BTreeMap::new();
    let served: Vec<Served> = std::thread::scope(|scope| {
        let (pace, proxy) = (&pace, lb.proxy);
        let long_clients = LONG_CLIENTS.iter().enumerate().map(|(number, stay)| {
            scope.spawn(move || {
                let _alarm = pace.alarm();
                stay(LongClient::new(number, proxy, pace))
            })
        });
        let counted = (0..CONNECTIONS).map(|_| {
            scope.spawn(move || {
                let _alarm = pace.alarm();
                ask_while_there_is_more(Client::connect(proxy), pace)
            })
        });
        let clients: Vec<_> = long_clients.chain(counted).collect();
        let alarm = pace.alarm();
        for swap in 1..=SWAPS {
            pace.before_swap();
            let change = wanted.change();
            std::fs::write(lb.path("lb.toml"), wanted.text(&servers)).unwrap();
            let answer = post(lb.admin, "/reload", "");
            assert_eq!(answer.status, 200, "swap {swap}, {change:?}, seed {SEED}: {}", answer.body);
            change.is_told_in(&answer.json());
            if let Change::Swap(pool, kind) = change {
                *swaps.entry((pool, kind)).or_default() += 1.0;
            }
            pace.swapped();
        }
        drop(alarm);
        clients.into_iter().map(|client| client.join().expect("no client fails")).collect()
    });

    let mut clients: BTreeMap<String, u64> = BTreeMap::new();
    served.into_iter().flatten().for_each(|server| *clients.entry(server).or_default() += 1);
    let asked: u64 = clients.values().sum();
    assert!(asked > SWAPS * REQUESTS_PER_SWAP, "{asked}");
    wait_for("requests to end", || (sum(&lb, "lb_requests_in_flight", "") == 0.0).then_some(()));
    wait_for("attempts to end", || (sum(&lb, "lb_backend_requests_in_flight", "") == 0.0).then_some(()));
    wait_for("connections to end", || (sum(&lb, "lb_client_connections", "") == 0.0).then_some(()));
    wait_for("old generations to be freed", || (status(&lb)["retired_generations"] == 0).then_some(()));
    for (server, id) in servers.iter().zip(["1", "2", "3"]) {
        let by_balancer = ["b", "s"]
            .map(|pool| sum(&lb, "lb_backend_requests_total", &format!("backend=\"{pool}{id}\"")))
            .iter()
            .sum::<f64>();
        assert_eq!((by_balancer, server.stats().requests), (clients[id] as f64, clients[id]), "server {id}");
    }
    assert_eq!(sum(&lb, "lb_requests_total", ""), asked as f64);
    let tunnels = sum(&lb, "lb_requests_total", "code=\"101\"");
    assert_eq!((tunnels, sum(&lb, "lb_requests_total", "code=\"200\"")), (3.0, (asked - 3) as f64));
    assert_eq!(sum(&lb, "lb_client_connections_accepted_total", ""), (CONNECTIONS + LONG_CLIENTS.len() as u64) as f64);
    for name in ["lb_proxy_errors_total", "lb_backend_errors_total", "lb_retries_total", "lb_strategy_fallbacks_total"]
    {
        assert_eq!(sum(&lb, name, ""), 0.0, "{name}");
    }
    for pool in ["default", SIDE] {
        for kind in ["strategy", "options", "plugin", "rollback"] {
            let counted = sum(&lb, "lb_strategy_swaps_total", &format!("pool=\"{pool}\",kind=\"{kind}\""));
            assert_eq!(counted, swaps.get(&(pool, kind)).copied().unwrap_or(0.0), "{kind} of {pool}, seed {SEED}");
        }
    }
    assert!(swaps.len() == 3 && swaps.values().all(|count| *count > 20.0), "{swaps:?}");
    let status = status(&lb);
    assert!(status["generation"].as_u64() > Some(SWAPS), "{}", status["generation"]);
    assert_eq!(status["images"], STRATEGIES.len());
    let backends = status["pools"].as_array().unwrap().iter().flat_map(|pool| pool["backends"].as_array().unwrap());
    assert!(backends.clone().all(|backend| backend["in_flight"] == 0 && backend["eligible"] == true), "{status}");
    // No worker takes up a generation twice. A late worker may skip some.
    wait_for("the last generation to be counted", || {
        let most = 2.0 * (status["generation"].as_f64().unwrap() - 1.0);
        let taken_up = sum(&lb, "lb_generation_take_up_seconds_count", "");
        (SWAPS as f64..=most).contains(&taken_up).then_some(())
    });
    lb.signal("TERM");
    assert_eq!(lb.end().code(), Some(0), "lb drained and was not killed by the signal");
}

fn ask_while_there_is_more(mut client: Client, pace: &Pace) -> Served {
    let mut served = Served::new();
    while pace.before_request() {
        let answer = client.get("/home");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let server = answer.field("x-server-id").expect("every response names its server");
        assert_eq!(parse(&answer.body)["message"], format!("Hello from Server: {server}"));
        served.push(server);
        pace.answered();
    }
    served
}

fn status(lb: &Balancer) -> Value {
    get(lb.admin, "/status").json()
}

/// The sum of the series of `name` that have these labels.
fn sum(lb: &Balancer, name: &str, labels: &str) -> f64 {
    let page = get(lb.admin, "/metrics").body;
    metrics::sum(&page, name, &[labels])
}

// === impl Wanted ===

impl Wanted {
    fn new() -> Self {
        Self {
            random: fastrand::Rng::with_seed(SEED),
            strategies: [0, 0],
            virtual_nodes: 100,
            weights: [1; 3],
            connect_ms: 5_000,
            checks_ms: 80_000_000,
            is_routed: false,
        }
    }

    /// Changes one setting to a different value.
    fn change(&mut self) -> Change {
        match self.random.u8(..10) {
            0..4 => self.swap(0, "default"),
            4 => self.swap(1, SIDE),
            5 if self.strategies[0] == RING => {
                self.virtual_nodes = 250 - self.virtual_nodes;
                Change::Swap("default", "options")
            }
            5 | 6 => {
                let weight = &mut self.weights[self.random.usize(..3)];
                *weight = *weight % 4 + 1;
                Change::Key("backends")
            }
            7 => {
                self.connect_ms += 1;
                Change::Key("timeouts")
            }
            8 => {
                self.checks_ms += 1;
                Change::Key("health")
            }
            _ => {
                self.is_routed = !self.is_routed;
                Change::Key("routes")
            }
        }
    }

    fn swap(&mut self, pool: usize, name: &'static str) -> Change {
        let strategy = &mut self.strategies[pool];
        *strategy = (*strategy + self.random.usize(1..STRATEGIES.len())) % STRATEGIES.len();
        Change::Swap(name, "strategy")
    }

    fn text(&self, servers: &[Running]) -> String {
        let Self { random: _, strategies: [main, side], virtual_nodes, weights, connect_ms, checks_ms, is_routed } =
            self;
        let (main, side) = (STRATEGIES[*main], STRATEGIES[*side]);
        // Without probation, which measures the time of picks. On a busy machine, a rollback could be correct.
        let day = 86_400_000;
        let mut text = format!(
            "[proxy]\nupgrades = [\"echo\"]\n[strategy]\nname = {main:?}\n[strategy.config.consistent_hash]\nvirtual_nodes = {virtual_nodes}\n\
             [pools.{SIDE}.strategy]\nname = {side:?}\n\
             [health]\ninterval_ms = {checks_ms}\ntimeout_ms = {day}\n\
             [reload]\nwatch = false\nprobation_ms = 0\n[timeouts]\nconnect_ms = {connect_ms}\nhead_ms = {day}\nidle_ms = {day}\nclient_keep_alive_ms = {day}\nbody_grace_ms = {day}\n"
        );
        for ((number, server), weight) in (1..).zip(servers).zip(weights) {
            let address = server.addr;
            text += &format!("[[backends]]\nid = \"b{number}\"\naddress = \"{address}\"\nweight = {weight}\n");
            text += &format!("[[pools.{SIDE}.backends]]\nid = \"s{number}\"\naddress = \"{address}\"\n");
        }
        if *is_routed {
            text += &format!("[[routes]]\npath = \"/home\"\npool = {SIDE:?}\n");
        }
        text
    }
}

// === impl Change ===

impl Change {
    #[track_caller]
    fn is_told_in(&self, report: &Value) {
        assert_eq!(report["result"], "done", "{self:?}: {report}");
        let changed = report["pools"].as_array().unwrap().iter().filter(|pool| pool["change"] != "unchanged");
        let changed: Vec<_> =
            changed.map(|pool| (pool["pool"].as_str().unwrap(), pool["change"].as_str().unwrap())).collect();
        let applied: Vec<_> = report["applied"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        match self {
            Self::Swap(pool, kind) => assert_eq!((changed, applied), (vec![(*pool, *kind)], vec![]), "{report}"),
            Self::Key(key) => assert_eq!((changed, applied), (vec![], vec![*key]), "{report}"),
        }
    }
}
