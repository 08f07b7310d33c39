//! Every picture of every scenario, wide and narrow, is well-formed and labelled, and no two texts touch.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use roxmltree::{Document, Node};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

use crate::synthetic::reports;

/// The place of a text.
#[derive(Clone)]
struct Place {
    text: String,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl fmt::Debug for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} at {:.1}..{:.1}, {:.1}..{:.1}", self.text, self.left, self.right, self.top, self.bottom)
    }
}

struct Ruler(HashMap<char, f64>);

impl Ruler {
    fn new(bytes: &[u8]) -> Self {
        let font = FontRef::new(bytes).expect("a font");
        let metrics = font.glyph_metrics(Size::new(1.0), LocationRef::default());
        let advance = |(code, glyph)| Some((char::from_u32(code)?, f64::from(metrics.advance_width(glyph)?)));
        Self(font.charmap().mappings().filter_map(advance).collect())
    }

    fn width(&self, text: &str) -> f64 {
        text.chars()
            .map(|char| *self.0.get(&char).unwrap_or_else(|| panic!("{char:?} of {text:?} is not in the font")))
            .sum()
    }
}

fn rulers() -> [Ruler; 2] {
    [
        Ruler::new(include_bytes!("../../src/report/fonts/Inter-Regular.otf")),
        Ruler::new(include_bytes!("../../src/report/fonts/Inter-SemiBold.otf")),
    ]
}

fn number(node: Node<'_, '_>, name: &str) -> f64 {
    let text = node.attribute(name).unwrap_or_else(|| panic!("no {name}: {node:?}"));
    text.parse().unwrap_or_else(|_| panic!("{name} = {text:?}"))
}

fn place(node: Node<'_, '_>, rulers: &[Ruler; 2]) -> Place {
    let text = node.text().unwrap_or_default().to_owned();
    let size = number(node, "font-size");
    let ruler = &rulers[usize::from(node.attribute("font-weight") == Some("600"))];
    let (x, y, width) = (number(node, "x"), number(node, "y"), size * ruler.width(&text));
    let left = match node.attribute("text-anchor") {
        Some("middle") => x - width / 2.0,
        Some("end") => x - width,
        _ => x,
    };
    // The height of capitals and digits, and the depth of descenders.
    Place { text, left, right: left + width, top: y - 0.74 * size, bottom: y + 0.2 * size }
}

fn texts<'a, 'input>(svg: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    svg.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")))
}

/// Calls `check` for every picture in the pages (wide and narrow), with the name of page and figure.
fn for_each_picture(check: impl Fn(&str, Node<'_, '_>)) {
    let mut seen = 0;
    for report in reports() {
        let page = fs::read_to_string(report.folder.file("report.html")).expect("a page");
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let page = Document::parse_with_options(&page, options).expect("well-formed");
        for figure in page.descendants().filter(|node| node.has_tag_name("figure")) {
            let name = format!("{}: {}", report.name, figure.attribute("id").unwrap_or_default());
            for svg in figure.descendants().filter(|node| node.tag_name().name() == "svg") {
                check(&name, svg);
                seen += 1;
            }
        }
    }
    assert!(seen >= 60, "only {seen} pictures");
}

#[test]
fn no_text_touches_another_or_leaves_the_picture() {
    let rulers = rulers();
    for_each_picture(|name, svg| {
        let view: Vec<f64> = svg
            .attribute("viewBox")
            .expect("a size")
            .split(' ')
            .map(|number| number.parse().expect("a number"))
            .collect();
        let places: Vec<Place> = texts(svg).map(|node| place(node, &rulers)).collect();
        for (at, one) in places.iter().enumerate() {
            assert!(
                one.left >= 0.0 && one.right <= view[2] + 0.5 && one.top >= 0.0 && one.bottom <= view[3] + 0.5,
                "{name}: {one:?} leaves the picture of {} × {}",
                view[2],
                view[3]
            );
            for two in &places[at + 1..] {
                let is_apart =
                    one.right <= two.left || two.right <= one.left || one.bottom <= two.top || two.bottom <= one.top;
                assert!(is_apart, "{name} ({} wide): {one:?} and {two:?}", view[2]);
            }
        }
    });
}

#[test]
fn every_axis_has_a_label_with_its_unit() {
    for_each_picture(|name, svg| {
        let axes: Vec<_> = texts(svg).filter(|node| node.attribute("data-role") == Some("axis")).collect();
        assert!(axes.len() >= 2, "{name} has {} axes", axes.len());
        for axis in axes {
            let (unit, label) = (axis.attribute("data-unit").unwrap_or_default(), axis.text().unwrap_or_default());
            let is_said = matches!(unit, "count" | "name" | "ratio") || label.contains(&format!("({unit})"));
            assert!(!unit.is_empty() && !label.is_empty() && is_said, "{name}: {label:?} has the unit {unit:?}");
        }
        let ticks = texts(svg).filter(|node| node.attribute("data-role") == Some("tick")).count();
        assert!(ticks >= 2, "{name} has {ticks} ticks");
    });
}

/// Nothing is drawn outside the picture, and no coordinate is infinite or not a number.
#[test]
fn shapes_are_inside_their_picture() {
    for_each_picture(|name, svg| {
        let view = svg.attribute("viewBox").expect("a size");
        let (width, height) = view.strip_prefix("0 0 ").and_then(|size| size.split_once(' ')).expect("a size");
        let (width, height): (f64, f64) = (width.parse().expect("a number"), height.parse().expect("a number"));
        assert!(height > 60.0 && height < 4_000.0, "{name} is {height} high");
        let is_inside = |x: f64, y: f64| (-1.0..=width + 1.0).contains(&x) && (-1.0..=height + 1.0).contains(&y);
        for node in svg.descendants() {
            for points in node.attribute("points").into_iter().flat_map(|points| points.split(' ')) {
                let (x, y) = points.split_once(',').expect("x,y");
                let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
                assert!(is_inside(x, y), "{name}: {x},{y} of {node:?}");
            }
            if node.tag_name().name() == "rect" {
                let (x, y) = (number(node, "x"), number(node, "y"));
                assert!(is_inside(x, y), "{name}: {node:?}");
                assert!(is_inside(x + number(node, "width"), y + number(node, "height")), "{name}: {node:?}");
            }
        }
    });
}

