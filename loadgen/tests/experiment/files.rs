//! Mistakes in experiment files: one line on stderr names the place, the fault, and the value that was probably meant.

use crate::support::{Ended, Lab, ended};

const OPEN: &str = "[load]\nloop = \"open\"\nrate_rps = 5000\n";
const CLOSED: &str = "[load]\nloop = \"closed\"\n";
const SECTIONS: &str =
    "There are scenario, title, world, budget, [load], [backends], [blocks], [lb], [[arms]], [[faults]], [simulated]";

fn checked(lab: &Lab, text: &str) -> Ended {
    std::fs::write(lab.path("x.toml"), text).expect("written");
    ended(lab.program(&["check", "--plan", "x.toml"]).spawn().expect("loadgen starts"))
}

/// Checks `text`. `wanted` is the whole line without the names of program and file.
fn says(lab: &Lab, text: &str, wanted: &str) {
    let ended = checked(lab, text);
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (Some(2), format!("loadgen: x.toml, {wanted}\n").as_str()),
        "{text:?}"
    );
    assert_eq!(ended.out, "", "{text:?}");
}

#[test]
fn a_missing_key_is_named_with_its_values() {
    let lab = Lab::new();
    let explained = "config/experiments/a1.toml explains every key";
    let empty = format!(
        "line 1: the file is empty: an experiment needs [load] with loop = \"closed\" or \"open\"; {explained}"
    );
    for (text, wanted) in [
        ("", empty.as_str()),
        ("# nothing yet\n", &empty),
        (
            "title = \"x\"\n",
            &format!(
                "line 1: [load] is missing: it describes how requests are sent, with loop = \"closed\" or \"open\"; {explained}"
            ),
        ),
        (
            "title = \"x\"\n[load]\nrate_rps = 300\n",
            "line 2: load: loop is missing: \"closed\" (clients that wait for their responses) or \"open\" (a rate)",
        ),
        ("[load]\nloop = \"open\"\n", "line 1: load: an open loop needs rate_rps or of_capacity"),
        (
            "[load]\nloop = \"closed\"\n[[arms]]\nlabel = \"x\"\n",
            "line 3: arms: strategy is missing, such as strategy = \"round_robin\"",
        ),
        (
            "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nkind = \"kill\"\n",
            "line 4: faults: at is missing: a time with its unit, such as \"5s\"",
        ),
        (
            "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\n",
            "line 4: faults: kind is missing: \"slow\", \"delay\", \"stall\", \"kill\", \"errors\", \"add\", \"remove\" or \"hot_key\"",
        ),
    ] {
        says(&lab, text, wanted);
    }
}

