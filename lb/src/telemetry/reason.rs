//! Closed sets of words for the labels of metrics: reasons of failures, retries and fallback picks, and kinds of swaps
//! and reloads. An error has the same word in the `x-lb-error` header, so a client's error can be found in the metrics.
//!
//! Invariant: the position in `ALL` is the enum's own number, so a table with one counter per reason needs no look-up.

/// Why the built-in fallback picked. Defined beside the fallback, in the same form as the sets below.
pub use lb_balance::FallbackReason;

/// Defines a closed enum whose members are words: `ALL`, `COUNT`, `as_str` and `Display` cannot get out of step.
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every member, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// The number of members: the width of a table with one entry each.
            pub const COUNT: usize = Self::ALL.len();

            /// The word in labels, headers and messages (snake_case).
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Why a request, or one attempt of it, failed in the balancer.
    pub enum ErrorReason {
        /// No backend of the pool is eligible.
        NoBackend = "no_backend",
        /// The connection to the backend was refused or could not be made.
        Connect = "connect",
        /// The connection to the backend was not made in time.
        ConnectTimeout = "connect_timeout",
        /// The backend did not begin or continue its response in time.
        Timeout = "timeout",
        /// The backend closed or reset the connection before its response was complete.
        Reset = "reset",
        /// The backend was marked down, because it responds to nothing, before its response began.
        BackendDown = "backend_down",
        /// The deadline of the backend's drain has passed.
        Drained = "drained",
        /// The backend's response is not valid HTTP.
        BadResponse = "bad_response",
        /// A limit of the balancer is reached.
        Overload = "overload",
        /// The client's request is not acceptable HTTP.
        BadRequest = "bad_request",
        /// The client's body is longer than allowed.
        BodyTooLarge = "body_too_large",
        /// The client did not send its request in time.
        ClientTimeout = "client_timeout",
        /// The client left before its response was complete.
        ClientAbort = "client_abort",
        /// The request's method is not allowed.
        MethodNotAllowed = "method_not_allowed",
        /// A tunnel moved no byte for too long.
        TunnelIdle = "tunnel_idle",
    }
}

impl ErrorReason {
    /// Whether a failed attempt counts as an error of its backend; else the client or a limit of the balancer ended it.
    pub const fn is_the_backends_fault(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::ConnectTimeout | Self::Timeout | Self::Reset | Self::BackendDown | Self::BadResponse
        )
    }

    /// Whether an attempt on a backend can fail for this reason. The others end a request before any attempt, or a
    /// tunnel.
    pub(super) const fn can_befall_an_attempt(self) -> bool {
        !matches!(self, Self::NoBackend | Self::MethodNotAllowed | Self::TunnelIdle)
    }
}

words! {
    /// Why a request was retried.
    pub enum RetryReason {
        /// Nothing of the request had been sent.
        NotSent = "not_sent",
        /// A keep-alive connection ended within 1 s and before a byte of the response; the request may be sent again.
        ReusedConnection = "reused_connection",
        /// The backend was found to be lost before its response began, and the request may be sent again.
        BackendDown = "backend_down",
        /// The deadline of the backend's drain passed before its response began, and the request may be sent again.
        Drained = "drained",
        /// The connection ended before the head of the response, and the request may be sent again.
        Reset = "reset",
        /// The head of the response did not arrive in time, and the request may be sent again.
        Timeout = "timeout",
        /// The response has a status of `retry.on`, and the request may be sent again.
        Status = "status",
        /// The head of the response is slow, so another attempt runs beside the first one.
        Hedge = "hedge",
    }
}

words! {
    /// The end of an attempt beside a slow one.
    pub enum HedgeResult {
        /// It responded first.
        Won = "won",
        /// The first attempt responded, or both failed, or the client left.
        Lost = "lost",
        /// It did not begin, because the budget for retries is used up.
        Denied = "denied",
    }
}

words! {
    /// What became of the session of a request to a pool with sticky sessions.
    pub enum SessionResult {
        /// Its backend got the request.
        Kept = "kept",
        /// It had no valid cookie of the pool.
        New = "new",
        /// Its backend could not get the request, so it goes on with another one.
        Moved = "moved",
    }
}

words! {
    /// What became of a load report of a backend, or of a poll for one.
    pub enum ReportResult {
        /// Strategies see it.
        Ok = "ok",
        /// It is too long, has another form, or has no usable value.
        Malformed = "malformed",
        /// The response to a poll had none.
        NoReport = "no_report",
        /// A poll got no response in time.
        NoResponse = "no_response",
    }
}

words! {
    /// What a strategy asked for a probe with.
    pub enum ProbeKind {
        /// A pick, beside its request.
        Pick = "pick",
        /// `probe_ms` of its table.
        Periodic = "periodic",
    }
}

