//! The builder: one plain thread with a queue, the only caller of the plugin hooks that no worker calls.
//!
//! Why a thread: a plugin's constructor may be slow or hang, and neither workers nor control may wait for it.
//! Invariants: jobs run one after the other, in order. Between two jobs at most one of the [`Duties`] runs. If a job or
//! call takes over a second, the builder is unhealthy. The jobs behind it wait, and neither workers nor the actor do.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use lb_strategy_host::crash;
use tokio::sync::oneshot;

use super::duties::{Duties, Office, Post, Probed};

/// A job that takes longer sets [`Builder::is_stuck`].
const BUSY_MAX: Duration = Duration::from_secs(1);
/// A job that takes longer hangs. The trial of a plugin, which calls every hook, may take half as long.
const HANG_MIN: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Duties) + Send>;

/// Sends jobs to the builder's thread, which ends when the last sender is dropped.
#[derive(Clone)]
pub struct Builder {
    queue: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

/// Looks at the builder, which may end meanwhile.
#[derive(Clone)]
pub struct BuilderWatch(Arc<Shared>);

struct Shared {
    started: Instant,
    /// The number of the thread for [`crash::ask`]; 0 before it runs.
    thread: AtomicI32,
    /// Milliseconds since `started` at which the running job began, plus one; 0 when idle.
    busy_since_ms: AtomicU64,
}

// === impl Builder ===

impl Builder {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>();
        let (started, thread) = (Instant::now(), AtomicI32::new(0));
        let shared = Arc::new(Shared { started, thread, busy_since_ms: AtomicU64::new(0) });
        let own = shared.clone();
        std::thread::Builder::new().name("lb-builder".into()).spawn(move || {
            crash::cover_thread();
            own.thread.store(crash::this_thread(), Relaxed);
            own.work(&jobs);
        })?;
        Ok(Self { queue, shared })
    }

    /// Runs `job` on the builder and waits for its result; `None` when the job panicked or the thread is gone.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.post(move || {
            if let Ok(value) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)) {
                let _ = sender.send(value);
            }
        });
        receiver.await.ok()
    }

    /// Queues `job` and does not wait.
    pub fn post(&self, job: impl FnOnce() + Send + 'static) {
        let _ = self.queue.send(Box::new(|_| job()));
    }

    /// The instances of `posts` have the duties from now on, and no others.
    pub(super) fn set_duties(&self, posts: Vec<Post>, office: Arc<Office>) {
        let _ = self.queue.send(Box::new(move |duties| duties.replace(posts, &office, Instant::now())));
    }

    /// The strategy is told of the end of a periodic probe, if it is still in charge then.
    pub(super) fn probed(&self, probed: Probed) {
        let _ = self.queue.send(Box::new(|duties| duties.probed(probed, Instant::now())));
    }

    /// Drops `value` on the builder, where plugin code may run.
    pub fn retire<T: Send + 'static>(&self, value: T) {
        self.post(move || drop(value));
    }

    /// Whether the running job or call has taken over a second.
    pub fn is_stuck(&self) -> bool {
        self.shared.busy_for() > BUSY_MAX
    }

    pub(in crate::control) fn watch(&self) -> BuilderWatch {
        BuilderWatch(self.shared.clone())
    }
}

// === impl BuilderWatch ===

impl BuilderWatch {
    /// The number of the builder's thread, if its job hangs.
    pub fn hanging(&self) -> Option<i32> {
        (self.0.busy_for() > HANG_MIN).then(|| self.0.thread.load(Relaxed))
    }
}

// === impl Shared ===

impl Shared {
    /// Runs jobs, and duties between them, until the last sender is dropped.
    fn work(&self, jobs: &Receiver<Job>) {
        let mut duties = Duties::default();
        loop {
            let job = match duties.next_due() {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(job) => self.busy(|| job(&mut duties)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.busy(|| duties.run_one(Instant::now()));
        }
    }

    /// For how long the running job runs.
    fn busy_for(&self) -> Duration {
        match self.busy_since_ms.load(Relaxed) {
            0 => Duration::ZERO,
            since => self.started.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    fn busy(&self, work: impl FnOnce()) {
        self.busy_since_ms.store(self.started.elapsed().as_millis() as u64 + 1, Relaxed);
        work();
        self.busy_since_ms.store(0, Relaxed);
    }
}
