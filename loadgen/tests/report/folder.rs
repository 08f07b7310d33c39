//! A stored run is read back unchanged, and a folder that cannot be read or written is an error of one line.

use std::fs;

use loadgen::model::{Conclusion, Folder, FolderError, Latencies, Mark, Run, SCHEMA, write_atomically};
use loadgen::report::{DiffError, Kind, diff, from_csv, rows, to_csv};

use crate::synthetic::{a1, b, invalid, reports};

#[test]
fn a_run_is_read_back_unchanged() {
    for report in reports() {
        let back = report.folder.read().expect("a run");
        assert!(back == report.run, "{} changed by storing", report.name);
    }
}

#[test]
fn results_csv_is_read_back_unchanged() {
    for report in reports() {
        let bytes = fs::read(report.folder.file("results.csv")).expect("results.csv");
        let written = rows(&report.run);
        assert_eq!(from_csv(&bytes).expect("rows"), written, "{}", report.name);
        assert_eq!(to_csv(&written).expect("text"), bytes);
    }
}

#[test]
fn results_csv_has_a_row_for_each_backend_block_and_summary() {
    let run = b();
    let rows = rows(&run);
    let of = |kind| rows.iter().filter(|row| row.kind == kind).count();
    assert_eq!((of(Kind::Backend), of(Kind::Block), of(Kind::Summary)), (72, 24, 3));
    for row in rows.iter().filter(|row| row.kind != Kind::Summary) {
        let cell = run.results.cells.iter().find(|cell| cell.arm == row.arm && Some(cell.block) == row.block);
        let cell = cell.expect("a row belongs to a cell");
        match &row.backend {
            None => {
                assert_eq!((row.requests, row.errors, row.rps), (cell.requests, cell.errors, thousandths(cell.rps())))
            }
            Some(id) => assert!(cell.backends.iter().any(|it| it.id == *id && it.requests == row.requests)),
        }
    }
    for row in &rows {
        assert!(row.commit == "6f1c0de58a20c1f9" && row.seed == Some(20_261_122) && row.strategy_sha256.len() == 64);
    }
}

fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[test]
fn throughput_counts_good_responses_and_ended_rps_counts_all() {
    let mut run = a1();
    let cell = &mut run.results.cells[0];
    (cell.errors, cell.backends[0].errors, cell.duration_ns) = (6_090, 100, 10_000_000_000);
    let backend = thousandths((cell.backends[0].requests - 100) as f64 / 10.0);
    assert_eq!((cell.requests, cell.rps()), (10_000, 391.0));
    for row in rows(&run) {
        match row.backend.as_deref() {
            None => assert_eq!((row.rps, row.ended_rps), (391.0, 1_000.0), "{:?}", row.kind),
            Some("Server 1") => {
                assert_eq!((row.rps, row.ended_rps), (backend, thousandths(row.requests as f64 / 10.0)))
            }
            Some(_) => assert_eq!(row.rps, row.ended_rps),
        }
    }
    let text = loadgen::report::text(&run).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("ended 1/s good 1/s seconds"), "{text}");
    assert!(text.contains("assignment_ring 3 10,000 6,090 0 0 1,000 391 10.0"), "{text}");
}

#[test]
fn a_percentile_of_too_few_samples_is_an_empty_field() {
    let rows = rows(&b());
    let block = rows.iter().find(|row| row.kind == Kind::Block).expect("a block");
    let summary = rows.iter().find(|row| row.kind == Kind::Summary).expect("a summary");
    assert_eq!((block.samples, summary.samples), (Some(2_500), Some(15_000)), "two of eight blocks are dropped");
    assert!(block.latency_p99_ms.is_some() && block.latency_p999_ms.is_none());
    assert!(summary.latency_p999_ms.is_some());
}

