//! Compiles plugins that misbehave, and tries them in children of the real `lb`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb::control::vet::{Verdict, VetBackend, VetError, VetRequest, Vetter};
use lb_strategy_host::{Loader, Wanted};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder for plugins and their private copies.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    /// Where a child may write, as whatever user it runs.
    pub(crate) open: TempDir,
}

pub(crate) fn lb() -> PathBuf {
    env!("CARGO_BIN_EXE_lb").into()
}

pub(crate) fn backend(number: usize) -> VetBackend {
    VetBackend { id: format!("b{number}"), address: "127.0.0.1:9".to_owned(), weight: 1, labels: String::new() }
}

// === impl Bench ===

impl Bench {
    pub(crate) fn new() -> Self {
        let open = tempfile::tempdir().unwrap();
        std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), open }
    }

    /// `libbroken.so` of `hostile_process.c`.
    pub(crate) fn compile(&self, flags: &[&str]) -> PathBuf {
        let output = self.folder.path().join("libbroken.so");
        let flags = [&["-Wno-infinite-recursion"], flags].concat();
        lb_test_support::compile("examples/broken/hostile_process.c", &flags, &output);
        output
    }

    /// What a balancer would ask about this file.
    pub(crate) fn request(&self, plugin: &Path, options: Value) -> VetRequest {
        let loader = Loader::new(self.folder.path().join("private"), 2);
        let staged = loader.stage(&Wanted { path: plugin, name: None, sha256: None }).unwrap();
        VetRequest::new(&staged, options, 2, (0..4).map(backend).collect())
    }

    /// Tries the plugin that misbehaves in `way`.
    pub(crate) async fn vet_way(&self, way: &str, time_max: Duration) -> Result<Verdict, VetError> {
        let pid_file = self.open.path().join("pid");
        let request = self.request(&self.compile(&[]), json!({ "way": way, "pid_file": pid_file }));
        Vetter::new(lb(), None).with_time_max(time_max).vet(&request).await
    }
}
