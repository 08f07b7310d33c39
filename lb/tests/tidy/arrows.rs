//! Rules about imports: which crate may use which, and which module of `lb` and of `loadgen` may name which.
//!
//! An arrow is an allowed import. A crate or module without a line in these tables is an offence, so a new one needs
//! its arrows at once.

use std::path::Path;

use toml::{Table, Value};

use crate::sources::{Offence, Source, assert_none, find_word, leading_word, line_of, pages, sources};

/// One crate of the workspace.
struct Crate {
    /// Its folder.
    path: String,
    manifest: Table,
    text: String,
}

/// The crates of the workspace on which a crate may depend, in its build and in its tests.
struct Arrows {
    needs: &'static [&'static str],
    tests_need: &'static [&'static str],
}

/// The other modules that each module of a crate may name.
pub(crate) type Modules = &'static [(&'static str, &'static [&'static str])];

/// Crates whose modules have arrows, by their folder.
const ROOTS: &[(&str, Modules)] = &[("lb/src/", LB), ("loadgen/src/", LOADGEN)];

const LB: Modules = &[
    // leaves
    ("load_report", &[]),
    ("config", &["load_report"]),
    ("telemetry", &[]),
    ("http1", &[]),
    ("net", &[]),
    ("listener", &[]),
    ("pool", &["http1"]),
    ("access_log", &["config", "telemetry"]),
    // the hall
    ("generation", &["access_log", "config", "http1", "listener", "load_report", "pool", "telemetry"]),
    // the wings, neither of which names the other
    ("proxy", &["access_log", "config", "http1", "listener", "load_report", "net", "pool", "generation", "telemetry"]),
    ("control", &["access_log", "config", "http1", "listener", "load_report", "pool", "generation", "telemetry"]),
    // the course
    ("course", &["config", "generation", "control"]),
    // the admin port, for people and scripts
    ("admin", &["config", "http1", "pool", "generation", "telemetry", "control", "course"]),
    // modules that name all parts
    ("run", &["config", "listener", "pool", "generation", "telemetry", "control", "course", "admin", "proxy"]),
    ("cli", &["config", "pool", "telemetry", "control", "run"]),
];

const LOADGEN: Modules = &[
    // leaves
    ("model", &[]),
    ("load", &[]),
    // built on the leaves
    ("lab", &["model"]),
    ("statistics", &["model"]),
    // the one place that defines evenness and the limit of a drift
    ("report", &["model", "statistics"]),
    // only shows: takes the order of backends from `lab` and the format of numbers from `report`
    ("view", &["lab", "load", "report"]),
    // commands
    ("experiment", &["lab", "load", "model", "report", "statistics", "view"]),
    ("run", &["experiment", "load", "model", "report", "statistics", "view"]),
    ("cli", &["experiment", "lab", "load", "model", "report", "run", "view"]),
];

/// `None` for a crate that has no arrows yet.
fn arrows(name: &str, strategies: &[&str]) -> Option<Arrows> {
    const NONE: &[&str] = &[];
    // No crate needs a strategy: tests get its library from lb-strategy-built.
    const LB_TESTS: &[&str] = &["mock-server", "lb-strategy-built", "lb-test-support"];
    const PROGRAM: &[&str] = &["lb-manual"];
    let (needs, tests_need) = match name {
        "lb-strategy" | "lb-strategy-built" | "lb-manual" => (NONE, NONE),
        "mock-server" => (PROGRAM, &["lb-test-support"][..]),
        // No crate of `lb` itself: its unit tests would see two copies of their types.
        "lb-test-support" => (&["lb-strategy-built", "mock-server"][..], NONE),
        // loadgen uses the other programs only through processes, HTTP and files. Virtual time has no program.
        "loadgen" => (&["lb-manual", "lb-strategy-simulator"][..], LB_TESTS),
        "lb-strategy-host" => (&["lb-strategy"][..], NONE),
        "lb-strategy-conformance" => {
            (&["lb-balance", "lb-strategy", "lb-strategy-host"][..], &["lb-strategy-built"][..])
        }
        "lb-balance" => (&["lb-strategy", "lb-strategy-host"][..], NONE),
        "lb-hashing" => (&["lb-strategy"][..], &["lb-strategy-conformance"][..]),
        "lb-strategy-loads" => (&["lb-strategy"][..], &["lb-strategy-conformance"][..]),
        "lb-strategy-simulator" => (&["lb-balance", "lb-strategy-host"][..], &["lb-strategy-built"][..]),
        "lb" => {
            (&["lb-balance", "lb-manual", "lb-strategy", "lb-strategy-host", "lb-strategy-conformance"][..], LB_TESTS)
        }
        strategy if strategies.contains(&strategy) => {
            (&["lb-hashing", "lb-strategy", "lb-strategy-loads"][..], &["lb-strategy-conformance"][..])
        }
        _ => return None,
    };
    Some(Arrows { needs, tests_need })
}

