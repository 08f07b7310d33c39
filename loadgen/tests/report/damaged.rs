//! Folders that are damaged or not from loadgen: every command that reads them prints one clear line and never panics.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use loadgen::experiment::plan::Plan;
use loadgen::model::{Folder, Run, Scenario};
use loadgen::report::{diff, rows, text, to_csv};
use serde_json::Value;

use crate::digests::make_older;
use crate::synthetic::{a1, a3, b};

pub(crate) fn stored(run: &Run) -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(place.path().join("run"));
    folder.write(run).expect("stored");
    (place, folder)
}

/// Every command that reads `bad`; some also read `good`.
fn commands(good: &Path, bad: &Path) -> Vec<Command> {
    let command = |words: &[&str], paths: &[&Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(words).args(paths);
        command
    };
    let mut against = command(&["check", "--threshold", "errors<1%"], &[good]);
    against.arg("--baseline").arg(bad);
    vec![
        command(&["check", "--threshold", "errors<1%"], &[bad]),
        command(&["report"], &[bad]),
        command(&["report", "--diff"], &[good, bad]),
        command(&["report", "--diff"], &[bad, good]),
        command(&["replay"], &[bad]),
        against,
    ]
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).expect("a file");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
}

/// Changes one digit, and nothing else.
fn change_a_number(path: &Path) {
    let text = fs::read_to_string(path).expect("text");
    let at = text.rfind(|char: char| ('1'..='8').contains(&char)).expect("a number");
    let next = char::from(text.as_bytes()[at] + 1);
    fs::write(path, format!("{}{next}{}", &text[..at], &text[at + 1..])).expect("written");
}

fn replace_by_itself(path: &Path) {
    match path.is_dir() {
        true => fs::remove_dir_all(path).expect("removed"),
        false => fs::remove_file(path).expect("removed"),
    }
    symlink(path, path).expect("a link");
}

#[test]
fn every_command_reports_a_damaged_folder_in_one_line() {
    let (_place, good) = stored(&a1());
    let hdr = "hdr/1-assignment_ring-n3.hdr";
    type Damage = fn(&Folder);
    let cases: [(&str, Damage); 22] = [
        ("run.json is not what loadgen writes", |folder| truncate(&folder.file("run.json"))),
        ("run.json is not what loadgen writes", |folder| fs::write(folder.file("run.json"), "").expect("written")),
        ("run.json is not what loadgen writes", |folder| fs::write(folder.file("run.json"), [0xff]).expect("written")),
        ("`schema` is missing", |folder| fs::write(folder.file("run.json"), "[]").expect("written")),
        ("is no run", |folder| fs::remove_file(folder.file("run.json")).expect("removed")),
        ("run.json: Too many levels of symbolic links", |folder| replace_by_itself(&folder.file("run.json"))),
        ("Too many levels of symbolic links", |folder| replace_by_itself(folder.path())),
        ("is no run", |folder| fs::remove_dir_all(folder.path()).expect("removed")),
        ("Not a directory", |folder| {
            fs::remove_dir_all(folder.path()).expect("removed");
            fs::write(folder.path(), "a file").expect("written");
        }),
        ("results.json is not what loadgen writes", |folder| truncate(&folder.file("results.json"))),
        ("results.json is of another run than run.json: it has the arm", |folder| {
            let (_place, other) = stored(&b());
            fs::copy(other.file("results.json"), folder.file("results.json")).expect("copied");
        }),
        ("series.json is not what loadgen writes", |folder| truncate(&folder.file("series.json"))),
        ("n3.hdr: No such file", |folder| {
            fs::remove_file(folder.file("hdr/1-assignment_ring-n3.hdr")).expect("removed")
        }),
        ("n3.hdr: line", |folder| truncate(&folder.file("hdr/1-assignment_ring-n3.hdr"))),
        ("n3.hdr: it is empty, and must hold the histograms of assignment_ring, N = 3", |folder| {
            fs::write(folder.file("hdr/1-assignment_ring-n3.hdr"), "").expect("written");
        }),
        ("results.json is not what loadgen writes: it is empty", |folder| {
            fs::write(folder.file("results.json"), "").expect("written");
        }),
        ("run.json was changed after loadgen stored it", |folder| change_a_number(&folder.file("run.json"))),
        ("results.json was changed after loadgen stored it", |folder| change_a_number(&folder.file("results.json"))),
        ("series.json was changed after loadgen stored it", |folder| change_a_number(&folder.file("series.json"))),
        ("n3.hdr was changed after loadgen stored it", |folder| {
            let path = folder.file("hdr/1-assignment_ring-n3.hdr");
            let text = fs::read_to_string(&path).expect("text");
            fs::write(path, text.replacen("\nTag=latency-1,0.4", "\nTag=latency-1,0.5", 1)).expect("written");
        }),
        ("SHA256SUMS is damaged: it is not there", |folder| {
            fs::remove_file(folder.file("SHA256SUMS")).expect("removed");
        }),
        ("SHA256SUMS is not what loadgen writes", |folder| truncate(&folder.file("SHA256SUMS"))),
    ];
    assert!(good.file(hdr).exists());
    for (wanted, damage) in cases {
        let (_place, bad) = stored(&a1());
        damage(&bad);
        for mut command in commands(good.path(), bad.path()) {
            let output = command.output().expect("loadgen starts");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{command:?}, {wanted}: {said}");
            assert!(said.starts_with("loadgen: ") && said.contains(wanted), "{command:?}, {wanted}: {said}");
            assert!(output.stdout.is_empty(), "{command:?}");
        }
    }
}

