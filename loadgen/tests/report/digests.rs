//! Files that were changed after they were stored: loadgen accepts only the bytes that it wrote.

use std::fs;
use std::process::Command;

use loadgen::experiment::plan::Plan;
use loadgen::model::{Folder, RecordingWriter, Run, Scenario, Taken, read_recording};
use serde_json::Value;

use crate::check::slowing;
use crate::synthetic::b;

/// Changes the folder into that of a version without digests.
pub(crate) fn make_older(folder: &Folder) {
    fs::remove_file(folder.file("SHA256SUMS")).expect("the file exists");
    let text = fs::read_to_string(folder.file("run.json")).expect("text");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    json.as_object_mut().expect("an object").remove("digests").expect("run.json has digests");
    fs::write(folder.file("run.json"), json.to_string()).expect("written");
}

/// A run with every file that loadgen can store.
fn whole() -> (tempfile::TempDir, Folder, Run) {
    let mut run = slowing(1, 1.0).run();
    let series = b().series.into_iter().filter(|series| series.arm == "round_robin");
    run.series = series.map(|mut series| (series.windows.truncate(5), series).1).collect();
    let place = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(place.path().join("run"));
    let mut writer = RecordingWriter::create(folder.path()).expect("begun");
    for at_unix_ms in [1_000, 2_000, 3_000] {
        let taken = Taken { at_unix_ms, took_us: 900, instance: "127.0.0.1:1".into(), error: None };
        writer.push(&taken, &format!("# TYPE a counter\na {at_unix_ms}\n")).expect("pushed");
    }
    writer.finish().expect("stored");
    fs::write(folder.file("plan.json"), Plan::of(Scenario::A3).expect("built in").to_json()).expect("written");
    folder.write(&run).expect("stored");
    (place, folder, run)
}

const FILES: [&str; 7] = [
    "run.json",
    "results.json",
    "series.json",
    "plan.json",
    "hdr/1-round_robin-n3.hdr",
    "SHA256SUMS",
    "scrapes/recording.txt.gz",
];

/// Damaged versions of these bytes.
fn damages(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        (0..bytes.len()).step_by(bytes.len() / 40 + 1).map(|end| bytes[..end].to_vec()).collect();
    all.push(bytes[..bytes.len() - 1].to_vec());
    for _ in 0..60 {
        let mut flipped = bytes.to_vec();
        flipped[random.usize(..bytes.len())] ^= 1 << random.u8(..8);
        all.push(flipped);
    }
    let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
    let others = ["NaN", "-5", "1e999", "\"x\"", "null", "99999999999999999999", "1e300", "0", "7", "{}"];
    for text in others.iter().cycle().take(if digits.is_empty() { 0 } else { 60 }) {
        let from = digits[random.usize(..digits.len())];
        let to = (from..bytes.len()).find(|at| !bytes[*at].is_ascii_digit()).unwrap_or(bytes.len());
        all.push([&bytes[..from], text.as_bytes(), &bytes[to..]].concat());
    }
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for _ in 0..20 {
        let at = random.usize(..lines.len());
        let times = if random.bool() { 0 } else { 2 };
        let lines =
            lines.iter().enumerate().flat_map(|(number, line)| vec![*line; if number == at { times } else { 1 }]);
        all.push(lines.collect::<Vec<_>>().concat());
    }
    all.push("[".repeat(100_000).into_bytes());
    all.push([bytes, bytes].concat());
    all.retain(|damaged| damaged != bytes);
    all
}

/// Reads a run and its recording, or returns the error.
fn read(folder: &Folder) -> Result<(Run, Vec<(Taken, String)>), String> {
    let mut scrapes = Vec::new();
    let run = folder.read().map_err(|error| error.to_string())?;
    read_recording(folder.path(), |taken, text| scrapes.push((taken, text))).map_err(|error| error.to_string())?;
    Ok((run, scrapes))
}

/// loadgen accepts only the undamaged run, so no command can show a wrong number.
#[test]
fn every_damaged_file_is_refused_in_one_line() {
    let seed = 20_261_129;
    let mut random = fastrand::Rng::with_seed(seed);
    let (_place, folder, run) = whole();
    let before = read(&folder).expect("a run");
    assert!(before.0 == run && before.1.len() == 3);
    for file in FILES {
        let bytes = fs::read(folder.file(file)).expect("a file");
        let damages = damages(&bytes, &mut random);
        let (mut refused, all) = (0, damages.len());
        for (number, damaged) in damages.into_iter().enumerate() {
            fs::write(folder.file(file), &damaged).expect("written");
            match std::panic::catch_unwind(|| read(&folder)) {
                Ok(Ok(found)) => assert!(found == before, "seed {seed}: {file}, damage {number} is accepted"),
                Ok(Err(error)) => {
                    assert_eq!(error.lines().count(), 1, "{file}, damage {number}: {error}");
                    refused += 1;
                }
                Err(_) => panic!("seed {seed}: a panic, {file}, damage {number}"),
            }
        }
        assert_eq!(refused, all, "{file}: not all are refused");
        fs::remove_file(folder.file(file)).expect("removed");
        let error = read(&folder).map(drop).expect_err("the file is missing");
        assert!(error.lines().count() == 1, "{error}");
        fs::write(folder.file(file), &bytes).expect("put back");
    }
    assert!(read(&folder).expect("the run is readable again") == before);
}

