//! One request on a connection of its own, with a response that is text: for admin ports and configurations.

use std::net::SocketAddr;

use serde_json::Value;

use crate::client::Client;
use crate::message::Head;

/// A response of one connection.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
    head: Head,
}

/// Sends bytes as they are and reads to the end of the connection.
#[track_caller]
pub fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    let mut client = Client::connect(address);
    // A response to a refused request may come before the whole request is sent.
    let _ = client.try_send(request);
    let text = String::from_utf8(client.rest()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response but {text:?}"));
    let head = Head::parse(head);
    Reply { status: head.status, body: body.to_owned(), head }
}

/// One request with these extra header lines.
#[track_caller]
pub fn send(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
    let host = match headers.iter().any(|line| line.to_lowercase().starts_with("host:")) {
        true => String::new(),
        false => format!("host: {address}\r\n"),
    };
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {length}\r\n{lines}\r\n{body}");
    exchange(address, request.as_bytes())
}

#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, "GET", path, &[], "")
}

// === impl Reply ===

impl Reply {
    /// The value of a header field; the first one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}
