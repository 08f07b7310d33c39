//! `lb check-strategy FILE…`: the score cards of plugins. Each plugin is checked in a child process.
//!
//! The plugin is native code, which may crash or hang; so it needs a child. The child runs the checks and prints each
//! result as a line of JSON. The parent reads the lines. If the child crashes or hangs, the check that had begun is the
//! failed row.
//!
//! A slow plugin does not hang. A thread of the child prints an event whenever further calls of the plugin have
//! returned. So the plugin hangs if no event comes for a while.
//!
//! Invariants: one card per file, with every row. A child is ended and waited for before the next one begins. Output of
//! the plugin that is not an event is ignored.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, Parser, ValueHint};
use lb_strategy_conformance::pulse;
use lb_strategy_conformance::scorecard::{self, Check, Event, Row, Verdict};
use serde::Serialize;
use serde_json::Value;

use super::commands::Json;
use super::{CliError, card_table};

/// The first argument of a child that checks one file.
const SCORE_PLUGIN: &str = "score-plugin";
/// A child ends itself this long after the parent would end it, in case the parent was stopped.
const GRACE: Duration = Duration::from_secs(5);
/// Time between two looks for progress.
const LOOK: Duration = Duration::from_millis(100);
/// The time limit for a plugin that is slow and does not hang. A pick of 250 µs, the limit of probation, needs two
/// minutes.
const TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// The files to check, and the settings of the check.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
pub struct CheckStrategy {
    /// The plugins to check: libNAME.so
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub json: Json,

    #[command(flatten)]
    pub how: How,
}

/// The settings of the check, which the child gets unchanged.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
pub struct How {
    /// The strategy's options, a JSON object such as '{"virtual_nodes":9}'
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = json_object)]
    pub options: Value,

    /// The seed of random requests, keys and failures; the same seed repeats the same check
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// The longest time without progress in seconds; after it, the plugin counts as hanging
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// The arguments of the child, behind `lb`. They are no command of [`super::Args`], so that no help, tip or completion
/// names them.
#[derive(Debug, Parser)]
#[command(name = SCORE_PLUGIN)]
pub(super) struct ScorePlugin {
    file: PathBuf,
    /// The folder for the private copy that is loaded
    directory: PathBuf,
    #[command(flatten)]
    how: How,
}

/// The card of one file. Scripts use the field names, so they must not change.
#[derive(Debug, Serialize)]
pub(super) struct Card {
    pub(super) file: PathBuf,
    /// Name, version and build as the plugin states them; `None` if it could not be loaded.
    pub(super) strategy: Option<String>,
    pub(super) version: Option<String>,
    pub(super) build: Option<String>,
    pub(super) seed: u64,
    /// No row failed.
    pub(super) passed: bool,
    pub(super) rows: Vec<Row>,
}

/// How a child ended.
enum Ending {
    Told,
    Died(String),
    Hung,
    /// Calls returned to the end, but too slowly.
    Late,
}

/// Checks every file and prints the cards. Returns whether all passed.
pub(super) fn run(command: &CheckStrategy, json: bool) -> Result<bool, CliError> {
    // A wrong path is no fault of a plugin, so it has no card.
    command.files.iter().try_for_each(|file| exists(file))?;
    let cards = command.files.iter().map(|file| judge(file, &command.how, !json)).collect::<Result<Vec<_>, _>>()?;
    if json {
        let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&cards).expect("strings and numbers"));
    }
    Ok(cards.iter().all(|card| card.passed))
}

/// The child's side: checks one file in this process and prints each step as a line of JSON.
pub(super) fn score(child: &ScorePlugin) -> Result<(), CliError> {
    let ScorePlugin { file, directory, how } = child;
    let patience = Duration::from_secs(how.timeout) + GRACE;
    std::thread::spawn(move || report_progress(patience));
    // The card reports a crash; a core file as large as the memory is not needed.
    let _ = rlimit::setrlimit(rlimit::Resource::CORE, 0, 0);
    scorecard::run(file, &how.options, how.seed, directory, |event| {
        if matches!(event, Event::Plugin { .. } | Event::End) {
            // The plugin is loaded, so its copy can be removed. The child does it, in case the parent was killed.
            let _ = std::fs::remove_dir_all(directory);
        }
        let _ = tell(&event);
    });
    Ok(())
}

/// Tells the parent whenever calls of the plugin have returned. Ends the process if none has for `patience`, or if the
/// parent is gone: a plugin that hangs would outlive it.
fn report_progress(patience: Duration) {
    let (mut known, mut since) = (0, Instant::now());
    loop {
        std::thread::sleep(LOOK);
        let returned = pulse::returned();
        if returned != known {
            (known, since) = (returned, Instant::now());
            if tell(&Event::Progress).is_err() {
                break;
            }
        } else if since.elapsed() > patience {
            break;
        }
    }
    std::process::abort();
}

