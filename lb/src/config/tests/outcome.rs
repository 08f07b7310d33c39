//! The results: matching order, the token, the state folder, the printed page, warnings.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::*;

#[test]
fn routes_come_out_in_matching_order() {
    let route = |host: &str, path: &str| format!("[[routes]]\nhost = \"{host}\"\npath = \"{path}\"\n");
    let text = [
        route("*", "/a"),
        route("*", "/a/b/"),
        route("*.org", "/"),
        route("*.example.org", "/"),
        route("WWW.example.org", "/"),
        route("www.example.org", "/x"),
    ];
    let order: Vec<String> =
        config(&text.concat()).routes.iter().map(|route| format!("{:?} {}", route.host, route.path_prefix)).collect();
    let expected = [
        "Exact(\"www.example.org\") /x",
        "Exact(\"www.example.org\") /",
        "Wildcard(\".example.org\") /",
        "Wildcard(\".org\") /",
        "Any /a/b",
        "Any /a",
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_token_comes_from_a_file_or_from_the_environment_and_is_never_shown() {
    const FILE: &str = "from-the-file-b9c1f6b2d34f0a7e5c8890712de4ab63";
    const ENVIRONMENT: &str = "from-the-environment-5d6c7f8a9b0e1d2c3b4a59687";
    let variable = format!("LB_ADMIN_TOKEN={ENVIRONMENT}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{FILE}\n")).unwrap();
    let text = format!("[admin]\nlisten = \"0.0.0.0:1\"\ntoken_file = {:?}\n", file);
    let token = |environment: &[&str], command_line: &[&str]| {
        let loaded = load_text(&source(environment, command_line), &text).unwrap();
        assert_eq!(setting(&loaded, "admin.token").0, "\"***\"");
        let shown = format!("{loaded:?}{}{}", explain(&loaded), explain_json(&loaded));
        assert!(!shown.contains("from-the"), "{shown}");
        loaded.config.admin.token.unwrap().expose().to_owned()
    };
    assert_eq!(token(&[], &[]), FILE);
    assert_eq!(token(&[&variable], &[]), ENVIRONMENT);
    let flag = format!("admin.token_file={}", file.display());
    assert_eq!(token(&[&variable], &[&flag]), FILE);
}

#[test]
fn state_goes_where_the_environment_says_and_one_file_has_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a")).unwrap();
    let dir = |path: &Path, environment: &[&str]| {
        let mut source = source(environment, &[]);
        source.path = path.to_owned();
        load_text(&source, "").unwrap().config.state.dir
    };
    let file = folder.path().join("lb.toml");
    let state = dir(&file, &["XDG_STATE_HOME=/state"]);
    assert!(state.starts_with("/state/lb"));
    assert_eq!(state.file_name().unwrap().len(), 16);
    assert_eq!(state, dir(&folder.path().join("a/../lb.toml"), &["XDG_STATE_HOME=/state"]));
    assert_ne!(state, dir(&folder.path().join("other.toml"), &["XDG_STATE_HOME=/state"]));
    let relative = dir(&file, &["XDG_STATE_HOME=state", "HOME=", "TMPDIR=/t"]);
    assert!(relative.to_string_lossy().starts_with("/t/lb-state-"), "{relative:?}");
    assert_eq!(dir(&file, &["LB__STATE__DIR=x"]), folder.path().join("x"));
}

#[test]
fn the_page_shows_settings_in_force_with_their_origins() {
    let text = "[[backends]]\nid = \"b 1\"\naddress = \"127.0.0.1:1\"\n[strategy]\nname = \"mine\"\n";
    let loaded = load_text(&source(&["LB__PROXY__WORKERS=2"], &["log.level=warn"]), text).unwrap();
    let page = explain(&loaded);
    for line in [
        "backends[0].id = \"b 1\"  # file, line 2",
        "proxy.workers = 2  # environment LB__PROXY__WORKERS",
        "log.level = \"warn\"  # command line (log.level)",
        "strategy.name = \"mine\"  # file, line 5",
        "timeouts.connect_ms = 5000  # default",
        "plugin_dirs = []  # default, and lb's own folders after it",
    ] {
        let (setting, origin) = line.split_once("  # ").unwrap();
        let found = page
            .lines()
            .any(|line| line.split_once("  # ").is_some_and(|(s, o)| s.trim_end() == setting && o == origin));
        assert!(found, "{line} is not in\n{page}");
    }
    let columns = page.lines().skip(1).filter_map(|line| line.find("  # ")).filter(|at| *at <= 60);
    assert_eq!(columns.collect::<BTreeSet<_>>().len(), 1, "{page}");
    let json = explain_json(&loaded);
    let entries = json["settings"].as_array().unwrap();
    let workers = entries.iter().find(|entry| entry["key"] == "proxy.workers").unwrap();
    assert_eq!(workers["value"], 2);
    assert_eq!(workers["variable"], "LB__PROXY__WORKERS");
}

