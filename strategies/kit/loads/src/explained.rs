//! The text of an explanation: the backend that a request would get, and the figures of the candidates.

use std::fmt::Write;

use lb_strategy::{Backend, Backends, Request};

/// More candidates are left out, so that an explanation stays readable.
const SHOWN_MAX: usize = 64;

/// A JSON object with `backend`, the name of the picked backend or null. `candidates` has the figures of each candidate
/// by their names. A figure that is not finite becomes null.
pub fn explained<const N: usize>(
    picked: Option<usize>,
    backends: &Backends<'_>,
    request: &Request<'_>,
    figures: impl Fn(Backend<'_>) -> [(&'static str, f64); N],
) -> String {
    let name = picked.and_then(|index| backends.get(index)).map(|backend| backend.name());
    let mut text = String::from(r#"{"backend":"#);
    // Writing to a string does not fail. A name has no character that JSON escapes.
    let _ = match name {
        Some(name) => write!(text, r#""{name}""#),
        None => write!(text, "null"),
    };
    text.push_str(r#","candidates":["#);
    for (place, (_, backend)) in backends.candidates(request).take(SHOWN_MAX).enumerate() {
        let comma = if place > 0 { "," } else { "" };
        let _ = write!(text, r#"{comma}{{"name":"{}""#, backend.name());
        for (key, value) in figures(backend) {
            let _ =
                if value.is_finite() { write!(text, r#","{key}":{value}"#) } else { write!(text, r#","{key}":null"#) };
        }
        text.push('}');
    }
    text.push_str("]}");
    text
}
