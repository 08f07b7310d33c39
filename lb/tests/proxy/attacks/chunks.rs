//! Tricks inside chunks: an invalid chunk ends the request, and lb writes a valid one again in its own form.

use super::{Attack, passes, refused, run};

const HEAD: &str = "POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked\n\n";
const SEEN: &str = "POST / HTTP/1.1\nhost: a\n{fwd}transfer-encoding: chunked\n\n";

pub(super) fn attacks() -> Vec<Attack> {
    let whole = [
        ("chunks that are ready are sent as one", "1\na\n1\nb\n1\nc\n0\n\n", "3\nabc\n0\n\n"),
        ("the extension of a chunk is dropped", "3;a=b\nabc\n0\n\n", "3\nabc\n0\n\n"),
        ("an extension in quotes is dropped", "3;a=\"x;y\"\nabc\n0;z\n\n", "3\nabc\n0\n\n"),
        ("a size in capitals", "A\n0123456789\n0\n\n", "a\n0123456789\n0\n\n"),
        ("a size with zeros in front", "0003\nabc\n000\n\n", "3\nabc\n0\n\n"),
        ("a chunk that holds the end of chunks", "7\n\n0\n\n\n0\n\n", "7\n\n0\n\n\n0\n\n"),
        (
            "trailers pass, except those that change a request",
            "3\nabc\n0\nX-Sum: 1\nx-forwarded-for: 6.6.6.6\ncontent-length: 9\nhost: b\nx_forwarded_for: 6.6.6.6\n\n",
            "3\nabc\n0\nx-sum: 1\n\n",
        ),
    ];
    let mut attacks: Vec<Attack> =
        whole.map(|(aim, sends, seen)| passes(aim, &format!("{HEAD}{sends}"), "200", &format!("{SEEN}{seen}"))).into();
    attacks.push(passes(
        "a request after the last chunk is the next request",
        &format!("{HEAD}3\nabc\n0\n\nGET /two HTTP/1.1\nhost: a\n\n"),
        "200 200",
        &format!("{SEEN}3\nabc\n0\n\nGET /two HTTP/1.1\nhost: a\n{{fwd}}\n"),
    ));
    // The first bytes of the body arrive with the head and are invalid, so lb sends nothing to a backend.
    for (aim, sends) in [
        ("a chunk longer than its size", "3\nabcd\n0\n\n"),
        ("a chunk without its end of line", "3\nabc0\n\n"),
        ("a size below 0", "-1\na\n0\n\n"),
        ("a size with a plus", "+1\na\n0\n\n"),
        ("a size with 0x", "0x1\na\n0\n\n"),
        ("a size that is no number", "g\na\n0\n\n"),
        ("no size", "\na\n0\n\n"),
        ("a space before the size", " 1\na\n0\n\n"),
        ("a size beyond 64 bits", "10000000000000001\na\n0\n\n"),
        ("a size of two numbers", "1 1\na\n0\n\n"),
        ("a size with an underscore", "1_0\na\n0\n\n"),
        ("a line of a size that only LF ends", "1<LF>a\n0\n\n"),
        ("an extension with LF in it", "1;a<LF>b\na\n0\n\n"),
        ("an extension with CR in it", "1;a<CR>b\na\n0\n\n"),
        ("a size that only CR ends", "1<CR>a\n0\n\n"),
        ("a zero byte behind the size", "1<NUL>\na\n0\n\n"),
        ("a last chunk whose empty line only LF ends", "0\n<LF>"),
        ("a chunk whose end only LF ends", "1\na<LF>0\n\n"),
        ("a space behind the size", "1 \na\n0\n\n"),
        ("an invalid trailer", "0\nx y: z\n\n"),
        ("a trailer on a folded line", "0\nx: y\n z\n\n"),
        ("a trailer that only LF ends", "0\nx: y<LF>\n"),
    ] {
        attacks.push(refused(aim, &format!("{HEAD}{sends}"), "400 end"));
    }
    attacks
}

#[test]
fn a_backend_gets_only_chunks_that_lb_wrote() {
    run(attacks());
}
