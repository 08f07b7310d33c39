//! The tutorial's strategy and its tests, in a crate outside the checkout: it compiles, and its tests pass.
//!
//! Why: the workspace gives its members versions, lints and a lock file, so no member shows that the kit is usable
//! elsewhere. Invariants: the code is that of docs/writing-a-strategy.md, not a copy. The crate gets the workspace's
//! lock file and builds offline, so no network is needed and the compiled dependencies have the same versions.

use std::fs;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).expect("this crate lies in strategies/kit/")
}

/// The first block of Rust behind `mark`.
fn code<'a>(page: &'a str, mark: &str) -> &'a str {
    let (_, behind) = page.split_once(mark).unwrap_or_else(|| panic!("the tutorial has no {mark:?}"));
    let block = behind.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```"));
    block.unwrap_or_else(|| panic!("no Rust behind {mark:?}")).0
}

#[test]
fn the_tutorials_strategy_and_its_tests_work_in_a_crate_of_their_own() {
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
    fs::write(folder.path().join("src/lib.rs"), format!("{strategy}\n{tests}")).expect("it is written");
    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--target-dir"])
        // Kept from run to run: only the two crates of the folder are compiled anew.
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside"))
        .current_dir(folder.path())
        .output()
        .expect("cargo runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let passed = tests.matches("#[test]").count();
    assert!(passed >= 4 && said.contains(&format!("test result: ok. {passed} passed")), "{said}");
}
