//! Complete runs: cells, verdicts, report, and the same files for the same seed.

use loadgen::model::Verdict;

use crate::{Desk, TWO_ARMS};

#[test]
fn a_plan_has_its_verdicts_and_one_seed_gives_the_same_files() {
    let desk = Desk::new();
    for out in ["first", "second"] {
        let ended = desk.simulate(TWO_ARMS, out, &[]);
        assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
        assert!(
            desk.path(out).join("report.html").exists() && ended.out.contains("least_connections"),
            "{}",
            ended.out
        );
    }
    let run = desk.stored("first");
    let comparison = run.results.comparison.as_ref().expect("compared");
    assert!(comparison.blocks >= 6 && comparison.blocks.is_multiple_of(2), "{} blocks", comparison.blocks);
    for measure in ["latency_p50", "latency_p90"] {
        let ratio = comparison.ratio("least_connections", measure).expect("judged");
        assert_eq!((ratio.verdict, ratio.is_sound), (Verdict::Better, true), "{ratio:?}");
    }
    for (at, cell) in run.results.cells.iter().enumerate() {
        let pair = &run.results.cells[at ^ 1];
        assert_eq!((cell.requests, cell.block), (pair.requests, pair.block), "arms of a block get the same requests");
        assert_eq!((cell.errors, cell.backends.len()), (0, 3));
        assert_eq!(cell.counts().iter().sum::<u64>(), cell.requests);
    }
    // run.json has the time of the run, and so have its digest and the reports
    let histograms = std::fs::read_dir(desk.path("first/hdr")).expect("a folder").flatten();
    let histograms = histograms.map(|file| format!("hdr/{}", file.file_name().to_string_lossy()));
    let names: Vec<String> = histograms.chain(["results.json".to_owned(), "plan.json".to_owned()]).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        let read = |out: &str| std::fs::read(desk.path(out).join(&name)).expect("there");
        assert!(read("first") == read("second"), "{name} differs");
    }
}

#[test]
fn the_shipped_plan_in_virtual_time_gives_linkerds_verdict() {
    let desk = Desk::new();
    let ended = desk.simulate(include_str!("../../../config/experiments/linkerd-simulated.toml"), "run", &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let comparison = desk.stored("run").results.comparison.expect("compared");
    let ratio = comparison.ratio("least_connections", "latency_p99").expect("judged");
    assert_eq!(ratio.verdict, Verdict::Better, "{ratio:?}");
    let ratio = comparison.ratio("least_connections", "latency_p50").expect("judged");
    assert_eq!(ratio.verdict, Verdict::Equivalent, "{ratio:?}");
}

#[test]
fn linkerds_table_and_a_closed_loop_need_no_blocks() {
    let desk = Desk::new();
    let linkerd = include_str!("../../../config/experiments/linkerd.toml");
    let ended = desk.simulate(linkerd, "linkerd", &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    for threshold in ["round_robin:answered_within(1s)<95.6%", "least_connections:answered_within(1s)>99.4%"] {
        let checked = desk.loadgen(&["check", "linkerd", "--threshold", threshold]);
        assert_eq!(checked.code, Some(0), "{threshold}: {}{}", checked.out, checked.err);
    }
    let closed =
        "[load]\nloop = \"closed\"\nconnections = 4\nrequests = 200\ncost = \"constant:5ms\"\n[backends]\nn = [1, 2]";
    let ended = desk.simulate(closed, "closed", &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let cells = desk.stored("closed").results.cells;
    assert_eq!(
        cells.iter().map(|cell| (cell.n, cell.requests, cell.errors)).collect::<Vec<_>>(),
        [(1, 200, 0), (2, 200, 0)]
    );
}

#[test]
fn balancers_networks_waves_and_groups_change_the_results() {
    let desk = Desk::new();
    let mean_of = |more: &str, out: &str| {
        let plan = TWO_ARMS.replace("[backends]\nn = 3\nconcurrency = 1\n", "");
        let ended = desk.simulate(&format!("{plan}{more}"), out, &["--quick"]);
        assert_eq!(ended.code, Some(0), "{more}: {}{}", ended.out, ended.err);
        let run = desk.stored(out);
        let of_arm = run.latencies.iter().filter(|(key, _)| key.arm == "least_connections");
        let (mut sum, mut number) = (0.0, 0.0);
        of_arm.for_each(|(_, all)| (sum, number) = (sum + all.latency.mean(), number + 1.0));
        (sum / number / 1e6, run.results.cells[0].backends.len())
    };
    let group = "[[simulated.groups]]\nn = 3\n";
    let (usual, backends) = mean_of(group, "usual");
    assert_eq!(backends, 3);
    assert!(mean_of(&format!("[simulated]\nbalancers = 8\n{group}"), "many").0 > usual * 1.05, "they know less");
    let (far, _) = mean_of(&format!("[simulated]\nnetwork = \"constant:10ms\"\n{group}"), "far");
    assert!((far - usual - 20.0).abs() < 4.0, "both ways: {usual} ms and {far} ms");
    let wave = "[[simulated.waves]]\nperiod = \"200ms\"\nshare = 0.5\nspeed = 0.7\n";
    assert!(mean_of(&format!("{group}{wave}"), "waves").0 > usual * 1.1, "slower half of the time");
    let (_, backends) = mean_of(&format!("{group}{group}speed = 2.0\n"), "two");
    assert_eq!(backends, 6);
}
