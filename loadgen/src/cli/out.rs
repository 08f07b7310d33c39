//! What a command answers on stdout.

use std::io::{self, Write as _};

/// Prints it, and a line end. A reader that has left wants no more, which is no failure; anything else is told, and is `false`.
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
