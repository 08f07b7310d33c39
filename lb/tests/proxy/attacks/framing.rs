//! The end of a body: lengths and codings that contradict each other or have an unusual form.

use super::{Attack, passes, refused, run};

const CHUNKED: &str = "POST / HTTP/1.1\nhost: a\n{fwd}transfer-encoding: chunked\n\n0\n\n";

pub(super) fn attacks() -> Vec<Attack> {
    let mut attacks = vec![
        passes(
            "a length beside chunks: the chunks count, and the connection ends",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 6\ntransfer-encoding: chunked\n\n0\n\nG",
            "200 end",
            CHUNKED,
        ),
        passes(
            "chunks beside a length, with a request in them",
            "POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked\ncontent-length: 4\n\n1e\nGET /two HTTP/1.1\nhost: a\n\n\n0\n\n",
            "200 end",
            "POST / HTTP/1.1\nhost: a\n{fwd}transfer-encoding: chunked\n\n1e\nGET /two HTTP/1.1\nhost: a\n\n\n0\n\n",
        ),
        passes(
            "a length that Connection names, with chunks",
            "POST / HTTP/1.1\nhost: a\nconnection: content-length\ncontent-length: 4\ntransfer-encoding: chunked\n\n0\n\n",
            "200 end",
            CHUNKED,
        ),
        passes(
            "chunks that Connection names",
            "POST / HTTP/1.1\nhost: a\nconnection: transfer-encoding\ntransfer-encoding: chunked\n\n0\n\n",
            "200",
            CHUNKED,
        ),
        passes(
            "a length that Connection names",
            "POST / HTTP/1.1\nhost: a\nconnection: content-length\ncontent-length: 3\n\nabc",
            "200",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 3\n{fwd}\nabc",
        ),
        passes(
            "the same length twice passes once",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 3\nContent-Length: 3\n\nabc",
            "200",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 3\n{fwd}\nabc",
        ),
        passes(
            "a length with zeros in front",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 003\n\nabc",
            "200",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 003\n{fwd}\nabc",
        ),
        passes(
            "chunked in capitals",
            "POST / HTTP/1.1\nhost: a\nTRANSFER-ENCODING:  CHUNKED \n\n0\n\n",
            "200",
            CHUNKED,
        ),
        passes(
            "a coding that CGI would take for Transfer-Encoding",
            "POST / HTTP/1.1\nhost: a\ntransfer_encoding: chunked\ncontent-length: 5\n\n0\n\n",
            "200",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 5\n{fwd}\n0\n\n",
        ),
        passes(
            "a length that CGI would take for Content-Length",
            "GET / HTTP/1.1\nhost: a\nContent_Length: 5\n\n",
            "200",
            "GET / HTTP/1.1\nhost: a\n{fwd}\n",
        ),
        refused(
            "a line that only LF ends",
            "POST / HTTP/1.1\nhost: a\nx: y<LF>transfer-encoding: chunked\n\n0\n\n",
            "400 end",
        ),
        refused("a head that only LF ends", "GET / HTTP/1.1\nhost: a\n<LF>", "400 end"),
        refused("a request line that only LF ends", "GET / HTTP/1.1<LF>host: a\n\n", "400 end"),
        passes(
            "a GET with a request for a body",
            "GET / HTTP/1.1\nhost: a\ncontent-length: 30\n\nGET /two HTTP/1.1\nhost: a\n\n",
            "200",
            "GET / HTTP/1.1\nhost: a\ncontent-length: 30\n{fwd}\nGET /two HTTP/1.1\nhost: a\n\n",
        ),
        passes(
            "a GET with a length of 0 and a request after it",
            "GET / HTTP/1.1\nhost: a\ncontent-length: 0\n\nGET /two HTTP/1.1\nhost: a\n\n",
            "200 200",
            "GET / HTTP/1.1\nhost: a\ncontent-length: 0\n{fwd}\nGET /two HTTP/1.1\nhost: a\n{fwd}\n",
        ),
        passes(
            "a request right after a body gets its own fields",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 3\n\nabcGET /two HTTP/1.1\nhost: a\nx-forwarded-for: 6.6.6.6\n\n",
            "200 200",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 3\n{fwd}\nabcGET /two HTTP/1.1\nhost: a\n{fwd}\n",
        ),
        passes(
            "a GET in chunks",
            "GET / HTTP/1.1\nhost: a\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n",
            "200",
            "GET / HTTP/1.1\nhost: a\n{fwd}transfer-encoding: chunked\n\n3\nabc\n0\n\n",
        ),
        passes(
            "empty lines before a request",
            "\n\nGET / HTTP/1.1\nhost: a\n\n",
            "200",
            "GET / HTTP/1.1\nhost: a\n{fwd}\n",
        ),
    ];
    // Invalid lengths, and lengths that are too large for some servers.
    for (aim, length) in [
        ("a length with a plus", "+4"),
        ("a length below 0", "-1"),
        ("a length in hexadecimal", "0x4"),
        ("two lengths in one value", "4 4"),
        ("a list of equal lengths", "4, 4"),
        ("a list of lengths", "4, 5"),
        ("no length at all", ""),
        ("a length with a comma", "4,"),
        ("a length in quotes", "\"4\""),
        ("a length with a dot", "4.0"),
        ("a length of 2^53 + 1", "9007199254740993"),
        ("a length of 2^63", "9223372036854775808"),
        ("a length of 2^64", "18446744073709551616"),
        ("a length of 2^64 + 4", "18446744073709551620"),
        ("a length and a vertical tab", "4<VT>"),
    ] {
        attacks.push(refused(aim, &format!("POST / HTTP/1.1\nhost: a\ncontent-length: {length}\n\nabcd"), "400 end"));
    }
    // Codings that one server decodes and another does not.
    for (aim, fields) in [
        ("two lengths", "content-length: 4\ncontent-length: 5"),
        ("a coding that only looks like chunked", "transfer-encoding: xchunked"),
        ("chunked, then identity", "transfer-encoding: chunked\ntransfer-encoding: identity"),
        ("identity, then chunked", "transfer-encoding: identity\ntransfer-encoding: chunked"),
        ("chunked twice", "transfer-encoding: chunked\ntransfer-encoding: chunked"),
        ("a list that ends in chunked", "transfer-encoding: identity, chunked"),
        ("a list that ends in identity", "transfer-encoding: chunked, identity"),
        ("a list that ends in a comma", "transfer-encoding: chunked,"),
        ("a list that begins with a comma", "transfer-encoding: ,chunked"),
        ("chunked in quotes", "transfer-encoding: \"chunked\""),
        ("chunked with a parameter", "transfer-encoding: chunked;q=1"),
        ("chunked after a vertical tab", "transfer-encoding: <VT>chunked"),
        ("chunked and a zero byte", "transfer-encoding: chunked<NUL>"),
        ("no coding at all", "transfer-encoding:"),
        ("a space before the colon", "transfer-encoding : chunked"),
        ("a tab before the colon", "transfer-encoding\t: chunked"),
        ("a coding on a folded line", "x: y\n transfer-encoding: chunked"),
        ("a coding after a bare CR", "x: y<CR>transfer-encoding: chunked"),
        ("a length after a bare CR", "x: y<CR>content-length: 4"),
        ("a field without a name", ": chunked"),
        ("a line without a colon", "transfer-encoding chunked"),
    ] {
        attacks.push(refused(aim, &format!("POST / HTTP/1.1\nhost: a\n{fields}\n\n0\n\n"), "400 end"));
    }
    attacks.push(refused(
        "chunks in HTTP/1.0",
        "POST / HTTP/1.0\nhost: a\ntransfer-encoding: chunked\n\n0\n\n",
        "400 end",
    ));
    attacks.push(refused(
        "a folded first line",
        "GET / HTTP/1.1\n transfer-encoding: chunked\nhost: a\n\n0\n\n",
        "400 end",
    ));
    attacks
}

#[test]
fn a_body_ends_at_the_same_byte_for_the_backend_and_for_lb() {
    run(attacks());
}
