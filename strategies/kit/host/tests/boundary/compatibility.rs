//! Plugins of one minor version in hosts of another. Plugins that were built against version 1.0 or a later one work
//! here. The header only grows, at the ends of its structs.

use std::collections::BTreeMap;
use std::fs;

use lb_strategy_host::{Decision, Finish, HookError, Outcome, Picker, Strategy, backend_id};
use serde_json::json;

use crate::fixture::{Bench, HeaderList, list, request, source};

const FROZEN: &str = "kit/host/tests/fixtures/abi-1.0";

/// Structs whose reader gets their size, or the distance from one to the next. All others can never grow. The sizes of
/// `lb_stats` and `lb_pick` are in `lb_host`.
const GROWING: [&str; 8] =
    ["lb_host", "lb_stats", "lb_backend", "lb_backends", "lb_request", "lb_pick", "lb_finish", "lb_strategy_table"];

/// The declarations of a header, without comments and spaces. Inline functions are left out: they are compiled into
/// the plugin.
#[derive(Debug, Default)]
struct Declared {
    defines: BTreeMap<String, String>,
    /// Fields in order.
    structs: BTreeMap<String, Vec<String>>,
    others: Vec<String>,
}

// === impl Declared ===

impl Declared {
    fn read(header: &str) -> Self {
        let mut declared = Self::default();
        let mut rest = String::new();
        let mut is_inside_a_function = false;
        for line in without_comments(header).lines().map(str::trim) {
            is_inside_a_function |= line.starts_with("static inline ");
            if is_inside_a_function {
                is_inside_a_function = line != "}";
            } else if let Some(define) = line.strip_prefix("#define ") {
                let end = define.find([' ', '(']).unwrap_or(define.len());
                declared.defines.insert(define[..end].to_owned(), squeeze(&define[end..]));
            } else if !line.starts_with('#') && !["extern \"C\" {", "}"].contains(&line) {
                rest.push_str(line);
                rest.push(' ');
            }
        }
        while let Some(at) = rest.find('{') {
            let end = at + rest[at..].find('}').expect("a struct ends");
            let after = end + rest[end..].find(';').expect("so does its declaration");
            let name = rest[end + 1..after].trim().to_owned();
            let fields = rest[at + 1..end].split(';').map(squeeze).filter(|field| !field.is_empty()).collect();
            declared.structs.insert(name, fields);
            let begin = rest[..at].rfind(';').map_or(0, |before| before + 1);
            rest.replace_range(begin..=after, "");
        }
        let others = rest.split(';').map(squeeze).filter(|other| !other.is_empty() && !other.starts_with("LB_ASSERT"));
        declared.others = others.collect();
        declared
    }

    fn minor(&self) -> u32 {
        self.defines["LB_ABI_MINOR"].trim_end_matches('u').parse().expect("a number")
    }
}

fn without_comments(text: &str) -> String {
    let mut parts = text.split("/*");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once("*/").map_or("", |(_, after)| after))
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The changes from `frozen` to `later` that break plugins. Permitted additions are left out.
fn broken_promises(frozen: &str, later: &str) -> Vec<String> {
    let (frozen, later) = (Declared::read(frozen), Declared::read(later));
    let mut broken = Vec::new();
    let mut has_grown = later.defines.len() > frozen.defines.len() || later.others.len() > frozen.others.len();
    for (name, value) in frozen.defines.iter().filter(|(name, _)| *name != "LB_ABI_MINOR") {
        if later.defines.get(name) != Some(value) {
            broken.push(format!("#define {name} was {value:?}"));
        }
    }
    for (name, fields) in &frozen.structs {
        let now = later.structs.get(name).map(Vec::as_slice).unwrap_or_default();
        if !now.starts_with(fields) {
            broken.push(format!("struct {name} no longer begins with its fields of 1.0"));
        } else if now.len() > fields.len() {
            if GROWING.contains(&name.as_str()) {
                has_grown = true;
            } else {
                broken.push(format!("struct {name} has no size by which a reader could tell that it has grown"));
            }
        }
    }
    for other in frozen.others.iter().filter(|other| !later.others.contains(other)) {
        broken.push(format!("gone: {other}"));
    }
    if has_grown && later.minor() <= frozen.minor() {
        broken.push("something was added and LB_ABI_MINOR is still the same".to_owned());
    }
    broken
}

