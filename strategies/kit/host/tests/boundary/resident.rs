//! Loaded plugins: a working C plugin, images by content, the number of images, a table that ends inside a pointer.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use lb_strategy_host::{Decision, HookError, Picker, Strategy};
use serde_json::json;

use crate::fixture::{Bench, HeaderList, list, request};

#[test]
fn a_plugin_in_plain_c_loads_and_picks() {
    let bench = Bench::new();
    let plugin = bench.load_fixture("first_eligible");
    assert_eq!((plugin.name(), plugin.version(), plugin.build()), ("first_eligible", "1.0.0", "C"));
    assert!(!plugin.wants().hash && !plugin.wants().finish && plugin.state_schema().is_none() && plugin.tick_ms() == 0);
    let strategy = Strategy::new(plugin, &json!({})).unwrap();
    let none = HeaderList(&[]);
    let picker = Picker::new(strategy.clone(), list(4, &[1, 3])).unwrap();
    assert_eq!(picker.pick(&request(&[], &none)), Decision::Backend { index: 1, token: 0 });
    assert_eq!(picker.pick(&request(&[1], &none)), Decision::Backend { index: 3, token: 0 });
    assert_eq!(picker.pick(&request(&[1, 3], &none)), Decision::NoBackend);
    let empty = Picker::new(strategy.clone(), list(0, &[])).unwrap();
    assert_eq!(empty.pick(&request(&[], &none)), Decision::NoBackend);
    assert!(strategy.export_state().is_none() && picker.explain(&request(&[], &none)).is_none());
}

#[test]
fn a_refusal_of_options_contains_the_plugins_reason() {
    let bench = Bench::new();
    let refused = Strategy::new(bench.load_fixture("first_eligible"), &json!({ "x": 1 }));
    let Err(error @ HookError::Options { .. }) = refused else { panic!("it was taken") };
    assert_eq!(error.to_string(), "strategy first_eligible refuses its options: first_eligible has no options");
}

#[test]
fn the_same_bytes_are_the_same_image_and_other_bytes_are_another() {
    let bench = Bench::new();
    let path = bench.compile("first_eligible");
    let copy = bench.path("libcopy.so");
    fs::copy(&path, &copy).unwrap();
    let first = bench.load(&path).unwrap();
    assert!(Arc::ptr_eq(&first, &bench.load(&copy).unwrap()));
    assert_eq!(bench.loader.images(), 1);
    // Bytes after the sections change the file's SHA-256 and nothing else.
    OpenOptions::new().append(true).open(&copy).unwrap().write_all(b"another build").unwrap();
    let second = bench.load(&copy).unwrap();
    assert!(!Arc::ptr_eq(&first, &second) && first.sha256() != second.sha256());
    assert_eq!(bench.loader.images(), 2);
}

#[test]
fn a_refused_image_counts_as_resident_once() {
    let bench = Bench::new();
    let path = bench.compile("broken/wrong_major");
    for _ in 0..3 {
        assert!(bench.load(&path).is_err());
    }
    assert_eq!(bench.loader.images(), 1);
}

#[test]
fn image_129_is_refused_and_known_bytes_are_still_accepted() {
    let bench = Bench::new();
    let path = bench.compile("first_eligible");
    let good = fs::read(&path).unwrap();
    let variant = |number: u8| {
        let mut bytes = good.clone();
        bytes.push(number);
        fs::write(&path, bytes).unwrap();
        bench.load(&path)
    };
    for number in 0..128 {
        variant(number).unwrap();
    }
    let Err(error) = variant(128) else { panic!("image 129 was taken") };
    assert!(error.to_string().contains("restart lb") && error.to_string().contains("[stage images]"), "{error}");
    assert_eq!(variant(0).unwrap().name(), "first_eligible");
}

#[test]
fn overwriting_the_operators_file_does_not_touch_what_runs() {
    let bench = Bench::new();
    let path = bench.compile("first_eligible");
    let strategy = Strategy::new(bench.load(&path).unwrap(), &json!({})).unwrap();
    let picker = Picker::new(strategy, list(2, &[1])).unwrap();
    fs::write(&path, vec![0; 16_000]).unwrap();
    assert_eq!(picker.pick(&request(&[], &HeaderList(&[]))), Decision::Backend { index: 1, token: 0 });
    fs::write(&path, "").unwrap();
    assert_eq!(picker.pick(&request(&[1], &HeaderList(&[]))), Decision::NoBackend);
}

#[test]
fn half_a_pointer_at_the_end_of_a_table_reads_as_no_hook() {
    let bench = Bench::new();
    let strategy = Strategy::new(bench.load_fixture("broken/half_pointer"), &json!({})).unwrap();
    assert_eq!(strategy.plugin().state_schema(), Some(("half", 0)));
    assert!(strategy.export_state().is_none());
}

#[test]
fn a_staged_plugin_has_not_run_and_opens_as_the_image_that_was_checked() {
    let bench = Bench::new();
    let path = bench.compile("first_eligible");
    let good = fs::read(&path).unwrap();
    let wanted = lb_strategy_host::Wanted { path: &path, name: Some("first_eligible"), sha256: None };
    let staged = bench.loader.stage(&wanted).unwrap();
    assert_eq!((bench.loader.images(), fs::read(staged.copy.path()).unwrap()), (0, good.clone()));
    // The operator's file changes after the staging. The staged bytes are opened.
    fs::write(&path, "").unwrap();
    let plugin = bench.loader.open(staged.clone()).unwrap();
    assert_eq!((plugin.name(), plugin.path(), bench.loader.images()), ("first_eligible", Some(path.as_path()), 1));
    // The copy of a resident image is made again, because another process may have to try it.
    fs::remove_file(staged.copy.path()).unwrap();
    fs::write(&path, good).unwrap();
    let again = bench.loader.stage(&wanted).unwrap();
    assert!(again.sha256 == staged.sha256 && again.copy.path() == staged.copy.path() && again.copy.path().exists());
    assert!(Arc::ptr_eq(&plugin, &bench.loader.open(again).unwrap()));
}