/// Every crate below the root except `fuzz/`, which is its own workspace.
fn crates() -> Vec<Crate> {
    let manifests = pages("", "toml").into_iter().filter_map(|page| {
        let folder = page.path.strip_suffix("/Cargo.toml").filter(|folder| !folder.starts_with("fuzz"))?;
        Some(Crate::new(folder, &page.text))
    });
    manifests.collect()
}

fn crate_offences(crates: &[Crate]) -> Vec<Offence> {
    let ours: Vec<_> = crates.iter().map(Crate::name).collect();
    let strategies: Vec<_> = crates.iter().filter(|one| one.is_strategy()).map(Crate::name).collect();
    let mut offences = Vec::new();
    for one in crates {
        let Some(arrows) = arrows(one.name(), &strategies) else {
            offences.push(one.offence("name", "a crate without arrows: add them here".to_owned()));
            continue;
        };
        for (is_test, dependency) in one.dependencies() {
            let is_allowed = arrows.needs.contains(&dependency) || (is_test && arrows.tests_need.contains(&dependency));
            if ours.contains(&dependency) && !is_allowed {
                let tests = if is_test { "'s tests" } else { "" };
                offences
                    .push(one.offence(dependency, format!("{}{tests} must not depend on {dependency}", one.name())));
            }
        }
    }
    offences
}

/// Strategies are loaded, never linked: the entry symbols of two strategies in one program would clash.
fn linked_strategies(crates: &[Crate], sources: &[Source]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for strategy in crates.iter().filter(|one| one.is_strategy()) {
        let library = strategy.library();
        let own = format!("{}/", strategy.path);
        for source in sources.iter().filter(|source| !source.path.starts_with(&own)) {
            let code = &source.blanked.code;
            for at in find_word(code, &library) {
                let before = code[..at].trim_end();
                let heads_a_path = code[at + library.len()..].starts_with("::") && !before.ends_with("::");
                if heads_a_path || before.ends_with(" crate") || before.ends_with("use") {
                    offences.push(source.offence(line_of(code, at), format!("{library} is loaded, never linked")));
                }
            }
        }
    }
    offences
}

fn module_offences(sources: &[Source]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for source in sources {
        let house = ROOTS.iter().find_map(|(folder, modules)| Some((source.path.strip_prefix(folder)?, *modules)));
        let Some((inner, modules)) = house.filter(|(inner, _)| !["lib.rs", "main.rs"].contains(inner)) else {
            continue;
        };
        let own = leading_word(inner);
        let Some((_, may_name)) = modules.iter().find(|(module, _)| *module == own) else {
            offences.push(source.offence(1, format!("the module {own} has no arrows: add them here")));
            continue;
        };
        for (line, named) in names_from_root(inner, &source.blanked.code) {
            let is_module = modules.iter().any(|(module, _)| *module == named);
            if is_module && named != own && !may_name.contains(&named.as_str()) {
                offences.push(source.offence(line, format!("{own} must not name {named}")));
            }
        }
    }
    offences
}

