//! The closed sets of words that say why: why a request failed, why an attempt was repeated, why the built-in fallback
//! chose; and what was swapped or reloaded. One word each for the metrics' `reason` label and, for errors, the `x-lb-error` header, so that what a client
//! sees can be looked up in the metrics.
//!
//! Invariant: the position in `ALL` is the enum's own number, so a table with one counter per reason needs no look-up.

/// Why the built-in fallback picked: defined beside the fallback, with words as those below.
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
            /// How many members there are: the width of a table with one entry each.
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
        /// The backend did not answer, or stopped answering, in time.
        Timeout = "timeout",
        /// The backend closed or reset the connection before its answer was whole.
        Reset = "reset",
        /// The backend's answer is not HTTP.
        BadResponse = "bad_response",
        /// A limit of the balancer is reached.
        Overload = "overload",
        /// The client's request is not acceptable HTTP.
        BadRequest = "bad_request",
        /// The client's body is longer than allowed.
        BodyTooLarge = "body_too_large",
        /// The client did not send its request in time.
        ClientTimeout = "client_timeout",
        /// The client left before its answer was whole.
        ClientAbort = "client_abort",
        /// The request's method is not allowed.
        MethodNotAllowed = "method_not_allowed",
        /// A tunnel moved no byte for too long.
        TunnelIdle = "tunnel_idle",
    }
}

impl ErrorReason {
    /// Whether a failed attempt is held against its backend; else the client or a limit of the balancer ended it.
    pub const fn is_the_backends_fault(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout | Self::Timeout | Self::Reset | Self::BadResponse)
    }

    /// Whether it can be said of one backend; the others are why a request never came to one.
    pub(super) const fn can_befall_an_attempt(self) -> bool {
        !matches!(self, Self::NoBackend | Self::MethodNotAllowed | Self::TunnelIdle)
    }
}

words! {
    /// Why an attempt could safely be repeated on another backend.
    pub enum RetryReason {
        /// Nothing of the request had been sent.
        NotSent = "not_sent",
        /// A kept connection died before any byte of the answer, and the request may be repeated.
        ReusedConnection = "reused_connection",
    }
}

words! {
    /// Why a line of the access log was dropped.
    pub enum LogDropReason {
        /// Too many wait to be written: the disk, or who reads the pipe, is too slow.
        QueueFull = "queue_full",
        /// It could not be written: a full disk, or a reader that has gone.
        WriteFailed = "write_failed",
    }
}

words! {
    /// What was new about a strategy that was put in charge.
    pub enum SwapKind {
        /// The same plugin with other options.
        Options = "options",
        /// The same strategy from other bytes.
        Plugin = "plugin",
        /// Another strategy.
        Strategy = "strategy",
        /// The last proven one, back again.
        Rollback = "rollback",
    }
}

words! {
    /// What a reload was about.
    pub enum ReloadKind {
        /// Settings, backends, routes; or it came no further than to the file.
        Config = "config",
        /// A strategy of a pool was replaced, or was to be.
        Strategy = "strategy",
    }
}

words! {
    /// How a reload ended.
    pub enum ReloadOutcome {
        /// In force, or nothing had changed.
        Success = "success",
        /// Refused.
        Failure = "failure",
        /// What an earlier one had put in charge failed its probation and was taken back.
        RolledBack = "rolled_back",
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
