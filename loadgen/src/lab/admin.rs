//! A client of the balancer's admin port: status, swap of the strategy, more and fewer backends.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::web::{Web, WebError};
use crate::model::Safeguards;

#[derive(Clone, Debug)]
pub struct Admin {
    base: String,
    /// The client for other addresses. Only the admin port gets the token.
    web: Web,
    own: Web,
}

#[derive(Debug, Error)]
pub enum AdminError {
    #[error(transparent)]
    Web(#[from] WebError),
    #[error("lb refused the strategy {strategy}: {message}")]
    Refused { strategy: String, message: String },
    #[error("this loadgen cannot read the response of {url} ({reason}); check that it is lb's admin port")]
    Format { url: String, reason: String },
    #[error("there is no backend {0:?}; there are {1}")]
    NoBackend(String, String),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Status {
    pub version: String,
    pub pools: Vec<PoolStatus>,
    pub workers: usize,
    /// Old generations that a worker may still use.
    #[serde(default)]
    pub retired_generations: usize,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PoolStatus {
    pub name: String,
    pub strategy: String,
    pub strategy_sha256: Option<String>,
    /// The safeguards in force; `None` if this lb does not report them.
    #[serde(default)]
    pub safeguards: Option<Safeguards>,
    pub backends: Vec<BackendStatus>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BackendStatus {
    pub pool: String,
    pub id: String,
    pub address: String,
    pub weight: u16,
    /// lb restarts backends of origin `launched`.
    pub origin: String,
    pub eligible: bool,
    #[serde(default)]
    pub healthy: bool,
    #[serde(default)]
    pub draining: bool,
    pub in_flight: u32,
    #[serde(default)]
    pub pid: Option<u32>,
    /// Why it gets no requests for a while although it is healthy.
    #[serde(default)]
    pub ejection: Option<Ejection>,
}

/// The used fields of an ejection by outlier detection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ejection {
    /// Such as `5 server errors in a row`.
    pub reason: String,
}

/// A strategy of `lb strategies --json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct StrategyFile {
    pub name: String,
    pub path: PathBuf,
    #[serde(default)]
    pub sha256: Option<String>,
    /// Its declaration of its shares, JSON; "" for none.
    #[serde(default)]
    pub expectation: Option<String>,
    /// Why it cannot be loaded.
    #[serde(default)]
    pub error: Option<String>,
}

/// The result of a swap.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Swapped {
    pub generation: u64,
    pub milliseconds: u64,
}

const POOL: &str = "default";

// === impl BackendStatus ===

impl BackendStatus {
    /// Whether an operator drained it or set its weight to 0.
    pub fn is_set_aside(&self) -> bool {
        self.draining || self.weight == 0
    }
}

// === impl Admin ===

impl Admin {
    /// `base` is a URL without path, for example `http://127.0.0.1:8081`.
    pub fn at(base: &str, web: &Web) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), web: web.clone(), own: web.clone() }
    }

    /// The same client with the token of this admin port.
    pub fn with_token(self, token: &str) -> Self {
        Self { own: self.web.with_token(token), ..self }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn web(&self) -> &Web {
        &self.web
    }

    pub fn status(&self) -> Result<Status, AdminError> {
        self.json("/status")
    }

    /// The backends of the pool `default`, in its order.
    pub fn backends(&self) -> Result<Vec<BackendStatus>, AdminError> {
        let mut all: Vec<BackendStatus> = self.json("/backends")?;
        all.retain(|backend| backend.pool == POOL);
        Ok(all)
    }

    /// The metrics as Prometheus text.
    pub fn metrics(&self) -> Result<String, AdminError> {
        Ok(self.own.get(&format!("{}/metrics", self.base))?)
    }

    /// Swaps the strategy of the pool `default`; it stays until the next plain reload. `options` are all of its
    /// options.
    pub fn swap(&self, strategy: &str, options: &Value) -> Result<Swapped, AdminError> {
        let body = json!({ "pool": POOL, "strategy": { "name": strategy, "config": options } });
        let url = format!("{}/reload", self.base);
        match self.own.post(&url, &body.to_string()) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| self.misunderstood(url, &error)),
            Err(WebError::Status { status: 400..=499, message, .. }) => {
                Err(AdminError::Refused { strategy: strategy.to_owned(), message })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reloads the configuration file.
    pub fn reload(&self) -> Result<(), AdminError> {
        self.own.post(&format!("{}/reload", self.base), "")?;
        Ok(())
    }

    /// Launches `n` more backends. Returns when they are in rotation.
    pub fn add(&self, n: u32) -> Result<(), AdminError> {
        self.own.post(&format!("{}/add", self.base), &json!({ "n": n }).to_string())?;
        Ok(())
    }

    /// Ends the ejection of a backend, and forgets its failures.
    pub fn pardon(&self, id: &str) -> Result<(), AdminError> {
        self.own.post(&format!("{}/backends/{}/ready", self.base, in_path(id)), "")?;
        Ok(())
    }

    /// Removes these backends. Returns when they get no new requests.
    pub fn remove(&self, ids: &[String]) -> Result<(), AdminError> {
        self.own.delete(&format!("{}/rm", self.base), &json!({ "n": ids.len(), "hostnames": ids }).to_string())?;
        Ok(())
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        let url = format!("{}{path}", self.base);
        let text = self.own.get(&url)?;
        serde_json::from_str(&text).map_err(|error| self.misunderstood(url, &error))
    }

    fn misunderstood(&self, url: String, error: &serde_json::Error) -> AdminError {
        AdminError::Format { url, reason: error.to_string() }
    }
}

/// An id as a part of a path.
fn in_path(id: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    id.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// The head of one request, as the server reads it.
    fn head_of(ask: impl FnOnce(&str)) -> String {
        let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", server.local_addr().expect("its address"));
        let heard = std::thread::spawn(move || {
            let (stream, _) = server.accept().expect("a connection");
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").expect("heard");
            head.join("\n").to_lowercase()
        });
        ask(&url);
        heard.join().expect("no panic")
    }

    #[test]
    fn the_token_is_for_the_admin_port_alone_and_in_no_debug_output() {
        let header = "authorization: bearer s3cret";
        let with = head_of(|url| Admin::at(url, &Web::new()).with_token("s3cret\n").reload().expect("answered"));
        assert!(with.lines().any(|line| line == header), "{with}");
        let other = head_of(|url| {
            let admin = Admin::at("http://elsewhere", &Web::new()).with_token("s3cret");
            assert!(!format!("{admin:?}").contains("s3cret"));
            admin.web().get(url).expect("answered");
        });
        assert!(!other.contains("authorization"), "{other}");
    }
}
