//! The receiver of interim responses (1xx, but not 101) before the final one.

use crate::http1::ResponseHead;

/// Sends to the client. HTTP/1.1 implements it; a protocol without interim responses drops them.
pub(super) trait Interim {
    /// Whether one more can be taken. If not, the exchange is polled again when it can.
    fn has_room(&self) -> bool;
    /// Returns whether the client gets it.
    fn send(&self, head: &ResponseHead) -> bool;
}
