//! Commands of `lb`, and their output.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::folder::folder;
use crate::programs::program;

/// `lb` with the configuration in `folder` and the plugins of the workspace, in an empty environment.
pub fn bare_command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("lb"));
    let plugins = lb_strategy_built::folder();
    command
        .env_clear()
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .args(["--config", "lb.toml", "--set", "proxy.workers=1", "--set"])
        .arg(format!("plugin_dirs=[{plugins:?}]"))
        .args(arguments);
    command
}

/// The same, on ports of the kernel's choice.
pub fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = bare_command(folder, &["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(arguments);
    command
}

/// Runs `lb` to its end.
#[track_caller]
pub fn run(config: &str, arguments: &[&str]) -> Output {
    let folder = folder(config);
    finish(command(&folder, arguments))
}

/// The output of a command that ends by itself.
///
/// There is no bound in time. A command that tries plugins has the limits of lb, which are more than a minute for each
/// plugin on a busy machine. An `lb` that serves instead of ending is known by its start report.
///
/// # Panics
/// If the command is an `lb` that serves.
#[track_caller]
pub fn finish(mut command: Command) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let rest = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let start_report = format!(", process {}\n", child.id()).into_bytes();
    let (mut lines, mut bytes) = (BufReader::new(stdout), Vec::new());
    while lines.read_until(b'\n', &mut bytes).unwrap() > 0 {
        if bytes.ends_with(&start_report) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} serves instead of ending");
        }
    }
    Output { status: child.wait().unwrap(), stdout: bytes, stderr: rest.join().unwrap().unwrap() }
}
