//! The life of a plugin: the thread that makes and frees instances and pickers, thread-local destructors, and the exit
//! of the process.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use lb_test_support::{get, mock, send, wait_for};
use serde_json::json;

use crate::bench::{Bench, compiled, compiled_rust, filed, named, post};

/// The lines that `tells_threads.c` wrote in `process`: thread and hook, with the instance or picker.
fn told(text: &str, process: &str) -> Vec<(String, String, String)> {
    let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|words| words[0] == process);
    words.map(|words| (words[1].to_owned(), words[2].to_owned(), words[3].to_owned())).collect()
}

#[test]
fn the_builder_makes_and_frees_each_instance_and_picker_once_also_without_requests() {
    let file = "telling.so";
    let journal = tempfile::NamedTempFile::new().unwrap();
    // The child that tries the plugin writes too. It runs as the user `nobody` if lb is root.
    std::fs::set_permissions(journal.path(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let telling = format!("{}[strategy.config.telling]\nfile = {:?}\n", filed(file), journal.path());
    let bench = Bench::start_with(&named("round_robin"), &[(file, &compiled("tells_threads.c", &[]))]);
    let process = bench.ready()["pid"].to_string();
    let (extra, admin) = (mock("4"), bench.lb.admin);
    for _ in 0..3 {
        bench.change(&telling);
        for n in 0..3 {
            let attach = json!({ "backends": [{ "id": format!("a{n}"), "address": extra.addr.to_string() }] });
            assert_eq!(post(admin, "/add", &attach.to_string()).status, 200);
        }
        bench.under_load(2, |_| {});
        bench.change(&named("round_robin"));
        let last = post(admin, "/reload", r#"{"strategy":{"name":"least_connections"}}"#);
        assert_eq!(last.status, 200, "{}", last.body);
        let plain = send(admin, "DELETE", "/rm", &[], r#"{"n":3,"hostnames":["a0","a1","a2"]}"#);
        assert_eq!(plain.status, 200, "{}", plain.body);
    }
    // lb keeps the last proven strategy for a rollback. Since then, two others were in force, so all of ours are freed.
    let read = || told(&std::fs::read_to_string(journal.path()).unwrap(), &process);
    let count = |hook: &str| read().iter().filter(|(_, told, _)| told == hook).count();
    wait_for("the last instance to be freed", || (count("strategy_free") == 3).then_some(()));
    let lines = read();
    assert!(lines.iter().all(|(thread, ..)| thread == "lb-builder"), "{lines:?}");
    assert_eq!(count("strategy_new"), 3, "{lines:?}");
    let mut alive = BTreeMap::new();
    for (_, hook, subject) in &lines {
        let (what, is_new) = hook.split_once('_').map(|(what, verb)| (what, verb == "new")).unwrap();
        let before = alive.insert((what, subject), is_new).unwrap_or(false);
        assert_ne!(before, is_new, "{hook} of {subject}: {lines:?}");
        let pickers = alive.iter().filter(|((what, _), lives)| *what == "picker" && **lives).count();
        assert!(hook != "strategy_free" || pickers == 0, "a strategy is freed before its pickers: {lines:?}");
    }
    assert!(alive.values().all(|lives| !lives) && count("picker_new") >= 9, "{lines:?}");
}

#[test]
fn a_plugin_with_thread_local_data_in_workers_does_not_disturb_their_end() {
    let file = "libfrozen.so";
    let plugin = compiled_rust("kit/host/tests/fixtures/abi-1.0/plugin.rs", &["--cfg", "uses_threads"]);
    let mut bench = Bench::start_with(&filed(file), &[(file, &plugin)]);
    bench.under_load(4, |_| {});
    bench.change(&named("round_robin"));
    bench.change(&named("least_connections"));
    bench.under_load(4, |_| {});
    wait_for("old generations to be freed", || (bench.status()["retired_generations"] == 0).then_some(()));
    bench.lb.signal("TERM");
    assert!(bench.lb.end().success(), "{}", bench.lb.printed("stderr"));
}

#[test]
fn a_plugins_exit_handler_runs_after_the_last_pick() {
    let file = "libbroken.so";
    let mut bench = Bench::start_with(&filed(file), &[(file, &compiled("says_goodbye.c", &[]))]);
    let proxy = bench.lb.proxy;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // Sends requests until the port is closed.
            scope.spawn(move || {
                while let Ok(mut stream) = TcpStream::connect(proxy) {
                    let _ = stream.write_all(b"GET /home HTTP/1.1\r\nhost: lb\r\nconnection: close\r\n\r\n");
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
        }
        wait_for("some requests", || (bench.seen() > 50).then_some(()));
        bench.lb.signal("TERM");
        assert!(bench.lb.end().success(), "{}", bench.lb.printed("stderr"));
    });
    assert!(bench.lb.printed("stderr").contains("a plugin says goodbye"), "the exit handler ran");
}

#[test]
fn counts_in_flight_stay_right_over_reloads_and_a_removal_and_return_to_zero() {
    let bench = Bench::start(&named("round_robin"));
    let (admin, proxy) = (bench.lb.admin, bench.lb.proxy);
    let stall = |on: bool| {
        let change = mock_server::Change { stall: Some(on), ..Default::default() };
        bench.servers.iter().for_each(|server| server.change(&change).unwrap());
    };
    let counts = || {
        let backends = bench.status()["pools"][0]["backends"].clone();
        let counts =
            backends.as_array().unwrap().iter().map(|b| (b["id"].to_string(), b["in_flight"].as_u64().unwrap()));
        counts.collect::<BTreeMap<_, _>>()
    };
    stall(true);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..9).map(|_| scope.spawn(move || get(proxy, "/home").status)).collect();
        wait_for("all requests to be in flight", || counts().values().all(|count| *count == 3).then_some(()));
        let first = json!({ "id": "b1", "address": bench.servers[0].addr.to_string() });
        for name in ["least_connections", "consistent_hash", "round_robin"] {
            bench.change(&named(name));
            assert!(counts().values().all(|count| *count == 3), "{name}: {:?}", counts());
            assert_eq!(send(admin, "DELETE", "/rm", &[], r#"{"n":1,"hostnames":["b1"]}"#).status, 200);
            assert_eq!(counts().len(), 2);
            assert_eq!(post(admin, "/add", &json!({ "backends": [first] }).to_string()).status, 200);
            assert_eq!(counts()["\"b1\""], 3, "{name}: the count is kept while the backend is removed");
        }
        stall(false);
        assert!(clients.into_iter().all(|client| client.join().unwrap() == 200));
    });
    wait_for("all counts to be zero", || counts().values().all(|count| *count == 0).then_some(()));
}
