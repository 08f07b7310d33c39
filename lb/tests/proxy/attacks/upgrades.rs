//! Upgrades: only listed protocols pass, so no tunnel carries requests past lb.

use super::{Attack, passes, refused, run};

const PLAIN: &str = "GET / HTTP/1.1\nhost: a\n{fwd}\n";
const SWITCHED: &str = "GET / HTTP/1.1\nhost: a\n{fwd}connection: upgrade\nupgrade: websocket\n\n";

pub(super) fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (aim, fields) in [
        ("h2c", "connection: Upgrade, HTTP2-Settings\nupgrade: h2c\nhttp2-settings: AAMAAABkAAQAAP__"),
        ("h2c in capitals", "connection: upgrade\nupgrade: H2C"),
        ("h2c with a version", "connection: upgrade\nupgrade: h2c/2"),
        ("h2c with a parameter", "connection: upgrade\nupgrade: h2c;websocket"),
        ("h2c in quotes", "connection: upgrade\nupgrade: \"h2c\""),
        ("h2c after a comma", "connection: upgrade\nupgrade: ,h2c"),
        ("h2c on a separate line", "connection: x\nconnection: upgrade\nupgrade: h2\nupgrade: h2c"),
        ("HTTP/2.0", "connection: upgrade\nupgrade: HTTP/2.0"),
        ("TLS", "connection: upgrade\nupgrade: TLS/1.0"),
        ("settings of HTTP/2 alone", "http2-settings: AAMAAABkAAQAAP__"),
        ("settings of HTTP/2 in capitals", "connection: keep-alive\nHTTP2-SETTINGS: AAMAAABkAAQAAP__"),
        ("a protocol that is not listed", "connection: upgrade\nupgrade: anything"),
        ("protocols that only resemble websocket", "connection: upgrade\nupgrade: websockets, xwebsocket, web socket"),
        ("h2c as a version of websocket", "connection: upgrade\nupgrade: websocket/h2c"),
        ("h2c after the slash of a version", "connection: upgrade\nupgrade: websocket/ h2c"),
        ("an upgrade that Connection does not name", "upgrade: websocket"),
        ("an upgrade with only similar names in Connection", "connection: x-upgrade, upgrades\nupgrade: websocket"),
        ("no protocol", "connection: upgrade\nupgrade:"),
    ] {
        attacks.push(passes(aim, &format!("GET / HTTP/1.1\nhost: a\n{fields}\n\n"), "200", PLAIN));
    }
    for (aim, fields) in [
        ("websocket", "connection: upgrade\nupgrade: websocket"),
        ("h2c before websocket", "connection: upgrade, http2-settings\nupgrade: h2c, websocket\nhttp2-settings: AA"),
        ("h2c after websocket", "connection: upgrade\nupgrade: websocket,h2c"),
        ("h2c in a field before websocket", "connection: keep-alive, Upgrade\nupgrade: h2c\nupgrade: websocket"),
        ("tabs and commas around websocket", "connection: upgrade\nupgrade: ,\twebsocket\t,, h2c"),
    ] {
        attacks.push(passes(aim, &format!("GET / HTTP/1.1\nhost: a\n{fields}\n\n"), "101", SWITCHED));
    }
    attacks.extend([
        passes(
            "bytes after a request for websocket, before its 101",
            "GET / HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket\n\nbehind",
            "400 end",
            SWITCHED,
        ),
        passes(
            "a request after a request for websocket, before its 101",
            "GET / HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket\n\nGET /admin HTTP/1.1\nhost: a\n\n",
            "400 end",
            SWITCHED,
        ),
        passes(
            "websocket in another case passes unchanged",
            "GET / HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: WebSocket\n\n",
            "101",
            "GET / HTTP/1.1\nhost: a\n{fwd}connection: upgrade\nupgrade: WebSocket\n\n",
        ),
        passes(
            "a version of websocket",
            "GET / HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket/13, websocket/h2c\n\n",
            "101",
            "GET / HTTP/1.1\nhost: a\n{fwd}connection: upgrade\nupgrade: websocket/13\n\n",
        ),
        passes(
            "a request after a refused upgrade is a request",
            "GET /refuse HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket\n\nGET /two HTTP/1.1\nhost: a\nx-real-ip: 6.6.6.6\n\n",
            "200 200",
            "GET /refuse HTTP/1.1\nhost: a\n{fwd}connection: upgrade\nupgrade: websocket\n\nGET /two HTTP/1.1\nhost: a\n{fwd}\n",
        ),
        passes(
            "an upgrade with a body is dropped",
            "POST / HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket\ncontent-length: 3\n\nabc",
            "200",
            "POST / HTTP/1.1\nhost: a\ncontent-length: 3\n{fwd}\nabc",
        ),
        passes(
            "an upgrade with chunks is dropped",
            "POST / HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket\ntransfer-encoding: chunked\n\n0\n\n",
            "200",
            "POST / HTTP/1.1\nhost: a\n{fwd}transfer-encoding: chunked\n\n0\n\n",
        ),
        passes(
            "an upgrade in HTTP/1.0 is dropped",
            "GET / HTTP/1.0\nhost: a\nconnection: upgrade\nupgrade: websocket\n\n",
            "200 end",
            PLAIN,
        ),
        passes(
            "a backend that switches without an upgrade",
            "GET /force HTTP/1.1\nhost: a\n\n",
            "502",
            "GET /force HTTP/1.1\nhost: a\n{fwd}\n",
        ),
        passes(
            "a backend that switches though h2c was dropped",
            "GET /force HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: h2c\n\n",
            "502",
            "GET /force HTTP/1.1\nhost: a\n{fwd}\n",
        ),
        passes(
            "a backend that switches to another protocol",
            "GET /other HTTP/1.1\nhost: a\nconnection: upgrade\nupgrade: websocket, h2c\n\n",
            "502",
            "GET /other HTTP/1.1\nhost: a\n{fwd}connection: upgrade\nupgrade: websocket\n\n",
        ),
        refused("the preface of HTTP/2", "PRI * HTTP/2.0\n\nSM\n\n", "505 end"),
    ]);
    attacks
}

#[test]
fn no_tunnel_carries_requests_past_the_routes() {
    run(attacks());
}