#[test]
fn a_report_replaces_changed_tables_and_missing_pictures() {
    let (_place, folder) = stored(&a1());
    loadgen::report::write(&folder).expect("a report");
    let own = fs::read(folder.file("results.csv")).expect("a table");
    fs::write(folder.file("results.csv"), "scenario,arm\nB,others\n").expect("written");
    fs::remove_dir_all(folder.file("plots")).expect("removed");
    loadgen::report::write(&folder).expect("a report");
    assert_eq!(fs::read(folder.file("results.csv")).expect("a table"), own);
    assert!(folder.file("plots/balance.svg").exists());
}

/// Collects the JSON pointer of every value of the tree.
fn places(value: &Value, path: &mut Vec<String>, found: &mut Vec<String>) {
    found.push(path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect());
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), item)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        path.push(name);
        places(child, path, found);
        path.pop();
    }
}

/// An unusual value of the same type, as no run writes it.
fn odd(value: &Value, random: &mut fastrand::Rng) -> Value {
    let numbers = [
        Value::from(0),
        Value::from(1),
        Value::from(u32::MAX),
        Value::from(u64::MAX),
        Value::from(-1),
        Value::from(1e300),
        Value::from(1e-300),
    ];
    match value {
        Value::Number(_) => numbers[random.usize(..numbers.len())].clone(),
        Value::String(_) => Value::from(["", "<&\"'|*\u{202e}", "x".repeat(3_000).as_str()][random.usize(..3)]),
        Value::Array(items) if random.bool() => Value::Array(items.iter().chain(items).cloned().collect()),
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Bool(is_so) => Value::Bool(!is_so),
        _ => Value::Null,
    }
}

/// For any value in the files of a run, there is an error or a report.
#[test]
fn no_value_of_a_file_causes_a_panic() {
    let seed = 20_261_122;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut reports = 0;
    for run in [a1(), a3(), b()] {
        let (_place, folder) = stored(&run);
        make_older(&folder);
        for file in ["run.json", "results.json", "series.json"] {
            let bytes = fs::read(folder.file(file)).expect("a file");
            let whole: Value = serde_json::from_slice(&bytes).expect("JSON");
            let mut places = Vec::new();
            self::places(&whole, &mut Vec::new(), &mut places);
            for _ in 0..16 {
                let mut changed = whole.clone();
                let place = &places[random.usize(..places.len())];
                let Some(value) = changed.pointer_mut(place) else { continue };
                *value = odd(value, &mut random);
                let now = value.to_string();
                fs::write(folder.file(file), changed.to_string()).expect("written");
                let made = std::panic::catch_unwind(|| match folder.read() {
                    Ok(changed) => {
                        let rows = to_csv(&rows(&changed)).expect("a table");
                        let _ = diff(&run, &changed);
                        Ok(rows.len() + text(&changed).len())
                    }
                    Err(error) => Err(error.to_string()),
                });
                let what = || format!("seed {seed}: {file}{place} = {}", now.chars().take(80).collect::<String>());
                match made.unwrap_or_else(|_| panic!("a panic, {}", what())) {
                    Ok(length) => reports += usize::from(length > 0),
                    Err(error) => assert_eq!(error.lines().count(), 1, "{}: {error}", what()),
                }
            }
            fs::write(folder.file(file), &bytes).expect("put back");
        }
    }
    assert!(reports > 40, "many changed runs are readable: {reports}");
}

