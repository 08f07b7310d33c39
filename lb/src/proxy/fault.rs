//! The faults of a request: reason, status, responsible side, and whether another backend may be tried, all in one
//! place.
//!
//! Invariant: the set is closed, and [`Fault::reason`] gives the same word to the response's `x-lb-error`, the metrics
//! and the log.

use http::StatusCode;
use lb_balance::FailureCause;
use lb_strategy_host::Outcome;

use super::reply::{self, Reply};
use crate::http1::Refusal;
use crate::telemetry::{ErrorReason, RetryReason};

/// Why a request, or one attempt of it, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Fault {
    /// The parser refused the head, or the body's chunks.
    Malformed(Refusal),
    /// The head parses, but breaks a rule; one sentence.
    BadRequest(&'static str),
    /// CONNECT, which only forward proxies serve.
    Connect,
    /// TRACE, where it is not allowed.
    MethodNotAllowed,
    BodyTooLarge,
    /// The head did not arrive in time.
    SlowHead,
    /// The body did not arrive in time, or too slowly.
    SlowBody,
    /// The client closed its connection.
    ClientGone,
    /// The body ended before its length.
    BodyBrokeOff,
    /// No backend of the pool is eligible.
    NoBackend,
    /// Every backend has its limit of requests in flight.
    BackendsBusy,
    /// The process has no descriptor left for a connection to a backend.
    NoDescriptor,
    /// The backend refused the connection.
    ConnectFailed,
    ConnectTimeout,
    /// The backend sent no response, or stopped sending it, in time.
    BackendTimeout,
    /// The backend closed or reset the connection before its response was complete, or sent a malformed chunk.
    BackendReset,
    /// The backend was found to be unreachable or silent while lb waited for its response.
    BackendLost,
    /// The deadline of the backend's drain has passed.
    Drained,
    /// The backend's response is not HTTP/1.
    BadResponse,
    /// The backend sent 101 without a request for it, or names another protocol.
    SwitchedUnasked,
    /// A tunnel was silent for too long.
    TunnelIdle,
}

/// The side that must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Blame {
    Client,
    Backend,
    /// The balancer's own limit.
    Balancer,
    /// The operator of the backends.
    Operator,
}

// === impl Fault ===

impl Fault {
    /// The word for headers, metrics and logs.
    pub(in crate::proxy) const fn reason(self) -> ErrorReason {
        match self {
            Self::Malformed(_) | Self::BadRequest(_) | Self::Connect => ErrorReason::BadRequest,
            Self::MethodNotAllowed => ErrorReason::MethodNotAllowed,
            Self::BodyTooLarge => ErrorReason::BodyTooLarge,
            Self::SlowHead | Self::SlowBody => ErrorReason::ClientTimeout,
            Self::ClientGone | Self::BodyBrokeOff => ErrorReason::ClientAbort,
            Self::NoBackend => ErrorReason::NoBackend,
            Self::BackendsBusy | Self::NoDescriptor => ErrorReason::Overload,
            Self::ConnectFailed => ErrorReason::Connect,
            Self::ConnectTimeout => ErrorReason::ConnectTimeout,
            Self::BackendTimeout => ErrorReason::Timeout,
            Self::BackendReset => ErrorReason::Reset,
            Self::BackendLost => ErrorReason::BackendDown,
            Self::Drained => ErrorReason::Drained,
            Self::BadResponse | Self::SwitchedUnasked => ErrorReason::BadResponse,
            Self::TunnelIdle => ErrorReason::TunnelIdle,
        }
    }

