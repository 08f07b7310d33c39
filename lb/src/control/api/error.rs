//! Why control refuses a command.

/// Why control refused. The text is one sentence for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The request is wrong: 400.
    #[error("{0}")]
    Refused(String),
    /// No such backend or pool: 404.
    #[error("{0}")]
    NotFound(String),
    /// The request is right, but it failed: 500. Examples: a replica did not start in time, a plugin refused the list.
    #[error("{0}")]
    Failed(String),
    /// lb is stopping: 503.
    #[error("the load balancer is stopping")]
    Stopping,
}
