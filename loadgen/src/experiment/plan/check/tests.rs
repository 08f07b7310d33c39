//! Accepted files, and refused files with the place of the mistake.

use super::super::ArmPlan;
use super::*;

fn error(text: &str) -> String {
    plan(text, Path::new("x.toml")).expect_err(text).to_string()
}

#[test]
fn a_missing_key_has_its_default() {
    let found = plan("[load]\nloop = \"closed\"\n", Path::new("x.toml")).expect("sound");
    assert_eq!(found.load, LoadPlan::Closed { connections: 64, requests: 10_000, repeats: 1 });
    assert_eq!(
        (found.sizes, found.arms, found.scenario),
        (vec![3], vec![ArmPlan::plain("round_robin", "round_robin")], Scenario::Own)
    );
}

#[test]
fn mistakes_are_one_line_with_line_and_key() {
    for (text, wanted) in [
        ("scenario = \"A9\"\n[load]\nloop = \"closed\"", "x.toml, line 1: scenario: must be A1"),
        ("[load]\nloop = \"open\"", "x.toml, line 1: load: an open loop needs rate_rps or of_capacity"),
        ("[load]\nloop = \"open\"\nrate_rps = 0", "line 3: load.rate_rps: must be from 0.001 to 1000000"),
        ("[load]\nloop = \"closed\"\nrate_rps = 5", "line 3: load.rate_rps: belongs to an open loop"),
        ("[load]\nloop = \"open\"\nrate_rps = 5\nconnections = 3", "line 4: load.connections: belongs to a closed"),
        ("[load]\nloop = \"sideways\"", "line 2: load.loop: \"sideways\" is none of closed, open"),
        ("[load]\nloop = \"closed\"\ncost = \"10ms\"", "line 3: load.cost: \"10ms\" is no law of cost"),
        ("[load]\nloop = \"closed\"\ntimeout = \"5\"", "line 3: load.timeout: \"5\" is no time"),
        ("[load]\nloop = \"closed\"\ntimeout = \"1000001h\"", "line 3: load.timeout: \"1000001h\" is too long"),
        (
            "[load]\nloop = \"closed\"\nreqests = 5",
            "line 3: load.reqests: there is no such key; did you mean requests?",
        ),
        ("[load]\nloop = \"closed\"\n[backends]\nn = [0]", "line 4: backends.n: must be numbers from 1 to 64"),
        ("[load]\nloop = \"closed\"\n[blocks]", "blocks need an open loop"),
        ("[load]\nloop = \"closed\"\n[[arms]]\nstrategy = \"a\"\n[[arms]]\nstrategy = \"a\"", "label of another arm"),
        (
            "[load]\nloop = \"closed\"\n[[arms]]\nstrategy = \"a\"\ncost_factor = 1.15",
            "line 5: arms.cost_factor: needs load.cost",
        ),
        (
            "[load]\nloop = \"closed\"\ncost = \"constant:1ms\"\n[[arms]]\nstrategy = \"a\"\ncost_factor = 0",
            "line 6: arms.cost_factor: must be from 0.01 to 100",
        ),
        (
            "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"slow\"",
            "line 4: faults.factor: is missing",
        ),
        (
            "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"kill\"\nbackend = 4",
            "must be from 1 to 3, not 4",
        ),
        ("[load]\nloop = \"closed\"\n[[faults]]\nat = \"1s\"\nkind = \"kill\"", "line 3: faults: need an open loop"),
        ("[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"kill\"\nfor = \"1s\"", "undone"),
        (
            "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"kill\"\nfactor = 2",
            "line 7: faults.factor: does not belong to this kind",
        ),
        (
            "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"hot_key\"\nshare = 1\nbackend = 2",
            "line 8: faults.backend: this kind affects the whole pool",
        ),
        (
            "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"hot_key\"\nshare = 1.5",
            "line 7: faults.share: must be from 0 to 1, not 1.5",
        ),
        (
            "[load]\nloop = \"open\"\nrate_rps = 5\nduration = \"9s\"\n[[faults]]\nat = \"9s\"\nkind = \"kill\"",
            "line 6: faults.at: is after the end of the load",
        ),
        (
            "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"stall\"\nfor = \"0s\"",
            "line 7: faults.for: must be longer than 0",
        ),
        (
            "[load]\nloop = \"closed\"\n[backends]\nservice_time = \"expo:10ms\"",
            "line 4: backends.service_time: \"expo:10ms\" is no law of service time: write 0, constant:5ms",
        ),
        ("[load]\nloop = \"closed\"\n[backends]\nservice_time = \"lognormal:1ms\"", "is no law of service time"),
        ("[load\nloop", "x.toml, line 1: "),
    ] {
        let error = error(text);
        assert!(error.contains(wanted) && error.lines().count() == 1, "{text:?} gave {error:?}, not {wanted:?}");
    }
}

