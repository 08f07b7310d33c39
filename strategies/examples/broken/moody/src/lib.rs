//! A round robin with a fault at every `every`th request that has the header `x-mood`.
//!
//! Why it exists: no check sends that header, so the plugin passes all checks before it is in charge. It stands for a
//! bug that only real traffic triggers. With `waits_for`, a new instance or its pickers wait for a file, so that a test
//! decides how long a reload takes. Invariant: without the header it is a correct round robin.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lb_strategy::{Backends, Error, Finish, Host, Pick, Request, StateSchema, Strategy};
use serde::Deserialize;

pub struct Moody {
    options: Options,
    turn: AtomicU64,
    moods: AtomicU64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    does: Misdeed,
    every: u64,
    /// Waits in this hook until the file exists.
    waits_for: Option<(Hook, PathBuf)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Hook {
    New,
    Picker,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Misdeed {
    Panic,
    PointNowhere,
    /// No backend, although some may serve.
    Decline,
    /// The pick is right, and its finish panics.
    PanicInFinish,
    /// The pick takes a millisecond.
    Dawdle,
    /// The request waits, whatever room the backends have.
    Wait,
}

/// The token of a pick whose finish panics.
const MOODY: u64 = 1;

lb_strategy::export!(Moody);

// === impl Moody ===

impl Strategy for Moody {
    const NAME: &'static str = "moody";
    const WANTS_FINISH: bool = true;
    /// The state would be in the slots, so no bytes are exported.
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "moody", version: 1 });
    type Config = Options;
    type Picker = ();

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        options.wait_in(Hook::New);
        Ok(Self { options, turn: AtomicU64::new(0), moods: AtomicU64::new(0) })
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        self.options.wait_in(Hook::Picker);
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let mut token = 0;
        if request.header("x-mood", 0).is_some() && self.moods.fetch_add(1, Relaxed).is_multiple_of(self.options.every)
        {
            match self.options.does {
                Misdeed::Panic => panic!("in a mood"),
                Misdeed::Decline => return Pick::NoBackend,
                Misdeed::Wait => return Pick::Wait,
                Misdeed::PanicInFinish => token = MOODY,
                Misdeed::PointNowhere => return Pick::Backend(u32::MAX as usize),
                Misdeed::Dawdle => {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(1) {
                        std::hint::spin_loop();
                    }
                }
            }
        }
        let n = backends.candidates(request).count();
        if n == 0 {
            return Pick::NoBackend;
        }
        let turn = self.turn.fetch_add(1, Relaxed) as usize % n;
        let picked = backends.candidates(request).nth(turn);
        picked.map_or(Pick::NoBackend, |(index, _)| Pick::BackendWithToken(index, token))
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        assert!(!finish.is_own() || finish.token() != MOODY, "in a mood");
    }
}

// === impl Options ===

impl Options {
    fn wait_in(&self, hook: Hook) {
        let Some((waiting, file)) = &self.waits_for else { return };
        while *waiting == hook && !file.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
