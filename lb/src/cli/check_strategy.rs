//! `lb check-strategy FILE…`: the score card of plugins, each judged in a child process.
//!
//! Why a child: what is judged is somebody's native code, and it may crash or hang. The child runs the checks and tells each as a line
//! of JSON; this side listens, and a check that was begun and never ended is the row that failed. Invariants: one card for each file,
//! with every row in it; a child is ended and waited for before the next begins; a plugin's own output is never taken for a row.

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use lb_strategy_conformance::scorecard::{self, Check, Event, Row, Verdict};
use serde::Serialize;
use serde_json::Value;

use super::{CliError, card_table};

/// The hidden command that judges one file in this process.
pub(super) const SCORE_PLUGIN: &str = "score-plugin";
/// How much longer than its parent a child waits before it ends itself: for when there is no parent any more.
const GRACE: Duration = Duration::from_secs(5);

/// What to judge, and how.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
pub struct CheckStrategy {
    /// Plugins: libNAME.so
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub how: How,
}

/// What the child is told, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
pub struct How {
    /// The strategy's options, a JSON object such as '{"virtual_nodes":9}'
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = json_object)]
    pub options: Value,

    /// Where requests, keys and failures come from; the same seed is the same check
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Seconds for each file; then it counts as hanging
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// One file's card. These field names are for scripts, and stay.
#[derive(Debug, Serialize)]
pub(super) struct Card {
    pub(super) file: PathBuf,
    /// What it says of itself; `None` where it could not be opened.
    pub(super) strategy: Option<String>,
    pub(super) version: Option<String>,
    pub(super) build: Option<String>,
    pub(super) seed: u64,
    /// No row failed.
    pub(super) passed: bool,
    pub(super) rows: Vec<Row>,
}

/// How listening to a child ended.
enum Ending {
    Told,
    Died(String),
    Hung,
}

/// Judges every file, prints the cards, and says whether all passed.
pub(super) fn run(command: &CheckStrategy, json: bool) -> Result<bool, CliError> {
    let cards = command.files.iter().map(|file| judge(file, &command.how, !json)).collect::<Result<Vec<_>, _>>()?;
    if json {
        let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&cards).expect("strings and numbers"));
    }
    Ok(cards.iter().all(|card| card.passed))
}

/// The child's side: judges one file in this process and tells each step as a line of JSON.
pub(super) fn score(file: &Path, directory: &Path, how: &How) -> Result<(), CliError> {
    let patience = Duration::from_secs(how.timeout) + GRACE;
    // A plugin that hangs would otherwise outlive a parent that was killed.
    std::thread::spawn(move || {
        std::thread::sleep(patience);
        std::process::abort();
    });
    // A crash is told by its row: no file the size of the memory beside it.
    let _ = rlimit::setrlimit(rlimit::Resource::CORE, 0, 0);
    scorecard::run(file, &how.options, how.seed, directory, |event| {
        if matches!(event, Event::Plugin { .. } | Event::End) {
            // It is open by now, so its copy may go, also where nobody is left to do that.
            let _ = std::fs::remove_dir_all(directory);
        }
        // On a line of its own, whatever the plugin has printed.
        let line = serde_json::to_string(&event).expect("strings only");
        let mut out = std::io::stdout().lock();
        let _ = write!(out, "\n{line}\n").and_then(|()| out.flush());
    });
    Ok(())
}

fn judge(file: &Path, how: &How, show: bool) -> Result<Card, CliError> {
    let directory = std::env::temp_dir().join(format!("lb-score-{}-{:016x}", std::process::id(), fastrand::u64(..)));
    // Not recursive: a directory that somebody else has put there is an error.
    DirBuilder::new().mode(0o700).create(&directory).map_err(CliError::Child)?;
    let mut child = spawn(file, &directory, how).map_err(CliError::Child)?;
    let events = listen(&mut child);
    let mut card = Card::of(file, how.seed);
    let mut begun = Check::Loads;
    let deadline = Instant::now() + Duration::from_secs(how.timeout);
    let ending = loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Plugin { name, version, build }) => {
                (card.strategy, card.version, card.build) = (Some(name), Some(version), Some(build));
            }
            Ok(Event::Begin { row }) => begun = row,
            Ok(Event::Row(row)) => card.rows.push(row),
            Ok(Event::End) => break Ending::Told,
            Err(RecvTimeoutError::Timeout) => break Ending::Hung,
            Err(RecvTimeoutError::Disconnected) => {
                break Ending::Died(how_it_ended(child.wait().map_err(CliError::Child)?));
            }
        }
    };
    // What is told is told: a plugin that crashes in a destructor at exit has kept the contract.
    let _ = child.kill();
    let _ = child.wait();
    let _ = std::fs::remove_dir_all(&directory);
    card.complete(ending, begun, how.timeout);
    if show {
        card_table::print(&card);
    }
    Ok(card)
}

fn spawn(file: &Path, directory: &Path, how: &How) -> std::io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg(SCORE_PLUGIN)
        .args(["--options", &how.options.to_string(), "--seed", &how.seed.to_string()])
        .args(["--timeout", &how.timeout.to_string(), "--"])
        .args([file, directory])
        // A plugin has no business with it.
        .env_remove("LB_ADMIN_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A panic is counted; a message for each of a hundred thousand would bury the card.
        .stderr(Stdio::null())
        .spawn()
}

/// The child's events, one by one; what is no event the plugin has printed.
fn listen(child: &mut Child) -> Receiver<Event> {
    let out = child.stdout.take().expect("its stdout is a pipe");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            if let Ok(event) = serde_json::from_slice(&line)
                && sender.send(event).is_err()
            {
                return;
            }
        }
    });
    receiver
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = match signal {
                4 => " (illegal instruction)",
                6 => " (abort)",
                7 => " (bus error)",
                8 => " (arithmetic error)",
                9 => " (killed)",
                11 => " (invalid memory)",
                _ => "",
            };
            format!("signal {signal}{name}")
        }
        (None, code) => format!("exit code {}", code.unwrap_or_default()),
    }
}

fn json_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("it is JSON, but no object; write {\"key\": value}".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

// === impl Card ===

impl Card {
    fn of(file: &Path, seed: u64) -> Self {
        Self {
            file: file.to_owned(),
            strategy: None,
            version: None,
            build: None,
            seed,
            passed: false,
            rows: Vec::new(),
        }
    }

    /// The row that was begun and not ended, and those that nobody came to.
    fn complete(&mut self, ending: Ending, begun: Check, seconds: u64) {
        let is_told = |card: &Self, check| card.rows.iter().any(|row| row.row == check);
        // It may have ended between two checks.
        let begun = if is_told(self, begun) {
            Check::all().find(|&check| !is_told(self, check)).unwrap_or(begun)
        } else {
            begun
        };
        let (failed, why) = match ending {
            Ending::Told => (None, "it did not load"),
            Ending::Died(how) => {
                let sentence = "the process of the plugin ended here: in lb it would have taken everything with it";
                (Some(Row::failed(begun, how, "it lives on", sentence)), "the plugin crashed before")
            }
            Ending::Hung => {
                let sentence = "no answer in time: in lb a worker would stand still for ever";
                (Some(Row::failed(begun, "hangs", format!("{seconds} s in all"), sentence)), "the plugin hung before")
            }
        };
        if let Some(row) = failed.filter(|row| !is_told(self, row.row)) {
            self.rows.push(row);
        }
        for check in Check::all() {
            if !is_told(self, check) {
                self.rows.push(Row::not_reached(check, why));
            }
        }
        self.passed = self.rows.iter().all(|row| row.verdict != Verdict::Fail);
    }
}