/// Prints the event on a line of its own, whatever the plugin has printed.
fn tell(event: &Event) -> std::io::Result<()> {
    let line = serde_json::to_string(event).expect("strings only");
    let mut out = std::io::stdout().lock();
    write!(out, "\n{line}\n").and_then(|()| out.flush())
}

fn exists(file: &Path) -> Result<(), CliError> {
    let what = match std::fs::metadata(file) {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(_) => "it is no file".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        Err(error) => error.to_string(),
    };
    let file = file.display();
    Err(CliError::Usage(format!(
        "cannot check {file}: {what}; give the path of a library, as `lb strategies` prints it"
    )))
}

fn judge(file: &Path, how: &How, show: bool) -> Result<Card, CliError> {
    let directory = std::env::temp_dir().join(format!("lb-score-{}-{:016x}", std::process::id(), fastrand::u64(..)));
    // Not recursive: a directory that exists already is an error.
    DirBuilder::new().mode(0o700).create(&directory).map_err(CliError::Child)?;
    let mut child = spawn(file, &directory, how).map_err(CliError::Child)?;
    let events = listen(&mut child);
    let mut card = Card::of(file, how.seed);
    let mut begun = Check::Loads;
    let (silence_max, deadline) = (Duration::from_secs(how.timeout), Instant::now() + TIME_MAX);
    let ending = loop {
        match events.recv_timeout(silence_max) {
            Ok(Event::Progress) if Instant::now() > deadline => break Ending::Late,
            Ok(Event::Progress) => {}
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
    // After the last event the exit status is ignored: a plugin may crash in a destructor at exit.
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
        // The plugin must not see the token.
        .env_remove("LB_ADMIN_TOKEN")
        // A thread of the allocator would count as the plugin's.
        .env("_RJEM_MALLOC_CONF", "background_thread:false")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Panics are counted. Their messages, perhaps a hundred thousand, would hide the card.
        .stderr(Stdio::null())
        .spawn()
}

/// The child's events, one by one. Other lines are output of the plugin and are ignored.
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
        Ok(_) => Err("it is JSON, but not an object; write {\"key\": value}".to_owned()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    }
}

// === impl ScorePlugin ===

impl ScorePlugin {
    /// The arguments of a child; `None` if this process is none.
    pub(super) fn of(arguments: &[OsString]) -> Option<Result<Self, clap::Error>> {
        let own = arguments.get(1..).filter(|own| own.first().is_some_and(|first| first == SCORE_PLUGIN))?;
        Some(Self::try_parse_from(own))
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

    /// Adds the row that failed by a crash or a hang, and the rows that were not reached.
    fn complete(&mut self, ending: Ending, begun: Check, seconds: u64) {
        let is_told = |card: &Self, check| card.rows.iter().any(|row| row.row == check);
        // The child may have ended between two checks.
        let begun = if is_told(self, begun) {
            Check::all().find(|&check| !is_told(self, check)).unwrap_or(begun)
        } else {
            begun
        };
        let (failed, why) = match ending {
            Ending::Told => (None, "it did not load"),
            Ending::Died(how) => {
                let sentence = "the plugin ended its process during this check: in lb, it would end lb";
                (Some(Row::failed(begun, how, "no crash", sentence)), "the plugin crashed before")
            }
            Ending::Hung => {
                let sentence = "a call of the plugin did not return: in lb, a worker would hang for ever";
                (
                    Some(Row::failed(begun, "hangs", format!("progress in {seconds} s"), sentence)),
                    "the plugin hung before",
                )
            }
            Ending::Late => {
                let sentence = "the plugin returns, but this check takes too long: its calls are slow";
                let bar = format!("{} min for the card", TIME_MAX.as_secs() / 60);
                (Some(Row::failed(begun, "not finished", bar, sentence)), "the plugin was too slow before")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::SLOW_PICK;

    #[test]
    fn the_yardstick_of_a_pick_is_the_limit_of_probation() {
        assert_eq!(scorecard::SLOW_PICK, SLOW_PICK);
    }

    #[test]
    fn a_plugin_that_hangs_and_one_that_is_late_have_different_rows() {
        let row = |ending| {
            let mut card = Card::of(Path::new("libx.so"), 1);
            card.complete(ending, Check::Answers, 10);
            assert_eq!(card.rows.len(), Check::all().count());
            card.rows.into_iter().find(|row| row.row == Check::Answers).expect("a row for each check")
        };
        let (hung, late) = (row(Ending::Hung), row(Ending::Late));
        assert_eq!((hung.verdict, &*hung.figure, &*hung.bar), (Verdict::Fail, "hangs", "progress in 10 s"));
        assert_eq!((late.verdict, &*late.figure, &*late.bar), (Verdict::Fail, "not finished", "15 min for the card"));
    }
}