/// The modules of the crate's root that a file names, with `crate::…` or enough `super::`, alone or in a group.
fn names_from_root(inner: &str, code: &str) -> Vec<(usize, String)> {
    let path = Path::new(inner);
    let depth = path.components().count() - usize::from(path.ends_with("mod.rs"));
    let mut found = Vec::new();
    for at in find_word(code, "crate") {
        if let Some(rest) = code[at..].strip_prefix("crate::") {
            found.extend(heads(rest).into_iter().map(|name| (line_of(code, at), name)));
        }
    }
    for at in find_word(code, "super").filter(|at| !code[..*at].ends_with("::")) {
        let mut rest = &code[at..];
        let mut levels = 0;
        while let Some(up) = rest.strip_prefix("super::") {
            (rest, levels) = (up, levels + 1);
        }
        // A test module inside the file is one level deeper.
        if levels >= depth {
            found.extend(heads(rest).into_iter().map(|name| (line_of(code, at), name)));
        }
    }
    found
}

/// The first words of a path or of every path in a group.
pub(crate) fn heads(rest: &str) -> Vec<String> {
    let Some(group) = rest.trim_start().strip_prefix('{') else { return vec![leading_word(rest).to_owned()] };
    let (mut depth, mut is_head, mut names, mut at) = (0, true, Vec::new(), 0);
    while let Some(c) = group[at..].chars().next() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => is_head |= depth == 0,
            _ => {
                let word = leading_word(&group[at..]);
                if !word.is_empty() {
                    if is_head && depth == 0 {
                        names.push(word.to_owned());
                        is_head = false;
                    }
                    at += word.len();
                    continue;
                }
            }
        }
        at += c.len_utf8();
    }
    names
}

// === impl Crate ===

impl Crate {
    fn new(path: &str, text: &str) -> Self {
        let manifest = toml::from_str(text).unwrap_or_else(|error| panic!("{path}/Cargo.toml: {error}"));
        Self { path: path.to_owned(), manifest, text: text.to_owned() }
    }

    fn name(&self) -> &str {
        self.manifest["package"]["name"].as_str().expect("a package has a name")
    }

    fn library(&self) -> String {
        let named = self.manifest.get("lib").and_then(|lib| lib.get("name")).and_then(Value::as_str);
        named.map_or_else(|| self.name().replace('-', "_"), str::to_owned)
    }

    /// A crate that builds a `cdylib` is a strategy.
    fn is_strategy(&self) -> bool {
        let types = self.manifest.get("lib").and_then(|lib| lib.get("crate-type")).and_then(Value::as_array);
        types.is_some_and(|types| types.iter().any(|one| one.as_str() == Some("cdylib")))
    }