const BLOCKS: &str = "[load]\nloop = \"open\"\nrate_rps = 5000\n[blocks]\nsegment = \"2s\"\n";

#[test]
fn an_arm_may_set_the_safeguards_of_lb_and_nothing_else() {
    let arm = |keys: &str| format!("[load]\nloop = \"closed\"\n[[arms]]\nstrategy = \"a\"\n{keys}");
    let text = arm("[arms.lb.outlier]\nenabled = true\n[arms.lb.retry]\nattempts = 2\non = [\"500\"]\n");
    let lb = &plan(&text, Path::new("x.toml")).expect("sound").arms[0].lb;
    assert_eq!((lb.len(), lb["retry"]["attempts"].as_integer()), (2, Some(2)));
    let known = "It may set outlier, panic, slow_start, retry, queue; other keys belong in [lb], for all arms";
    for (keys, wanted) in [
        (
            "[arms.lb.outlir]\nenabled = true",
            format!("line 5: arms.lb.outlir: an arm has no such section; did you mean outlier? {known}"),
        ),
        ("[arms.lb.proxy]\nworkers = 1", format!("line 5: arms.lb.proxy: an arm has no such section. {known}")),
        ("lb = { retry = 2 }", "line 5: arms.lb.retry: expected a section: write [arms.lb.retry]".to_owned()),
        ("lb = 2", "line 5: arms.lb: expected sections, such as [arms.lb.retry], not 2".to_owned()),
        (
            "[arms.outlier]\nenabled = true",
            "arms.outlier: there is no such key. [[arms]] has label, strategy, options, cost_factor, lb".to_owned(),
        ),
        (
            "[arms.lb.retry]\non = [\"500\"]",
            "line 5: arms.lb.retry: attempts is missing: without it, loadgen sets attempts = 1, which is off"
                .to_owned(),
        ),
    ] {
        let error = error(&arm(keys));
        assert!(error.contains(&wanted) && error.lines().count() == 1, "{keys:?} gave {error:?}, not {wanted:?}");
    }
    let for_all = format!("{}[lb.retry]\nattempts = 2\n", arm("[arms.lb.retry]\non = [\"500\"]\n"));
    assert!(plan(&for_all, Path::new("x.toml")).is_ok(), "the switch is in [lb]");
}

#[test]
fn faults_in_blocks_leave_the_pool_as_it_is_and_end_with_the_segment() {
    let fault = |keys: &str| format!("{BLOCKS}[[faults]]\n{keys}");
    assert!(plan(&fault("at = \"0s\"\nkind = \"errors\""), Path::new("x.toml")).is_ok());
    for (keys, wanted) in [
        ("at = \"0s\"\nkind = \"kill\"", "line 6: faults.kind: an arm of a block needs the pool of the other arms"),
        ("at = \"2s\"\nkind = \"stall\"", "line 7: faults.at: is after the end of the segment"),
    ] {
        let error = error(&fault(keys));
        assert!(error.contains(wanted) && error.lines().count() == 1, "{keys:?} gave {error:?}, not {wanted:?}");
    }
}

#[test]
fn the_share_of_good_responses_is_judged_alone() {
    let blocks = plan(&format!("{BLOCKS}primary = \"good_share\""), Path::new("x.toml")).expect("sound").blocks;
    assert_eq!(blocks.expect("blocks").verdicts, ["good_share"]);
    let both = error(&format!("{BLOCKS}verdicts = [\"latency_p50\", \"good_share\"]"));
    assert!(both.contains("line 6: blocks.verdicts: good_share is judged alone: "), "{both}");
}

#[test]
fn every_law_of_mock_server_is_taken() {
    for law in ["0", "5ms", "constant:0.25ms", "exponential:10ms", "lognormal:10ms,0.5"] {
        let text = format!("[load]\nloop = \"closed\"\n[backends]\nservice_time = {law:?}");
        assert_eq!(plan(&text, Path::new("x.toml")).expect(law).mocks.service_time, law);
    }
}