/// Without digests, histograms and recordings still have checksums, and counts must agree.
#[test]
fn without_digests_no_damaged_histogram_or_recording_is_accepted() {
    let seed = 20_261_129;
    let mut random = fastrand::Rng::with_seed(seed);
    let (_place, folder, _) = whole();
    make_older(&folder);
    let before = read(&folder).expect("older runs are read");
    for file in [FILES[4], FILES[6]] {
        let bytes = fs::read(folder.file(file)).expect("a file");
        for (number, damaged) in damages(&bytes, &mut random).into_iter().enumerate() {
            fs::write(folder.file(file), &damaged).expect("written");
            match read(&folder) {
                // Two copies of a recording, one after the other, are a valid recording of twice the length.
                Ok(found) => assert!(found.0 == before.0 && (found.1 == before.1 || damaged.len() == 2 * bytes.len())),
                Err(error) => assert_eq!(error.lines().count(), 1, "seed {seed}: {file}, damage {number}: {error}"),
            }
        }
        fs::write(folder.file(file), &bytes).expect("put back");
    }
}

/// The counts of the same thing in different files must agree.
#[test]
fn files_that_contradict_each_other_are_refused_with_both_numbers() {
    type Change = fn(&mut Value);
    let cases: [(&str, &str, Change); 8] = [
        (
            "results.json",
            "hdr/1-round_robin-n3.hdr is damaged: round_robin, N = 3, block 3: the latency histogram has 279 samples, and results.json \
             counts 278 good responses",
            |json| json["cells"][2]["errors"] = 4.into(),
        ),
        ("results.json", "it has histograms of block 8, which results.json does not have", |json| {
            json["cells"].as_array_mut().expect("cells").truncate(7);
        }),
        ("results.json", "the latency histogram has 0 samples, and results.json counts 244", |json| {
            let mut cell = json["cells"][7].clone();
            cell["block"] = 9.into();
            json["cells"].as_array_mut().expect("cells").push(cell);
        }),
        ("results.json", "results.json is damaged: it has round_robin, N = 3, block 1 twice", |json| {
            let cell = json["cells"][0].clone();
            json["cells"].as_array_mut().expect("cells").push(cell);
        }),
        ("results.json", "block 1: the backend \"Server 1\" is there twice", |json| {
            json["cells"][0]["backends"][1]["id"] = "Server 1".into();
        }),
        ("results.json", "block 1: -1 is no request rate", |json| json["cells"][0]["asked_rps"] = (-1).into()),
        ("series.json", "series.json is damaged: results.json does not have round_robin, N = 3, block 77", |json| {
            json[0]["block"] = 77.into();
        }),
        ("run.json", "run.json is damaged: it has the arm \"round_robin\" twice", |json| {
            let arm = json["arms"][0].clone();
            json["arms"].as_array_mut().expect("arms").push(arm);
        }),
    ];
    let (_place, folder, _) = whole();
    make_older(&folder);
    for (file, wanted, change) in cases {
        let bytes = fs::read(folder.file(file)).expect("a file");
        let mut json: Value = serde_json::from_slice(&bytes).expect("JSON");
        change(&mut json);
        fs::write(folder.file(file), json.to_string()).expect("written");
        let error = folder.read().map(drop).expect_err(wanted).to_string();
        assert!(error.contains(wanted) && error.lines().count() == 1, "{wanted}: {error}");
        fs::write(folder.file(file), &bytes).expect("put back");
    }
}

#[test]
fn a_damaged_recording_is_one_line_of_openmetrics() {
    let (_place, folder, _) = whole();
    let path = folder.file("scrapes/recording.txt.gz");
    let bytes = fs::read(&path).expect("a file");
    let openmetrics = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command.arg("openmetrics").arg(folder.path()).output().expect("loadgen starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said, output.stdout.len())
    };
    assert_eq!(openmetrics().0, Some(0));
    let half = bytes[..bytes.len() / 2].to_vec();
    let cases: [(&str, Option<Vec<u8>>); 4] = [
        ("it is empty", Some(Vec::new())),
        ("was changed after loadgen stored it", Some(half)),
        ("was changed after loadgen stored it", Some([bytes.clone(), bytes.clone()].concat())),
        ("No such file", None),
    ];
    for (wanted, damaged) in cases {
        match damaged {
            Some(damaged) => fs::write(&path, damaged).expect("written"),
            None => fs::remove_file(&path).expect("removed"),
        }
        let (code, said, printed) = openmetrics();
        assert_eq!((code, said.lines().count(), printed), (Some(2), 1, 0), "{wanted}: {said}");
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn a_report_does_not_change_the_data_and_sha256sum_agrees() {
    let (_place, folder, run) = whole();
    loadgen::report::write(&folder).expect("a report");
    assert!(folder.read().expect("the run is complete") == run);
    let mut command = Command::new("sha256sum");
    let output = command.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(folder.path()).output();
    assert!(output.expect("coreutils").status.success());
    let sums = fs::read_to_string(folder.file("SHA256SUMS")).expect("text");
    let listed: Vec<&str> = sums.lines().filter_map(|line| Some(line.split_once("  ")?.1)).collect();
    let mut wanted: Vec<&str> = FILES.into_iter().filter(|file| *file != "SHA256SUMS").collect();
    wanted.sort_unstable();
    assert_eq!(listed, wanted);
}
