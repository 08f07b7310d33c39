//! Rules about README.md, CONTRIBUTING.md and docs/: the metrics, names and files that they mention exist.

use std::path::Path;

use crate::sources::{Offence, Page, assert_none, named, pages, root};

/// The folders that paths in pages begin with.
const FOLDERS: &[&str] =
    &["lb/", "strategies/", "loadgen/", "mock-server/", "config/", "docs/", "grafana/", "packaging/", "fuzz/", ".ci/"];
/// Pages that list the shipped strategies.
const LISTS_OF_STRATEGIES: &[&str] = &["README.md", "config/lb.toml"];

fn documents() -> Vec<Page> {
    let mut documents = pages("docs", "md");
    documents.extend(["README.md", "CONTRIBUTING.md"].map(named));
    documents
}

/// The names of metrics as in a scrape; a histogram has three series.
fn metric_names(names_rs: &str) -> Vec<String> {
    let literals = names_rs.split('"').skip(1).step_by(2);
    let names = literals.filter(|literal| literal.starts_with("lb_") && !literal.contains(' '));
    names.flat_map(|name| ["", "_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"))).collect()
}

/// Words `lb_…` in a page that are neither metrics nor words of the strategy contract nor crates.
fn unknown_metrics(documents: &[Page], names_rs: &str, contract: &str) -> Vec<Offence> {
    let metrics = metric_names(names_rs);
    offending_words(documents, |word| {
        let is_known = metrics.iter().any(|name| name == word) || words(contract).any(|known| known == word);
        (word.starts_with("lb_") && !is_known)
            .then(|| format!("{word} is no metric, no crate, and not in lb_strategy.h"))
    })
}

/// Names in backticks that no source, test or configuration contains. Names are words with `_` or `::`, and types.
fn unknown_names(documents: &[Page], known: &str) -> Vec<Offence> {
    let known: std::collections::HashSet<_> = words(known).collect();
    let mut offences = Vec::new();
    for page in documents {
        for (number, line) in outside_fences(&page.text) {
            for quoted in line.split('`').skip(1).step_by(2) {
                let is_name = quoted.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':')
                    && (quoted.contains('_') || quoted.contains("::") || is_type(quoted));
                let last = quoted.rsplit("::").next().unwrap_or_default();
                if is_name && !known.contains(last) {
                    offences.push(page.offence(number, format!("`{quoted}` is in no source")));
                }
            }
        }
    }
    offences
}

/// Whether a word begins like the name of a type and is not all capitals.
fn is_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.contains(|c: char| c.is_ascii_lowercase())
}

/// A path in backticks from the root exists. `NAME` in it stands for a file that the reader will make.
fn unknown_paths(documents: &[Page], root: &Path) -> Vec<Offence> {
    let mut offences = Vec::new();
    for page in documents {
        for (number, line) in outside_fences(&page.text) {
            for quoted in line.split('`').skip(1).step_by(2) {
                let is_path = FOLDERS.iter().any(|folder| quoted.starts_with(folder))
                    && quoted.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c))
                    && !quoted.contains("NAME");
                if is_path && !root.join(quoted).exists() {
                    offences.push(page.offence(number, format!("{quoted} does not exist")));
                }
            }
        }
    }
    offences
}

/// Each of `strategies` has its name in `page`.
fn unlisted(page: &Page, strategies: &[String]) -> Vec<Offence> {
    let is_listed = |strategy: &String| words(&page.text).any(|word| word == strategy);
    let missing = strategies.iter().filter(|strategy| !is_listed(strategy));
    missing.map(|strategy| page.offence(1, format!("the shipped strategy {strategy} is not listed"))).collect()
}

/// The names of the strategies that are shipped: the folders directly below `strategies/`.
pub(crate) fn shipped() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("strategies")).expect("the folder is there");
    let folders = entries.map(|entry| entry.expect("it can be read to its end").path());
    let names = folders.filter(|folder| folder.join("Cargo.toml").is_file());
    names.map(|folder| folder.file_name().unwrap_or_default().to_string_lossy().replace('-', "_")).collect()
}

fn broken_links(documents: &[Page], root: &Path) -> Vec<Offence> {
    let mut offences = Vec::new();
    for page in documents {
        let folder = root.join(&page.path).parent().map(Path::to_owned).unwrap_or_default();
        for (number, line) in outside_fences(&page.text) {
            for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"')] {
                for link in line.split(opening).skip(1).filter_map(|rest| rest.split(closing).next()) {
                    let file = link.split('#').next().unwrap_or_default();
                    let is_local = !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:");
                    if is_local && !folder.join(file).exists() {
                        offences.push(page.offence(number, format!("{file} does not exist")));
                    }
                }
            }
        }
    }
    offences
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn offending_words(documents: &[Page], judge: impl Fn(&str) -> Option<String>) -> Vec<Offence> {
    let mut offences = Vec::new();
    for page in documents {
        for (number, line) in page.text.lines().enumerate() {
            offences.extend(words(line).filter_map(&judge).map(|what| page.offence(number + 1, what)));
        }
    }
    offences
}