words! {
    /// How a probe of a backend ended.
    pub enum ProbeOutcome {
        /// Any response arrived.
        Ok = "ok",
        /// The connection was refused or could not be made.
        ConnectError = "connect_error",
        /// The response did not arrive in time.
        Timeout = "timeout",
        /// The connection broke off, or the response is not HTTP.
        Reset = "reset",
    }
}

impl From<lb_strategy_host::Outcome> for ProbeOutcome {
    fn from(outcome: lb_strategy_host::Outcome) -> Self {
        match outcome {
            lb_strategy_host::Outcome::Ok => Self::Ok,
            lb_strategy_host::Outcome::ConnectError => Self::ConnectError,
            lb_strategy_host::Outcome::Timeout => Self::Timeout,
            _ => Self::Reset,
        }
    }
}

words! {
    /// Why a probe that a strategy asked for was not sent.
    pub enum ProbeSkip {
        /// An earlier one of this strategy is on its way from this worker to this backend.
        Outstanding = "outstanding",
        /// The backend may not get requests now.
        NotEligible = "not_eligible",
        /// The backend is not eligible in the strategy's list, not in it, or named twice; or there are too many.
        Refused = "refused",
        /// The strategy or its list changed before the request was sent.
        ListChanged = "list_changed",
        /// Few descriptors are left, and requests go first.
        NoDescriptor = "no_descriptor",
    }
}

words! {
    /// Why a request got no backend from the queue of its pool.
    pub enum QueueRefusal {
        /// The queue was full.
        Full = "full",
        /// The rest of the queue is for requests of higher priority.
        Shed = "shed",
        /// It waited as long as it may.
        Expired = "expired",
        /// The same, and the strategy let it wait although a backend was idle.
        Held = "held",
    }
}

words! {
    /// Why outlier detection ejected a backend.
    pub enum EjectionReason {
        /// Connect errors, resets, time-outs, or the statuses 502, 503 and 504, in a row.
        GatewayFailures = "gateway_failures",
        /// Failures or 5xx in a row.
        ServerErrors = "server_errors",
        /// A success rate far below the pool's.
        SuccessRate = "success_rate",
    }
}

impl From<lb_balance::Cause> for EjectionReason {
    fn from(cause: lb_balance::Cause) -> Self {
        match cause {
            lb_balance::Cause::GatewayFailures { .. } => Self::GatewayFailures,
            lb_balance::Cause::ServerErrors { .. } => Self::ServerErrors,
            lb_balance::Cause::SuccessRate { .. } => Self::SuccessRate,
        }
    }
}

words! {
    /// Why a line of the access log was dropped.
    pub enum LogDropReason {
        /// The queue is full, because the disk or the reader of the pipe is too slow.
        QueueFull = "queue_full",
        /// The write failed: the disk is full, or the reader of the pipe is gone.
        WriteFailed = "write_failed",
    }
}

words! {
    /// How a strategy that was put in charge differs from the one before.
    pub enum SwapKind {
        /// The same plugin with other options.
        Options = "options",
        /// The same strategy from a changed file.
        Plugin = "plugin",
        /// Another strategy.
        Strategy = "strategy",
        /// The last proven strategy, restored.
        Rollback = "rollback",
    }
}

words! {
    /// The pick of a shadow, compared with the one of the strategy in charge.
    pub enum ShadowResult {
        /// The same backend.
        Same = "same",
        /// Another backend.
        Other = "other",
        /// The shadow left the pick to the host, mostly because there is no key.
        Undecided = "undecided",
        /// The shadow would let the request wait.
        Wait = "wait",
        /// The list has no eligible backend.
        None = "none",
        /// A panic, an error, or a pick that the host would not use.
        Fault = "fault",
    }
}

words! {
    /// The subject of a reload.
    pub enum ReloadKind {
        /// Settings, backends or routes; also a reload that failed while it read the file.
        Config = "config",
        /// A strategy of a pool was, or should have been, replaced.
        Strategy = "strategy",
    }
}

words! {
    /// How a reload ended.
    pub enum ReloadOutcome {
        /// In force, or nothing to change.
        Success = "success",
        /// Refused.
        Failure = "failure",
        /// A strategy that an earlier reload had put in charge failed its probation and was replaced.
        RolledBack = "rolled_back",
    }
}

words! {
    /// The hooks of a strategy that the builder calls at regular times.
    pub enum DutyHook {
        /// Every `tick_ms` of its table.
        Tick = "tick",
        /// Every second.
        Metrics = "metrics",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_reason_is_its_place_in_all() {
        assert!(ErrorReason::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
        assert!(RetryReason::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
    }

    #[test]
    fn words_are_snake_case_and_fit_a_header() {
        for reason in ErrorReason::ALL {
            let word = reason.as_str();
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{word}");
            assert!(http::HeaderValue::from_str(word).is_ok());
            assert_eq!(reason.to_string(), word);
        }
    }
}
