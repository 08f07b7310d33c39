//! Every field of a list, a request and a finish arrives at a Rust strategy, through the table.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lb_strategy::abi::{LB_BACKEND_DRAINING, LB_BACKEND_ELIGIBLE, LB_BACKEND_HEALTHY, LbStrategyTable};
use lb_strategy::{Backends, Error, Host, NoOptions, Outcome, Pick, Request};
use lb_strategy_host::{
    BackendList, BackendSpec, Decision, Finish, PickRequest, Picker, Start, Stats, Strategy, backend_id,
    plugin_from_table,
};
use serde_json::{Value, json};

use crate::fixture::{HeaderList, list, request};

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Witness>("0", "test");

/// Returns in `explain` all that it got.
struct Witness {
    workers: usize,
}

// === impl Witness ===

impl lb_strategy::Strategy for Witness {
    const NAME: &'static str = "witness";
    const WANTS_HASH: bool = true;
    const WANTS_FINISH: bool = true;
    const WANTS_START: bool = true;
    const METRICS: bool = true;
    const EXPLAINS: bool = true;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, host: Host) -> Result<Self, Error> {
        Ok(Self { workers: host.workers() })
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let candidate = backends.candidates(request).next();
        candidate.map_or(Pick::NoBackend, |(index, _)| Pick::BackendWithToken(index, request.random()))
    }

    fn on_start(&self, start: &lb_strategy::Start<'_>) {
        let Some(slot) = start.slot() else { return };
        let length = start.body_length().unwrap_or(99);
        let words = [u64::from(start.attempt()), u64::from(start.is_own()), start.token(), length, start.now_ns()];
        words.into_iter().enumerate().for_each(|(index, word)| slot.word(index).store(word, Relaxed));
    }

    fn metrics(&self, metrics: &mut lb_strategy::Metrics<'_>) {
        metrics.counter("picks", "Picks so far.", 7.0);
        metrics.gauge_of("b1", "load", "Load of a \"backend\".", 0.5);
    }

    /// Stores the fields in the slot of the backend.
    fn on_finish(&self, finish: &lb_strategy::Finish<'_>) {
        let Some(slot) = finish.slot() else { return };
        let outcome = match finish.outcome() {
            Outcome::Timeout => 2,
            Outcome::Other(other) => u64::from(other),
            _ => 99,
        };
        let flags = u64::from(finish.is_own()) + 2 * u64::from(finish.is_upgraded());
        let status = finish.http_status().map_or(0, u64::from);
        let words =
            [outcome, status, flags, finish.token(), finish.time_to_head_ns(), finish.total_ns(), finish.now_ns()];
        words.into_iter().enumerate().for_each(|(index, word)| slot.word(index).store(word, Relaxed));
        slot.word(7).fetch_add(1 + u64::from(finish.attempt()), Relaxed);
    }

    fn explain(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> String {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        json!({
            "workers": self.workers,
            "epochs": [backends.epoch(), backends.members_epoch()],
            "backends": backends.iter().map(|b| json!([
                b.id(), b.name(), b.address(), b.weight(), b.effective_weight(), b.is_eligible(), b.is_healthy(), b.is_draining(),
                b.in_flight(), b.consecutive_errors(), b.ewma_latency_ns(), b.label("zone"), b.label("n"), b.label("x"),
            ])).collect::<Vec<_>>(),
            "words": backends.iter().map(|b| (0..8).map(|w| b.slot().word(w).load(Relaxed)).collect()).collect::<Vec<Vec<u64>>>(),
            "request": [json!(text(request.key())), json!(request.hash()), json!(request.random()), json!(request.now_ns()),
                json!(request.attempt()), json!(request.tried()), json!(request.is_dry()), json!(request.worker())],
            "headers": [text(request.header("x-key", 0)), text(request.header("X-Key", 1)), text(request.header("x-key", 2)),
                text(request.header("", 0))],
            "parts": [request.method(), request.path(), request.host(), &request.client().expect("a client").to_string()],
            "body": [json!(request.body()), json!(request.body_length())],
            "candidates": backends.candidates(request).map(|(index, _)| index).collect::<Vec<_>>(),
            "eligible": backends.eligible(),
        })
        .to_string()
    }
}

