//! The text of pictures, read from ratatui's test terminal.

use std::collections::BTreeSet;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::view::status::{Arm, BackendRow, Flow, Left, Next, Precision, Progress};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn backend(number: u64, rate: f64) -> BackendRow {
    let id = format!("Server {number}");
    BackendRow { id, rate, answers: 12_345 * number, in_flight: Some(3), is_out: rate == 0.0 }
}

/// A status with all parts.
fn full() -> Status {
    Status {
        title: "B: strategies compared".into(),
        elapsed: seconds(83.4),
        left: Some(Left { time: seconds(157.0), is_at_most: true }),
        place: "block 3, arm 2 of 3".into(),
        strategy: "least_connections".into(),
        phase: "segment".into(),
        progress: Some(Progress::Time { done: seconds(1.9), all: seconds(4.0) }),
        flow: Some(Flow {
            asked: Some(1250.0),
            achieved: 1234.4,
            p50_ms: Some(3.214),
            p90_ms: Some(12.5),
            p99_ms: Some(45.61),
            outstanding: 34,
            classes: [0, 98_765, 0, 4, 17],
            errors: 5,
            ..Flow::default()
        }),
        rates: vec![0, 600, 1200],
        backends: vec![backend(1, 600.0), backend(2, 300.0), backend(3, 0.0)],
        precision: Some(Precision {
            measure: "p99 latency over round_robin".into(),
            target: 0.05,
            blocks_needed: 12,
            blocks_possible: 24,
            arms: vec![
                Arm { label: "least_connections".into(), half_width: Some(0.1), expected: Some(0.062) },
                Arm { label: "consistent_hash".into(), half_width: Some(0.048), expected: Some(0.03) },
                Arm { label: "two_choices".into(), half_width: None, expected: None },
            ],
        }),
        next: Some(Next { after: seconds(2.1), what: "consistent_hash takes over".into() }),
        notes: vec![
            (seconds(3.0), "capacity 1786/s with p99 within 250ms; 0.7 of it is 1250/s".into()),
            (seconds(81.0), "least_connections takes over".into()),
        ],
    }
}

fn picture(status: &Status, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, status)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().replace('\u{a0}', " ");
    (0..height).map(row).collect()
}

/// Words with digits in them.
fn numbers(picture: &[String]) -> BTreeSet<String> {
    let words = picture.iter().flat_map(|row| row.split_whitespace());
    words.filter(|word| word.contains(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

#[test]
fn all_of_it_fits_into_80_columns_and_24_rows() {
    let status = full();
    assert!(height(&status, 80) <= 24);
    let expected = " B: strategies compared                            1:23 gone, at most 2:37 left
 block 3, arm 2 of 3  least_connections  segment  ━━━━━━━━━━────────── 1 of 4 s

 rate    1,234/s of 1,250   ▄█
 p50    3.21 ms  p99  45.6 ms  p90  12.5 ms  34 in flight
 total 2xx 98,765  5xx 17  no response 5  not sent 0  4xx 4

 backend   last second                     per s   share  in flight   responses
 Server 1  █████████████████████████████     600  16.7 %          3      12,345
 Server 2  ██████████████▌                   300  33.3 %          3      24,690
 Server 3                                      0  50.0 %        out      37,035

 interval of p99 latency over round_robin  target ±5.00 % or less
 least_connections   ±10.0 %  ━━━━━━━━━━──────────  ±6.20 % after 24 blocks
 consistent_hash     ±4.80 %  ━━━━━━━━━━━━━━━━━━━━
 two_choices        known after 12 of about 24 blocks

 next  consistent_hash takes over  in 3 s
  0:03  capacity 1786/s with p99 within 250ms; 0.7 of it is 1250/s
  1:21  least_connections takes over";
    assert_eq!(picture(&status, 80, 20).join("\n"), expected);
    assert!(picture(&status, 80, 24)[20..].iter().all(String::is_empty));
}

#[test]
fn on_60_columns_less_important_parts_are_missing_and_the_rest_is_complete() {
    let expected = " B: strategies compared        1:23 gone, at most 2:37 left
 block 3, arm 2 of 3  least_connections  segment

 rate    1,234/s of 1,250   ▄█
 p50    3.21 ms  p99  45.6 ms  p90  12.5 ms  34 in flight
 total 2xx 98,765  5xx 17  no response 5  not sent 0  4xx 4

 backend   last second             per s   share  in flight
 Server 1  █████████████████████     600  16.7 %          3
 Server 2  ██████████▌               300  33.3 %          3
 Server 3                              0  50.0 %        out

 interval of p99 latency over roun…  target ±5.00 % or less
 least_connections   ±10.0 %  ━━━━━━━━━━──────────
 consistent_hash     ±4.80 %  ━━━━━━━━━━━━━━━━━━━━
 two_choices        known after 12 of about 24 blocks

 next  consistent_hash takes over  in 3 s
  0:03  capacity 1786/s with p99 within 250ms; 0.7 of it i…
  1:21  least_connections takes over";
    assert_eq!(picture(&full(), 60, 20).join("\n"), expected);
}

#[test]
fn no_number_is_ever_cut_and_no_row_is_too_long() {
    let mut status = full();
    // the numbers of notes may be shortened away with their sentence
    status.notes.clear();
    let whole = numbers(&picture(&status, 200, 40));
    assert!(whole.contains("98,765") && whole.contains("±10.0") && whole.contains("37,035"), "{whole:?}");
    for width in 1..=140 {
        for row in rows(&status, width) {
            assert!(row.line.width() <= usize::from(width), "{width}: {}", row.line);
        }
        for height in [4, 10, 30] {
            let found = numbers(&picture(&status, width, height));
            let cut: Vec<_> = found.iter().filter(|word| !word.contains('…') && !whole.contains(*word)).collect();
            assert!(cut.is_empty(), "{width}x{height}: {cut:?}");
        }
    }
}

#[test]
fn on_few_rows_the_load_and_the_time_stay() {
    let rows = picture(&full(), 80, 5);
    for word in ["at most 2:37 left", "block 3", "1,234/s", "p99", "5xx 17"] {
        assert!(rows.iter().any(|row| row.contains(word)), "{word}: {rows:?}");
    }
    let rows = picture(&full(), 80, 16);
    assert!(rows.iter().any(|row| row.contains("Server 3")), "gaps and notes go before backends: {rows:?}");
    assert!(!rows.iter().any(String::is_empty), "{rows:?}");
}

#[test]
fn many_backends_are_summarised_in_few_rows() {
    let backends = (1..=40).map(|number| backend(number, number as f64)).collect();
    let status = Status { backends, ..full() };
    let rows = picture(&status, 80, 60);
    assert_eq!(rows.iter().filter(|row| row.contains("Server")).count(), 15);
    assert!(rows.iter().any(|row| row.contains("and 25 others with 16.0 to 40.0 per s")), "{rows:?}");
}

#[test]
fn without_a_load_there_are_no_numbers_of_a_load() {
    let status = Status { phase: "setting up".into(), title: "A1".into(), ..Status::default() };
    assert_eq!(picture(&status, 40, 3), [" A1                           0:00 gone", " setting up", ""]);
    let closed = Flow { achieved: 12.0, ..Flow::default() };
    let rows = picture(&Status { flow: Some(closed), ..status }, 60, 8).join("\n");
    assert!(rows.contains("12.0/s\n") && rows.contains("p50          –") && !rows.contains("of"), "{rows}");
}