#[test]
fn a_folder_that_is_no_run_is_refused_with_the_reason() {
    let empty = tempfile::tempdir().expect("a folder");
    let error = Folder::new(empty.path()).read().expect_err("no run");
    assert!(matches!(error, FolderError::NoRun { .. }) && error.to_string().contains("run.json"), "{error}");

    let folder = Folder::new(empty.path());
    folder.write(&a1()).expect("stored");
    let manifest = fs::read_to_string(folder.file("run.json")).expect("text");
    fs::write(folder.file("run.json"), manifest.replace(&format!("\"schema\": {SCHEMA}"), "\"schema\": 99"))
        .expect("written");
    let error = folder.read().expect_err("another schema").to_string();
    assert!(error.contains("schema 99") && error.contains("run.json"), "{error}");

    fs::write(folder.file("run.json"), "{\"schema\": 1, \"scenario\": ").expect("written");
    let error = folder.read().expect_err("half a file").to_string();
    assert!(error.contains("run.json") && error.contains("line 1"), "{error}");

    fs::write(folder.file("run.json"), &manifest).expect("written");
    fs::write(folder.file("hdr/1-assignment_ring-n3.hdr"), "Tag=latency-1,0.0,1.0,1.0,garbage!\n").expect("written");
    let error = folder.read().expect_err("is not a histogram").to_string();
    assert!(error.contains("1-assignment_ring-n3.hdr: line 1"), "{error}");

    fs::remove_file(folder.file("series.json")).expect("removed");
    fs::remove_file(folder.file("hdr/1-assignment_ring-n3.hdr")).expect("removed");
    let error = folder.read().expect_err("a file is missing").to_string();
    assert!(error.contains("cannot read") && error.contains("series.json"), "{error}");
}

/// `/dev/full` behaves like a full disk.
#[test]
fn the_error_of_a_failed_write_names_the_path_and_the_old_file_stays() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("report.html");
    write_atomically(&path, b"old").expect("written");
    std::os::unix::fs::symlink("/dev/full", place.path().join("report.html.part")).expect("a link");
    let error = write_atomically(&path, b"new").expect_err("the disk is full").to_string();
    assert!(error.contains("report.html") && error.contains("No space left"), "{error}");
    assert_eq!(error.lines().count(), 1);
    assert_eq!(fs::read(&path).expect("still there"), b"old");
    assert!(!place.path().join("report.html.part").exists());
}

#[test]
fn two_runs_of_the_same_kind_are_compared() {
    let (first, mut second) = (b(), b());
    for cell in &mut second.results.cells {
        cell.duration_ns *= 2;
    }
    let text = diff(&first, &second).expect("comparable");
    let line =
        text.lines().find(|line| line.contains("least_connections") && line.contains("good responses per second"));
    assert!(line.is_some_and(|line| line.trim_end().ends_with("0.500")), "{text}");
}

#[test]
fn between_two_runs_only_a_factor_of_more_than_two_has_a_verdict() {
    let first = b();
    let verdicts = |second: &Run| {
        let text = diff(&first, second).expect("comparable");
        assert!(text.contains("Cannot tell: two single runs do not show how much runs differ"), "{text}");
        let of = |measure: &str| {
            let line = text.lines().find(|line| line.contains("least_connections") && line.contains(measure));
            let line = line.unwrap_or_else(|| panic!("{measure}: {text}")).trim_end().to_owned();
            let verdict = [
                "cannot tell: other requests failed",
                "cannot tell",
                "beyond 2 times: slower",
                "beyond 2 times: faster",
            ];
            verdict.into_iter().find(|verdict| line.ends_with(verdict)).unwrap_or("")
        };
        ["latency p50", "latency p90", "latency p99,", "errors"].map(of)
    };
    let scaled = |factor: u64, divisor: u64| {
        let mut second = first.clone();
        for latencies in second.latencies.values_mut() {
            let mut slower = Latencies::new();
            for step in latencies.latency.iter_recorded() {
                let ns = step.value_iterated_to() * factor / divisor;
                (0..step.count_at_value()).for_each(|_| slower.record(ns, ns));
            }
            *latencies = slower;
        }
        second
    };
    assert_eq!(verdicts(&scaled(19, 10)), ["cannot tell", "cannot tell", "cannot tell", ""]);
    assert_eq!(
        verdicts(&scaled(21, 10)),
        ["beyond 2 times: slower", "beyond 2 times: slower", "beyond 2 times: slower", ""]
    );
    assert_eq!(
        verdicts(&scaled(1, 3)),
        ["beyond 2 times: faster", "beyond 2 times: faster", "beyond 2 times: faster", ""]
    );
    let mut failing = scaled(1, 3);
    failing.results.cells.iter_mut().for_each(|cell| cell.errors = 100);
    assert_eq!(verdicts(&failing)[0], "cannot tell: other requests failed");
}

