//! A strategy that asks for it learns at the end of an attempt what the response was. The same witness in C and Rust.

use std::sync::Arc;

use lb::pool::Backend;
use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Finish, Host, NoOptions, Pick, Request};
use lb_strategy_host::{Loader, PickRequest, Strategy, Wanted, plugin_from_table};
use lb_test_support::{Hostile, chunk, closed_address, wait_until};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{PoolSetup, Setup, WORKERS, backend};

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Witness>("0", "test");

/// Tells in `explain` what its last finish brought. `witness.c` is the same in C.
struct Witness(Mutex<Value>);

// === impl Witness ===

impl lb_strategy::Strategy for Witness {
    const NAME: &'static str = "witness";
    const WANTS_FINISH: bool = true;
    const WANTS_ANSWER: bool = true;
    const RESPONSE_HEADERS: &'static [&'static str] = &["X-Load", "x-none", "x-late"];
    const EXPLAINS: bool = true;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self(Mutex::default()))
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        backends.candidate(request, 0).map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        let text = |index| finish.response_header(index).map(|value| String::from_utf8_lossy(value).into_owned());
        *self.0.lock() = json!({
            "in": finish.bytes_in(),
            "out": finish.bytes_out(),
            "has_first": u8::from(finish.first_body_ns() > 0 && finish.first_body_ns() <= finish.total_ns()),
            "headers": [text(0), text(1), text(2)],
        });
        assert_eq!(finish.response_header(3), None);
    }

    fn explain(&self, _: &(), _: &Backends<'_>, _: &Request<'_>) -> String {
        self.0.lock().to_string()
    }
}

fn in_rust() -> Arc<Strategy> {
    Strategy::new(plugin_from_table(&TABLE, WORKERS).unwrap(), &json!({})).unwrap()
}

fn in_c() -> Arc<Strategy> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libwitness.so");
    lb_test_support::compile("kit/host/tests/fixtures/witness.c", &[], &path);
    let loader = Loader::new(folder.path().join("copies"), WORKERS);
    let plugin = loader.load(&Wanted { path: &path, name: None, sha256: None }).unwrap();
    Strategy::new(plugin, &json!({})).unwrap()
}

/// A backend that reads the request's body, and responds by the path: a body in chunks with trailers, or none.
fn server() -> Hostile {
    Hostile::start(|_, wire| {
        while let Some(head) = wire.head() {
            if head.starts_with("POST") {
                wire.raw(5);
            }
            if head.contains("/empty ") {
                wire.write(b"HTTP/1.1 204 No Content\r\nx-load: 0.25\r\n\r\n");
                continue;
            }
            wire.write(b"HTTP/1.1 200 OK\r\nx-load: 0.5\r\ntransfer-encoding: chunked\r\n\r\n");
            wire.write(
                &[&chunk(b"hello ")[..], &chunk(b"world")[..], b"0\r\nx-late: yes\r\nx-load: 9\r\n\r\n"].concat(),
            );
        }
    })
}

fn pool(strategy: &Arc<Strategy>, backends: Vec<Arc<Backend>>) -> PoolSetup {
    PoolSetup { strategy: strategy.clone(), ..PoolSetup::new("default", "round_robin", backends) }
}

fn asked() -> PickRequest<'static> {
    PickRequest {
        worker: None,
        attempt: 0,
        tried: &[],
        key: None,
        random: 0,
        now_ns: 0,
        dry: true,
        body_length: None,
        lookup: &(),
    }
}

fn a_finish_tells_what_the_response_was(strategy: &Arc<Strategy>) {
    let server = server();
    let lb = Setup::new(&[server.addr]).with(|setup| setup.pools[0].strategy = strategy.clone()).start();
    let told = || -> Value {
        lb.comes_to_rest();
        let said = lb.hall.current().pools[0].picker.explain(&asked()).expect("it explains").unwrap();
        serde_json::from_str(&said).unwrap()
    };
    let of_body = json!(["0.5", null, "yes"]);
    assert_eq!(lb.client().get("/").status(), 200);
    assert_eq!(told(), json!({ "in": 0, "out": 11, "has_first": 1, "headers": of_body }));
    assert_eq!(lb.client().post("/", &[], b"12345").status(), 200);
    assert_eq!(told(), json!({ "in": 5, "out": 11, "has_first": 1, "headers": of_body }));
    assert_eq!(lb.client().get("/empty").status(), 204);
    assert_eq!(told(), json!({ "in": 0, "out": 0, "has_first": 0, "headers": ["0.25", null, null] }));

    // An attempt without a response, with no retry behind it.
    let number = lb.publish(&[pool(strategy, vec![backend("gone", closed_address())])]);
    wait_until("the workers to follow", || lb.hall.is_taken_up(number));
    assert_eq!(lb.client().post("/", &[], b"12345").status(), 502);
    let told = told();
    assert_eq!((&told["out"], &told["headers"]), (&json!(0), &json!([null, null, null])));
}

#[test]
fn a_finish_tells_a_strategy_in_rust_what_the_response_was() {
    a_finish_tells_what_the_response_was(&in_rust());
}

#[test]
fn a_finish_tells_a_strategy_in_c_what_the_response_was() {
    a_finish_tells_what_the_response_was(&in_c());
}

/// The values of headers go to the instance that named them.
#[test]
fn an_instance_that_named_other_headers_gets_no_values() {
    let server = Hostile::start(|_, wire| {
        while wire.head().is_some() {
            wire.write(b"HTTP/1.1 200 OK\r\nx-load: 0.5\r\ncontent-length: 2\r\n\r\n");
            // The rest comes when the client has sent another request, which the test does after the swap.
            wire.raw(1);
            wire.write(b"ok");
        }
    });
    let (first, second) = (in_rust(), in_rust());
    let lb = Setup::new(&[server.addr]).with(|setup| setup.pools[0].strategy = first.clone()).start();
    let mut client = lb.client();
    client.send(b"POST / HTTP/1.1\r\nhost: lb\r\ncontent-length: 1\r\n\r\n");
    client.head().unwrap();
    let number = lb.publish(&[pool(&second, lb.backends.clone())]);
    wait_until("the workers to follow", || lb.hall.is_taken_up(number));
    client.send(b"x");
    assert_eq!(client.raw(2), b"ok");
    lb.comes_to_rest();
    let said = lb.hall.current().pools[0].picker.explain(&asked()).expect("it explains").unwrap();
    assert_eq!(said, r#"{"has_first":1,"headers":[null,null,null],"in":1,"out":2}"#);
}
