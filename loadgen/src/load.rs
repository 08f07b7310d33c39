//! What sends requests and measures answers.