#[test]
fn the_header_is_that_of_version_1_0_with_additions() {
    let frozen = fs::read_to_string(source(&format!("{FROZEN}/lb_strategy.h"))).unwrap();
    let live = fs::read_to_string(source("kit/api/include/lb_strategy.h")).unwrap();
    let broken = broken_promises(&frozen, &live);
    assert!(
        broken.is_empty(),
        "plugins built against version 1.0 would break:\n  {}\nBefore release v1.0: copy kit/api/include/lb_strategy.h over {FROZEN}/ and bring \
         the plugins there up to date.\nAfter it: undo the change. A released header only gets additions, at the end and with \
         LB_ABI_MINOR one higher. A changed declaration gets a new name beside the old one.",
        broken.join("\n  ")
    );
}

#[test]
fn a_change_of_the_header_that_breaks_plugins_is_caught_and_an_addition_is_not() {
    let frozen = fs::read_to_string(source(&format!("{FROZEN}/lb_strategy.h"))).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(frozen.contains(from), "{from}");
        broken_promises(&frozen, &frozen.replacen(from, to, 1))
    };
    for (from, to) in [
        ("uint32_t n_workers;", "uint64_t n_workers;"),
        ("uint32_t n_workers;", "uint32_t n_threads;"),
        ("  void *ctx;", "  void *more, *ctx;"),
        ("  void *ctx;", ""),
        ("#define LB_NONE        1", "#define LB_NONE        7"),
        ("#define LB_REBUILD     3", ""),
        ("typedef int32_t lb_status;", "typedef int64_t lb_status;"),
        ("uint64_t token; } lb_pick;", "uint64_t token; uint64_t more; } lb_pick;"),
        ("lb_str name, version", "lb_str version, name"),
        ("(*lb_strategy_entry_fn)(const lb_host *)", "(*lb_strategy_entry_fn)(const lb_host *, int)"),
        ("#define LB_E_OTHER   (-4)", "#define LB_E_OTHER   (-4)\n#define LB_E_MORE (-5)"),
    ] {
        assert_eq!(changed(from, to).len(), 1, "{from} to {to}: {:?}", changed(from, to));
    }
    let minor = frozen.replacen("#define LB_ABI_MINOR 0u", "#define LB_ABI_MINOR 1u", 1);
    let grown =
        minor.replacen("} lb_host;", "  void (*more)(void); } lb_host;\n#define LB_MORE 1\nint lb_more(void);", 1);
    assert!(grown.len() > minor.len() + 20);
    assert_eq!(broken_promises(&frozen, &grown.replace("/* ", "/* reworded: ")), [""; 0]);
}