/// Numbered lines of prose; blocks of code are left out.
pub(crate) fn outside_fences(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_inside = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    })
}

// === impl Page ===

impl Page {
    fn offence(&self, line: usize, what: String) -> Offence {
        Offence { path: self.path.clone(), line, what }
    }
}

#[test]
fn metrics_in_the_docs_exist() {
    let (names, contract) = (named("lb/src/telemetry/names.rs"), named("strategies/kit/api/include/lb_strategy.h"));
    // Crates have names of this form, too.
    let known = contract.text + &named("Cargo.toml").text.replace('-', "_");
    assert!(
        metric_names(&names.text).len() > 40,
        "names.rs has another format than this test reads: {:?}",
        metric_names(&names.text)
    );
    assert_none(&unknown_metrics(&documents(), &names.text, &known));
}

#[test]
fn names_in_the_docs_exist() {
    let known = ["rs", "h", "c", "toml"].map(|extension| pages("", extension));
    let known: Vec<_> = known.iter().flatten().map(|page| &*page.text).collect();
    assert_none(&unknown_names(&documents(), &known.join("\n")));
}

#[test]
fn links_in_the_docs_lead_to_existing_files() {
    assert_none(&broken_links(&documents(), &root()));
}

#[test]
fn paths_in_the_docs_exist() {
    assert_none(&unknown_paths(&documents(), &root()));
}

#[test]
fn lists_of_strategies_have_each_shipped_one() {
    let shipped = shipped();
    assert!(shipped.len() >= 4, "{shipped:?}");
    let offences: Vec<_> = LISTS_OF_STRATEGIES.iter().flat_map(|page| unlisted(&named(page), &shipped)).collect();
    assert_none(&offences);
}

#[test]
fn a_metric_that_does_not_exist_is_caught() {
    let names = "counter(\"lb_requests_total\", &[\"pool\"], \"All of lb_x.\")";
    let page = |text: &str| [Page { path: "README.md".to_owned(), text: text.to_owned() }];
    let count = |text: &str| unknown_metrics(&page(text), names, "struct lb_pick;").len();
    for bad in ["lb_request_total", "rate(lb_requests[1m])", "```\nlb_x 1\n```"] {
        assert_eq!(count(bad), 1, "{bad}");
    }
    assert_eq!(count("rate(lb_requests_total{pool=\"a\"}[1m]), `lb_pick`, lb, glb_x"), 0);
}

#[test]
fn a_name_that_does_not_exist_is_caught() {
    let page = |text: &str| [Page { path: "docs/a.md".to_owned(), text: text.to_owned() }];
    let count = |text: &str| unknown_names(&page(text), "fn a_claim_that_holds() {}\nHall::publish").len();
    for bad in ["`a_claim_that_holds_not`", "x `Hall::unpublish` y", "the `Watchdog` of"] {
        assert_eq!(count(bad), 1, "{bad}");
    }
    assert_eq!(
        count("`a_claim_that_holds`, `Hall::publish`, `Hall`, `GET`, `lb check`, `hall`\n```\n`not_here`\n```"),
        0
    );
}

#[test]
fn a_path_that_does_not_exist_is_caught() {
    let page = |text: &str| [Page { path: "docs/a.md".to_owned(), text: text.to_owned() }];
    let count = |text: &str| unknown_paths(&page(text), &root()).len();
    for bad in ["`lb/src/nowhere.rs`", "x `config/nowhere/` y"] {
        assert_eq!(count(bad), 1, "{bad}");
    }
    assert_eq!(count("`lb/src/lib.rs`, `lb/src/`, `lb/src/NAME.rs`, `lb/<hash>`, `/rep`, `target/release/lb`"), 0);
}

#[test]
fn a_strategy_that_is_not_listed_is_caught() {
    let page = Page { path: "README.md".to_owned(), text: "`round_robin` and power_of_three_2".to_owned() };
    let names = ["round_robin", "power_of_three"].map(str::to_owned);
    let told: Vec<_> = unlisted(&page, &names).into_iter().map(|offence| offence.what).collect();
    assert_eq!(told, ["the shipped strategy power_of_three is not listed"]);
}

#[test]
fn a_link_to_nowhere_is_caught() {
    let page = |text: &str| [Page { path: "docs/a.md".to_owned(), text: text.to_owned() }];
    let count = |text: &str| broken_links(&page(text), &root()).len();
    for bad in ["[x](nowhere.md)", "<img src=\"nowhere.svg\">", "[x](../README.md) [y](../nowhere/#z)"] {
        assert_eq!(count(bad), 1, "{bad}");
    }
    assert_eq!(count("[x](../README.md#y) [z](#here) [w](https://example.org/)"), 0);
}
