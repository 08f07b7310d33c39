//! From a URL to an address that accepts connections.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use http::Uri;
use thiserror::Error;

use crate::load::Target;

/// A checked URL.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Url {
    host: String,
    port: u16,
    /// The value of the header `host`.
    authority: String,
    /// Path and query.
    pub(super) path: String,
}

/// Why a URL cannot be a target.
#[derive(Debug, Error)]
pub enum BadTarget {
    #[error("{url:?} is no URL: {reason}; write http://HOST:PORT/PATH")]
    Url { url: String, reason: String },
    #[error("https is not supported: measure the plain HTTP port behind the TLS server, such as http://HOST:PORT/PATH")]
    Https,
    #[error("cannot resolve the host {host:?}: {source}")]
    Unknown { host: String, source: io::Error },
    #[error("cannot connect to {address}: {source}; check that the server runs and that this is its port")]
    Unreachable { address: String, source: io::Error },
}

/// The longest wait for the first connection.
const REACH_MAX: Duration = Duration::from_secs(10);

/// Parses a URL. Without a scheme it is http.
pub(super) fn parse(text: &str) -> Result<Url, BadTarget> {
    let bad = |reason: &str| BadTarget::Url { url: text.to_owned(), reason: reason.to_owned() };
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = whole.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(BadTarget::Https),
        _ => return Err(bad("only http is supported")),
    }
    let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("a user is not supported, use a header: -H \"authorization: …\""));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("it has no host"));
    }
    let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default().strip_prefix(':') {
        Some(port) => {
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| bad("its port is not from 1 to 65535"))?
        }
        None => 80,
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Url {
        // An IPv6 address is in brackets.
        host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
        port,
        authority: authority.to_string(),
        // "http://host?query" has a query, but no path.
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
    })
}

// === impl Url ===

impl Url {
    /// The first of the host's addresses that accepts a connection. Blocks.
    pub(super) fn reach(&self, timeout: Duration) -> Result<Target, BadTarget> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let unknown = |source| BadTarget::Unknown { host: self.host.clone(), source };
        let addresses: Vec<SocketAddr> = found.map_err(unknown)?.collect();
        let mut refused = io::Error::other("it has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout.min(REACH_MAX)) {
                Ok(_) => return Ok(Target { addresses: vec![address], host: self.authority.clone() }),
                Err(error) => refused = error,
            }
        }
        Err(BadTarget::Unreachable { address: format!("{}:{}", self.host, self.port), source: refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_host_port_authority_and_path() {
        let cases = [
            ("http://localhost:8080/a?b=c", ("localhost", 8080, "localhost:8080", "/a?b=c")),
            ("localhost:8080", ("localhost", 8080, "localhost:8080", "/")),
            ("http://example.org", ("example.org", 80, "example.org", "/")),
            ("http://[::1]:81/x", ("::1", 81, "[::1]:81", "/x")),
            ("http://h?q", ("h", 80, "h", "/?q")),
        ];
        for (text, (host, port, authority, path)) in cases {
            let url = parse(text).unwrap();
            assert_eq!((&*url.host, url.port, &*url.authority, &*url.path), (host, port, authority, path), "{text}");
        }
    }

    #[test]
    fn a_malformed_target_is_refused_in_one_line() {
        for (text, word) in [
            ("https://h/", "https is not supported"),
            ("ftp://h/", "only http"),
            ("http://", "no URL"),
            ("http://u:p@h/", "user"),
            ("http://h:99999/", "port"),
            ("http://h:0/", "port"),
            ("http://a b/", "no URL"),
            ("", "no URL"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}
