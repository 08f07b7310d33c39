//! The known differences between `lb::http1` and other parsers, each with a reason and with a sample that shows it.

/// A parser to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// Request heads by httparse, in its default configuration.
    Httparse,
    /// Response heads by httparse, in its default configuration.
    HttparseResponse,
    /// Whole requests by hyper's server.
    Hyper,
}

/// Bytes on which the verdicts differ.
#[derive(Debug)]
pub struct Case<'a> {
    /// One message, or the bytes after the last message that both accepted.
    pub bytes: &'a [u8],
    /// Our sentence; `None` if the oracle refuses and we accept.
    pub refusal: Option<String>,
}

/// One reason why verdicts differ.
pub struct Difference {
    pub name: &'static str,
    pub oracles: &'static [Oracle],
    pub reason: &'static str,
    /// Bytes that show it.
    pub sample: fn() -> Vec<u8>,
    pub applies: fn(&Case<'_>) -> bool,
}

use Oracle::{Httparse, HttparseResponse, Hyper};

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "bare CR or LF",
        oracles: &[Httparse, Hyper],
        reason: "Servers differ in whether a bare LF or CR ends a line, which allows request smuggling. lb requires CR LF.",
        sample: || b"GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("head contains a bare CR or LF"),
    },
    Difference {
        name: "bare CR or LF in responses",
        oracles: &[HttparseResponse],
        reason: "The same rule as for requests.",
        sample: || b"HTTP/1.1 200 OK\n\n".to_vec(),
        applies: |case| case.is_refused_for("head contains a bare CR or LF"),
    },
    Difference {
        name: "many empty lines",
        oracles: &[Httparse, Hyper],
        reason: "lb skips at most 8 empty lines before a request, so that a client cannot send them for ever.",
        sample: || [&b"\r\n".repeat(9)[..], b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"].concat(),
        applies: |case| case.is_refused_for("too many empty lines"),
    },
    Difference {
        name: "empty line before a response",
        oracles: &[HttparseResponse],
        reason: "RFC 9112 allows empty lines before requests only. Before a response they are the rest of another message.",
        sample: || b"\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("does not begin with HTTP/1") && case.bytes[0] != b'H',
    },
    Difference {
        name: "status below 100",
        oracles: &[HttparseResponse],
        reason: "RFC 9110 defines statuses from 100 to 599; lb accepts 100 to 999, as the crate http does.",
        sample: || b"HTTP/1.1 099 OK\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("status is not a number") && case.bytes[9] == b'0',
    },
    Difference {
        name: "CONNECT",
        oracles: &[Httparse, Hyper],
        reason: "lb is a reverse proxy. It refuses CONNECT with 501 as soon as it has read the request line.",
        sample: || b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("CONNECT is for forward proxies"),
    },
    Difference {
        name: "asterisk form",
        oracles: &[Httparse, Hyper],
        reason: "RFC 9112, section 3.2.4: the target `*` is for OPTIONS only.",
        sample: || b"GET * HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("valid for OPTIONS only"),
    },
    Difference {
        name: "authority form",
        oracles: &[Httparse, Hyper],
        reason: "RFC 9112, section 3.2.3: a target of host and port is for CONNECT only.",
        sample: || b"GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("begins with neither / nor a scheme"),
    },
    Difference {
        name: "scheme",
        oracles: &[Httparse, Hyper],
        reason: "lb serves http and https; a backend could give another scheme another meaning.",
        sample: || b"GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("a scheme other than http and https"),
    },
    Difference {
        name: "target without a host",
        oracles: &[Httparse, Hyper],
        reason: "RFC 9110, section 4.2.1: an http URI without a host is invalid.",
        sample: || b"GET http://u@:80/p HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("target names no host"),
    },
    Difference {
        name: "angle brackets in targets",
        oracles: &[Httparse, Hyper],
        reason: "RFC 3986 does not allow them, and clients encode them. hyper refuses them too, except in a fragment.",
        sample: || b"GET /#> HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("target contains an invalid byte"),
    },
    Difference {
        name: "backticks and quotation marks in targets",
        oracles: &[Hyper],
        reason: "Clients send them, and no server reads them in two ways. hyper refuses ` in a path and \" in a query.",
        sample: || b"GET /?\" HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        applies: |case| case.is_accepted() && (case.has("`") || case.has("\"")),
    },
    Difference {
        name: "hosts in absolute targets",
        oracles: &[Hyper],
        reason: "lb accepts each host that RFC 3986 allows; the type Uri of the crate http accepts fewer.",
        sample: || b"GET http://%:80/p HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        applies: |case| case.is_accepted() && case.has("://"),
    },
    Difference {
        name: "transfer codings",
        oracles: &[Hyper],
        reason: "lb decodes chunked only. A list of codings would be lost, because Transfer-Encoding ends at this hop.",
        sample: || b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("Transfer-Encoding is not exactly one"),
    },
    Difference {
        name: "bad length beside chunks",
        oracles: &[Hyper],
        reason: "hyper ignores Content-Length behind Transfer-Encoding. lb refuses a malformed or contradictory one wherever it stands.",
        sample: || {
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: x\r\n\r\n0\r\n\r\n".to_vec()
        },
        applies: |case| {
            (case.is_refused_for("Content-Length is not a number") || case.is_refused_for("different Content-Length"))
                && case.has("transfer-encoding")
        },
    },
    Difference {
        name: "space behind a chunk size",
        oracles: &[Hyper],
        reason: "RFC 9112 allows spaces there only before an extension, and servers differ in what may follow them.",
        sample: || b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("chunk size is not a hexadecimal number"),
    },
    Difference {
        name: "control character in a chunk extension",
        oracles: &[Hyper],
        reason: "RFC 9112 does not allow it, and a bare CR may end the line for other servers.",
        sample: || b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;\0\r\na\r\n0\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("extension contains a control character"),
    },
    Difference {
        name: "bare CR or LF in trailers",
        oracles: &[Hyper],
        reason: "The same rule as for heads.",
        sample: || b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n\r\n".to_vec(),
        applies: |case| case.is_refused_for("trailers contain a bare CR or LF"),
    },
    Difference {
        name: "many chunk extensions",
        oracles: &[Hyper],
        reason: "hyper limits the extensions of a whole body to 16 KiB. lb limits those of each chunk, and slows down clients that send tiny chunks.",
        sample: || {
            [
                &b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"[..],
                &[b"1;", &b"x".repeat(9_000)[..], b"\r\na\r\n"].concat().repeat(2),
                b"0\r\n\r\n",
            ]
            .concat()
        },
        applies: |case| case.is_accepted() && case.bytes.len() > 16_384 && case.has(";"),
    },
];

// === impl Case ===

impl Case<'_> {
    fn is_refused_for(&self, sentence: &str) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.contains(sentence))
    }

    fn is_accepted(&self) -> bool {
        self.refusal.is_none()
    }

    /// Whether the bytes contain `text` in any case.
    fn has(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
    }
}
