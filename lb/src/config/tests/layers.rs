//! The layers: their order, how a variable is read, which keys belong together.

use std::path::PathBuf;

use super::*;

#[test]
fn the_command_line_overrides_the_environment_and_that_overrides_the_file() {
    let text = "[strategy]\nname = \"a\"\n[log]\nlevel = \"warn\"\n";
    let environment = ["LB__STRATEGY__NAME=b", "LB__LOG__LEVEL=debug", "LB__PROXY__WORKERS=3"];
    let loaded = load_text(&source(&environment, &["strategy.name=c"]), text).unwrap();
    assert_eq!(loaded.config.pools[0].strategy.plugin, Plugin::Name("c".to_owned()));
    assert_eq!(loaded.config.log.level, "debug");
    assert_eq!(loaded.config.proxy.workers, 3);
    let origin = |key: &str| setting(&loaded, key).1;
    assert_eq!(origin("strategy.name"), Origin::CommandLine("--strategy".to_owned()));
    assert_eq!(origin("log.level"), Origin::Environment("LB__LOG__LEVEL".to_owned()));
    assert_eq!(origin("strategy.hash"), Origin::Default);
    let loaded = load_text(&source(&[], &[]), text).unwrap();
    assert_eq!(setting(&loaded, "log.level").1, Origin::File { line: 4 });
    let loaded = load_text(&source(&["LB_LOG=trace", "LB__LOG__LEVEL=debug"], &[]), text).unwrap();
    assert_eq!(loaded.config.log.level, "trace");
}

#[test]
fn a_variables_value_is_toml_or_plain_text_as_the_key_takes_it() {
    let check = |variable: &str, key: &str, value: &str| {
        let loaded = load_text(&source(&[variable], &[]), "").unwrap();
        assert_eq!(setting(&loaded, key).0, value, "{variable}");
    };
    check("LB__PROXY__LISTEN=127.0.0.1:1", "proxy.listen", "\"127.0.0.1:1\"");
    check("LB__PROXY__LISTEN=[\"127.0.0.1:1\"]", "proxy.listen", "\"127.0.0.1:1\"");
    check("LB__STRATEGY__NAME=7", "strategy.name", "\"7\"");
    check("LB__STRATEGY__NAME=\"x\"", "strategy.name", "\"x\"");
    check("LB__STRATEGY__NAME=0x10", "strategy.name", "\"0x10\"");
    check("LB__STATE__DIR=/1979-05-27", "state.dir", "\"/1979-05-27\"");
    check("LB__STRATEGY__CONFIG__RING__M=512", "strategy.config.ring.m", "512");
    check("LB__STRATEGY__CONFIG__RING__HASH=fast", "strategy.config.ring.hash", "\"fast\"");
    check("LB__strategy__config__ring__M=512", "strategy.config.ring.M", "512");
    check("LB__STRATEGY__CONFIG={ring={M=1}}", "strategy.config.ring.M", "1");
    check("LB__BACKENDS=[{id=\"a\",address=\"127.0.0.1:1\"}]", "backends[0].id", "\"a\"");
    check("LB__LOG__LEVEL=", "log.level", "\"info\"");
}

#[test]
fn keys_keep_their_case_and_variables_find_them() {
    let text = "[strategy]\nname = \"ring\"\n[strategy.config.ring]\nM = 512\nvirtualNodes = 9\n\
                [pools.API.strategy]\nname = \"x\"\n";
    let options = |environment: &[&str]| {
        let loaded = load_text(&source(environment, &[]), text).unwrap();
        loaded.config.pools[0].strategy.options.clone()
    };
    assert_eq!(options(&[]), serde_json::json!({ "M": 512, "virtualNodes": 9 }));
    let changed = options(&["LB__STRATEGY__CONFIG__RING__M=8", "LB__POOLS__API__STRATEGY__NAME=y"]);
    assert_eq!(changed, serde_json::json!({ "M": 8, "virtualNodes": 9 }));
}