#[test]
fn every_figure_is_a_file_of_each_kind() {
    for report in reports() {
        let names: Vec<PathBuf> = fs::read_dir(report.folder.file("plots"))
            .expect("plots")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert!(names.len() >= 4, "{}: {names:?}", report.name);
        for path in names {
            let bytes = fs::read(&path).expect("a file");
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("png") => assert!(bytes.starts_with(b"\x89PNG\r\n") && bytes.len() > 4_000, "{}", path.display()),
                Some("svg") => {
                    let text = String::from_utf8(bytes).expect("text");
                    let svg = Document::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    assert!(svg.root_element().attribute("aria-label").is_some_and(|label| !label.is_empty()));
                    assert!(path.with_extension("png").exists());
                }
                other => panic!("{} has the extension {other:?}", path.display()),
            }
        }
    }
}

/// Each scenario has the pictures of its question.
#[test]
fn each_scenario_has_its_pictures() {
    let wanted: HashMap<&str, &[&str]> = HashMap::from([
        ("a1", &["balance", "ring-1", "percentiles", "timeline"][..]),
        ("a1-round-robin", &["balance", "percentiles"]),
        ("a2", &["scaling", "balance-1", "balance-2", "percentiles"]),
        ("a3", &["timeline", "recovery", "balance", "percentiles"]),
        ("faults", &["timeline", "recovery"]),
        ("b", &["verdicts", "percentiles", "blocks", "balance", "timeline"]),
        ("a4", &["verdicts", "percentiles", "blocks", "balance", "timeline"]),
        ("partial", &["balance", "percentiles"]),
    ]);
    for report in reports() {
        for name in wanted.get(report.name).copied().unwrap_or_default() {
            assert!(report.folder.file(&format!("plots/{name}.svg")).exists(), "{} has no {name}", report.name);
        }
    }
}

fn svg(report: &str, plot: &str) -> String {
    let report = reports().iter().find(|it| it.name == report).expect("a report");
    fs::read_to_string(report.folder.file(&format!("plots/{plot}.svg"))).unwrap_or_default()
}

/// A server is killed at 20 s of the plan. Requests that were scheduled up to 400 ms before fail with it.
#[test]
fn errors_are_drawn_at_their_time_on_the_clock_of_the_plan() {
    let text = svg("a3", "recovery");
    let document = Document::parse(&text).expect("well-formed");
    let fault = document.descendants().filter(|node| node.attribute("class").is_some_and(|it| it.contains("l-fault")));
    let lines: Vec<Vec<(f64, f64)>> = fault
        .filter_map(|node| node.attribute("points"))
        .map(|points| {
            let point =
                |point: &str| point.split_once(',').map(|(x, y)| (x.parse().expect("x"), y.parse().expect("y")));
            points.split(' ').filter_map(point).collect()
        })
        .collect();
    let kill = lines.iter().find(|line| line.len() == 2).expect("the mark of the kill")[0].0;
    let errors = lines.iter().max_by_key(|line| line.len()).expect("the line of errors");
    let base = errors.iter().map(|point| point.1).fold(0.0, f64::max);
    let rise = errors.iter().find(|point| point.1 < base - 1.0).expect("errors").0;
    assert!((rise - kill).abs() < 0.5, "errors begin at {rise}, the kill is at {kill}");
    let ticks = |text: &str| document.descendants().any(|node| node.text() == Some(text));
    assert!(ticks("20") && ticks("time since the first measured request (s)"), "times count from the zero of the plan");
}

#[test]
fn pictures_of_void_conclusions_have_a_banner_or_are_left_out() {
    for report in ["b-late", "a4-late"] {
        assert_eq!((svg(report, "verdicts"), svg(report, "blocks")), (String::new(), String::new()), "{report}");
        for plot in ["percentiles", "timeline"] {
            assert!(
                svg(report, plot).contains("Not to be believed: latency; the generator was late"),
                "{report}: {plot}"
            );
        }
        let shares = svg(report, "balance");
        assert!(!shares.is_empty() && !shares.contains("Not to be believed"), "{report}: counts are still valid");
    }
    assert!(!svg("b", "percentiles").contains("Not to be believed"));
}

#[test]
fn values_by_construction_are_not_shown() {
    let verdicts = svg("b", "verdicts");
    assert!(!verdicts.contains("throughput"), "the throughput of an open loop is given");
    assert!(verdicts.contains("max/mean of counts: less is better (no verdict)"));
    // least_connections shares by load, so its counts are not judged.
    assert_eq!(verdicts.matches(">least_connections<").count(), 3, "one row for each percentile");
    assert_eq!(verdicts.matches(">consistent_hash<").count(), 4);
}

#[test]
fn dropped_blocks_are_marked_and_have_no_dots() {
    let blocks = svg("b", "blocks");
    assert!(blocks.contains(">dropped block<") && !svg("a4", "blocks").contains("dropped block"));
    let document = Document::parse(&blocks).expect("well-formed");
    let dots = document.descendants().filter(|node| node.tag_name().name() == "circle").count();
    // Three percentiles, six blocks, two arms, and one dot for each arm in the legend.
    assert_eq!(dots, 3 * 6 * 2 + 2);
}
