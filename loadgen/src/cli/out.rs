//! The output of a command on stdout.

use std::io::{self, Write as _};

/// Prints a line. A reader that has closed the pipe is not a failure. Any other error is reported, and the result is
/// `false`.
pub(super) fn print(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tell!("loadgen: cannot write to stdout: {error}");
            false
        }
        _ => true,
    }
}
