//! A status as one line, for logs and for simple terminals.

use super::status::Status;
use crate::report::format::{count, milliseconds, short, significant};

/// For example `block 3, round_robin, measuring: 1,234 of 1,250/s, p50 …`; `None` without a load.
pub fn line(status: &Status) -> Option<String> {
    let flow = status.flow.as_ref()?;
    let what = [&status.place, &status.strategy, &status.phase];
    let what: Vec<&str> = what.into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
    let asked = flow.asked.map(|asked| format!(" of {}", significant(asked))).unwrap_or_default();
    let ms = |ms: Option<f64>| ms.map_or("–".to_owned(), milliseconds);
    let mut text = format!(
        "{}: {}{asked}/s, p50 {}, p99 {}",
        what.join(", "),
        significant(flow.achieved),
        ms(flow.p50_ms),
        ms(flow.p99_ms)
    );
    if flow.bad() > 0 {
        text += &format!(", {} without a good response", count(flow.bad()));
    }
    if !status.backends.is_empty() {
        let counts = status.backends.iter().map(|backend| format!("{}: {}", backend.id, short(backend.answers as f64)));
        text += &format!("  [{}]", counts.collect::<Vec<_>>().join(", "));
    }
    if let Some(next) = &status.next {
        text += &format!(", in {:.0} s {}", next.after.as_secs_f64(), next.what);
    }
    // lines are copied and searched, so they have ordinary spaces
    Some(text.replace('\u{a0}', " "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::view::status::{BackendRow, Flow, Next};

    #[test]
    fn a_line_has_the_numbers_of_the_picture() {
        let flow = Flow {
            asked: Some(1250.0),
            achieved: 1234.4,
            p50_ms: Some(3.21),
            p99_ms: None,
            classes: [0, 5000, 0, 1, 2],
            ..Flow::default()
        };
        let mut status = Status {
            place: "block 3".into(),
            strategy: "round_robin".into(),
            phase: "wash-out".into(),
            flow: Some(flow),
            backends: vec![BackendRow { id: "Server 1".into(), answers: 5000, ..BackendRow::default() }],
            next: Some(Next { after: Duration::from_secs(4), what: "Server 1 stalled".into() }),
            ..Status::default()
        };
        let expected = "block 3, round_robin, wash-out: 1,234 of 1,250/s, p50 3.21 ms, p99 –, 3 without a good response  \
                        [Server 1: 5,000], in 4 s Server 1 stalled";
        assert_eq!(line(&status).as_deref(), Some(expected));
        status.flow = None;
        assert_eq!(line(&status), None);
    }
}
