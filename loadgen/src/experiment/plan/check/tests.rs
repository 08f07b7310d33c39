//! Accepted files, and refused files with the place of the mistake.

use super::*;

fn error(text: &str) -> String {
    plan(text, Path::new("x.toml")).expect_err(text).to_string()
}

#[test]
fn a_missing_key_has_its_default() {
    let found = plan("[load]\nloop = \"closed\"\n", Path::new("x.toml")).expect("sound");
    assert_eq!(found.load, LoadPlan::Closed { connections: 64, requests: 10_000, repeats: 1 });
    assert_eq!((found.sizes, found.arms, found.scenario), (vec![3], vec![arm_default()], Scenario::Own));
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

#[test]
fn every_law_of_mock_server_is_taken() {
    for law in ["0", "5ms", "constant:0.25ms", "exponential:10ms", "lognormal:10ms,0.5"] {
        let text = format!("[load]\nloop = \"closed\"\n[backends]\nservice_time = {law:?}");
        assert_eq!(plan(&text, Path::new("x.toml")).expect(law).mocks.service_time, law);
    }
}
