//! The table of differences from httparse and hyper: a sample shows each row, and the docs have its reason.

use crate::checks::differences::DIFFERENCES;
use crate::checks::differential::compare;

#[test]
fn each_listed_difference_shows_in_its_sample() {
    for difference in DIFFERENCES {
        let sample = (difference.sample)();
        for oracle in difference.oracles {
            let case = compare(*oracle, &sample);
            let applies = case.as_ref().is_some_and(|case| (difference.applies)(case));
            assert!(applies, "{} against {oracle:?}: {case:?}", difference.name);
        }
        assert!(difference.reason.ends_with('.'), "{}", difference.name);
    }
}

#[test]
fn the_docs_have_each_difference_with_its_reason() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/http1.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let rows = docs.split("## Differences from other parsers").nth(1).unwrap();
    for difference in DIFFERENCES {
        let begin = format!("| {} | ", difference.name);
        let row = rows.lines().find(|line| line.starts_with(&begin));
        assert!(row.is_some_and(|row| row.ends_with(&format!("| {} |", difference.reason))), "{begin}: {row:?}");
    }
    assert_eq!(
        rows.lines().filter(|line| line.starts_with("| ")).count(),
        DIFFERENCES.len() + 1,
        "the docs have rows that the table lacks"
    );
}
