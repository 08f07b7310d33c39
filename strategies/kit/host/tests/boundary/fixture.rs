//! Helpers of these tests: they compile and load fixtures, and make small lists and requests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lb_strategy::abi::LB_BACKEND_ELIGIBLE;
use lb_strategy_host::{BackendList, BackendSpec, LoadError, Loader, Lookup, Part, PickRequest, Plugin, Wanted};
use tempfile::TempDir;

/// A folder for plugins, and a loader with a private folder. Both folders are removed at the end of the test; images
/// stay mapped.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) loader: Loader,
}

/// Header values by name.
pub(crate) struct HeaderList<'a>(pub(crate) &'a [(&'a str, &'a str)]);

/// A file under `strategies/`.
pub(crate) fn source(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("strategies/").join(relative)
}

/// A list of `n` backends. Those in `eligible` may be picked.
pub(crate) fn list(n: u32, eligible: &[u32]) -> BackendList {
    let spec = |index: u32| BackendSpec {
        name: format!("b{index}").into(),
        address: "127.0.0.1:9".into(),
        labels: Arc::default(),
        weight: 1,
        effective: 1000,
        flags: if eligible.contains(&index) { LB_BACKEND_ELIGIBLE } else { 0 },
        stats: Arc::default(),
        slot: Arc::default(),
    };
    BackendList::new((0..n).map(spec).collect(), 1, 1)
}

pub(crate) fn request<'a>(tried: &'a [u32], lookup: &'a HeaderList<'a>) -> PickRequest<'a> {
    PickRequest {
        worker: Some(0),
        attempt: tried.len() as u32,
        tried,
        key: None,
        random: 1,
        now_ns: 1,
        dry: false,
        body_length: Some(4),
        lookup,
    }
}

fn succeed(mut compiler: Command, source: &Path) {
    let status = compiler.status().unwrap_or_else(|error| panic!("{compiler:?} does not run: {error}"));
    assert!(status.success(), "{} does not compile", source.display());
}

// === impl Bench ===

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let loader = Loader::new(directory.path().join("private"), 2);
        Self { directory, loader }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Builds a plugin from `strategies/examples/<relative>.c`.
    pub(crate) fn compile(&self, relative: &str) -> PathBuf {
        let stem = Path::new(relative).file_name().expect("a name").to_str().expect("UTF-8");
        // Some compilers bind symbols at load by default. Without that, only the host's own flags can find a missing
        // one.
        self.build("cc", &source(&format!("examples/{relative}.c")), &format!("lib{stem}.so"), &["-Wl,-z,lazy"])
    }

    /// Builds a library, `output` in this folder, with a C or C++ compiler. With `-c` in `flags` it is an object file.
    pub(crate) fn build(&self, compiler: &str, source: &Path, output: &str, flags: &[&str]) -> PathBuf {
        self.run(compiler, source, output, &[&["-shared", "-fPIC", "-fvisibility=hidden"], flags].concat())
    }

    /// Builds a program in C.
    pub(crate) fn build_program(&self, source: &Path, output: &str, flags: &[&str]) -> PathBuf {
        self.run("cc", source, output, flags)
    }

    fn run(&self, compiler: &str, source: &Path, output: &str, flags: &[&str]) -> PathBuf {
        let output = self.path(output);
        let mut command = Command::new(compiler);
        command
            .arg(if compiler == "cc" { "-std=gnu11" } else { "-std=c++17" })
            .args(["-O1", "-I"])
            .arg(self::source("kit/api/include"))
            .arg("-o")
            .arg(&output)
            .arg(source)
            .args(flags);
        succeed(command, source);
        output
    }

    /// Builds a library from Rust code that needs only the standard library.
    pub(crate) fn build_rust(&self, source: &Path, output: &str, flags: &[&str]) -> PathBuf {
        let output = self.path(output);
        let mut command = Command::new("rustc");
        command.args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "fixture"]);
        command.arg("-o").arg(&output).arg(source).args(flags);
        succeed(command, source);
        output
    }

    pub(crate) fn load(&self, path: &Path) -> Result<Arc<Plugin>, LoadError> {
        self.loader.load(&Wanted { path, name: None, sha256: None })
    }

    pub(crate) fn load_fixture(&self, relative: &str) -> Arc<Plugin> {
        self.load(&self.compile(relative)).unwrap_or_else(|error| panic!("{error}"))
    }
}

// === impl HeaderList ===

impl Lookup for HeaderList<'_> {
    fn header(&self, name: &[u8], nth: usize) -> Option<&[u8]> {
        self.0.iter().filter(|pair| pair.0.as_bytes().eq_ignore_ascii_case(name)).nth(nth).map(|pair| pair.1.as_bytes())
    }

    fn part(&self, part: Part) -> Option<&[u8]> {
        match part {
            Part::Method => Some(b"PATCH"),
            Part::Path => Some(b"/a?b=c"),
            Part::Host => Some(b"shop.example"),
            Part::Body => Some(b"a\0b"),
            Part::Client => Some(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]),
        }
    }
}
