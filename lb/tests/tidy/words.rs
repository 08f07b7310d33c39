//! Rules about single words: the files that may contain `unsafe`, and words that code or tests may not contain.

use crate::sources::{Offence, Source, assert_none, find_word, leading_word, line_of, sources};

/// Files that may contain unsafe code: the two sides of the plugin boundary with the handler of crashes, and a plugin
/// without the SDK.
const UNSAFE: &[&str] = &[
    "strategies/kit/api/src/export.rs",
    "strategies/kit/api/src/ffi.rs",
    "strategies/kit/api/src/ffi/",
    "strategies/kit/host/src/crash.rs",
    "strategies/kit/host/src/handle.rs",
    "strategies/kit/host/src/handle/",
    "strategies/kit/host/src/inside.rs",
    "strategies/kit/host/src/library.rs",
    "strategies/kit/host/tests/fixtures/",
];

/// Tests that wait for time, each with a reason.
const SLEEPING: &[(&str, &str)] = &[
    ("lb/test-support/src/wait.rs", "polls another process within a time limit: there is no event to wait for"),
    ("lb/test-support/src/hostile.rs", "a backend that does nothing until the test ends"),
    ("loadgen/tests/load/lateness.rs", "the test suspends a generator for a fixed time"),
];

/// Integration tests that contain a fixed port, each with a reason.
const PORTS: &[(&str, &str)] = &[("lb/tests/tidy/", "the samples below")];

/// Ports without a listener: tests may name them as closed.
const CLOSED: &[u16] = &[0, 1, 9];

fn is_listed(list: &[(&str, &str)], path: &str) -> bool {
    list.iter().any(|(prefix, _)| path.starts_with(prefix))
}

/// Unsafe blocks, functions, impls and foreign items.
///
/// Types of function pointers and attributes such as `#[unsafe(no_mangle)]` are allowed.
fn unsafe_code(sources: &[Source]) -> Vec<Offence> {
    let watched = sources.iter().filter(|source| !UNSAFE.iter().any(|place| source.path.starts_with(place)));
    watched
        .flat_map(|source| {
            let code = &source.blanked.code;
            find_word(code, "unsafe").filter(|at| is_unsafe_code(&code[at + "unsafe".len()..])).map(|at| {
                source.offence(line_of(code, at), "unsafe code belongs to the plugin boundary (UNSAFE lists its files)")
            })
        })
        .collect()
}

/// Whether the text after the word makes it more than a type or an attribute.
fn is_unsafe_code(after: &str) -> bool {
    let mut after = after.trim_start();
    if let Some(foreign) = after.strip_prefix("extern") {
        let abi = foreign.trim_start();
        after = abi.strip_prefix('"').and_then(|abi| abi.split_once('"')).map_or(abi, |(_, rest)| rest).trim_start();
    }
    match after.strip_prefix("fn") {
        Some(function) => !function.trim_start().starts_with('('),
        None => !after.starts_with('('),
    }
}

fn unfinished(sources: &[Source]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for source in sources {
        for (number, line) in source.blanked.code.lines().enumerate() {
            let squeezed: String = line.split_whitespace().collect();
            for sign in ["#[ignore", "todo!(", "unimplemented!(", "dbg!("] {
                if squeezed.contains(sign) {
                    offences
                        .push(source.offence(number + 1, format!("{} has no place here", sign.trim_end_matches('('))));
                }
            }
        }
    }
    offences
}

/// Tests wait for events. A sleep with a paused clock takes no time, so it is allowed.
fn sleeping(sources: &[Source], allowed: &[(&str, &str)]) -> Vec<Offence> {
    let watched = sources.iter().filter(|source| !is_listed(allowed, &source.path));
    let mut offences = Vec::new();
    for source in watched {
        let (Some(from), code) = (source.tests_from(), &source.blanked.code) else { continue };
        let is_paused = code.contains("start_paused");
        for at in find_word(code, "sleep") {
            let line = line_of(code, at);
            let is_call = code[at + "sleep".len()..].starts_with('(');
            let is_tokio = !code[..at].ends_with("thread::");
            if line >= from && is_call && !(is_tokio && is_paused) {
                offences
                    .push(source.offence(line, "a test waits for an event, never for time (or say why in SLEEPING)"));
            }
        }
    }
    offences
}

/// Integration tests open the ports that they name. Unit tests mostly parse them, so there only lines that open one
/// count.
fn fixed_ports(sources: &[Source], allowed: &[(&str, &str)]) -> Vec<Offence> {
    const BEFORE_PORT: &[&str] =
        &["127.0.0.1:", "localhost:", "0.0.0.0:", "127.0.0.1\", ", "[127, 0, 0, 1], ", "LOCALHOST, ", "LOCALHOST), "];
    let watched = sources.iter().filter(|source| !is_listed(allowed, &source.path));
    let mut offences = Vec::new();
    for source in watched {
        let Some(from) = source.tests_from() else { continue };
        for (number, line) in (1..).zip(source.blanked.uncommented.lines()).skip(from - 1) {
            let opens = source.is_integration_test() || line.contains("bind(") || line.contains("connect(");
            let ports = BEFORE_PORT.iter().flat_map(|before| line.split(before).skip(1)).map(leading_word);
            let is_fixed = |port: &str| port.parse().is_ok_and(|port: u16| !CLOSED.contains(&port));
            if opens && ports.into_iter().any(is_fixed) {
                offences.push(
                    source.offence(number, "a test binds port 0 and reads the port it got (or say why in PORTS)"),
                );
            }
        }
    }
    offences
}