#[test]
fn naming_another_strategy_drops_the_files_plugin_with_its_digest() {
    let digest = "ab".repeat(32);
    let text = format!("[strategy]\npath = \"x/libmine.so\"\nsha256 = \"{digest}\"\n");
    let pinned = config(&text);
    let path = PathBuf::from("/etc/lb/x/libmine.so");
    assert_eq!(pinned.pools[0].strategy.plugin, Plugin::Path { path, name: None });
    assert_eq!(pinned.pools[0].strategy.sha256, Some([0xab; 32]));
    let loaded = load_text(&source(&[], &["strategy.name=round_robin"]), &text).unwrap();
    let strategy = &loaded.config.pools[0].strategy;
    assert_eq!(strategy.plugin, Plugin::Name("round_robin".to_owned()));
    assert_eq!(strategy.sha256, None);
    assert!(
        loaded.warnings.iter().any(|line| { line == "strategy.sha256 is not in force: --strategy sets strategy.name" })
    );
    // The same name again changes nothing, and one layer may set all three.
    let text = format!("[strategy]\nname = \"mine\"\nsha256 = \"{digest}\"\n");
    let loaded = load_text(&source(&[], &["strategy.name=mine"]), &text).unwrap();
    assert!(loaded.config.pools[0].strategy.sha256.is_some());
    let digest = format!("LB__STRATEGY__SHA256={digest}");
    let environment = ["LB__STRATEGY__NAME=a", "LB__STRATEGY__PATH=/b.so", digest.as_str()];
    let loaded = load_text(&source(&environment, &[]), &text).unwrap();
    let plugin = Plugin::Path { path: "/b.so".into(), name: Some("a".to_owned()) };
    assert_eq!(loaded.config.pools[0].strategy.plugin, plugin);
    assert!(loaded.config.pools[0].strategy.sha256.is_some());
}

#[test]
fn one_variable_may_set_a_plugins_name_and_path_together() {
    let text = "[strategy]\nname = \"round_robin\"\n";
    let variable = "LB__STRATEGY={name=\"mine\", path=\"/b.so\"}";
    let loaded = load_text(&source(&[variable], &[]), text).unwrap();
    let plugin = Plugin::Path { path: "/b.so".into(), name: Some("mine".to_owned()) };
    assert_eq!(loaded.config.pools[0].strategy.plugin, plugin);
}

#[test]
fn a_mistake_in_a_layer_names_the_variable_or_the_flag() {
    let cases: &[(&[&str], &[&str], &str)] = &[
        (&["LB__PROXY__LISEN=x"], &[], "LB__PROXY__LISEN: proxy.lisen: unknown key `lisen`; did you"),
        (&["LB__PROXY__WORKERS=x"], &[], "LB__PROXY__WORKERS: proxy.workers: invalid type: string"),
        (&["LB__PROXY__WORKERS=-1"], &[], "LB__PROXY__WORKERS: proxy.workers: must be from 0 to"),
        (&["LB__PROXY__LISTEN=80"], &[], "LB__PROXY__LISTEN: proxy.listen: \"80\" is not IP:port"),
        (&["LB__X=1"], &[], "LB__X: x: unknown key `x`"),
        (&["LB__=1"], &[], "LB__: \"\": the name has an empty part"),
        (&["LB__A[-99999999999999]__B=1"], &[], "LB__A[-99999999999999]__B: \"a[-99999999999999]\""),
        (&["LB_LOG=inof"], &[], "LB_LOG: log.level: \"inof\" is not a level; did you mean `info`?"),
        (&[], &["strategy.name=../x"], "--strategy: strategy.name: \"../x\": a strategy's name is"),
        (&[], &["none=1"], "command line (none): none: unknown key `none`"),
        (&["LB_ADMIN_TOKEN=a b"], &[], "LB_ADMIN_TOKEN: admin.token: must be one line of visible"),
    ];
    for (environment, command_line, expected) in cases {
        let said = error("", environment, command_line);
        assert!(said.starts_with(expected), "{said}\nnot {expected}");
    }
}
