//! Rules about imports inside a wing: in `lb/src/proxy` and `lb/src/control`, imports between modules go one way.
//!
//! Why both a table and a search for circles: the table states the intention, and the search works even if the table is
//! wrong.
//! Modules name each other by `crate::<wing>::…` and by `super::…`, so the rules look for these. `self::…` stays inside
//! a module. Invariant: only the file of the wing itself names all its modules, and no module names a thing from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::arrows::{Modules, heads};
use crate::sources::{Offence, Source, assert_none, find_word, leading_word, line_of, sources};

/// A module of `lb` whose own modules have arrows.
struct Wing {
    name: &'static str,
    folder: &'static str,
    modules: Modules,
}

const PROXY: Wing = Wing {
    name: "proxy",
    folder: "lb/src/proxy/",
    modules: &[
        // leaves
        ("interim", &[]),
        ("listeners", &[]),
        ("owner", &[]),
        ("peer", &[]),
        ("reply", &[]),
        ("shown", &[]),
        ("fault", &["reply"]),
        // towards backends
        ("body", &["fault", "interim"]),
        ("queue", &["owner"]),
        ("upstream", &["body", "fault", "queue"]),
        // the state of a worker
        ("sessions", &[]),
        ("view", &["listeners", "owner", "queue", "sessions", "upstream"]),
        ("local", &["listeners", "owner", "queue", "shown", "view"]),
        // one request; `owner` and `stand` are for its tests
        (
            "exchange",
            &[
                "body", "fault", "interim", "local", "owner", "peer", "queue", "reply", "sessions", "shown", "stand",
                "upstream", "view",
            ],
        ),
        // towards clients; `interim` and `stand` are for the sketch of HTTP/2
        ("downstream", &["body", "exchange", "fault", "interim", "local", "peer", "stand"]),
        // threads
        ("worker", &["downstream", "listeners", "local", "owner", "peer", "queue", "view"]),
        ("acceptor", &["worker"]),
        // for tests and benches
        ("stand", &["listeners", "local", "owner", "queue", "view"]),
        ("bench", &["downstream", "peer", "stand", "upstream"]),
    ],
};

const CONTROL: Wing = Wing {
    name: "control",
    folder: "lb/src/control/",
    modules: &[
        // leaves: plain data, files, tasks that report through typed channels
        ("api", &[]),
        ("state", &[]),
        ("health", &[]),
        ("launcher", &[]),
        ("inspect", &["api"]),
        ("trust", &["api", "state"]),
        // towards callers
        ("handle", &["api", "inspect"]),
        ("watch", &["api", "handle"]),
        // the state in force, and its changes
        ("pools", &["api", "health", "trust"]),
        ("publish", &["api", "health", "pools"]),
        ("membership", &["api", "health", "launcher", "pools", "publish", "state", "trust"]),
        ("reload", &["api", "membership", "pools", "publish", "trust", "watch"]),
        // modules that name all parts
        (
            "actor",
            &[
                "api",
                "handle",
                "health",
                "inspect",
                "launcher",
                "membership",
                "pools",
                "publish",
                "reload",
                "state",
                "trust",
            ],
        ),
        (
            "start",
            &[
                "actor",
                "api",
                "handle",
                "launcher",
                "membership",
                "pools",
                "publish",
                "reload",
                "state",
                "trust",
                "watch",
            ],
        ),
    ],
};

const WINGS: [&Wing; 2] = [&PROXY, &CONTROL];

/// Each source in a module of the wing, with the name of the module and the path inside the folder.
fn members<'a>(wing: &Wing, sources: &'a [Source]) -> impl Iterator<Item = (&'a str, &'a str, &'a Source)> {
    let folder = wing.folder;
    sources.iter().filter_map(move |source| {
        let inner = source.path.strip_prefix(folder)?;
        Some((leading_word(inner), inner, source))
    })
}

/// The names of the wing that a source uses, with the line: its modules, and things that the file of the wing defines.
fn names_from_wing(wing: &Wing, inner: &str, source: &Source) -> Vec<(usize, String)> {
    let code = &source.blanked.code;
    let mut found = Vec::new();
    let mut add = |at: usize, rest: &str| {
        let names = heads(rest).into_iter().filter(|name| !name.is_empty());
        found.extend(names.map(|name| (line_of(code, at), name)));
    };
    for at in find_word(code, "crate") {
        let Some(rest) = code[at..].strip_prefix("crate::") else { continue };
        // Alone, or anywhere in a group.
        let end = if rest.starts_with('{') { rest.find(';').unwrap_or(rest.len()) } else { leading_word(rest).len() };
        for named in find_word(&rest[..end], wing.name) {
            if let Some(rest) = rest[named + wing.name.len()..].strip_prefix("::") {
                add(at, rest);
            }
        }
    }
    let depth = Path::new(inner).components().count();
    // A test module inside a file is one level deeper.
    let tests_from = source.tests_from().filter(|line| *line > 1).unwrap_or(usize::MAX);
    for at in find_word(code, "super").filter(|at| !code[..*at].ends_with("::")) {
        let mut rest = &code[at..];
        let mut levels = 0;
        while let Some(up) = rest.strip_prefix("super::") {
            (rest, levels) = (up, levels + 1);
        }
        if levels == depth + usize::from(line_of(code, at) >= tests_from) {
            add(at, rest);
        }
    }
    found
}

