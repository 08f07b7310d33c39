//! Sections of pools and routes: one list of keys, inheritance, places, and keys that are refused.

use std::time::Duration;

use lb_balance::PanicMode;

use super::super::failing::{PartialOutlier, PartialPanic, PartialRetry};
use super::super::file::{PartialHealth, PartialLimits, PartialTimeouts};
use super::super::queue::PartialQueue;
use super::super::section::{Partial, Scope};
use super::super::slow_start::PartialSlowStart;
use super::*;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A pool `api` with these lines, and a route to it with these.
fn text(global: &str, of_pool: &str, of_route: &str) -> String {
    format!("{global}\n[pools.api.strategy]\n{of_pool}\n[[routes]]\npool = \"api\"\n{of_route}\n")
}

/// The policies of `api` and of the route to it.
fn policies(text: &str) -> [Policy; 2] {
    let config = config(text);
    let route = &config.routes[0];
    let Policy { timeouts, limits, retry: _, queue: _, priority: _, sticky: _ } = &config.policies[0];
    assert_eq!((timeouts, limits), (&config.timeouts, &config.limits));
    [config.policies[route.pool].clone(), config.policies[route.policy].clone()]
}

/// The keys that lb lists for a section.
fn known(header: &str) -> Vec<String> {
    let said = error(&format!("{header}\nnone = 1"), &[], &[]);
    let (_, known) = said.split_once("Known here: ").expect(&said);
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_full_and_the_partial_form_of_a_section_have_the_same_keys() {
    for (section, keys) in [
        ("health", PartialHealth::KEYS),
        ("outlier", PartialOutlier::KEYS),
        ("panic", PartialPanic::KEYS),
        ("slow_start", PartialSlowStart::KEYS),
        ("retry", PartialRetry::KEYS),
        ("queue", PartialQueue::KEYS),
        ("timeouts", PartialTimeouts::KEYS),
        ("limits", PartialLimits::KEYS),
    ] {
        let names: Vec<_> = keys.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(known(&format!("[{section}]")), names);
        assert_eq!(known(&format!("[pools.api.{section}]")), names);
    }
}

#[test]
fn a_pool_inherits_the_global_sections_and_a_route_inherits_those_of_its_pool() {
    let global =
        "[timeouts]\nconnect_ms = 7\nidle_ms = 8\n[retry]\nattempts = 3\nbudget_percent = 5\n[limits]\nbody_bytes = 9";
    let none = policies(&text(global, "", ""));
    assert!(none.iter().all(|policy| policy.timeouts.connect == ms(7) && policy.limits.body_bytes == Some(9)));
    let [pool, route] = policies(&text(
        global,
        "[pools.api.timeouts]\nidle_ms = 10\n[pools.api.limits]\nbody_bytes = 0\n[pools.api.retry]\nbudget_percent = 6",
        "[routes.timeouts]\nconnect_ms = 11\n[routes.retry]\nattempts = 1",
    ));
    assert_eq!((pool.timeouts.connect, pool.timeouts.idle), (ms(7), ms(10)));
    assert_eq!((pool.limits.body_bytes, pool.retry.rules.attempts, pool.retry.budget.percent), (None, 3, 6));
    assert_eq!((route.timeouts.connect, route.timeouts.idle), (ms(11), ms(10)));
    assert_eq!((route.limits.body_bytes, route.retry.rules.attempts, route.retry.budget.percent), (None, 1, 6));
}

#[test]
fn a_route_has_a_policy_of_its_own_only_if_it_sets_a_key() {
    let two = "[[routes]]\npath = \"/b\"\n[routes.retry]\nattempts = 1\n";
    let config = config(&(text("", "", "[routes.timeouts]\n") + two));
    assert_eq!(config.policies.len(), 3);
    let places: Vec<_> = config.routes.iter().map(|route| (&*route.path_prefix, route.pool, route.policy)).collect();
    assert_eq!(places, [("/b", 0, 2), ("/", 1, 1)]);
}

#[test]
fn a_pool_has_its_own_queue_and_a_route_its_own_priority_in_it() {
    let global = "[queue]\nlength = 7\nshed_from_percent = 20\n[limits]\nconnections_per_backend = 3";
    let [pool, route] = policies(&text(global, "[pools.api.queue]\nwait_ms = 50", "priority = 200"));
    assert_eq!((pool.queue.length, pool.queue.wait, pool.queue.shed.from_percent), (7, ms(50), 20));
    assert_eq!((route.queue, pool.priority, route.priority), (pool.queue, PRIORITY_DEFAULT, 200));
    assert_eq!(route.limits.connections_per_backend, Some(3));
    let [pool, route] = policies(&text("", "", "priority = 100"));
    assert_eq!((&pool, pool.queue, pool.limits.connections_per_backend), (&route, QueuePolicy::default(), None));
}

#[test]
fn a_pool_has_its_own_health_checks_over_the_global_ones() {
    let global = "[health]\npath = \"/up\"\nup_after = 9";
    let health = |of_pool: &str| config(&text(global, of_pool, "")).pools[1].health.clone();
    assert_eq!(health(""), config(global).health, "without keys it is the global section");
    let own = health(
        "[pools.api.health]\ninterval_ms = 200\nport = 81\nhost = \"a.test\"\nexpect_status = [\"200\", \"300-399\"]\n\
         expect_body = \"ok\"\ninitial = \"wait\"",
    );
    assert_eq!((&*own.path, own.up_after, own.interval, own.fast_interval), ("/up", 9, ms(200), ms(50)));
    assert_eq!((own.port, own.host.as_deref(), own.expect_body.as_deref()), (Some(81), Some("a.test"), Some("ok")));
    assert_eq!((&*own.expect_status, own.initial), (&[200..=200, 300..=399][..], InitialState::Wait));
    let tcp = health("[pools.api.health]\nkind = \"tcp\"");
    assert_eq!((tcp.kind, tcp.up_after), (CheckKind::Tcp, 9));
    let off = config("[health]\ninitial = \"down\"\n[pools.api.health]\nenabled = false").pools[1].health.clone();
    assert_eq!(off.initial, InitialState::Up, "without checks nothing would bring it up");
}

#[test]
fn a_pool_has_its_own_rules_for_failing_backends_over_the_global_ones() {
    let global = "[outlier]\nserver_errors = 7\n[panic]\nbelow_percent = 30";
    let own = "[pools.api.outlier]\ngateway_failures = 2\n[pools.api.panic]\nmode = \"fail\"";
    let config = config(&text(global, own, ""));
    let [default, api] = [&config.pools[0], &config.pools[1]];
    assert_eq!((api.outlier.thresholds.gateway, api.outlier.thresholds.errors), (2, 7));
    assert_eq!((default.outlier.thresholds.gateway, default.outlier.thresholds.errors), (5, 7));
    assert_eq!((api.panic.mode, api.panic.below_percent), (PanicMode::Fail, 30));
    assert_eq!((default.panic.mode, default.panic.below_percent), (PanicMode::UseAll, 30));
}

#[test]
fn a_pool_has_its_own_slow_start_which_is_off_by_default() {
    let ramps = |global: &str, own: &str| {
        let config = config(&text(global, own, ""));
        [0, 1].map(|pool: usize| config.pools[pool].slow_start)
    };
    assert_eq!(ramps("[slow_start]\nwindow_ms = 5000", ""), [None; 2]);
    let [default, api] = ramps("[slow_start]\nenabled = true", "[pools.api.slow_start]\nwindow_ms = 20");
    assert_eq!(default, Some(Ramp::default()));
    assert_eq!(api, Some(Ramp { window_ns: 20_000_000, ..Ramp::default() }));
    assert_eq!(ramps("[slow_start]\nenabled = true", "[pools.api.slow_start]\nenabled = false"), [default, None]);
}

#[test]
fn a_backend_is_a_backup_if_it_says_so_and_a_pool_of_backups_only_causes_a_warning() {
    let backend = |id: &str, more: &str| format!("[[backends]]\nid = \"{id}\"\naddress = \"127.0.0.1:9001\"\n{more}\n");
    let both = backend("a", "") + &backend("b", "backup = true");
    let roles: Vec<_> = config(&both).pools[0].backends.iter().map(|backend| backend.backup).collect();
    assert_eq!(roles, [false, true]);
    let warns = |text: &str| {
        let loaded = load_text(&source(&[], &[]), text).unwrap();
        loaded.warnings.iter().any(|line| line.ends_with("has only backups, so they get all requests"))
    };
    let backups = backend("b", "backup = true");
    assert!(warns(&backups) && !warns(&both) && !warns(&format!("{backups}[launcher]\nkind = \"process\"\n")));
}

#[test]
fn one_port_for_the_checks_of_launched_servers_causes_a_warning() {
    let warns = |text: &str| {
        let loaded = load_text(&source(&[], &[]), text).unwrap();
        loaded.warnings.iter().any(|line| line.starts_with("health.port: "))
    };
    assert!(warns("[launcher]\nkind = \"process\"\n[health]\nport = 9\n"));
    assert!(!warns("[launcher]\nkind = \"process\"\n[pools.api.health]\nport = 9\n"));
}

#[test]
fn hedges_that_can_never_begin_cause_a_warning() {
    let warns = |text: &str| {
        let loaded = load_text(&source(&[], &[]), text).unwrap();
        loaded.warnings.iter().any(|line| line.starts_with("retry.hedge: no request is hedged"))
    };
    for (global, of_pool, is_useless) in [
        ("hedge = true", "", false),
        ("hedge = true\nattempts = 1", "", true),
        ("hedge = true\nattempts = 1", "attempts = 2", false),
        ("hedge = true\nbudget_percent = 0", "", false),
        ("hedge = true\nbudget_percent = 0\nbudget_reserve_per_s = 0", "", true),
        ("attempts = 1", "hedge = true", true),
        ("attempts = 1", "", false),
    ] {
        let text = text(&format!("[retry]\n{global}"), &format!("[pools.api.retry]\n{of_pool}"), "");
        assert_eq!(warns(&text), is_useless, "{global} {of_pool}");
    }
}

#[test]
fn every_key_of_a_pool_and_of_a_route_is_taken_or_refused_with_the_place_where_it_belongs() {
    let value = |key: &str| match key {
        "head_bytes" => "8192",
        "on" => "[\"reset\"]",
        "idempotency_key" | "hedge" => "true",
        _ => "1",
    };
    let sections =
        [("timeouts", PartialTimeouts::KEYS), ("limits", PartialLimits::KEYS), ("retry", PartialRetry::KEYS)];
    for (section, (key, scope)) in sections.into_iter().flat_map(|(name, keys)| keys.iter().map(move |key| (name, key)))
    {
        let line = format!("{key} = {}", value(key));
        let of_pool = text("", &format!("[pools.api.{section}]\n{line}"), "");
        let of_route = text("", "", &format!("[routes.{section}]\n{line}"));
        let says = |text: &str, why: &str, place: &str| {
            let said = error(text, &[], &[]);
            assert!(said.ends_with(&format!(".{section}.{key}: {why}: set it in {place}")), "{said}");
        };
        match scope {
            Scope::Route => drop((config(&of_pool), config(&of_route))),
            Scope::Pool(why) => {
                config(&of_pool);
                says(&of_route, why, &format!("[pools.NAME.{section}] or [{section}]"));
            }
            Scope::Global(why) => {
                says(&of_pool, why, &format!("[{section}]"));
                says(&of_route, why, &format!("[{section}]"));
            }
        }
    }
}

#[test]
fn mistakes_in_sections_of_pools_and_routes_are_reported_with_their_place() {
    for (text, expected) in [
        (
            "[pools.api.timeouts]\nhead_ms = 5",
            ":2:1: pools.api.timeouts.head_ms: a head is read before its route is known",
        ),
        (
            "[pools.api.timeouts]\nconect_ms = 5",
            ":2:1: pools.api.timeouts.conect_ms: unknown key `conect_ms`; did you mean `connect_ms`?",
        ),
        (
            "[pools.api.limits]\nretries = 1",
            ":2:1: pools.api.limits.retries: unknown key `retries`; write [pools.api.retry] attempts, which",
        ),
        (
            "[[routes]]\n[routes.limits]\nretries = 1",
            ":3:1: routes[0].limits.retries: unknown key `retries`; write [routes.retry] attempts, which counts",
        ),
        ("[queue]\nlength = -1", ":2:1: queue.length: must be from 0 to 1000000, not -1"),
        ("[pools.api.queue]\nwait_ms = 0", ":2:1: pools.api.queue.wait_ms: must be from 1 to 600000, not 0"),
        ("[queue]\nshed_from_percent = 101", ":2:1: queue.shed_from_percent: must be from 0 to 100, not 101"),
        ("[[routes]]\npriority = 256", ":2:1: routes[0].priority: must be from 0 to 255, not 256"),
        (
            "[[routes]]\n[routes.queue]\nlength = 1",
            ":2:9: routes[0].queue: the requests of all routes wait in the queue of their pool: set it in [pools.NAME.queue]",
        ),
        ("[pools.api.retry]\nattempts = 6", ":2:1: pools.api.retry.attempts: must be from 1 to 5, not 6"),
        ("[pools.api.outlier]\ninterval_ms = 9", ":2:1: pools.api.outlier.interval_ms: must be from 100 to"),
        ("[slow_start]\nmin_percent = 0", ":2:1: slow_start.min_percent: must be from 1 to 100, not 0"),
        ("[slow_start]\naggression = 11", ":2:1: slow_start.aggression: must be from 0.1 to 10.0, not 11"),
        ("[pools.api.slow_start]\naggression = nan", ":2:1: pools.api.slow_start.aggression: must be from 0.1 to"),
        (
            "[[routes]]\n[routes.panic]\nbelow_percent = 0",
            ":2:9: routes[0].panic: the rule is about backends, which belong to a pool: set it in [pools.NAME.panic]",
        ),
        ("[[routes]]\n[routes.limits]\nbody_bytes = -1", ":3:1: routes[0].limits.body_bytes: must be from 0"),
        (
            "[[routes]]\n[routes.health]\npath = \"/\"",
            ":2:9: routes[0].health: lb checks backends, which belong to a pool: set it in [pools.NAME.health] or [health]",
        ),
        (
            "[pools.api.health]\nkind = \"tcp\"\npath = \"/\"",
            ":3:1: pools.api.health.path: a check of kind \"tcp\" sends no request",
        ),
        (
            "[health]\nkind = \"tcp\"\nexpect_body = \"a\"",
            ":3:1: health.expect_body: a check of kind \"tcp\" sends no request",
        ),
        ("[health]\nkind = \"udp\"", ":2:8: health.kind: unknown value `udp`. Known here: http, tcp"),
        ("[health]\nexpect_status = [\"200\",\n\"2xx\"]", ":3:1: health.expect_status[1]: \"2xx\" is not a status"),
        ("[health]\nexpect_status = []", ":2:1: health.expect_status: must be 1 to 64 statuses"),
        ("[health]\nport = 65536", ":2:1: health.port: must be from 0 to 65535"),
        ("[health]\nhost = \"a b\"", ":2:1: health.host: \"a b\" is not a host"),
        ("[health]\nenabled = false\ninitial = \"wait\"", ":3:1: health.initial: \"wait\" needs checks"),
        (
            "[pools.api.health]\nfast_interval_ms = 2000",
            ":2:1: pools.api.health.fast_interval_ms: must not be longer than interval_ms, which is 1000, and is 2000",
        ),
    ] {
        let said = error(text, &[], &[]);
        assert!(said.starts_with(&format!("/etc/lb/lb.toml{expected}")), "{said}\nnot {expected}");
    }
}

#[test]
fn variables_and_flags_set_keys_of_pools_and_the_page_names_them() {
    let of_pool = "[pools.api.timeouts]\nidle_ms = 5\n[pools.api.health]\ninterval_ms = 200";
    let variables = ["LB__POOLS__API__TIMEOUTS__CONNECT_MS=6", "LB__ROUTES=[{pool=\"api\",retry={attempts=1}}]"];
    let loaded = load_text(&source(&variables, &["pools.api.limits.body_bytes=7"]), &text("", of_pool, "")).unwrap();
    let policy = &loaded.config.policies[1];
    assert_eq!((policy.timeouts.connect, policy.timeouts.idle, policy.limits.body_bytes), (ms(6), ms(5), Some(7)));
    assert_eq!(loaded.config.policies[loaded.config.routes[0].policy].retry.rules.attempts, 1);
    let of = |key: &str| setting(&loaded, key);
    assert_eq!(of("pools.api.timeouts.idle_ms"), ("5".into(), Origin::File { line: 4 }));
    let variable = |name: &str| Origin::Environment(name.to_owned());
    assert_eq!(of("pools.api.timeouts.connect_ms"), ("6".into(), variable("LB__POOLS__API__TIMEOUTS__CONNECT_MS")));
    assert_eq!(of("routes[0].retry.attempts"), ("1".into(), variable("LB__ROUTES")));
    assert_eq!(
        of("pools.api.limits.body_bytes").1,
        Origin::CommandLine("command line (pools.api.limits.body_bytes)".into())
    );
    assert_eq!(of("pools.api.health.fast_interval_ms"), ("50".into(), Origin::Default), "derived");
    let of_pools = loaded.settings.iter().filter(|setting| setting.key.starts_with("pools.api.timeouts")).count();
    assert_eq!(of_pools, 2, "inherited values are listed once, in the global section");
    let said = error(&text("", "", ""), &["LB__POOLS__API__TIMEOUTS__DRAIN_MS=1"], &[]);
    assert!(said.starts_with("LB__POOLS__API__TIMEOUTS__DRAIN_MS: pools.api.timeouts.drain_ms: it is about"), "{said}");
}
