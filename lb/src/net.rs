//! Sockets, timers and buffers of the request path, for both of its sides.
//!
//! A leaf: it handles bytes and deadlines, and no protocol. TLS becomes a variant of [`Stream`]; the users of `Stream`
//! stay unchanged.

mod buffers;
mod descriptors;
mod inbox;
mod outbox;
mod spare;
mod stream;
mod timer;

pub(crate) use buffers::Buffers;
pub(crate) use descriptors::{Descriptor, Descriptors};
pub(crate) use inbox::Inbox;
pub(crate) use outbox::Outbox;
pub(crate) use spare::Spare;
pub(crate) use stream::Stream;
pub(crate) use timer::Timer;
