//! The command of a replica: program and arguments from the launcher's template.
//!
//! A bare program name is looked for beside lb's executable first, then in PATH. So `cargo build` or one unpacked
//! archive is enough. A `mock-server` without `{port}` gets the flags that it needs.
//!
//! `{n}` is the replica's number if its name was made from `launcher.names`, else the whole name. So the course's
//! `/home` says `Hello from Server: 3` while the replica is called `Server 3`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::Launcher;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

// === impl CommandLine ===

impl CommandLine {
    /// The command for one replica. An error names the missing program and the places where it was looked for.
    pub(super) fn new(launcher: &Launcher, name: &str, socket: SocketAddr) -> Result<Self, String> {
        let (program, template) = launcher.command.split_first().ok_or("launcher.command is empty")?;
        let port = socket.port().to_string();
        let number = number(&launcher.names, name);
        let known = [("{name}", name), ("{n}", number), ("{port}", &port)];
        let mut arguments: Vec<String> = template.iter().map(|part| filled_in(part, &known)).collect();
        let is_mock_server = Path::new(program).file_name().is_some_and(|file| file == "mock-server");
        if is_mock_server && !template.iter().any(|part| part.contains("{port}")) {
            if !socket.ip().is_loopback() {
                arguments.extend(["--host".to_owned(), socket.ip().to_string()]);
            }
            let flags = ["--port", &port, "--id", name, "--exit-with-parent"];
            arguments.extend(flags.map(str::to_owned));
        }
        Ok(Self { program: find(program)?, arguments })
    }

    /// A program with a path is otherwise not looked for before its start.
    pub(super) fn check_program(&self) -> Result<(), String> {
        match is_program(&self.program) {
            true => Ok(()),
            false => Err(format!(
                "the program {} of launcher.command is not there or not executable",
                self.program.display()
            )),
        }
    }
}

/// `template` with a value for each placeholder. It is read once from left to right, so a value that looks like a
/// placeholder stays as it is.
fn filled_in(template: &str, known: &[(&str, &str)]) -> String {
    let (mut out, mut rest) = (String::new(), template);
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        let (placeholder, value) =
            known.iter().find(|(placeholder, _)| from.starts_with(placeholder)).copied().unwrap_or(("{", "{"));
        out.push_str(before);
        out.push_str(value);
        rest = &from[placeholder.len()..];
    }
    out + rest
}

/// The part of `name` in the place of the first `{n}` of the template `names`; the whole name if the template does not
/// match.
fn number<'a>(names: &str, name: &'a str) -> &'a str {
    let found = names.find("{n}").filter(|at| name.is_char_boundary(*at)).and_then(|at| {
        let digits = name.bytes().skip(at).take_while(u8::is_ascii_digit).count();
        // More than one length is possible only if a digit follows `{n}` in the template.
        let candidates = (1..=digits).map(|length| &name[at..at + length]);
        candidates.filter(|number| !number.starts_with('0')).find(|number| names.replace("{n}", number) == name)
    });
    found.unwrap_or(name)
}

fn find(program: &str) -> Result<PathBuf, String> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let beside = std::env::current_exe().ok().map(|executable| folders_of(&executable)).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        beside.iter().cloned().chain(std::env::split_paths(&path)).map(|dir| dir.join(program)).find(|c| is_program(c));
    found.ok_or_else(|| {
        let beside = beside.first().map(|dir| dir.display().to_string()).unwrap_or_default();
        format!(
            "the program {program:?} of launcher.command is neither in {beside} nor in PATH: build it or name its path"
        )
    })
}

/// Folders of programs that were built together with this one. A test's executable is one folder deeper, in `deps`.
fn folders_of(executable: &Path) -> Vec<PathBuf> {
    let folder = executable.parent();
    let above = folder.filter(|folder| folder.ends_with("deps")).and_then(Path::parent);
    folder.into_iter().chain(above).map(Path::to_owned).collect()
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Labels;

    fn launcher(command: &[&str]) -> Launcher {
        Launcher {
            replicas: 1,
            names: "Server {n}".into(),
            first_port: 0,
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            max_replicas: 4,
            host: [127, 0, 0, 1].into(),
            labels: Labels::default(),
        }
    }

    fn arguments(command: &[&str]) -> Vec<String> {
        let socket = "127.0.0.1:5001".parse().unwrap();
        CommandLine::new(&launcher(command), "Server 1", socket).unwrap().arguments
    }

    #[test]
    fn a_template_is_filled_in_and_nothing_is_added() {
        assert_eq!(arguments(&["/bin/x", "--id={name}", "{port}", "-v"]), ["--id=Server 1", "5001", "-v"]);
        assert_eq!(arguments(&["/bin/x"]), [""; 0]);
        assert_eq!(arguments(&["/opt/mock-server", "{port}"]), ["5001"]);
    }

    #[test]
    fn the_number_comes_from_the_template_and_another_name_stands_for_itself() {
        let of = |names: &str, name: &str| number(names, name).to_owned();
        for (name, expected) in
            [("Server 3", "3"), ("Server 12", "12"), ("S5", "S5"), ("Server 03", "Server 03"), ("Server", "Server")]
        {
            assert_eq!(of("Server {n}", name), expected);
        }
        assert_eq!(of("Server {n}", "Server 3b"), "Server 3b");
        assert_eq!([of("b{n}.{n}", "b7.7"), of("b{n}.{n}", "b7.8")], ["7", "b7.8"]);
        assert_eq!(of("{n}1", "121"), "12");
    }

    #[test]
    fn a_plain_mock_server_can_get_the_number_for_home() {
        let socket = "127.0.0.1:5001".parse().unwrap();
        let line_of = |name| {
            let line = CommandLine::new(&launcher(&["/opt/mock-server", "--home-id={n}"]), name, socket).unwrap();
            line.arguments.join(" ")
        };
        assert_eq!(line_of("Server 3"), "--home-id=3 --port 5001 --id Server 3 --exit-with-parent");
        assert_eq!(line_of("S5"), "--home-id=S5 --port 5001 --id S5 --exit-with-parent");
    }

    #[test]
    fn a_plain_mock_server_gets_its_flags_after_the_operators() {
        assert_eq!(
            arguments(&["/opt/mock-server", "--concurrency", "4"]),
            ["--concurrency", "4", "--port", "5001", "--id", "Server 1", "--exit-with-parent"]
        );
    }

    #[test]
    fn a_missing_program_is_named_with_where_it_was_looked_for() {
        let socket = "127.0.0.1:5001".parse().unwrap();
        let error = CommandLine::new(&launcher(&["no-such-program-here"]), "Server 1", socket).unwrap_err();
        assert!(error.contains("\"no-such-program-here\"") && error.contains("PATH"), "{error}");
        assert!(CommandLine::new(&launcher(&["sh"]), "Server 1", socket).unwrap().program.is_absolute());
    }

    #[test]
    fn a_tests_executable_is_one_folder_deeper() {
        assert_eq!(folders_of(Path::new("/t/debug/deps/x")), [Path::new("/t/debug/deps"), Path::new("/t/debug")]);
        assert_eq!(folders_of(Path::new("/usr/bin/lb")), [Path::new("/usr/bin")]);
    }
}