fn testimony(picker: &Picker, request: &PickRequest<'_>) -> Value {
    serde_json::from_str(&picker.explain(request).expect("it explains").unwrap()).expect("JSON")
}

fn witness() -> Arc<Strategy> {
    Strategy::new(plugin_from_table(&TABLE, 6).expect("a sound table"), &Value::Null).expect("null is no options")
}

#[test]
fn every_field_of_a_backend_arrives() {
    let stats = Arc::<Stats>::default();
    let spec = |name: &str, weight, flags| BackendSpec {
        name: name.into(),
        address: format!("{name}:80").into(),
        labels: format!(r#"{{"zone":"{name}","n":{weight}}}"#).into(),
        weight,
        effective: weight * 370,
        flags,
        stats: stats.clone(),
        slot: Arc::default(),
    };
    let specs = vec![spec("a", 3, LB_BACKEND_ELIGIBLE | LB_BACKEND_HEALTHY), spec("Server 2", 0, LB_BACKEND_DRAINING)];
    let picker = Picker::new(witness(), BackendList::new(specs, 11, 22)).unwrap();
    stats.in_flight.store(4, Relaxed);
    stats.consecutive_errors.store(5, Relaxed);
    stats.ewma_latency_ns.store(6, Relaxed);
    let seen = testimony(&picker, &request(&[], &HeaderList(&[])));
    assert_eq!(seen["workers"], 6);
    assert_eq!(seen["epochs"], json!([11, 22]));
    assert_eq!(
        seen["backends"],
        json!([
            [backend_id("a"), "a", "a:80", 3, 1110, true, true, false, 4, 5, 6, "a", "3", null],
            [
                backend_id("Server 2"),
                "Server 2",
                "Server 2:80",
                0,
                0,
                false,
                false,
                true,
                4,
                5,
                6,
                "Server 2",
                "0",
                null
            ],
        ])
    );
}

#[test]
fn ids_are_those_of_xxh3() {
    // From the reference implementation (xxhsum -H3), which publishes the hash of the empty text in its test vectors.
    assert_eq!(backend_id(""), 0x2d06800538d394c2);
}

#[test]
fn every_field_of_a_request_arrives() {
    let picker = Picker::new(witness(), list(3, &[0, 1, 2])).unwrap();
    let headers = HeaderList(&[("X-Key", "one"), ("other", "no"), ("x-key", "two")]);
    let full = PickRequest {
        worker: Some(3),
        attempt: 2,
        tried: &[2, 0],
        key: Some((b"k\x20y", 77)),
        random: 88,
        now_ns: 99,
        dry: true,
        body_length: None,
        lookup: &headers,
    };
    let seen = testimony(&picker, &full);
    assert_eq!(seen["request"], json!(["k y", 77, 88, 99, 2, [2, 0], true, 3]));
    assert_eq!(seen["headers"], json!(["one", "two", null, null]));
    assert_eq!(seen["parts"], json!(["PATCH", "/a?b=c", "shop.example", "192.0.2.7"]));
    assert_eq!((&seen["candidates"], &seen["eligible"]), (&json!([1]), &json!([0, 1, 2])));
    assert_eq!(picker.pick(&full), Decision::Backend { index: 1, token: 88 });
    let bare = PickRequest { worker: None, key: None, tried: &[], dry: false, lookup: &HeaderList(&[]), ..full };
    assert_eq!(seen["body"], json!([b"a\0b", null]));
    assert_eq!(testimony(&picker, &bare)["request"], json!([null, null, 88, 99, 2, [], false, null]));
    let length = |length| testimony(&picker, &PickRequest { body_length: length, ..bare })["body"][1].clone();
    assert_eq!((length(Some(0)), length(Some(7))), (json!(0), json!(7)));
    let empty_key = PickRequest { key: Some((b"", 5)), ..bare };
    assert_eq!(testimony(&picker, &empty_key)["request"][0], "", "an empty key is a key");
}

#[test]
fn a_start_arrives_with_the_slot_of_its_backend() {
    let picker = Picker::new(witness(), list(3, &[])).unwrap();
    let start = Start {
        worker: Some(1),
        backend_id: backend_id("b2"),
        attempt: 1,
        own: true,
        token: 41,
        body_length: Some(42),
        now_ns: 43,
    };
    picker.start(&start);
    picker.start(&Start { backend_id: backend_id("removed"), ..start });
    picker.start(&Start { backend_id: backend_id("b0"), own: false, body_length: None, ..start });
    let words = &testimony(&picker, &request(&[], &HeaderList(&[])))["words"];
    assert_eq!(words[2], json!([1, 1, 41, 42, 43, 0, 0, 0]));
    assert_eq!(words[1], json!([0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(words[0], json!([1, 0, 0, 99, 43, 0, 0, 0]), "a foreign pick's token is 0");
}

#[test]
fn metrics_arrive_as_json_lines() {
    let lines = String::from_utf8(witness().metrics().expect("it has metrics").unwrap()).unwrap();
    let samples: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let load = json!({
        "name": "load", "type": "gauge", "help": "Load of a \"backend\".", "value": 0.5, "backend": "b1"
    });
    let picks = json!({ "name": "picks", "type": "counter", "help": "Picks so far.", "value": 7.0 });
    assert_eq!(samples, [picks, load]);
}

#[test]
fn every_draw_is_a_candidate_and_all_are_equally_likely() {
    struct Dealer;
    impl lb_strategy::Strategy for Dealer {
        const NAME: &'static str = "dealer";
        type Config = NoOptions;
        type Picker = ();
        fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
            Ok(Self)
        }
        fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
            Ok(())
        }
        fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
            assert_eq!(backends.candidate(request, backends.candidate_count(request)).map(|(index, _)| index), None);
            let drawn = backends.draw(request, request.random() as u32);
            drawn.map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
        }
    }
    static DEALER: LbStrategyTable = lb_strategy::ffi::hooks::table::<Dealer>("0", "test");
    let strategy = Strategy::new(plugin_from_table(&DEALER, 1).unwrap(), &Value::Null).unwrap();
    let counts = |tried: &[u32]| {
        let picker = Picker::new(strategy.clone(), list(6, &[1, 2, 4, 5])).unwrap();
        let mut counts = [0; 6];
        for draw in 0..4_000_u64 {
            let asked = PickRequest { random: draw * (1 << 32) / 4_000, ..request(tried, &HeaderList(&[])) };
            match picker.pick(&asked) {
                Decision::Backend { index, .. } => counts[index] += 1,
                other => return Err(other),
            }
        }
        Ok(counts)
    };
    assert_eq!(counts(&[]), Ok([0, 1000, 1000, 0, 1000, 1000]));
    assert_eq!(counts(&[4, 0, 4, 1]), Ok([0, 0, 2000, 0, 0, 2000]), "tried twice, and one that is not eligible");
    assert_eq!(counts(&[1, 2, 4, 5]), Err(Decision::NoBackend));
}

#[test]
fn a_finish_arrives_with_the_slot_of_its_backend_at_any_index() {
    let picker = Picker::new(witness(), list(3, &[])).unwrap();
    let finish = Finish {
        worker: Some(1),
        backend_id: backend_id("b2"),
        outcome: Outcome::Timeout,
        http_status: Some(504),
        attempt: 1,
        own: true,
        upgraded: true,
        token: 41,
        time_to_head_ns: 42,
        total_ns: 43,
        now_ns: 44,
    };
    picker.finish(&finish);
    picker.finish(&Finish { backend_id: backend_id("removed"), ..finish });
    let foreign =
        Finish { backend_id: backend_id("b0"), own: false, upgraded: false, http_status: None, attempt: 0, ..finish };
    picker.finish(&Finish { outcome: Outcome::Other(1000), ..foreign });
    let words = &testimony(&picker, &request(&[], &HeaderList(&[])))["words"];
    assert_eq!(words[2], json!([2, 504, 3, 41, 42, 43, 44, 2]));
    assert_eq!(words[1], json!([0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(words[0], json!([1000, 0, 0, 0, 42, 43, 44, 1]), "a foreign pick's token is 0");
}
