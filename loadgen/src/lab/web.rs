//! A blocking HTTP client for the admin API, scrapes and the switches of mock servers. Not for the load itself.

use std::time::Duration;

use thiserror::Error;

/// A client that keeps connections open between requests.
#[derive(Clone, Debug)]
pub struct Web {
    agent: ureq::Agent,
    /// The `authorization` header for an admin port.
    authorization: Option<Secret>,
}

/// Its value is never printed.
#[derive(Clone)]
struct Secret(String);

#[derive(Debug, Error)]
pub enum WebError {
    #[error("no response from {url}: {reason}")]
    NoAnswer { url: String, reason: String },
    #[error("{url} responded {status}: {message}")]
    Status { url: String, status: u16, message: String },
    #[error("unexpected response from {url}: {reason}")]
    Format { url: String, reason: String },
}

/// A swap tries a plugin in a child process first, which may take 5 s. `/add` waits for heartbeats up to 10 s.
const TIMEOUT: Duration = Duration::from_secs(30);

// === impl Web ===

impl Web {
    pub fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // the addresses are local, so a proxy of the environment is not used
            .proxy(None)
            .build();
        Self { agent: config.new_agent(), authorization: None }
    }

    /// The same client with this token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { agent: self.agent.clone(), authorization: Some(Secret(format!("Bearer {}", token.trim()))) }
    }

    pub fn get(&self, url: &str) -> Result<String, WebError> {
        answer(url, self.opened(self.agent.get(url)).call())
    }

    /// Sends a GET with one more header. Returns one header of the response.
    pub fn header(&self, url: &str, with: (&str, &str), wanted: &str) -> Result<Option<String>, WebError> {
        let result = self.agent.get(url).header(with.0, with.1).call();
        let mut response =
            result.map_err(|error| WebError::NoAnswer { url: url.to_owned(), reason: error.to_string() })?;
        let value = response.headers().get(wanted).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // the body is read to its end, so that the connection can be used again
        let _ = response.body_mut().read_to_vec();
        Ok(value)
    }

    pub fn post(&self, url: &str, body: &str) -> Result<String, WebError> {
        answer(url, self.opened(self.agent.post(url)).send(body))
    }

    pub fn delete(&self, url: &str, body: &str) -> Result<String, WebError> {
        answer(url, self.opened(self.agent.delete(url).force_send_body()).send(body))
    }

    fn opened<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(Secret(header)) => request.header("authorization", header),
            None => request,
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("(secret)")
    }
}

impl Default for Web {
    fn default() -> Self {
        Self::new()
    }
}

fn answer(url: &str, result: Result<http::Response<ureq::Body>, ureq::Error>) -> Result<String, WebError> {
    let no_answer = |error: ureq::Error| WebError::NoAnswer { url: url.to_owned(), reason: error.to_string() };
    let mut response = result.map_err(no_answer)?;
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().map_err(no_answer)?;
    if status < 400 { Ok(body) } else { Err(WebError::Status { url: url.to_owned(), status, message: message(&body) }) }
}

/// The message in an error of the course's form, else the text itself.
fn message(body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let sentence = json.as_ref().and_then(|json| json.get("message")).and_then(serde_json::Value::as_str);
    let text = sentence.unwrap_or(body).trim();
    text.strip_prefix("<Error> ").unwrap_or(text).chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_an_error_is_taken_out_of_its_form() {
        assert_eq!(message(r#"{"message":"<Error> no such plugin","status":"failure"}"#), "no such plugin");
        assert_eq!(message("plain\n"), "plain");
        assert_eq!(message(r#"{"message":{"N":3}}"#), r#"{"message":{"N":3}}"#);
    }
}