    /// Every dependency: whether it is for tests only, and the name of its package.
    fn dependencies(&self) -> Vec<(bool, &str)> {
        let targets = self.manifest.get("target").and_then(Value::as_table);
        let targets = targets.into_iter().flat_map(|targets| targets.values()).filter_map(Value::as_table);
        let mut found = Vec::new();
        for table in std::iter::once(&self.manifest).chain(targets) {
            for (section, is_test) in
                [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
            {
                for (name, value) in table.get(section).and_then(Value::as_table).into_iter().flatten() {
                    found.push((is_test, value.get("package").and_then(Value::as_str).unwrap_or(name)));
                }
            }
        }
        found
    }

    fn offence(&self, word: &str, what: String) -> Offence {
        let line = self.text.lines().position(|line| line.starts_with(word)).unwrap_or(0) + 1;
        Offence { path: format!("{}/Cargo.toml", self.path), line, what }
    }
}

#[test]
fn crates_depend_one_way() {
    assert!(crates().len() > 10, "too few crates found");
    assert_none(&crate_offences(&crates()));
}

#[test]
fn no_source_links_a_strategy() {
    assert_none(&linked_strategies(&crates(), sources()));
}

#[test]
fn modules_name_only_the_modules_that_the_tables_allow() {
    assert_none(&module_offences(sources()));
}

#[test]
fn a_wrong_crate_arrow_is_caught() {
    let manifest = |name: &str, rest: &str| format!("[package]\nname = \"{name}\"\n{rest}");
    let cdylib = "[lib]\ncrate-type = [\"cdylib\"]\n";
    let api = Crate::new("strategies/kit/api", &manifest("lb-strategy", ""));
    let host =
        Crate::new("strategies/kit/host", &manifest("lb-strategy-host", "[dependencies]\nlb-strategy = \"1\"\n"));
    let ring = |rest: &str| Crate::new("strategies/ring", &manifest("ring", &format!("{cdylib}{rest}")));
    let lb = |rest: &str| Crate::new("lb", &manifest("lb", rest));
    let good =
        [api, host, ring("[dependencies]\nlb-strategy = \"1\"\n"), lb("[dependencies]\nlb-strategy-host = \"1\"\n")];
    assert_eq!(crate_offences(&good), []);

    let [api, host, ..] = good;
    let bad = [
        api,
        host,
        ring("[dependencies]\nlb-strategy-host = \"1\"\n"),
        lb("[dev-dependencies]\nring = \"1\"\n[target.'cfg(unix)'.dependencies]\nx = { package = \"mock-server\" }\n"),
        Crate::new("mock-server", &manifest("mock-server", "[dev-dependencies]\nlb-strategy = \"1\"\n")),
        Crate::new("new", &manifest("new", "")),
    ];
    let whats: Vec<_> = crate_offences(&bad).into_iter().map(|offence| offence.what).collect();
    assert_eq!(
        whats,
        [
            "ring must not depend on lb-strategy-host",
            "lb's tests must not depend on ring",
            "lb must not depend on mock-server",
            "mock-server's tests must not depend on lb-strategy",
            "a crate without arrows: add them here",
        ]
    );
}

#[test]
fn a_linked_strategy_is_caught() {
    let ring = "[package]\nname = \"my-ring\"\n[lib]\nname = \"my_ring\"\ncrate-type = [\"cdylib\", \"rlib\"]\n";
    let crates = [Crate::new("strategies/my-ring", ring)];
    let count = |path: &str, text: &str| linked_strategies(&crates, &[Source::new(path, text)]).len();
    for bad in ["use my_ring::Ring;", "use my_ring as _;", "extern crate my_ring;", "let x = my_ring::new();"] {
        assert_eq!(count("lb/tests/a.rs", bad), 1, "{bad}");
        assert_eq!(count("strategies/my-ring/tests/a.rs", bad), 0, "{bad}");
    }
    for good in ["load(\"libmy_ring.so\")", "// my_ring::Ring", "let my_ring = 1;", "self::my_ring::x()"] {
        assert_eq!(count("lb/tests/a.rs", good), 0, "{good}");
    }
}

#[test]
fn a_wrong_module_arrow_is_caught() {
    let count = |path: &str, text: &str| module_offences(&[Source::new(path, text)]).len();
    for (path, bad) in [
        ("lb/src/proxy/worker.rs", "use crate::control::Handle;"),
        ("lb/src/proxy.rs", "use crate::{generation::Hall, admin};"),
        ("lb/src/proxy/a.rs", "let x = super::super::cli::f();"),
        ("lb/src/control.rs", "use super::proxy::Proxy;"),
        ("lb/src/control/a/b.rs", "use crate::{pool::{self, Backend}, admin::x};"),
        ("lb/src/pool.rs", "use crate::generation::Hall;"),
        ("lb/src/pool/key.rs", "use crate::config::KeySource;"),
        ("lb/src/config/mod.rs", "use super::pool::Backend;"),
        ("lb/src/net/stream.rs", "use crate::http1::Fields;"),
        ("lb/src/http1/map.rs", "use crate::config::Limits;"),
        ("lb/src/telemetry/hub.rs", "use crate::config::Config;"),
        ("lb/src/generation.rs", "use crate::proxy::Proxy;"),
        ("lb/src/admin/api.rs", "use crate::proxy;"),
        ("lb/src/elsewhere.rs", ""),
        ("loadgen/src/load/worker.rs", "use crate::view::Board;"),
        ("loadgen/src/elsewhere.rs", ""),
    ] {
        assert_eq!(count(path, bad), 1, "{path}: {bad}");
    }
    for (path, good) in [
        ("lb/src/proxy/worker.rs", "use crate::generation::{Hall, control};"),
        ("lb/src/proxy/worker.rs", "use super::pool::x; // crate::control"),
        ("lb/src/run.rs", "use crate::{admin, control, proxy};"),
        ("lb/src/lib.rs", "pub use crate::control::Handle;"),
    ] {
        assert_eq!(count(path, good), 0, "{path}: {good}");
    }
}
