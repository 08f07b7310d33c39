//! Why the host's rules for loading exist: the same plugins are safe in this host and unsafe in one without the rules.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};

use lb_strategy_host::{Decision, Picker, Strategy};
use serde_json::json;

use crate::fixture::{Bench, HeaderList, list, request, source};

/// Plugins have a function with this name too. The test calls it only so that the linker keeps it in this program.
#[unsafe(no_mangle)]
extern "C" fn helper() -> i32 {
    0
}

fn careless(bench: &Bench, flags: &[&str], plugin: &Path, way: &str) -> Output {
    let flags = [&["-pthread", "-ldl"], flags].concat();
    let host = bench.build_program(&source("kit/host/tests/fixtures/careless_host.c"), "careless_host", &flags);
    Command::new(host).arg(plugin).arg(way).output().expect("it runs")
}

#[test]
fn a_plugin_in_rust_that_was_used_by_a_thread_crashes_a_host_that_unloads_it_and_not_this_one() {
    let bench = Bench::new();
    let frozen = source("kit/host/tests/fixtures/abi-1.0/plugin.rs");
    let plugin = bench.build_rust(&frozen, "libthreads.so", &["--cfg", "uses_threads"]);

    let unloaded = careless(&bench, &[], &plugin, "close");
    assert_eq!(unloaded.status.signal(), Some(11), "{unloaded:?}: if this is safe now, images could be unloaded");
    let kept = careless(&bench, &[], &plugin, "keep");
    assert!(kept.status.success() && kept.stdout == b"0\n", "{kept:?}");

    // The same here: a thread uses the plugin, all handles are dropped, then the thread ends.
    let strategy = Strategy::new(bench.load(&plugin).unwrap(), &json!({})).unwrap();
    let picker = Arc::new(Picker::new(strategy, list(3, &[0, 1, 2])).unwrap());
    let (sender, given_up) = mpsc::channel();
    let shared = picker.clone();
    let worker = std::thread::spawn(move || {
        let decision = shared.pick(&request(&[], &HeaderList(&[])));
        drop(shared);
        let () = given_up.recv().unwrap();
        decision
    });
    while Arc::strong_count(&picker) > 1 {
        std::thread::yield_now();
    }
    drop((picker, bench));
    sender.send(()).unwrap();
    assert!(matches!(worker.join().unwrap(), Decision::Backend { index: 0, .. }));
}

#[test]
fn every_plugin_calls_its_own_function_even_if_another_has_the_same_name() {
    let bench = Bench::new();
    assert_eq!(helper(), 0);
    let fixture = source("kit/host/tests/fixtures/own_helper.c");
    let build =
        |number: u32| bench.build("cc", &fixture, &format!("libhelper{number}.so"), &[&format!("-DHELPER={number}")]);
    let plugins = [1, 2].map(build);
    // If a program exports its functions to the libraries that it loads, a plugin calls the program's function.
    let offering = careless(&bench, &["-DHELPER=0", "-rdynamic"], &plugins[0], "keep");
    assert!(offering.status.success() && offering.stdout == b"0\n", "{offering:?}");
    let keeping = careless(&bench, &["-DHELPER=0"], &plugins[0], "keep");
    assert!(keeping.status.success() && keeping.stdout == b"1\n", "{keeping:?}");

    for (plugin, index) in plugins.iter().zip([1, 2]) {
        let strategy = Strategy::new(bench.load(plugin).unwrap(), &json!({})).unwrap();
        let picker = Picker::new(strategy, list(3, &[0, 1, 2])).unwrap();
        assert_eq!(picker.pick(&request(&[], &HeaderList(&[]))), Decision::Backend { index, token: 0 });
    }
}
