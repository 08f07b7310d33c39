//! The pages are complete, in the promised order, and self-contained.

use std::fs;

use roxmltree::{Document, Node, ParsingOptions};

use crate::synthetic::{Report, reports};

fn html(report: &Report) -> String {
    fs::read_to_string(report.folder.file("report.html")).expect("a page")
}

fn parse(html: &str) -> Document<'_> {
    Document::parse_with_options(html, ParsingOptions { allow_dtd: true, ..Default::default() }).expect("well-formed")
}

fn words(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

#[test]
fn a_page_loads_nothing_from_elsewhere() {
    for report in reports() {
        let html = html(report);
        for node in parse(&html).descendants().filter(Node::is_element) {
            let tag = node.tag_name().name();
            assert!(
                !["script", "link", "img", "iframe", "object", "embed", "use"].contains(&tag),
                "{}: {tag}",
                report.name
            );
            for attribute in node.attributes() {
                let name = attribute.name();
                assert!(
                    !["src", "href", "srcset", "data", "action", "style"].contains(&name),
                    "{}: {name}",
                    report.name
                );
                assert!(!name.starts_with("on"), "{}: {name}", report.name);
            }
        }
        let styles = html.split("url(").skip(1);
        for url in styles {
            assert!(url.starts_with("data:"), "{}: {}", report.name, &url[..40]);
        }
        assert!(!html.contains("@import"));
    }
}

#[test]
fn the_answer_comes_first_then_figures_numbers_method_and_the_command() {
    for report in reports() {
        let html = html(report);
        let page = parse(&html);
        let main = page.descendants().find(|node| node.has_tag_name("main")).expect("main");
        let position = |wanted: &dyn Fn(Node<'_, '_>) -> bool| {
            main.children()
                .filter(Node::is_element)
                .position(wanted)
                .unwrap_or_else(|| panic!("{}: missing", report.name))
        };
        let heading = |text: &'static str| move |node: Node<'_, '_>| node.has_tag_name("h2") && words(node) == text;
        let answer = position(&|node| node.attribute("class") == Some("answer"));
        let order = [
            answer,
            position(&heading("Figures")),
            position(&|node| node.has_tag_name("figure") && node.attribute("id") == Some("percentiles")),
            position(&heading("Numbers")),
            position(&heading("How it was measured")),
            position(&heading("How to repeat it")),
            position(&|node| node.has_tag_name("pre")),
        ];
        assert!(order.is_sorted(), "{}: {order:?}", report.name);
        assert!(words(main).contains(&report.run.manifest.command[0]), "{}", report.name);
    }
}

/// Labels come from users. The page must show them unchanged and not interpret them.
#[test]
fn special_characters_in_labels_are_shown_and_not_interpreted() {
    let report = reports().iter().find(|report| report.name == "many").expect("many");
    let label = "two choices <d=2> & friends | *starred*";
    assert!(words(parse(&html(report)).root_element()).contains(label));
    let markdown = fs::read_to_string(report.folder.file("report.md")).expect("markdown");
    assert!(markdown.contains(r"two choices \<d=2\> & friends \| \*starred\*"), "{}", &markdown[..400]);
    assert!(loadgen::report::text(&report.run).contains(label));
}

#[test]
fn the_same_folder_gives_the_same_bytes() {
    let report = reports().iter().find(|report| report.name == "a1").expect("a1");
    let copy = tempfile::tempdir().expect("a folder");
    let folder = loadgen::model::Folder::new(copy.path());
    folder.write(&report.run).expect("stored");
    for path in loadgen::report::write(&folder).expect("a report") {
        let name = path.strip_prefix(copy.path()).expect("in the folder");
        let before = fs::read(report.folder.path().join(name)).expect("the first report");
        assert!(before == fs::read(&path).expect("the second report"), "{} differs", name.display());
    }
}

#[test]
fn markdown_names_pictures_that_exist() {
    for report in reports() {
        let markdown = fs::read_to_string(report.folder.file("report.md")).expect("markdown");
        let pictures: Vec<&str> =
            markdown.split("](plots/").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(!pictures.is_empty(), "{}", report.name);
        for picture in pictures {
            assert!(report.folder.file("plots").join(picture).exists(), "{}: {picture}", report.name);
        }
    }
}

/// A run ended by Ctrl-C before the first response, and a run whose target never responds, have reports too.
#[test]
fn the_report_of_a_run_without_results_says_that_it_has_none() {
    let mut unmeasured = crate::synthetic::partial();
    unmeasured.results.cells.clear();
    unmeasured.results.accounting.clear();
    unmeasured.series.clear();
    unmeasured.latencies.clear();
    let mut unanswered = crate::synthetic::a1();
    let cell = &mut unanswered.results.cells[0];
    cell.errors = cell.requests;
    cell.backends.clear();
    unanswered.latencies.clear();
    for window in &mut unanswered.series[0].windows {
        (window.p50_ns, window.p99_ns) = (None, None);
    }
    for (run, sentence) in
        [(unmeasured, "Nothing was measured."), (unanswered, "10,000 of 10,000 requests failed (100.0\u{a0}%).")]
    {
        let place = tempfile::tempdir().expect("a folder");
        let folder = loadgen::model::Folder::new(place.path());
        folder.write(&run).expect("stored");
        loadgen::report::write(&folder).expect("a report");
        let html = fs::read_to_string(folder.file("report.html")).expect("a page");
        assert!(words(parse(&html).root_element()).contains(sentence), "{}", loadgen::report::text(&run));
    }
}
