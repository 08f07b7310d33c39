//! Requests as bytes, and responses taken apart.

use serde_json::Value;

/// Status line and header fields.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub version: String,
    pub fields: Vec<(String, String)>,
}

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub framing: Framing,
    pub body: Vec<u8>,
}

/// A request without a body.
pub fn request(method: &str, path: &str, fields: &[&str]) -> Vec<u8> {
    let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: lb.test\r\n{lines}\r\n").into_bytes()
}

/// A request with a body of declared length.
pub fn request_with(method: &str, path: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}", body.len());
    let mut bytes = request(method, path, &[fields, &[&length]].concat());
    bytes.extend_from_slice(body);
    bytes
}

/// A JSON body.
pub fn parse(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(body)))
}

/// One chunk of a chunked body; the empty one is the end.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

// === impl Head ===

impl Head {
    pub fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap().splitn(3, ' ');
        let version = first.next().unwrap().to_owned();
        let status = first.next().and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no response: {text:?}"));
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header field: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self { status, version, fields: fields.collect() }
    }

    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All values of a field, joined.
    pub fn field(&self, name: &str) -> Option<String> {
        let values: Vec<_> =
            self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub fn framing(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Framing::None;
        }
        match (self.field("transfer-encoding"), self.field("content-length")) {
            (Some(coding), None) if coding == "chunked" => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length.parse().unwrap()),
            (None, None) => Framing::Close,
            both => panic!("ambiguous framing: {both:?}"),
        }
    }
}

// === impl Answer ===

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// All values of a field, joined.
    pub fn field(&self, name: &str) -> Option<String> {
        self.head.field(name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// All values, joined, of a request's field, from a response of `/headers` of the mock server.
    pub fn seen(&self, name: &str) -> Option<String> {
        let pairs: Vec<(String, String)> = serde_json::from_value(parse(&self.body)).unwrap();
        let values: Vec<_> = pairs.into_iter().filter(|(field, _)| field == name).map(|(_, value)| value).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Asserts that lb itself made the response.
    #[track_caller]
    pub fn is_own(&self, status: u16, reason: &str) {
        assert_eq!((self.status(), self.field("x-lb-error").as_deref()), (status, Some(reason)), "{}", self.text());
        let body = parse(&self.body);
        assert_eq!(body["status"], "failure");
        assert!(body["message"].as_str().unwrap().starts_with("<Error> "), "{body}");
    }
}
