//! The live view of a load: the data on its board, and the text on the terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lb_test_support::wait_until;
use loadgen::load::{self, Plan, Stop};
use loadgen::view::{Board, Progress, Underway};
use mock_server::Options;

use crate::support::{closed, mock, open};

const PHASES: (&str, &str) = ("warm-up", "measuring");

#[test]
fn a_board_shows_a_load_and_keeps_its_last_state() {
    let server = mock(Options { id: "Server 2".to_owned(), failure_rate: 0.5, seed: Some(3), ..Options::default() });
    let board = Board::new("a title", Instant::now());
    assert_eq!(board.status().flow, None);

    let plan = open(server.addr, 500.0, Stop::WhenTold);
    let running = load::start(plan.clone()).expect("the plan is sound");
    board.tell(|facts| facts.begin(Underway::new(running.handle(), &plan, PHASES)));
    let flow = || board.status().flow.expect("a load");
    wait_until("responses of both kinds", || {
        flow().classes[1] > 20 && flow().classes[4] > 20 && flow().p99_ms.is_some()
    });
    let status = board.status();
    assert_eq!((&*status.phase, status.progress, flow().asked), ("measuring", None, Some(500.0)));
    assert!(status.backends[0].id == "Server 2" && status.backends[0].rate > 0.0, "{status:?}");

    running.handle().finish();
    let total = running.wait().total();
    board.tell(|facts| facts.end_load(true));
    let counts = [total.ok(), total.failed_answers()];
    assert_eq!([flow().classes[1], flow().classes[4]], counts, "all responses");
    assert_eq!(board.status().backends[0].answers, total.ok());
    assert!(flow().achieved > 0.0 && flow().outstanding == 0, "values of the last second: {:?}", flow());

    // A load that does not count leaves no trace.
    let plan = closed(server.addr, 2, 100, "/home");
    let running = load::start(plan.clone()).expect("the plan is sound");
    let handle = running.handle();
    board.tell(|facts| facts.begin(Underway::new(handle, &plan, PHASES)));
    running.wait();
    let status = board.status();
    assert_eq!(status.progress, Some(Progress::Requests { done: 100, all: 100 }));
    assert_eq!(status.flow.map(|flow| flow.bad() + flow.classes[1]), Some(total.answered + 100));
    board.tell(|facts| facts.end_load(false));
    assert_eq!([flow().classes[1], flow().classes[4]], counts);
}

#[test]
fn a_warm_up_has_its_own_name_and_a_ramp_shows_its_current_rate() {
    let server = mock(Options::default());
    let hour = Duration::from_secs(3600);
    let plan = Plan { warm_up: hour, ..open(server.addr, 10.0, Stop::AfterTime(hour)) };
    let arrivals = load::Arrivals::Ramp { from: 10.0, to: 20.0, over: 2 * hour };
    let running = load::start(Plan { arrivals, ..plan.clone() }).expect("the plan is sound");
    let board = Board::new("", Instant::now());
    board.tell(|facts| facts.begin(Underway::new(running.handle(), &Plan { arrivals, ..plan }, PHASES)));
    let status = board.status();
    assert!(status.phase == "warm-up" && status.progress.is_some_and(|progress| progress.share() < 0.1), "{status:?}");
    assert!(status.flow.and_then(|flow| flow.asked).is_some_and(|asked| (10.0..11.0).contains(&asked)));
}

/// Runs `loadgen run ARGUMENTS` on its own terminal, and types `typed` once it draws. Returns all output, with the exit
/// code and the settings of the terminal at the end.
fn on_a_terminal(arguments: &str, environment: &[(&str, &str)], typed: &str) -> String {
    let program = env!("CARGO_BIN_EXE_loadgen");
    // The shell must survive Ctrl-C.
    let line = format!("trap : INT; '{program}' run {arguments}; echo \"code $?\"; stty -a");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("SHELL", "/bin/sh").env_remove("NO_COLOR");
    command.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("script, of util-linux, starts");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut said, mut part, mut typed) = (Vec::new(), [0; 4096], Some(typed));
    loop {
        let read = stdout.read(&mut part).expect("output");
        if read == 0 {
            break;
        }
        said.extend_from_slice(&part[..read]);
        if String::from_utf8_lossy(&said).contains("rate")
            && let Some(typed) = typed.take()
        {
            stdin.write_all(typed.as_bytes()).expect("typed");
        }
    }
    child.wait().expect("script ends");
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn on_a_terminal_a_picture_changes_in_place_and_the_report_follows() {
    let server = mock(Options { id: "Server 1".to_owned(), ..Options::default() });
    // A closed loop has no schedule, so a busy machine cannot make it late and its exit code 1.
    let said = on_a_terminal(&format!("-c 1 -z 1s http://{}/home", server.addr), &[], "typed meanwhile");
    let (picture, report) = said.split_once("GET http").expect("a report");
    let commands = picture.split("\x1b[").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    assert!(
        commands.filter(|command| command.starts_with('A')).count() > 1,
        "the picture is drawn again in place: {said:?}"
    );
    // The terminal output skips blanks, so words come one by one.
    for part in ["\x1b[0;36m", "rate", "measuring", "Server", "done"] {
        assert!(picture.contains(part), "{part:?} is missing: {said:?}");
    }
    assert!(!report.contains('\x1b') && report.contains("code 0"), "{said:?}");
    assert!(!picture.contains("typed"), "typed text does not appear in the picture: {said:?}");
    assert!(report.contains(" echo ") && !report.contains("-echo "), "the terminal has its old settings: {said:?}");
}

#[test]
fn ctrl_c_ends_the_picture_and_restores_the_terminal() {
    let server = mock(Options::default());
    let said = on_a_terminal(&format!("-q 200 -z 1h http://{}/home", server.addr), &[], "\x03");
    let (picture, report) = said.split_once("GET http").expect("a report");
    // "interrupted" replaces "measuring" in place. Both have an r at the same place, so it is not written again.
    assert!(picture.contains("inter") && picture.contains("upted"), "{said:?}");
    assert!(report.contains("INTERRUPTED") && report.contains("code 130"), "{said:?}");
    assert!(report.contains(" echo ") && !report.contains("-echo "), "the terminal has its old settings: {said:?}");
}

#[test]
fn options_and_environment_switch_off_picture_and_colour() {
    let server = mock(Options::default());
    let url = format!("http://{}/home", server.addr);
    let plain = on_a_terminal(&format!("-q 200 -z 2s --plain {url}"), &[], "");
    assert!(!plain.contains('\x1b') && plain.contains("measuring: "), "{plain:?}");
    let dumb = on_a_terminal(&format!("-q 200 -z 1s {url}"), &[("TERM", "dumb")], "");
    assert!(!dumb.contains('\x1b'), "{dumb:?}");
    let quiet = on_a_terminal(&format!("-q 200 -z 2s --quiet {url}"), &[], "");
    assert!(!quiet.contains('\x1b') && !quiet.contains("measuring"), "{quiet:?}");
    let colourless = on_a_terminal(&format!("-q 200 -z 1s {url}"), &[("NO_COLOR", "1")], "");
    assert!(colourless.contains("\x1b[0;1m") && !colourless.contains("\x1b[0;36m"), "{colourless:?}");
}
