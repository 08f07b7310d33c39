//! The failure of a hook, in words for the operator.

use lb_strategy::abi::*;

/// A longer reason is cut.
const REASON_MAX_BYTES: usize = 4096;

/// A hook that refused its arguments or failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("strategy {strategy} refuses its options: {reason}")]
    Options { strategy: String, reason: String },
    #[error("strategy {strategy} cannot work with this backend list: {reason}")]
    List { strategy: String, reason: String },
    #[error("strategy {strategy} cannot import the state of its predecessor: {reason}")]
    State { strategy: String, reason: String },
    #[error("strategy {strategy} failed in {hook}: {reason}")]
    Failed { strategy: String, hook: &'static str, reason: String },
}

// === impl HookError ===

impl HookError {
    /// The failure that `status` of `hook` means; `reason` is the text that the plugin gave,
    /// `panic` where and why the hook panicked first.
    pub(crate) fn failed(
        strategy: &str,
        hook: &'static str,
        status: LbStatus,
        reason: &[u8],
        panic: Option<&str>,
    ) -> Self {
        let reason = sentence(reason);
        let reason = match status {
            LB_E_PANIC => panic.map_or("it panicked".to_owned(), |text| format!("it panicked at {text}")),
            LB_OK => "it returned success without a result".to_owned(),
            status if reason.is_empty() => format!("status {status}"),
            status => format!("{reason} (status {status})"),
        };
        Self::Failed { strategy: strategy.to_owned(), hook, reason }
    }
}

/// A plugin's reason, cut to a length that fits logs and responses.
pub(crate) fn sentence(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(REASON_MAX_BYTES)]).trim().to_owned()
}
