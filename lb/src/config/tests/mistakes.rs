//! Every kind of mistake with its message. No input causes a panic.

use super::*;

#[test]
fn a_wrong_value_is_reported_with_line_key_and_remedy() {
    let digest = format!("[strategy]\nsha256 = \"{}\"", "g".repeat(64));
    let b = "[[backends]]\nid = \"a\"\naddress = \"127.0.0.1:1\"\n";
    let twice = format!("{b}{b}");
    let weight = format!("{b}weight = 257");
    let cases = [
        ("[proxy]\nlisten = \"localhost:80\"", ":2:1: proxy.listen: \"localhost:80\" is not IP:port"),
        ("[proxy]\nlisten = []", ":2:1: proxy.listen: must be 1 to 64 addresses"),
        ("[proxy]\nlisten = [\n\"[::]:1\",\n\"[::]:1\"]", ":4:1: proxy.listen[1]: [::]:1 is listed twi"),
        ("[proxy]\ntrusted_proxies = [\"x\"]", ":2:20: proxy.trusted_proxies[0]: \"x\" is not a netw"),
        (
            "[proxy]\nupgrades = [\"web socket\"]",
            ":2:13: proxy.upgrades[0]: \"web socket\" is not the name of a protoc",
        ),
        (
            "[proxy]\nupgrades = [\"websocket\",\n\"H2C\"]",
            ":3:1: proxy.upgrades[1]: \"H2C\" would carry requests past routes, limits and forwarded headers; leave it out",
        ),
        ("[admin]\nlisten = \"127.0.0.1:8080\"", ":2:1: admin.listen: 127.0.0.1:8080 is taken by pr"),
        ("[admin]\nlisten = \"0.0.0.0:1\"", ":2:1: admin.listen: 0.0.0.0 can be reached from other"),
        ("[admin]\ntoken_file = \"no/such\"", ":2:1: admin.token_file: /etc/lb/no/such cannot be rea"),
        ("[strategy]\nname = \"round-robin\"", ":2:1: strategy.name: \"round-robin\": a strategy's n"),
        ("[strategy]\npath = \"~/x.so\"", ":2:1: strategy.path: ~ is not expanded"),
        ("[strategy]\nsha256 = \"abc\"", ":2:1: strategy.sha256: must be 64 hexadecimal digits"),
        (digest.as_str(), ":2:1: strategy.sha256: must be 64 hexadecimal digits"),
        (
            "[strategy.load_reports]\nmetrics = [\"a\", \"b c\"]",
            ":2:17: strategy.load_reports.metrics[1]: \"b c\" is no name of a metric: use 1 to 128 visible",
        ),
        (
            "[strategy.load_reports]\nmetrics = [\"a\", \"named_metrics.a\"]",
            ":2:17: strategy.load_reports.metrics[1]: \"a\" and \"named_metrics.a\" name one value",
        ),
        (
            "[strategy.load_reports]\nmetrics = [\"eps\"]",
            ":2:12: strategy.load_reports.metrics[0]: \"eps\" is always in",
        ),
        (
            "[strategy.load_reports]\nmetrics = [\"a\", \"b\", \"c\", \"d\", \"e\"]",
            ":2:1: strategy.load_reports.metrics: 5 metrics are listed, and a pool may list at most 4",
        ),
        (
            "[strategy.load_reports]\npoll_path = \"load\"",
            ":2:1: strategy.load_reports.poll_path: \"load\" is not a path",
        ),
        ("[strategy.load_reports]\npoll_every_ms = 9", ":2:1: strategy.load_reports.poll_every_ms: must be from 10 to"),
        ("[strategy.probe]\npath = \"probe\"", ":2:1: strategy.probe.path: \"probe\" is not a path, such as"),
        ("[strategy.probe]\ntimeout_ms = 0", ":2:1: strategy.probe.timeout_ms: must be from 1 to 60000"),
        ("[strategy.probe]\ntimeout_ms = 60001", ":2:1: strategy.probe.timeout_ms: must be from 1 to 60000"),
        ("[strategy]\nhash_on = [\"heade:x\"]", ":2:12: strategy.hash_on[0]: \"heade:x\" is none of"),
        ("[strategy]\nhash_on = [\"header:a b\"]", ":2:12: strategy.hash_on[0]: \"a b\" is not the n"),
        ("[strategy]\nhash_on = [\"cookie:\"]", ":2:12: strategy.hash_on[0]: \"\" is not the name of"),
        ("[strategy.config.round_robin]\nx = nan", ":2:1: strategy.config.round_robin.x: NaN is not"),
        (twice.as_str(), ":5:1: backends[1].id: backends[0] is called \"a\" already"),
        (weight.as_str(), ":4:1: backends[0].weight: a weight is a whole number from 0 to 256"),
        ("[[backends]]\nid = \"a\"\naddress = \"127.0.0.1\"", ":3:1: backends[0].address: \"127.0.0.1"),
        ("[[backends]]\nid = \"a\"\naddress = \"127.0.0.1:8080\"", ":3:1: backends[0].address: 127.0.0."),
        ("[[backends]]\nid = \"a\"\naddress = \"127.0.0.1:8081\"", ":3:1: backends[0].address: 127.0.0."),
        ("[[backends]]\nid = \"a\"\naddress = \"[fe80::1]:8\"", ":3:1: backends[0].address: [fe80::1]:8 is a l"),
        ("[[backends]]\nid = \"a/b\"\naddress = \"1.1.1.1:1\"", ":2:1: backends[0].id: an id is made"),
        ("[pools.default]", ":1:8: pools.default: this pool is [strategy]"),
        ("[pools.\"a/b\"]", ":1:8: pools.\"a/b\": an id is made of"),
        ("[[routes]]\npool = \"aip\"\n[pools.api]", ":2:1: routes[0].pool: there is no pool \"aip\"; di"),
        ("[[routes]]\nhost = \"a.b:80\"", ":2:1: routes[0].host: \"a.b:80\" is not a host name without"),
        ("[[routes]]\nhost = \"a.*.b\"", ":2:1: routes[0].host: \"a.*.b\" is not a host name"),
        ("[[routes]]\npath = \"api\"", ":2:1: routes[0].path: \"api\" is not the beginning of a path"),
        (
            "[[routes]]\npath = \"/a%2fb\"",
            ":2:1: routes[0].path: \"/a%2fb\" is compared with paths in normal form: write \"/a%2Fb\"",
        ),
        (
            "[[routes]]\npath = \"//api\"",
            ":2:1: routes[0].path: \"//api\" is compared with paths in normal form: write \"/api\"",
        ),
        (
            "[[routes]]\npath = \"/100%\"",
            ":2:1: routes[0].path: \"/100%\" can match nothing: the path has a % without two",
        ),
        ("[[routes]]\n[[routes]]\nhost = \"*\"", ":2:1: routes[1]: an earlier route has the same"),
        ("[launcher]\nnames = \"Server\"", ":2:1: launcher.names: \"Server\" has no {n} in it"),
        ("[launcher]\nnames = \"{n}/{x}\"", ":2:1: launcher.names: \"{n}/{x}\" makes no ids"),
        ("[launcher]\nreplicas = 65", ":2:1: launcher.replicas: must be from 0 to 64, not 65"),
        ("[launcher]\nfirst_port = 65500", ":2:1: launcher.first_port: leaves no room for 64 ports"),
        ("[launcher]\ncommand = []", ":2:1: launcher.command: needs a program"),
        ("[launcher]\nkind = \"docker\"", ":2:8: launcher.kind: unknown value `docker`. Known here: n"),
        ("[course]\nseed = -1", ":2:1: course.seed: must be from 0 to 9223372036854775807, not -1"),
        ("[health]\npath = \"x\"", ":2:1: health.path: \"x\" is not a path"),
        (
            "[health]\nfast_interval_ms = 1001",
            ":2:1: health.fast_interval_ms: must not be longer than interval_ms, which is 1000",
        ),
        ("[health]\ninterval_ms = 0", ":2:1: health.interval_ms: must be from 10 to 86400000 milli"),
        ("[timeouts]\nconnect_ms = 0", ":2:1: timeouts.connect_ms: must be from 1 to 86400000 milli"),
        ("[timeouts]\ntotal_ms = -1", ":2:1: timeouts.total_ms: must be from 0 to 86400000 millisec"),
        ("[timeouts]\ntunnel_idle_ms = 0", ":2:1: timeouts.tunnel_idle_ms: must be from 1 to 86400000 milli"),
        ("[timeouts]\nbody_grace_ms = 0", ":2:1: timeouts.body_grace_ms: must be from 1 to 86400000 milli"),
        (
            "[limits]\nbody_min_bytes_per_s = -1",
            ":2:1: limits.body_min_bytes_per_s: must be from 0 to 1000000000, not -1",
        ),
        ("[limits]\nhead_bytes = 8191", ":2:1: limits.head_bytes: must be from 8192 to 1048576, not"),
        ("[limits]\nretries = 1", ":2:1: limits.retries: unknown key `retries`; write [retry] attempts, which"),
        ("[retry]\nattempts = 0", ":2:1: retry.attempts: must be from 1 to 5, not 0"),
        (
            "[retry]\non = [\"conect\"]",
            ":2:7: retry.on[0]: \"conect\" is no cause of a retry; did you mean `connect`? Known here: connect, reset, timeout, 400",
        ),
        (
            "[retry]\non = [\"connect\", \"200\"]",
            ":2:18: retry.on[1]: \"200\" is no cause of a retry. Known here: conn",
        ),
        ("[retry]\non = [\"+502\"]", ":2:7: retry.on[0]: \"+502\" is no cause of a retry. Known here: conn"),
        ("[retry]\non = [503]", ":2:7: retry.on[0]: invalid type: integer `503`, expected a string"),
        ("[retry]\nattempt_timeout_ms = -1", ":2:1: retry.attempt_timeout_ms: must be from 0 to 86400000 milli"),
        ("[retry]\nreplay_bytes = 1048577", ":2:1: retry.replay_bytes: must be from 0 to 1048576, not"),
        ("[retry]\nbudget_percent = 101", ":2:1: retry.budget_percent: must be from 0 to 100, not 101"),
        ("[retry]\nbudget_reserve_per_s = -1", ":2:1: retry.budget_reserve_per_s: must be from 0 to 1000000"),
        (
            "[limits]\nheaders = 99999999999999999999",
            ":2:11: limits.headers: 99999999999999999999 is too large: lb takes",
        ),
        ("[retry]\nattempts = 9223372036854775808", ":2:12: retry.attempts: 9223372036854775808 is too large"),
        ("[log]\nlevel = \"lb=loud\"", ":2:1: log.level: \"lb=loud\":"),
        ("plugin_dirs = [\"\"]", ":1:16: plugin_dirs[0]: a path cannot be empty"),
    ];
    for (text, expected) in cases {
        let said = error(text, &[], &[]);
        let expected = format!("/etc/lb/lb.toml{expected}");
        assert!(said.starts_with(&expected), "{said}\nnot {expected}");
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn a_missing_file_is_named_with_the_flag_for_another() {
    let source = Source { path: "/none/such/lb.toml".into(), ..Source::default() };
    let said = load(&source).expect_err("there is no such file").to_string();
    assert!(said.starts_with("config file /none/such/lb.toml cannot be read: No such file"), "{said}");
    assert!(said.ends_with("give another with --config FILE"), "{said}");
}

#[test]
fn no_text_makes_it_panic() {
    let mut random = fastrand::Rng::with_seed(0x1b);
    let pieces = ["", "\"", "[", "]", "=", "\n", "#", "-1", "\u{e9}", "\0", "{", ".", "[[a]]", "9e99"];
    // Without backends: a changed address could be a name, which the resolver would look up.
    let shown = with_defaults_shown();
    for text in [LB_TOML, shown.as_str(), ASSIGNMENT_TOML] {
        let borders: Vec<usize> = (0..text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        for _ in 0..400 {
            let from = borders[random.usize(..borders.len())];
            let to = borders[random.usize(..borders.len())].clamp(from, from + 40);
            let to = (from..=to).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from);
            let piece = pieces[random.usize(..pieces.len())];
            let changed = format!("{}{piece}{}", &text[..from], &text[to..]);
            if let Err(error) = load_text(&source(&["LB__LOG__LEVEL=debug"], &[]), &changed) {
                assert!(!error.to_string().contains(char::is_control), "{error}");
            }
        }
    }
}

#[test]
fn no_variable_or_flag_makes_it_panic() {
    let mut random = fastrand::Rng::with_seed(0x1c);
    let pieces = [
        "",
        "proxy",
        "LISTEN",
        "strategy",
        "config",
        "a[-9]",
        "a.b",
        "\u{e9}",
        "\"",
        "{",
        "{a={b=1}}",
        "[1]",
        "9e99",
        "-9223372036854775808",
        "name",
        "path",
        "admin",
        "token_file",
        "true",
        "nan",
    ];
    for _ in 0..2_000 {
        let mut piece = || pieces[random.usize(..pieces.len())];
        let variable = format!("LB__{}__{}={}", piece(), piece(), piece());
        let flag = format!("{}.{}={}", piece(), piece(), piece());
        if let Err(error) = load_text(&source(&[&variable], &[&flag]), ASSIGNMENT_TOML) {
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }
}