    /// The status that is counted and sent. A client that closed early counts as 499 and, if it still reads, gets 400.
    pub(in crate::proxy) fn status(self) -> StatusCode {
        match self {
            Self::Malformed(refusal) => refusal.status(),
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowHead | Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::ClientGone | Self::BodyBrokeOff => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::NoBackend | Self::BackendsBusy => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoDescriptor | Self::Drained => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectFailed | Self::BackendReset | Self::BackendLost => StatusCode::BAD_GATEWAY,
            Self::BadResponse | Self::SwitchedUnasked => StatusCode::BAD_GATEWAY,
            // A tunnel has no response left to send; the number is for the metrics.
            Self::ConnectTimeout | Self::BackendTimeout | Self::TunnelIdle => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub(in crate::proxy) const fn blame(self) -> Blame {
        match self {
            Self::Malformed(_) | Self::BadRequest(_) | Self::Connect | Self::MethodNotAllowed => Blame::Client,
            Self::BodyTooLarge | Self::SlowHead | Self::SlowBody => Blame::Client,
            Self::ClientGone | Self::BodyBrokeOff | Self::TunnelIdle => Blame::Client,
            Self::NoDescriptor => Blame::Balancer,
            Self::NoBackend | Self::BackendsBusy | Self::Drained => Blame::Operator,
            Self::ConnectFailed | Self::ConnectTimeout | Self::BackendTimeout => Blame::Backend,
            Self::BackendReset | Self::BackendLost | Self::BadResponse | Self::SwitchedUnasked => Blame::Backend,
        }
    }

    /// The outcome that the strategy gets for an attempt with this fault.
    pub(in crate::proxy) const fn outcome(self) -> Outcome {
        match (self, self.blame()) {
            (Self::ConnectFailed | Self::ConnectTimeout, _) => Outcome::ConnectError,
            (Self::BackendTimeout | Self::BackendLost, _) => Outcome::Timeout,
            (_, Blame::Client) => Outcome::ClientGone,
            (_, Blame::Backend) => Outcome::Reset,
            (_, Blame::Balancer | Blame::Operator) => Outcome::NotSent,
        }
    }

    /// The cause by which the rules decide about a retry. Without a descriptor there is no retry: it needs one, too.
    pub(in crate::proxy) const fn cause(self) -> Option<FailureCause> {
        match self {
            Self::ConnectFailed | Self::ConnectTimeout => Some(FailureCause::Connect),
            Self::BackendReset => Some(FailureCause::Reset),
            Self::BackendTimeout | Self::BackendLost | Self::Drained => Some(FailureCause::Timeout),
            _ => None,
        }
    }

    /// The reason of a retry for the metrics. `was_sent`: a byte of the request was sent.
    pub(in crate::proxy) const fn retry_reason(self, was_sent: bool) -> RetryReason {
        match self {
            _ if !was_sent => RetryReason::NotSent,
            Self::BackendTimeout => RetryReason::Timeout,
            Self::BackendLost => RetryReason::BackendDown,
            Self::Drained => RetryReason::Drained,
            _ => RetryReason::Reset,
        }
    }

    /// Whether the connection to the client ends with the response: the rest of the request on it is not read.
    pub(in crate::proxy) const fn leaves_request(self) -> bool {
        matches!(self.blame(), Blame::Client)
    }

    /// One sentence for the client.
    pub(in crate::proxy) fn sentence(self) -> &'static str {
        match self {
            Self::Malformed(refusal) => refusal.sentence(),
            Self::BadRequest(sentence) => sentence,
            Self::Connect => "CONNECT is for forward proxies; this is a reverse proxy",
            Self::MethodNotAllowed => "TRACE is not allowed here",
            Self::BodyTooLarge => "the request's body is longer than allowed",
            Self::SlowHead => "the request's head did not arrive in time",
            Self::SlowBody => "the request's body did not arrive in time",
            Self::ClientGone => "the client closed its connection",
            Self::BodyBrokeOff => "the request's body broke off",
            Self::NoBackend => "no backend is available",
            Self::BackendsBusy => "no backend has room for the request",
            Self::NoDescriptor => "the load balancer has no descriptor left for a connection to the backend",
            Self::ConnectFailed => "the backend cannot be reached",
            Self::ConnectTimeout => "the connection to the backend was not made in time",
            Self::BackendTimeout => "the backend did not answer in time",
            Self::BackendReset => "the backend closed the connection without an answer",
            Self::BackendLost => "the backend was found to be lost before it responded",
            Self::Drained => "the backend is taken out of service, and the time for its requests is over",
            Self::BadResponse => "the backend's answer is not HTTP",
            Self::SwitchedUnasked => "the backend switched to a protocol that it was not asked for",
            Self::TunnelIdle => "the tunnel was silent for too long",
        }
    }

    /// The response: `{"message":"<Error> …","status":"failure"}`.
    pub(in crate::proxy) fn reply(self) -> Reply {
        let is_http = self.status().as_u16() != 499;
        let status = if is_http { self.status() } else { StatusCode::BAD_REQUEST };
        let mut reply = reply::failure(status, self.sentence());
        let fields = &mut reply.head.fields;
        fields.push(b"x-lb-error", self.reason().as_str().as_bytes());
        match self {
            Self::MethodNotAllowed => fields.push(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            Self::NoBackend | Self::BackendsBusy | Self::NoDescriptor | Self::Drained => {
                fields.push(b"retry-after", b"1");
            }
            _ => {}
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_its_reason_and_the_time_to_retry() {
        let Reply { head, body } = Fault::NoBackend.reply();
        assert_eq!(head.status, 503);
        assert_eq!(head.fields.get(b"x-lb-error"), Some(&b"no_backend"[..]));
        assert_eq!(head.fields.get(b"retry-after"), Some(&b"1"[..]));
        assert_eq!(&body[..], br#"{"message":"<Error> no backend is available","status":"failure"}"#);
    }

    #[test]
    fn only_failures_of_a_backend_before_its_response_are_causes_of_a_retry() {
        use FailureCause::{Connect, Reset, Timeout};
        for (fault, cause, reason) in [
            (Fault::ConnectFailed, Connect, "not_sent"),
            (Fault::ConnectTimeout, Connect, "not_sent"),
            (Fault::BackendReset, Reset, "reset"),
            (Fault::BackendTimeout, Timeout, "timeout"),
            (Fault::BackendLost, Timeout, "backend_down"),
            (Fault::Drained, Timeout, "drained"),
        ] {
            let was_sent = cause != Connect;
            assert_eq!((fault.cause(), fault.retry_reason(was_sent).as_str()), (Some(cause), reason));
            assert_eq!(fault.retry_reason(false), RetryReason::NotSent);
        }
        for never in [Fault::NoDescriptor, Fault::BadResponse, Fault::ClientGone, Fault::SlowBody, Fault::NoBackend] {
            assert_eq!(never.cause(), None, "{never:?}");
        }
    }
}