#[test]
fn the_error_of_an_unknown_key_suggests_a_known_one() {
    let lab = Lab::new();
    let load = "[load] has loop, connections, requests, repeats, arrivals, rate_rps, of_capacity, capacity_p99, outstanding_max, \
        warm_up, duration, path, keys, cost, timeout";
    let blocks = "[blocks] has segment, wash_out, half_width, equivalence, confidence, verdicts, primary";
    let backends = "[backends] has n, service_time, concurrency, queue";
    let faults = "[[faults]] has at, for, kind, backend, factor, extra, rate, share, n";
    for (text, wanted) in [
        (
            "[load]\nloop = \"open\"\nrate = 300\n".to_owned(),
            format!("line 3: load.rate: there is no such key; did you mean rate_rps? {load}"),
        ),
        (
            format!("{CLOSED}reqests = 5\n"),
            format!("line 3: load.reqests: there is no such key; did you mean requests? {load}"),
        ),
        (
            format!("rate_rps = 300\n{CLOSED}"),
            "line 1: rate_rps: there is no such key here; it belongs in [load]".to_owned(),
        ),
        (
            format!("{CLOSED}budget = \"1m\"\n"),
            "line 3: load.budget: there is no such key here; it belongs above all sections".to_owned(),
        ),
        (
            format!("{CLOSED}[backends]\nsegment = \"2s\"\n"),
            "line 4: backends.segment: there is no such key here; it belongs in [blocks]".to_owned(),
        ),
        (
            format!("{CLOSED}[backends]\nconcurency = 4\n"),
            format!("line 4: backends.concurency: there is no such key; did you mean concurrency? {backends}"),
        ),
        (
            format!("{CLOSED}[backends]\nreplicas = 4\n"),
            format!("line 4: backends.replicas: there is no such key. {backends}"),
        ),
        (
            format!("{OPEN}[blocks]\nwashout = \"1s\"\n"),
            format!("line 5: blocks.washout: there is no such key; did you mean wash_out? {blocks}"),
        ),
        (
            format!("{CLOSED}[backend]\nn = 3\n"),
            format!("line 3: backend: there is no such key or section; did you mean backends? {SECTIONS}"),
        ),
        (
            format!("{CLOSED}[servers]\nn = 3\n"),
            format!("line 3: servers: there is no such key or section. {SECTIONS}"),
        ),
        (
            format!("{OPEN}[[faults]]\nat = \"1s\"\nkind = \"kill\"\nserver = 2\n"),
            format!("line 7: faults.server: there is no such key. {faults}"),
        ),
    ] {
        says(&lab, &text, &wanted);
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_an_error_with_the_expected_kind() {
    let lab = Lab::new();
    for (before, line, wanted) in [
        (
            "[load]\nloop = \"open\"\nrate_rps = 300\n",
            "duration = 5",
            "load.duration: expected a time with its unit, such as \"5s\", not 5",
        ),
        ("", "budget = 60", "budget: expected a time with its unit, such as \"5s\", not 60"),
        (
            CLOSED,
            "timeout = \"5\"",
            "load.timeout: \"5\" is no time: write a number and a unit, such as \"500ms\" or \"2m\"",
        ),
        ("[load]\nloop = \"open\"\n", "rate_rps = \"300\"", "load.rate_rps: expected a number, not \"300\""),
        (CLOSED, "connections = 3.5", "load.connections: expected a whole number, not 3.5"),
        (CLOSED, "connections = -1", "load.connections: must be from 1 to 60000, not -1"),
        ("[load]\n", "loop = true", "load.loop: expected \"closed\" or \"open\", not true"),
        ("[load]\n", "loop = \"opened\"", "load.loop: \"opened\" is none of closed, open; did you mean open?"),
        (
            OPEN,
            "arrivals = \"poison\"",
            "load.arrivals: \"poison\" is none of poisson, constant; did you mean poisson?",
        ),
        (
            "load = {loop = \"closed\"}\n[backends]\n",
            "n = \"x\"",
            "backends.n: expected a number of servers, or several as [1, 2, 3], not \"x\"",
        ),
        (
            "load = {loop = \"closed\"}\n[backends]\n",
            "n = 3.5",
            "backends.n: expected a number of servers, or several as [1, 2, 3], not 3.5",
        ),
        ("load = {loop = \"closed\"}\n[backends]\n", "n = [3, 65]", "backends.n: must be numbers from 1 to 64, not 65"),
        (
            "load = {loop = \"closed\"}\n",
            "arms = 3",
            "arms: expected sections: write [[arms]] and its keys below, once for each, not 3",
        ),
        (
            "load = {loop = \"closed\"}\n",
            "[arms]\nstrategy = \"a\"",
            "arms: there may be several: write [[arms]] in double brackets before each",
        ),
        ("load = {loop = \"closed\"}\n[[arms]]\n", "strategy = 5", "arms.strategy: expected text in quotes, not 5"),
        (
            "load = {loop = \"closed\"}\n[[arms]]\nstrategy = \"a\"\n",
            "options = 3",
            "arms.options: expected a table of options, such as { virtual_nodes = 160 }, not 3",
        ),
        ("", "lb = 4", "lb: expected a section: write [lb] and its keys below, not 4"),
        ("", "load = \"open\"", "load: expected a section: write [load] and its keys below, not \"open\""),
        ("", "scenario = \"A9\"\n[load]\nloop = \"closed\"", "scenario: must be A1, A2, A3, A4, B or own, not \"A9\""),
    ] {
        let number = before.lines().count() + 1;
        // The rest of the file is a valid experiment.
        let text = format!("{before}{line}\n");
        says(&lab, &text, &format!("line {number}: {wanted}"));
    }
    let blocks = format!("{OPEN}[blocks]\n");
    let measures = "latency_p50, latency_p90, latency_p99, service_p99, good_share";
    for (line, wanted) in [
        ("half_width = \"5 %\"", "blocks.half_width: expected a number, not \"5 %\"".to_owned()),
        ("verdicts = \"latency_p50\"", "blocks.verdicts: expected a list of names, such as [\"latency_p50\", \"latency_p90\"], not \"latency_p50\"".to_owned()),
        ("verdicts = [\"p99\"]", format!("blocks.verdicts: must be one of {measures}, not \"p99\"; did you mean latency_p99?")),
        ("verdicts = []", format!("blocks.verdicts: must name one of {measures} at least")),
        ("verdicts = [\"latency_p50\", \"latency_p50\"]", "blocks.verdicts: latency_p50 is there twice".to_owned()),
        ("primary = \"latency_p95\"", format!("blocks.primary: must be one of {measures}, not \"latency_p95\"; did you mean latency_p90?")),
    ] {
        says(&lab, &format!("{blocks}{line}\n"), &format!("line 5: {wanted}"));
    }
    let outside = format!("{blocks}verdicts = [\"latency_p50\"]\nprimary = \"latency_p99\"\n");
    says(&lab, &outside, "line 6: blocks.primary: must be one of blocks.verdicts, which are latency_p50");
    let kinds = "slow, delay, stall, kill, errors, add, remove, hot_key";
    let fault = |kind: &str| format!("{OPEN}[[faults]]\nat = \"1s\"\nkind = {kind:?}\n");
    let nearly = format!("line 6: faults.kind: \"kil\" is none of {kinds}; did you mean kill?");
    says(&lab, &fault("kil"), &nearly);
    says(&lab, &fault("explode"), &format!("line 6: faults.kind: \"explode\" is none of {kinds}"));
}

#[test]
fn malformed_toml_is_one_plain_line() {
    let lab = Lab::new();
    for (text, wanted) in [
        ("[load]\nloop = \"open\"\nrate_rps = 5\nrate_rps = 6\n", "line 4: rate_rps is set twice"),
        ("[load]\nloop = \"closed\"\n[load]\n", "line 3: load is set twice"),
        ("[load\nloop = \"open\"\n", "line 1: this is not valid TOML: unclosed table, expected `]`"),
        ("[load]\nloop = open\n", "line 2: text must be in quotes: \"open\""),
        ("[load]\nloop =\n", "line 2: a value is missing"),
        ("[load]\nloop \"open\"\n", "line 2: this is not valid TOML: key with no value, expected `=`"),
    ] {
        says(&lab, text, wanted);
    }
}

#[test]
fn a_plan_without_a_possible_verdict_is_refused_with_the_remedy() {
    let lab = Lab::new();
    let arms = "[[arms]]\nstrategy = \"round_robin\"\n[[arms]]\nstrategy = \"least_connections\"\n";
    let blocks = |more: &str| format!("[load]\nloop = \"open\"\narrivals = \"constant\"\n{more}{arms}");
    let few = blocks("rate_rps = 250\n[blocks]\nsegment = \"2s\"\n");
    let wanted = "line 6: blocks.segment: 250/s for 2 s are 500 requests, and p99 needs 1,000: at least 4 s, or a rate of 500/s, or \
        verdicts = [\"latency_p50\", \"latency_p90\"]";
    says(&lab, &few, wanted);
    let short = format!("title = \"x\"\nbudget = \"20s\"\n{}", blocks("rate_rps = 5000\n[blocks]\nsegment = \"2s\"\n"));
    let least = "is too short: the least is 54 s (8 blocks of 2 arms at 3.1 s, starting and ending the rest)";
    says(&lab, &short, &format!("line 2: budget: 20 s {least}"));
    let by_default = blocks("rate_rps = 5000\n[blocks]\nsegment = \"9s\"\n");
    assert!(checked(&lab, &by_default).err.starts_with("loadgen: x.toml, line 1: budget: 60 s is too short"));
    let faults = format!("budget = \"1m\"\n{OPEN}[[faults]]\nat = \"1h\"\nkind = \"kill\"\n");
    assert!(
        checked(&lab, &faults).err.starts_with("loadgen: x.toml, line 1: budget: 60 s is too short: the least is 36")
    );
    // The start of an experiment refuses it too, and leaves nothing.
    std::fs::write(lab.path("x.toml"), few).expect("written");
    let ended = ended(lab.command(&["experiment", "--plan", "x.toml"]).spawn().expect("loadgen starts"));
    assert_eq!((ended.code, ended.err), (Some(2), format!("loadgen: x.toml, {wanted}\n")));
    assert!(!lab.out().exists());
}

#[test]
fn a_value_that_lb_refuses_has_its_line() {
    let lab = Lab::new();
    let path = lab.plan(""); // The plan names the folder of plugins.
    let lb = std::fs::read_to_string(&path).expect("text");
    let said = |text: &str| {
        let ended = checked(&lab, &format!("{CLOSED}{text}{lb}"));
        assert!(ended.code == Some(2) && ended.err.lines().count() == 1, "{text:?}: {}", ended.err);
        ended.err.strip_prefix("loadgen: x.toml, ").map(str::to_owned).unwrap_or(ended.err)
    };
    let arm = |more: &str| format!("[[arms]]\nstrategy = \"consistent_hash\"\n{more}");
    for (text, begins, has) in [
        (
            "[[arms]]\nstrategy = \"rond_robin\"\n".to_owned(),
            "line 4: arms.strategy: there is no strategy rond_robin; did you mean round_robin? there are: ",
            "consistent_hash",
        ),
        (
            "[[arms]]\nstrategy = \"nobodys\"\n".to_owned(),
            "line 4: arms.strategy: there is no strategy nobodys; there are: ",
            "round_robin",
        ),
        (
            arm("options = { virtual_node = 9 }\n"),
            "line 5: arms.options.virtual_node: arm consistent_hash: ",
            "virtual_node",
        ),
        (
            arm("[arms.options]\nvirtual_nodes = 0\n"),
            "line 6: arms.options.virtual_nodes: arm consistent_hash: ",
            "1 to 4096",
        ),
    ] {
        let said = said(&text);
        assert!(said.starts_with(begins) && said.contains(has), "{said}");
    }
    let of_arm = said(&arm("[arms.lb.retry]\nattempts = 99\n"));
    assert!(
        of_arm.starts_with("line 6: arms.lb.retry.attempts: arm consistent_hash: ") && of_arm.contains("1 to 5"),
        "{of_arm}"
    );
    let typed = said(&arm("[arms.lb.outlier]\nenabled = true\neject = 5\n"));
    assert!(typed.starts_with("line 7: arms.lb.outlier.eject: arm consistent_hash: "), "{typed}");
    assert!(typed.contains("eject_ms"), "{typed}");
    let limits = checked(&lab, &format!("{CLOSED}{lb}[lb.retry]\nattempts = 99\n")).err;
    assert!(limits.contains(": lb.retry.attempts: ") && limits.contains("must be from 1 to"), "{limits}");
}

/// A flag overrides the file, so the error names the flag and not the file.
#[test]
fn flags_are_refused_by_their_own_names() {
    let lab = Lab::new();
    let said = |arguments: &[&str]| {
        let ended = ended(lab.command(arguments).spawn().expect("loadgen starts"));
        assert!(ended.code == Some(2) && ended.err.lines().count() == 1, "{arguments:?}: {}", ended.err);
        assert!(!lab.out().exists(), "{arguments:?}");
        ended.err.strip_prefix("loadgen: ").map(|line| line.trim_end().to_owned()).unwrap_or(ended.err)
    };
    let short = said(&["b", "--budget", "3s"]);
    assert!(short.starts_with("--budget 3 s is too short for b: the least is "), "{short}");
    assert!(short.contains("(calibration 17.4 s, 12 blocks of 3 arms at 2.6 s, starting"), "{short}");
    assert!(said(&["b", "--quick", "--budget", "9s"]).starts_with("--budget 9 s is too short for b: the least is "));
    let clock = said(&["a3", "--budget", "20s"]);
    assert!(clock.contains("for a3: the least is ") && clock.contains("1 arm of 32 s with its warm-up"), "{clock}");
    for flag in ["--rate=300", "--of-capacity=0.5", "--budget=1m"] {
        let closed = said(&["a1", flag]);
        let (name, _) = flag.split_once('=').expect("a value");
        assert!(closed.starts_with(&format!("{name} is for an open loop, and a1 is a closed loop: ")), "{closed}");
    }
    assert!(
        said(&["b", "--rate", "0"])
            .contains("\"0\" is not requests per second, such as 300: allowed are 0.001 to 1000000")
    );
    assert!(said(&["b", "--of-capacity", "70"]).contains("allowed are 0.01 to 2"));
    assert!(said(&["b", "--rate", "5", "--of-capacity", "1"]).contains("cannot be used with"));
}

#[test]
fn a_replay_accepts_only_its_own_flags() {
    let lab = Lab::new();
    let help = ended(lab.program(&["replay", "--help"]).spawn().expect("loadgen starts"));
    for flag in ["--out", "--seed", "--lb", "--mock-server", "--target", "--admin", "--plain", "--quiet"] {
        assert!(help.out.contains(flag), "{flag}: {}", help.out);
    }
    for flag in ["--plan", "--budget", "--strategy", "--arms", "--quick", "--rate", "--of-capacity"] {
        assert!(!help.out.contains(flag), "{flag}: {}", help.out);
        let refused = ended(lab.program(&["replay", "run", flag, "x"]).spawn().expect("loadgen starts"));
        assert!(refused.code == Some(2) && refused.err.contains("unexpected argument"), "{flag}: {}", refused.err);
    }
}
