//! The tutorial's strategy, its variants and its tests, in a crate outside the checkout: all compiles, and tests pass.
//!
//! Why: the workspace gives its members versions, lints and a lock file, so no member shows that the kit is usable
//! elsewhere. A reader copies each snippet into the first strategy, so the test does that, too. Invariants: the code is
//! that of docs/writing-a-strategy.md, not a copy. The crate gets the workspace's lock file and builds offline, so no
//! network is needed and the compiled dependencies have the same versions.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The types that a reader adds to the `use` line for a snippet.
const TYPES: &str = "#[allow(unused_imports)]\nuse lb_strategy::{Finish, Metrics, Outcome, Probe, Probes, Start, StateSchema, Tick};\n\
    #[allow(unused_imports)]\nuse std::sync::atomic::Ordering::Relaxed;\n";
const EXPORT: &str = "lb_strategy::export!(Lucky);\n";
/// The test that is right only for strategies that ignore how busy backends are.
const OF_LUCKY: &str = "    #[test]\n    fn a_slow_backend_keeps_its_share()";

/// One constant, type or function of an `impl` block, with its indentation.
struct Item<'a> {
    name: &'a str,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).expect("this crate lies in strategies/kit/")
}

/// All blocks of Rust.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```rust\n").skip(1).map(|rest| rest.split_once("```").expect("a block ends").0).collect()
}

/// The first block of Rust behind `mark`.
fn code<'a>(page: &'a str, mark: &str) -> &'a str {
    let (_, behind) = page.split_once(mark).unwrap_or_else(|| panic!("the tutorial has no {mark:?}"));
    blocks(behind).first().copied().unwrap_or_else(|| panic!("no Rust behind {mark:?}"))
}

/// The name of the item that begins in this line, if one does.
fn begins(line: &str) -> Option<&str> {
    let rest = ["    const ", "    fn ", "    type "].iter().find_map(|word| line.strip_prefix(word))?;
    rest.split([':', '(', '<', ' ']).next()
}

fn items(text: &str) -> Vec<Item<'_>> {
    let mut items: Vec<Item<'_>> = Vec::new();
    for line in text.lines() {
        match (begins(line), items.last_mut()) {
            (Some(name), _) => items.push(Item { name, text: format!("{line}\n") }),
            (None, Some(item)) => item.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    items
}

/// The strategy with the items of `snippet` in place of its own, or beside them.
fn with(strategy: &str, snippet: &str) -> String {
    let (head, rest) = strategy.split_once("impl Strategy for Lucky {\n").expect("the strategy");
    let (body, _) = rest.rsplit_once("}\n").expect("its end");
    let new = items(snippet);
    let kept = items(body).into_iter().filter(|item| new.iter().all(|one| one.name != item.name));
    let kept: String = kept.map(|item| item.text).collect();
    let (kept, head) = (format!("{kept}{snippet}"), head.replace(EXPORT, "").replace("//! ", "// "));
    format!("{head}{TYPES}impl Strategy for Lucky {{\n{kept}}}\n")
}

/// A module for each snippet that changes the strategy, with the tests of the tutorial.
fn variants(page: &str, strategy: &str, tests: &str) -> Vec<String> {
    let snippets =
        blocks(page).into_iter().filter(|block| block.lines().next().is_some_and(|one| begins(one).is_some()));
    // The picker of another strategy, which has its own tests.
    let of_lucky = snippets.filter(|block| !block.contains("Zones"));
    let tests_that_allow_load = tests.split_once(OF_LUCKY).expect("the last test").0.to_owned() + "}\n";
    let module = |(number, snippet): (usize, &str)| {
        let tests = if snippet.contains("in_flight()") { &tests_that_allow_load } else { tests };
        format!("#[cfg(test)]\nmod variant_{number} {{\n{}\n{tests}}}\n", with(strategy, snippet))
    };
    of_lucky.enumerate().map(module).collect()
}

#[test]
fn the_tutorials_strategy_its_variants_and_its_tests_work_in_a_crate_of_their_own() {
    let page = fs::read_to_string(root().join("docs/writing-a-strategy.md")).expect("the tutorial");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kit = root().join("strategies/kit");
    let manifest = format!(
        "[package]\nname = \"lucky\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n\n\
         [dependencies]\nlb-strategy = {{ path = {:?} }}\n\n\
         [dev-dependencies]\nlb-strategy-conformance = {{ path = {:?} }}\n",
        kit.join("api"),
        kit.join("conformance")
    );
    fs::write(folder.path().join("Cargo.toml"), manifest).expect("it is written");
    fs::copy(root().join("Cargo.lock"), folder.path().join("Cargo.lock")).expect("it is copied");
    fs::create_dir(folder.path().join("src")).expect("a new folder");
    let (strategy, tests) = (code(&page, "**2. Write the code.**"), code(&page, "\n## Testing it\n"));
    let variants = variants(&page, strategy, tests);
    assert!(variants.len() >= 7, "results, responses, begins, ticks, metrics, body, waiting");
    let source = format!("{strategy}\n{tests}\n{}", variants.concat());
    fs::write(folder.path().join("src/lib.rs"), &source).expect("it is written");
    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--target-dir"])
        // Kept from run to run: only the two crates of the folder are compiled anew.
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside"))
        .current_dir(folder.path())
        .output()
        .expect("cargo runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{source}");
    let passed = source.matches("#[test]").count();
    assert!(
        passed >= 4 * (1 + variants.len()) - 1 && said.contains(&format!("test result: ok. {passed} passed")),
        "{said}"
    );
}

#[test]
fn the_picker_of_the_zones_is_that_of_the_example() {
    let page = fs::read_to_string(root().join("docs/writing-a-strategy.md")).expect("the tutorial");
    let example = root().join("strategies/examples/own-zone/src/lib.rs");
    let example = fs::read_to_string(example).expect("the example");
    assert!(example.contains(code(&page, "\n## Reading labels\n")), "the tutorial shows another picker");
}
