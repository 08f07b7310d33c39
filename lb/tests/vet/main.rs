//! lb tries a plugin in a child process first. If the plugin fails there, lb refuses it with a reason and nothing else
//! changes.

mod harness;
mod refusals;
mod starts;
mod verdicts;