/// Code that the proxy shares with simulations takes time and randomness as arguments and does no input or output.
fn impure(sources: &[Source]) -> Vec<Offence> {
    const IMPURE: &[&str] =
        &["tokio", "hyper", "Instant", "SystemTime", "sleep", "spawn", "File", "fs", "TcpStream", "UdpSocket"];
    let watched = sources.iter().filter(|source| source.path.starts_with("strategies/kit/balance/src/"));
    watched
        .flat_map(|source| {
            let code = &source.blanked.code;
            let found = IMPURE.iter().flat_map(|word| find_word(code, word).map(move |at| (word, at)));
            found.map(|(word, at)| source.offence(line_of(code, at), format!("{word}: lb-balance is pure")))
        })
        .collect()
}

#[test]
fn code_shared_with_simulations_is_pure() {
    assert_none(&impure(sources()));
}

#[test]
fn a_clock_in_code_shared_with_simulations_is_caught() {
    let count = |path: &str, text: &str| impure(&[Source::new(path, text)]).len();
    for bad in ["use std::time::Instant;", "tokio::spawn", "std::fs::read(x)", "std::thread::sleep(x)"] {
        assert!(count("strategies/kit/balance/src/a.rs", bad) > 0, "{bad}");
        assert_eq!(count("lb/src/a.rs", bad), 0, "{bad}");
    }
    assert_eq!(count("strategies/kit/balance/src/a.rs", "fn instant(now_ns: u64) {} // an Instant"), 0);
}

#[test]
fn only_the_plugin_boundary_is_unsafe() {
    assert_none(&unsafe_code(sources()));
}

#[test]
fn no_test_is_ignored_and_no_code_is_unfinished() {
    assert_none(&unfinished(sources()));
}

#[test]
fn tests_wait_for_events_not_for_time() {
    assert_none(&sleeping(sources(), SLEEPING));
}

#[test]
fn tests_take_free_ports() {
    assert_none(&fixed_ports(sources(), PORTS));
}

#[test]
fn unsafe_code_elsewhere_is_caught() {
    let count = |path: &str, text: &str| unsafe_code(&[Source::new(path, text)]).len();
    for bad in [
        "unsafe { f() }",
        "unsafe\n{ f() }",
        "unsafe fn f() {}",
        "unsafe impl Send for X {}",
        "unsafe extern \"C\" { fn f(); }",
        "pub unsafe extern \"C\" fn f() {}",
        "unsafe trait T {}",
    ] {
        assert_eq!(count("lb/src/a.rs", bad), 1, "{bad}");
        assert_eq!(count("strategies/kit/api/src/ffi/hooks.rs", bad), 0, "{bad}");
    }
    for good in [
        "// unsafe { f() }",
        "f(\"unsafe { }\")",
        "#[unsafe(no_mangle)]",
        "type F = unsafe extern \"C\" fn(u32);",
        "x: Option<unsafe fn(u32)>",
        "#![forbid(unsafe_code)]",
    ] {
        assert_eq!(count("lb/src/a.rs", good), 0, "{good}");
    }
}

#[test]
fn unfinished_work_is_caught() {
    let count = |text: &str| unfinished(&[Source::new("lb/src/a.rs", text)]).len();
    for bad in ["#[ignore]", "#[ignore = \"slow\"]", "#[ ignore ]", "todo!()", "unimplemented!(\"x\")", "dbg!(x)"] {
        assert_eq!(count(bad), 1, "{bad}");
    }
    assert_eq!(count("// todo!()\nlet ignored = \"dbg!(x)\";"), 0);
}

#[test]
fn a_sleeping_test_is_caught() {
    let count = |path: &str, text: &str| sleeping(&[Source::new(path, text)], &[("lb/tests/old", "why")]).len();
    for bad in ["std::thread::sleep(x)", "tokio::time::sleep(x)", "sleep(x)"] {
        assert_eq!(count("lb/tests/a.rs", bad), 1, "{bad}");
        assert_eq!(count("lb/src/a.rs", &format!("#[cfg(test)]\nmod tests {{ {bad} }}")), 1, "{bad}");
        assert_eq!(count("lb/src/a.rs", bad), 0, "{bad} may stand outside tests");
        assert_eq!(count("lb/tests/old.rs", bad), 0, "{bad}");
    }
    assert_eq!(count("lb/tests/a.rs", "#[tokio::test(start_paused = true)] sleep(x)"), 0);
    assert_eq!(count("lb/tests/a.rs", "#[tokio::test(start_paused = true)] std::thread::sleep(x)"), 1);
}

#[test]
fn a_fixed_port_in_a_test_is_caught() {
    let count = |path: &str, text: &str| fixed_ports(&[Source::new(path, text)], &[("lb/tests/parse", "why")]).len();
    for bad in [
        "bind(\"127.0.0.1:5000\")",
        "get(\"http://localhost:8080/x\")",
        "bind((\"127.0.0.1\", 5000))",
        "([127, 0, 0, 1], 5000)",
        "(Ipv4Addr::LOCALHOST, 80)",
    ] {
        assert_eq!(count("lb/tests/a.rs", bad), 1, "{bad}");
        assert_eq!(count("lb/tests/parse.rs", bad), 0, "{bad}");
        assert_eq!(count("lb/src/a.rs", bad), 0, "{bad} may stand outside tests");
    }
    for good in
        ["\"127.0.0.1:0\"", "\"127.0.0.1:1\"", "\"127.0.0.1:{port}\"", "// 127.0.0.1:5000", "\"127.0.0.1:99999\""]
    {
        assert_eq!(count("lb/tests/a.rs", good), 0, "{good}");
    }
}