#[test]
fn a_number_that_is_void_in_one_of_two_runs_is_left_out() {
    let (first, mut second) = (b(), b());
    second.manifest.marks[0] = Mark::invalid("generator", "it was late by 4 ms", &[Conclusion::Latency]);
    let text = diff(&first, &second).expect("counts are comparable");
    assert!(!text.contains("latency p50") && text.contains("max/mean"), "{text}");
    assert!(text.contains("Left out: latencies, because it was late by 4 ms (generator)."), "{text}");
}

#[test]
fn runs_that_cannot_be_compared_are_refused_with_the_reason() {
    let first = b();
    let differs = |change: &dyn Fn(&mut loadgen::model::Manifest)| {
        let mut second = first.clone();
        change(&mut second.manifest);
        match diff(&first, &second) {
            Err(DiffError::Differs { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(differs(&|it| it.host.cpu = "another".into()), "the host");
    assert_eq!(differs(&|it| it.loadgen.commit = "another".into()), "the commit of loadgen");
    assert_eq!(differs(&|it| it.backends.keys = "zipf 1.1".into()), "the keys");
    assert_eq!(differs(&|it| it.backends.description = "another".into()), "the backends");
    assert_eq!(differs(&|it| it.load = a1().manifest.load), "the load");
    assert_eq!(differs(&|it| it.scenario = loadgen::model::Scenario::A4), "the scenario");
    let arm = |change: &dyn Fn(&mut loadgen::model::Arm)| {
        let mut second = first.clone();
        change(&mut second.manifest.arms[1]);
        diff(&first, &second).map_err(|error| error.to_string())
    };
    let changed = arm(&|arm| arm.cost_factor = 1.5).expect_err("another cost");
    assert!(changed.contains("cost_factor of the arm \"least_connections\" changed: 1 in the first, 1.5"), "{changed}");
    let changed = arm(&|arm| arm.options = serde_json::json!({ "weight": 2 })).expect_err("other options");
    assert!(changed.contains("the options of the arm \"least_connections\" changed: {} in the first"), "{changed}");
    assert!(arm(&|arm| arm.strategy = "p2c".into()).is_err());
    // Another version of the same strategy is allowed: comparing versions is a purpose of the diff.
    assert!(arm(&|arm| arm.strategy_sha256 = "0".repeat(64)).is_ok());
    let outstanding = differs(&|it| {
        if let loadgen::model::Load::Open { outstanding_max, .. } = &mut it.load {
            *outstanding_max = 7;
        }
    });
    assert_eq!(outstanding, "the load");
    let error = diff(&first, &invalid()).expect_err("an invalid run").to_string();
    assert!(error.starts_with("the second run is invalid: p99 of the send lag"), "{error}");
    let mut renamed = first.clone();
    for cell in &mut renamed.results.cells {
        cell.arm = "other".into();
    }
    assert!(matches!(diff(&first, &renamed), Err(DiffError::NothingInCommon { .. })));
}

#[test]
fn a_baseline_that_cannot_be_compared_is_refused() {
    let mut later = b();
    later.manifest.started = "2026-11-23T15:04:05Z".into();
    let (_place, run) = crate::damaged::stored(&later);
    let against = |change: &dyn Fn(&mut loadgen::model::Manifest)| {
        let mut baseline = b();
        change(&mut baseline.manifest);
        let (_place, baseline) = crate::damaged::stored(&baseline);
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen"));
        check
            .arg("check")
            .arg(run.path())
            .args(["--threshold", "regression(p50)<5%", "--baseline"])
            .arg(baseline.path());
        let output = check.output().expect("loadgen starts");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = against(&|_| {});
    assert!(code == Some(3) && said.starts_with("?") && said.contains("cannot tell"), "{said}");
    let invalid_mark = invalid().manifest.marks[0].clone();
    type Change<'a> = &'a dyn Fn(&mut loadgen::model::Manifest);
    let cases: [(i32, &str, Change<'_>); 4] = [
        (1, " must not be believed (", &|it| it.marks.push(invalid_mark.clone())),
        (1, " is partial: it was stopped", &|it| {
            it.completeness = loadgen::model::Completeness::Partial { reason: "it was stopped".into() };
        }),
        (2, "the host differs", &|it| it.host.cpu = "another".into()),
        (2, "the commit of loadgen differs", &|it| it.loadgen.commit = "another".into()),
    ];
    for (code, wanted, change) in cases {
        let (found, said) = against(change);
        assert!(found == Some(code) && said.contains(wanted) && said.lines().count() == 1, "{wanted}: {said}");
    }
}