/// `replay` reads the plan.json of a run. It refuses an invalid value before it starts anything.
#[test]
fn a_stored_plan_that_cannot_be_carried_out_is_one_line() {
    let (_place, folder) = stored(&a3());
    make_older(&folder);
    let whole: Value = serde_json::from_str(&Plan::of(Scenario::A3).expect("built in").to_json()).expect("JSON");
    let cases = [
        ("/arms", Value::Array(Vec::new()), "arms: at least one is needed"),
        ("/sizes", Value::Array(Vec::new()), "sizes: at least one is needed"),
        ("/sizes/0", Value::from(0), "sizes: must be from 1 to 64, not 0"),
        ("/budget/secs", Value::from(u64::MAX), "budget: 18446744073709551615 s is too long"),
        ("/requests/timeout", serde_json::json!({ "secs": 0, "nanos": 0 }), "requests.timeout: 0 s is too short"),
        ("/load/Open/warm_up/secs", Value::from(u64::MAX), "load.warm_up: 18446744073709551615 s is too long"),
        ("/load/Open/rate", serde_json::json!({ "Rps": 1e300 }), "load.rate: must be from 0.001 to 1000000"),
        ("/load/Open/outstanding", Value::from(0), "load.outstanding: must be from 1 to 60000, not 0"),
        ("/requests/timeout/secs", Value::from(u64::MAX), "requests.timeout: "),
        ("/requests/keys", serde_json::json!({ "kind": "zipf", "keys": 0, "exponent": 1.0 }), "requests.keys: zipf"),
        ("/faults/0/backend", Value::from(0), "faults.backend: must be from 1 to 3, not 0"),
        ("/faults/0/at/secs", Value::from(u64::MAX), "faults.at: "),
        ("/faults/0/until", serde_json::json!({ "secs": 0, "nanos": 0 }), "faults.until: must be after"),
        ("/arms/0/cost_factor", Value::from(1e300), "arms.cost_factor: must be from 0.01 to 100"),
        ("/arms", "none".into(), "invalid type"),
    ];
    for (place, value, wanted) in cases {
        let mut changed = whole.clone();
        *changed.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value;
        fs::write(folder.file("plan.json"), changed.to_string()).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command.arg("replay").arg(folder.path()).output().expect("loadgen starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{place}: {said}");
        assert!(said.contains("plan.json is not what loadgen writes: ") && said.contains(wanted), "{place}: {said}");
    }
}

/// For any value in a stored plan, the plan is refused or can be carried out.
#[test]
fn no_value_of_a_stored_plan_causes_a_panic() {
    let seed = 20_261_122;
    let mut random = fastrand::Rng::with_seed(seed);
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("plan.json");
    let mut refused = 0;
    for scenario in [Scenario::A2, Scenario::A3, Scenario::B] {
        let whole: Value = serde_json::from_str(&Plan::of(scenario).expect("built in").to_json()).expect("JSON");
        let mut places = Vec::new();
        self::places(&whole, &mut Vec::new(), &mut places);
        for _ in 0..200 {
            let mut changed = whole.clone();
            let place = &places[random.usize(..places.len())];
            let Some(value) = changed.pointer_mut(place) else { continue };
            *value = odd(value, &mut random);
            let now = format!("seed {seed}: {scenario}{place} = {value}");
            fs::write(&path, changed.to_string()).expect("written");
            match std::panic::catch_unwind(|| Plan::read_stored(&path)) {
                Ok(Err(error)) => {
                    assert_eq!(error.to_string().lines().count(), 1, "{now}: {error}");
                    refused += 1;
                }
                Ok(Ok(plan)) => {
                    assert!(!plan.arms.is_empty() && plan.sizes.iter().all(|size| *size > 0), "{now}");
                    assert!(plan.faults.iter().all(|fault| fault.backend > 0), "{now}");
                }
                Err(_) => panic!("a panic, {now}"),
            }
        }
    }
    assert!(refused > 60, "many changed plans are refused: {refused}");
}

#[test]
fn a_ring_that_contradicts_itself_is_refused() {
    let mut run = a1();
    run.results.rings[0].arcs[3].end = 0.0;
    let (_place, folder) = stored(&run);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = command.arg("report").arg(folder.path()).output().expect("loadgen starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("the ring of \"assignment_ring\", N = 3: an arc ends at 0, after one that ends at "),
        "{error}"
    );
}