fn offences(wing: &Wing, sources: &[Source]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (own, inner, source) in members(wing, sources) {
        let Some((_, may_name)) = wing.modules.iter().find(|(module, _)| *module == own) else {
            offences.push(source.offence(1, format!("the module {own} has no arrows: add them here")));
            continue;
        };
        for (line, named) in names_from_wing(wing, inner, source) {
            if named != own && !may_name.contains(&named.as_str()) {
                offences.push(source.offence(line, format!("{own} must not name {named}")));
            }
        }
    }
    offences
}

/// A path of imports from a module back to itself, such as `a → b → a`.
fn circle(wing: &Wing, sources: &[Source]) -> Option<String> {
    let mut arrows = BTreeMap::<_, BTreeSet<_>>::new();
    for (own, inner, source) in members(wing, sources) {
        let named = names_from_wing(wing, inner, source).into_iter().map(|(_, name)| name).filter(|name| name != own);
        arrows.entry(own.to_owned()).or_default().extend(named);
    }
    let mut closed = BTreeSet::new();
    arrows.keys().find_map(|start| walk(start, &arrows, &mut vec![], &mut closed))
}

/// Depth first. `closed`: modules from which no circle can be reached.
fn walk<'a>(
    module: &'a str,
    arrows: &'a BTreeMap<String, BTreeSet<String>>,
    way: &mut Vec<&'a str>,
    closed: &mut BTreeSet<&'a str>,
) -> Option<String> {
    if let Some(first) = way.iter().position(|passed| *passed == module) {
        return Some([&way[first..], &[module]].concat().join(" → "));
    }
    if closed.contains(module) {
        return None;
    }
    way.push(module);
    let found = arrows.get(module).into_iter().flatten().find_map(|next| walk(next, arrows, way, closed));
    way.pop();
    closed.insert(module);
    found
}

#[test]
fn modules_inside_a_wing_name_only_the_modules_that_the_table_allows() {
    for wing in WINGS {
        assert!(members(wing, sources()).count() > wing.modules.len(), "too few files in {}", wing.folder);
        assert_none(&offences(wing, sources()));
    }
}

#[test]
fn there_is_no_import_circle_inside_a_wing() {
    for wing in WINGS {
        assert_eq!(circle(wing, sources()), None);
    }
}

#[test]
fn a_wrong_arrow_inside_a_wing_is_caught() {
    let count =
        |path: &str, text: &str| offences(&PROXY, &[Source::new(&format!("{}{path}", PROXY.folder), text)]).len();
    for (path, bad) in [
        ("upstream.rs", "use super::exchange::Context;"),
        ("upstream/http1.rs", "use crate::proxy::view::Member;"),
        ("upstream/http1.rs", "use super::super::local::Local;"),
        ("exchange.rs", "use crate::proxy::{body::Frame, downstream::Signal};"),
        ("exchange/headers/tests.rs", "fn f() { super::super::super::worker::start() }"),
        ("body.rs", "use crate::{net::Stream, proxy::peer::Peer};"),
        ("fault.rs", "use super::{body, reply};"),
        ("local.rs", "fn f(_: &super::Proxy) {}"),
        ("peer.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n use super::super::reply;\n}"),
        ("elsewhere.rs", ""),
    ] {
        assert_eq!(count(path, bad), 1, "{path}: {bad}");
    }
    let bad = Source::new("lb/src/control/health/checkers.rs", "use crate::control::{api, pools::PoolKey};");
    assert_eq!(offences(&CONTROL, &[bad]).len(), 2, "both names of a group");
    for (path, good) in [
        ("exchange.rs", "use super::upstream::Upstream; // super::worker"),
        ("exchange/attempt.rs", "use super::worker; use crate::proxy::exchange::Context;"),
        ("upstream/http1.rs", "pub(in crate::proxy) use crate::http1::body;"),
        ("peer.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n use super::reply;\n}"),
    ] {
        assert_eq!(count(path, good), 0, "{path}: {good}");
    }
}

#[test]
fn an_import_circle_inside_a_wing_is_caught() {
    let find = |arrows: &[(&str, &str)]| {
        let source = |(path, text): &(&str, &str)| Source::new(&format!("{}{path}.rs", PROXY.folder), text);
        circle(&PROXY, &arrows.iter().map(source).collect::<Vec<_>>())
    };
    let line = [("a", "use super::{b, c};"), ("b", "use super::c::C;"), ("c/d", "use super::a;"), ("c", "")];
    assert_eq!(find(&line), None);
    let back = ("c/d", "use crate::proxy::b::B;");
    assert_eq!(find(&[line[0], line[1], back]).as_deref(), Some("b → c → b"));
    assert_eq!(find(&[("a", "use super::b;"), ("b/c", "use super::super::a;")]).as_deref(), Some("a → b → a"));
}