#[test]
fn probable_mistakes_cause_warnings() {
    let warnings = |text: &str| load_text(&source(&[], &[]), text).unwrap().warnings;
    assert_eq!(warnings(""), ["pool \"default\" has no backends yet"]);
    let text = "[launcher]\nkind = \"process\"\ncommand = [\"./server\"]\n[strategy]\n\
                path = \"libx.so\"\nhash_on = [\"path\", \"random_id\"]\n[strategy.config.y]\n";
    let warnings = warnings(text);
    assert!(warnings.iter().any(|line| line.contains("has no {port} in it")), "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("no [strategy.config.x]")), "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("every request has path")), "{warnings:?}");
}

#[test]
fn load_reports_are_off_by_default_and_their_keys_alone_cause_a_warning() {
    let policy =
        |text: &str| config(&format!("[strategy.load_reports]\n{text}")).pools[0].strategy.load_reports.clone();
    assert_eq!(policy(""), None);
    let policy = policy("enabled = true\nrequest_header = true\nmetrics = [\"a\", \"utilization.gpu\"]\n").unwrap();
    assert!(policy.request_header && policy.metrics.names().eq(["a", "utilization.gpu"]) && policy.poll.is_none());
    let pool = config("[pools.p.strategy.load_reports]\nenabled = true\n");
    assert!(pool.pools[0].strategy.load_reports.is_none() && pool.pools[1].strategy.load_reports.is_some());
    let loaded = load_text(&source(&[], &[]), "[strategy.load_reports]\nmetrics = [\"a\"]\n").unwrap();
    let warning = "strategy.load_reports has no effect: set enabled = true in it";
    assert!(loaded.warnings.iter().any(|line| line == warning), "{:?}", loaded.warnings);
}

#[test]
fn probes_need_a_path_and_a_pool_has_its_own() {
    let policy = |text: &str| config(&format!("[strategy.probe]\n{text}")).pools[0].strategy.probe.clone();
    assert_eq!(policy(""), None);
    let probe = policy("path = \"/load?x=1\"\n").unwrap();
    assert_eq!((probe.path.as_str(), probe.timeout), ("/load?x=1", Duration::from_secs(1)));
    assert_eq!(policy("path = \"/\"\ntimeout_ms = 3\n").unwrap().timeout, Duration::from_millis(3));
    let text = "[health]\nhost = \"api.example\"\n[pools.p.strategy.probe]\npath = \"/load\"\n";
    let [of_default, of_p] = [0, 1].map(|pool| config(text).pools[pool].strategy.probe.clone());
    assert!(of_default.is_none() && of_p.unwrap().host.as_deref() == Some("api.example"));
    let loaded = load_text(&source(&[], &[]), "[strategy.probe]\ntimeout_ms = 3\n").unwrap();
    let warning = "strategy.probe has no effect: set path in it";
    assert!(loaded.warnings.iter().any(|line| line == warning), "{:?}", loaded.warnings);
}

#[test]
fn a_mistyped_table_of_options_causes_a_warning() {
    let warnings = |table: &str| {
        let text = format!("[strategy]\nname = \"consistent_hash\"\n[strategy.config.{table}]\nvirtual_nodes = 9\n");
        let loaded = load_text(&source(&[], &[]), &text).unwrap();
        loaded.warnings.into_iter().filter(|line| line.contains("strategy.config")).collect::<Vec<_>>()
    };
    assert_eq!(
        warnings("consistent_hsh"),
        ["no [strategy.config.consistent_hash]: the strategy gets no options; \
          is it [strategy.config.consistent_hsh] that was meant for it?"]
    );
    assert!(warnings("consistent-hash")[0].contains("consistent-hash"));
    for fine in ["consistent_hash", "least_connections", "round_robin", "mine"] {
        assert_eq!(warnings(fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn an_access_log_is_none_until_it_is_enabled_and_a_dash_is_stdout() {
    assert_eq!(config("[access_log]\npath = \"a.log\"\n").access_log, None);
    let log = |text: &str| config(&format!("[access_log]\nenabled = true\n{text}")).access_log.unwrap();
    let plain = log("");
    assert_eq!((plain.path, plain.format, plain.sample, plain.always_errors), (None, LogFormat::Json, 1.0, true));
    let other = log("path = \"logs/a.log\"\nformat = \"text\"\nsample = 0\nquery = false\n");
    assert_eq!((other.path.as_deref(), other.sample), (Some(Path::new("/etc/lb/logs/a.log")), 0.0));
    assert_eq!((other.format, other.query), (LogFormat::Text, false));
    for wrong in ["sample = 1.1", "sample = -0.1", "sample = nan", "format = \"xml\"", "path = \"\""] {
        let said = error(&format!("[access_log]\nenabled = true\n{wrong}\n"), &[], &[]);
        assert!(said.contains("access_log."), "{wrong}: {said}");
    }
}
