//! Plugins are tried in a child first: what a bad one does there is a refusal with a reason, and nothing else happens.

mod harness;
mod refusals;
mod starts;
mod verdicts;