#[test]
fn plugins_built_against_version_1_0_work_in_c_and_in_rust() {
    let bench = Bench::new();
    let c = bench.build("cc", &source(&format!("{FROZEN}/plugin.c")), "libc.so", &[]);
    let rust = bench.build_rust(&source(&format!("{FROZEN}/plugin.rs")), "librust.so", &[]);
    for (path, build) in [(c, "C"), (rust, "Rust")] {
        let plugin = bench.load(&path).unwrap();
        assert_eq!((plugin.name(), plugin.version(), plugin.build()), ("frozen", "1.0", build));
        assert!(plugin.wants().hash && plugin.wants().finish);
        assert_eq!((plugin.state_schema(), plugin.tick_ms()), (Some(("frozen", 3)), 50));
        assert_eq!(plugin.expectation(), r#"{"balance":"exact"}"#);
        let Err(error) = Strategy::new(plugin.clone(), &json!({ "from": 9 })) else { panic!("9 was taken") };
        assert_eq!(error.to_string(), "strategy frozen refuses its options: 9 is too late");

        let strategy = Strategy::new(plugin.clone(), &json!({ "from": 2 })).unwrap();
        let picker = Picker::new(strategy.clone(), list(4, &[0, 1, 3])).unwrap();
        let (none, pin) = (HeaderList(&[]), HeaderList(&[("X-Pin", "1")]));
        let picked = |index: usize| Decision::Backend { index, token: backend_id(&format!("b{index}")) };
        let mut dry = request(&[], &none);
        dry.dry = true;
        assert_eq!([picker.pick(&dry), picker.pick(&dry)], [picked(3); 2], "{build}: turn 2 is not eligible");
        let picks = [(); 3].map(|()| picker.pick(&request(&[], &none)));
        assert_eq!(picks, [picked(3), picked(3), picked(0)], "{build}");
        assert_eq!(picker.pick(&request(&[1, 3], &none)), picked(0), "{build}");
        assert_eq!(picker.pick(&request(&[0, 1, 3], &none)), Decision::NoBackend, "{build}");
        assert_eq!(picker.pick(&request(&[], &pin)), Decision::Backend { index: 1, token: 0 }, "{build}");

        let good = Finish {
            worker: Some(0),
            backend_id: backend_id("b0"),
            outcome: Outcome::Ok,
            http_status: Some(200),
            attempt: 0,
            own: true,
            upgraded: false,
            token: backend_id("b0"),
            time_to_head_ns: 1,
            total_ns: 2,
            now_ns: 3,
        };
        picker.finish(&good);
        picker.finish(&good);
        for bad in [
            Finish { own: false, ..good },
            Finish { outcome: Outcome::Reset, ..good },
            Finish { backend_id: backend_id("gone"), token: backend_id("gone"), ..good },
        ] {
            picker.finish(&bad);
        }
        let words = picker.explain(&request(&[], &none)).expect("it explains").unwrap();
        assert_eq!(words, r#"{"finished":2,"failed":3,"of_the_first":4}"#, "{build}");

        let state = strategy.export_state().expect("it exports").unwrap();
        assert_eq!(state, b"7", "{build}: 2 and five picks that were not dry");
        let heir = Strategy::new(plugin, &json!({})).unwrap();
        let refused = [heir.import_state(4, &state), heir.import_state(3, b"")];
        assert!(refused.iter().all(|refused| matches!(refused, Err(HookError::State { .. }))), "{refused:?}");
        heir.import_state(3, &state).unwrap();
        let picker = Picker::new(heir.clone(), list(4, &[0, 1, 3])).unwrap();
        assert_eq!(picker.pick(&request(&[], &none)), picked(3), "{build}: turn 7");
        assert_eq!([heir.tick(1).unwrap(), heir.tick(2).unwrap()], [true, false], "{build}");
    }
}

#[test]
fn a_table_of_another_length_works_as_far_as_both_sides_know_it() {
    let bench = Bench::new();
    let fixture = source("kit/host/tests/fixtures/other_table.c");
    for flags in [&["-DFUTURE"][..], &[]] {
        let plugin = bench.load(&bench.build("cc", &fixture, "libx.so", flags)).unwrap();
        assert_eq!((plugin.name(), plugin.wants().finish, plugin.tick_ms()), ("broken", false, 0), "{flags:?}");
        let strategy = Strategy::new(plugin, &json!({})).unwrap();
        assert!(strategy.export_state().is_none() && !strategy.tick(1).unwrap());
        let picker = Picker::new(strategy, list(1, &[0])).unwrap();
        assert_eq!(picker.pick(&request(&[], &HeaderList(&[]))), Decision::Backend { index: 0, token: 0 });
        assert!(picker.explain(&request(&[], &HeaderList(&[]))).is_none());
    }
}
