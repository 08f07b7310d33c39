//! The set-up of these tests: control with a worker that takes up every generation, and backends in-process.
//!
//! Invariant: tests wait for a generation, a result or the end of a task, never for a time. The bound only ends a
//! broken test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use lb::config::{Config, Source, load_text};
use lb::control::{self, Control, Handle, Options, Replicas, StartError, StartReport};
use lb::generation::{Generation, PoolGeneration};
use lb::pool::Backend;
use lb::telemetry::Metrics;
use lb_test_support::{PATIENCE, metrics};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

/// Health checks quick enough for a test.
pub(crate) const QUICK_HEALTH: &str = "[health]\ninterval_ms = 10\n";
/// A backend that is down gets no request, also if no other is up.
pub(crate) const NO_PANIC: &str = "[panic]\nbelow_percent = 0\n";
/// As good as no health checks after the first.
pub(crate) const SLOW_HEALTH: &str = "[health]\ninterval_ms = 86400000\n";

/// Control that runs, with one worker that follows it.
pub(crate) struct Rig {
    pub(crate) control: Control,
    pub(crate) metrics: Arc<Metrics>,
    generations: watch::Receiver<Arc<Generation>>,
}

/// A state directory, and a place for the configuration.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The configuration `text` with its state in `folder` and the plugins of the workspace.
pub(crate) fn config(folder: &Path, text: &str) -> Config {
    let plugins = lb_strategy_built::folder();
    let keys = [
        ("plugin_dirs", format!("[{plugins:?}]")),
        ("state.dir", format!("{}", folder.join("state").display())),
        ("proxy.listen", "127.0.0.1:0".to_owned()),
        ("admin.listen", "127.0.0.1:0".to_owned()),
    ];
    let source = Source {
        path: folder.join("lb.toml"),
        command_line: keys.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        ..Source::default()
    };
    load_text(&source, text).unwrap().config
}

/// A `[[backends]]` entry.
pub(crate) fn backend(id: &str, address: SocketAddr) -> String {
    lb_test_support::backends(&[(id, address)])
}

pub(crate) async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub(crate) async fn try_start(folder: &Path, text: &str, fresh: bool) -> Result<Control, StartError> {
    control::start(Options { fresh, ..Options::new(config(folder, text), Metrics::new()) }).await
}

// === impl Rig ===

impl Rig {
    pub(crate) async fn start(folder: &Path, text: &str) -> Self {
        Self::start_with(config(folder, text), false).await
    }

    pub(crate) async fn start_with(config: Config, fresh: bool) -> Self {
        let metrics = Metrics::new();
        let options = Options { fresh, ..Options::new(config, metrics.clone()) };
        let control = bounded("the start", control::start(options)).await.unwrap_or_else(|error| panic!("{error}"));
        let (sender, generations) = watch::channel(control.hall.current());
        let mut seat = control.hall.seat();
        tokio::spawn(async move {
            loop {
                let generation = seat.take();
                let number = generation.number;
                sender.send_replace(generation);
                seat.acknowledge(number);
                if !seat.changed().await {
                    return;
                }
            }
        });
        Self { control, metrics, generations }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.control.handle
    }

    pub(crate) fn report(&self) -> &StartReport {
        &self.control.started
    }

    /// Waits for a generation that `probe` finds something in.
    pub(crate) async fn until<T>(&mut self, what: &str, probe: impl Fn(&Generation) -> Option<T>) -> T {
        bounded(what, async {
            loop {
                let generation = self.generations.borrow_and_update().clone();
                if let Some(found) = probe(&generation) {
                    return found;
                }
                self.generations.changed().await.unwrap();
            }
        })
        .await
    }

    /// Waits until the pool `default` has just these backends, each with whether its list says that it is eligible.
    pub(crate) async fn until_pool(&mut self, wanted: &[(&str, bool)]) {
        let told = |generation: &Generation| (listed(&generation.pools[0]) == wanted).then_some(());
        self.until(&format!("{wanted:?}"), told).await;
    }

    /// The pool `default` of the newest generation.
    pub(crate) fn pool(&self) -> Arc<PoolGeneration> {
        self.control.hall.current().pools[0].clone()
    }

    pub(crate) fn backend(&self, id: &str) -> Arc<Backend> {
        let pool = self.pool();
        pool.backends.iter().find(|backend| &*backend.id == id).unwrap_or_else(|| panic!("no {id}")).clone()
    }

    pub(crate) async fn replicas(&self) -> Vec<String> {
        let Replicas(ids) = self.handle().replicas().await.unwrap();
        ids
    }

    pub(crate) async fn stop(self) {
        bounded("the stop", self.handle().stop()).await;
        bounded("the actor's end", self.control.task).await.unwrap();
    }

    /// The value of a series, written as in the exposition.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        metrics::value(&self.metrics.render(), series)
    }
}

/// Ids of a list with whether the list says that they are eligible; the live flags must agree with it.
pub(crate) fn listed(pool: &PoolGeneration) -> Vec<(&str, bool)> {
    let list = pool.picker.backends();
    let told = pool.backends.iter().enumerate().map(|(index, backend)| (&*backend.id, list.is_eligible(index)));
    told.collect()
}
