//! The C header is the original. It compiles as C and as C++ without a warning, and the Rust mirror has exactly the
//! same layout.

use std::mem::offset_of;
use std::path::Path;
use std::process::{Command, Output};

use lb_strategy::abi::*;

use crate::fixture::source;

/// `(C expression, value in Rust)` for the size of a struct and the offset of each of its fields.
macro_rules! layout {
    ($rust:ty, $c:literal: $($field:ident),+) => {
        [(concat!("sizeof(", $c, ")"), size_of::<$rust>()),
         $((concat!("offsetof(", $c, ", ", stringify!($field), ")"), offset_of!($rust, $field)),)+]
    };
}

fn compile(compiler: &str, arguments: &[&str], file: &Path) -> std::io::Result<Output> {
    Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
        .arg(source("kit/api/include"))
        .args(arguments)
        .arg(file)
        .output()
}

#[track_caller]
fn assert_compiles(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_header_compiles_as_c11_without_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("includes.c");
    std::fs::write(&file, "#define LB_STRATEGY_IMPL\n#include \"lb_strategy.h\"\n#include \"lb_strategy.h\"\n")
        .unwrap();
    assert_compiles(&compile("cc", &["-std=c11"], &file).expect("cc runs"));
}

#[test]
fn the_header_compiles_as_cpp17_without_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("includes.cpp");
    std::fs::write(&file, "#define LB_STRATEGY_IMPL\n#include \"lb_strategy.h\"\n#include \"lb_strategy.h\"\n")
        .unwrap();
    match compile("g++", &["-std=c++17"], &file) {
        Ok(output) => assert_compiles(&output),
        Err(error) => println!("not shown here: there is no g++ ({error})"),
    }
}

#[test]
fn the_examples_in_c_compile_without_a_warning() {
    for example in [
        "first_eligible",
        "least_loaded_probed",
        "least_utilized",
        "two_choices",
        "fastest_half",
        "prefix_affinity",
        "central_queue",
        "own_zone",
        "probed_latency",
        "by_cost",
        "broken/one_rule",
    ] {
        assert_compiles(&compile("cc", &["-std=c11"], &source(&format!("examples/{example}.c"))).expect("cc runs"));
    }
}

#[test]
fn every_field_of_the_mirror_lies_where_the_header_puts_it() {
    let expected: Vec<(&str, usize)> = [
        &layout!(LbStr, "lb_str": ptr, len)[..],
        &layout!(LbHost, "lb_host": size, abi_major, abi_minor, n_workers, request_size, ctx, log, sink_write, pick_size,
            stats_size),
        &layout!(LbStats, "lb_stats": in_flight, consecutive_errors, ewma_latency_ns, ewma_at_ns,
            report_at_ns, utilization, qps, eps, metric),
        &layout!(LbSlot, "lb_slot": word),
        &layout!(LbBackend, "lb_backend": id, name, addr, weight, effective, flags, reserved, stats, slot,
            labels_json),
        &layout!(LbBackends, "lb_backends": size, len, stride, reserved, base, epoch, members_epoch, eligible, n_eligible, reserved_1),
        &layout!(LbRequest, "lb_request": flags, worker, attempt, n_tried, tried, key, hash, rand, now_ns, header,
            part, body_length),
        &layout!(LbStart, "lb_start": size, worker, backend_id, slot, attempt, flags, token, body_length, now_ns),
        &layout!(LbPick, "lb_pick": index, reserved, token, n_probes, probe, reserved_1),
        &layout!(LbProbe, "lb_probe": size, worker, backend_id, slot, outcome, http_status, latency_ns, now_ns, body,
            response_headers, n_response_headers, reserved),
        &layout!(LbFinish, "lb_finish": size, worker, backend_id, slot, outcome, http_status, attempt, flags, token, ttfb_ns,
            total_ns, now_ns, bytes_in, bytes_out, first_body_ns, response_headers, n_response_headers, reserved),
        &layout!(LbStrategyTable, "lb_strategy_table": size, abi_major, abi_minor, min_host_minor, flags, name, version, build,
            state_schema, state_version, tick_ms, expectation, strategy_new, strategy_free, picker_new, picker_free, pick, on_finish,
            state_export, state_import, tick, explain, on_start, metrics, response_headers, n_response_headers,
            body_bytes, on_probe, probe_ms, reserved),
        &[
            ("LB_ABI_MAJOR", ABI_MAJOR as usize),
            ("LB_ABI_MINOR", ABI_MINOR as usize),
            ("LB_FALLBACK", LB_FALLBACK as usize),
            ("LB_NONE", LB_NONE as usize),
            ("LB_REBUILD", LB_REBUILD as usize),
            ("LB_WAIT", LB_WAIT as usize),
            ("-(LB_E_PANIC)", LB_E_PANIC.unsigned_abs() as usize),
            ("-(LB_E_CONFIG)", LB_E_CONFIG.unsigned_abs() as usize),
            ("-(LB_E_ABI)", LB_E_ABI.unsigned_abs() as usize),
            ("-(LB_E_STATE)", LB_E_STATE.unsigned_abs() as usize),
            ("-(LB_E_OTHER)", LB_E_OTHER.unsigned_abs() as usize),
            ("LB_BACKEND_ELIGIBLE", LB_BACKEND_ELIGIBLE as usize),
            ("LB_BACKEND_HEALTHY", LB_BACKEND_HEALTHY as usize),
            ("LB_BACKEND_DRAINING", LB_BACKEND_DRAINING as usize),
            ("LB_REQ_HASH", LB_REQ_HASH as usize),
            ("LB_REQ_DRY", LB_REQ_DRY as usize),
            ("LB_REQ_SHADOW", LB_REQ_SHADOW as usize),
            ("LB_WORKER_ANY", LB_WORKER_ANY as usize),
            ("LB_PART_METHOD", LB_PART_METHOD as usize),
            ("LB_PART_PATH", LB_PART_PATH as usize),
            ("LB_PART_HOST", LB_PART_HOST as usize),
            ("LB_PART_CLIENT", LB_PART_CLIENT as usize),
            ("LB_PART_BODY", LB_PART_BODY as usize),
            ("LB_PROBES_MAX", LB_PROBES_MAX),
            ("LB_BODY_BYTES_MAX", LB_BODY_BYTES_MAX as usize),
            ("LB_FIN_OWN", LB_FIN_OWN as usize),
            ("LB_FIN_UPGRADED", LB_FIN_UPGRADED as usize),
            ("LB_F_WANTS_HASH", LB_F_WANTS_HASH as usize),
            ("LB_F_WANTS_FINISH", LB_F_WANTS_FINISH as usize),
            ("LB_F_WANTS_ANSWER", LB_F_WANTS_ANSWER as usize),
            ("LB_F_UNLOADABLE", LB_F_UNLOADABLE as usize),
        ],
    ]
    .concat();
    let asserts: String = expected
        .iter()
        .map(|(expression, value)| {
            format!("_Static_assert({expression} == {value}, \"{expression} is {value} in Rust\");\n")
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("layout.c");
    std::fs::write(&file, format!("#include \"lb_strategy.h\"\n{asserts}")).unwrap();
    assert_compiles(&compile("cc", &["-std=c11"], &file).expect("cc runs"));
    // With one changed value the same file must not compile. So the assertions do check something.
    std::fs::write(&file, format!("#include \"lb_strategy.h\"\n{}", asserts.replacen("== 16", "== 17", 1))).unwrap();
    assert!(!compile("cc", &["-std=c11"], &file).expect("cc runs").status.success());
}
