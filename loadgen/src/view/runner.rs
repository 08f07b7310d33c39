//! The thread that draws the status several times a second, until the view is dropped.

use std::io;
use std::panic;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ratatui::Terminal;
use ratatui::layout::Size;
use rustix::termios::Termios;

use super::board::Board;
use super::inline::Inline;
use super::lines::line;
use super::terminal::{self, Form};
use super::{draw, height};

/// Shows a board. When it is dropped, the last picture stays and the terminal is restored.
#[derive(Debug)]
pub struct View {
    board: Board,
    form: Form,
    origin: Instant,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

/// A picture that changes in place.
struct Picture {
    terminal: Terminal<Inline<io::Stderr>>,
    /// The largest size so far, so that the picture never shrinks.
    rows: u16,
    width: u16,
    last: Instant,
}

/// The terminal's former settings; `None` after they are restored.
#[derive(Clone, Debug)]
struct Restorer(Arc<Mutex<Option<Termios>>>);

/// The time between two pictures.
const TICK: Duration = Duration::from_millis(250);
/// After a longer pause than this the program was stopped, and another program may have used the terminal.
const SUSPENDED: Duration = Duration::from_secs(3);

// === impl View ===

impl View {
    /// `every`: the time between two lines, in the form of lines.
    pub fn start(board: Board, form: Form, every: Duration) -> Self {
        let (sender, stopped) = mpsc::channel();
        let theirs = board.clone();
        let origin = board.origin();
        let builder = std::thread::Builder::new().name("view".to_owned());
        // without the thread there is no view, and the run continues
        let thread = match form {
            Form::Nothing => None,
            Form::Lines => builder.spawn(move || lines(&theirs, origin, every, &stopped)).ok(),
            Form::Picture { is_coloured } => builder.spawn(move || pictures(&theirs, is_coloured, &stopped)).ok(),
        };
        Self { board, form, origin, thread: thread.map(|thread| (sender, thread)) }
    }

    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Reports one event.
    pub fn say(&self, text: &str) {
        match self.form {
            Form::Nothing => {}
            Form::Lines => print(self.origin, text),
            Form::Picture { .. } => self.board.tell(|facts| facts.note(text)),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // a panic of the view is printed and does not end the run
            let _ = thread.join();
        }
    }
}

fn print(origin: Instant, text: &str) {
    tell!("{:7.1} s  {text}", origin.elapsed().as_secs_f64());
}

/// Waits this long. Returns whether to continue.
fn goes_on(stopped: &Receiver<()>, time: Duration) -> bool {
    stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
}

fn lines(board: &Board, origin: Instant, every: Duration, stopped: &Receiver<()>) {
    while goes_on(stopped, every) {
        if let Some(line) = board.running_status().and_then(|status| line(&status)) {
            print(origin, &line);
        }
    }
}

fn pictures(board: &Board, is_coloured: bool, stopped: &Receiver<()>) {
    let restorer = Restorer::take();
    // a closed terminal does not end a run
    let _ = draw_until(board, is_coloured, stopped, &restorer);
    restorer.restore();
}

fn draw_until(board: &Board, is_coloured: bool, stopped: &Receiver<()>, restorer: &Restorer) -> io::Result<()> {
    let mut picture = Picture::new(is_coloured)?;
    for tick in 0_u64.. {
        if tick.is_multiple_of(2) {
            board.sample_rate();
        }
        picture.draw(board)?;
        let goes_on = goes_on(stopped, TICK);
        // the message of a panic is printed below the picture, so nothing more is drawn
        if restorer.is_restored() {
            return Ok(());
        }
        if !goes_on {
            break;
        }
    }
    picture.draw(board)?;
    picture.terminal.backend_mut().leave()
}

// === impl Picture ===

impl Picture {
    fn new(is_coloured: bool) -> io::Result<Self> {
        let terminal = Terminal::new(Inline::new(io::stderr(), is_coloured))?;
        Ok(Self { terminal, rows: 0, width: 0, last: Instant::now() })
    }

    fn draw(&mut self, board: &Board) -> io::Result<()> {
        let status = board.status();
        let Size { width, height: rows } = terminal::size().unwrap_or(Size { width: 80, height: 24 });
        let was_stopped = self.last.elapsed() > SUSPENDED;
        if was_stopped {
            terminal::silence();
        }
        // a narrower terminal has wrapped the present lines
        if was_stopped || width < self.width {
            self.terminal.backend_mut().begin_anew();
            self.rows = 0;
        }
        (self.last, self.width) = (Instant::now(), width);
        self.rows = self.rows.max(height(&status, width)).min(rows);
        self.terminal.backend_mut().set_size(Size { width, height: self.rows });
        if was_stopped {
            self.terminal.clear()?;
        }
        self.terminal.draw(|frame| draw(frame, &status)).map(drop)
    }
}

// === impl Restorer ===

impl Restorer {
    /// Changes the terminal's settings. They are restored before a panic of any thread is printed.
    fn take() -> Self {
        let restorer = Self(Arc::new(Mutex::new(terminal::silence())));
        let (theirs, before) = (restorer.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |panic| {
            if theirs.restore() {
                // below the picture
                tell!("");
            }
            before(panic);
        }));
        restorer
    }

    fn is_restored(&self) -> bool {
        self.0.lock().is_none()
    }

    /// Restores the settings once. Returns whether this call did it.
    fn restore(&self) -> bool {
        let found = self.0.lock().take();
        found.as_ref().inspect(|found| terminal::set(found)).is_some()
    }
}
