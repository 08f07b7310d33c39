//! Queues of several workers in one thread, with random events; and in threads, which race.
//!
//! A request here looks for room as an exchange does, on backends that are counts with a cap.

mod wakes;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::*;
use crate::pool::Backend;

const POOL: &str = "p";
const LONG: Duration = Duration::from_secs(600);

fn policy(length: usize) -> QueuePolicy {
    QueuePolicy { length, wait: LONG, ..QueuePolicy::default() }
}

/// The queue of a worker.
fn line(number: usize, workers: usize, epoch: Instant, lobbies: &Arc<Lobbies>, length: usize) -> Rc<Line> {
    let line = Lines::new(Owner { number, workers, epoch }, lobbies.clone()).of(&POOL.into());
    line.set_rules(&policy(length), [100]);
    line
}

/// Requests in flight by backend, with the same cap.
struct Backends {
    in_flight: Vec<AtomicUsize>,
    cap: usize,
}

/// A request that waits.
struct Waiting {
    turn: Turn,
    number: usize,
    worker: usize,
    /// The only backend that it may use; `None`: any.
    only: Option<usize>,
}

impl Backends {
    fn new(backends: usize, cap: usize) -> Self {
        Self { in_flight: (0..backends).map(|_| AtomicUsize::new(0)).collect(), cap }
    }

    fn pick(&self, only: Option<usize>) -> Option<usize> {
        let take = |index: &usize| {
            let raise = |now: usize| (now < self.cap).then_some(now + 1);
            self.in_flight[*index].fetch_update(SeqCst, SeqCst, raise).is_ok()
        };
        (0..self.in_flight.len()).filter(|index| only.is_none_or(|only| only == *index)).find(take)
    }

    fn free(&self) -> usize {
        self.in_flight.iter().map(|now| self.cap - now.load(SeqCst)).sum()
    }

    fn look(&self, turn: &Turn, only: Option<usize>) -> Option<usize> {
        let pick = || Ok::<_, ()>(self.pick(only));
        turn.look(|| self.free() > 0, pick, || false).unwrap()
    }
}

/// Workers that take turns at random.
struct World {
    lines: Vec<Rc<Line>>,
    backends: Backends,
    waiting: Vec<Waiting>,
    /// Backend and worker of each request in flight.
    in_flight: Vec<(usize, usize)>,
    served: Vec<usize>,
    arrived: usize,
    random: fastrand::Rng,
}

impl World {
    fn new(workers: usize, backends: usize, cap: usize, seed: u64) -> Self {
        let (epoch, lobbies) = (Instant::now(), Lobbies::new(workers));
        Self {
            lines: (0..workers).map(|number| line(number, workers, epoch, &lobbies, 1_000)).collect(),
            backends: Backends::new(backends, cap),
            waiting: Vec::new(),
            in_flight: Vec::new(),
            served: Vec::new(),
            arrived: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn arrive(&mut self, only: Option<usize>) {
        self.arrive_with(only, 100);
    }

    fn arrive_with(&mut self, only: Option<usize>, priority: u8) {
        let (worker, number) = (self.random.usize(..self.lines.len()), self.arrived);
        self.arrived += 1;
        let line = &self.lines[worker];
        let is_behind = only.is_none() && line.is_occupied();
        if !is_behind && let Some(backend) = self.backends.pick(only) {
            return self.begin(number, backend, worker);
        }
        let turn = line.enter(priority).unwrap();
        if let Some(only) = only {
            turn.set_key(only as u64);
        }
        if is_behind {
            line.call_next(Some(self.backends.free()));
        } else if let Some(backend) = self.backends.look(&turn, only) {
            turn.serve(|| Some(self.backends.free()));
            return self.begin(number, backend, worker);
        }
        self.waiting.push(Waiting { turn, number, worker, only });
    }

    fn begin(&mut self, number: usize, backend: usize, worker: usize) {
        self.served.push(number);
        self.in_flight.push((backend, worker));
    }

    fn end(&mut self, index: usize) {
        let (backend, worker) = self.in_flight.swap_remove(index);
        self.backends.in_flight[backend].fetch_sub(1, SeqCst);
        self.lines[worker].freed();
    }

    /// Polls a request, if it is woken.
    fn poll(&mut self, index: usize) -> bool {
        let Waiting { turn, only, .. } = &self.waiting[index];
        if !turn.is_woken() {
            return false;
        }
        if let Some(backend) = self.backends.look(turn, *only) {
            let Waiting { turn, number, worker, .. } = self.waiting.remove(index);
            turn.serve(|| Some(self.backends.free()));
            self.begin(number, backend, worker);
        }
        true
    }

    /// Lets every bell and every wake do its work.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "wakes go round for ever");
            // A wake that finds no request here becomes a last one for a line that was asked before.
            (0..2).for_each(|_| self.lines.iter().for_each(|line| line.take_wakes()));
            let woken =
                (0..self.waiting.len()).filter(|index| self.waiting[*index].turn.is_woken()).collect::<Vec<_>>();
            // A task that is woken later may be polled first.
            let Some(index) = self.random.choice(&woken) else { break };
            self.poll(*index);
        }
    }

    fn step(&mut self, only: Option<usize>, priority: u8) {
        match self.random.u8(..6) {
            0 | 1 => self.arrive_with(only, priority),
            2 if !self.in_flight.is_empty() => {
                let index = self.random.usize(..self.in_flight.len());
                self.end(index);
            }
            3 => {
                let worker = self.random.usize(..self.lines.len());
                self.lines[worker].take_wakes();
            }
            4 if !self.waiting.is_empty() => {
                let index = self.random.usize(..self.waiting.len());
                self.poll(index);
            }
            // A client leaves.
            5 if !self.waiting.is_empty() && self.random.u8(..4) == 0 => {
                let index = self.random.usize(..self.waiting.len());
                drop(self.waiting.remove(index));
            }
            _ => {}
        }
    }

    /// No request waits for room that it may use.
    #[track_caller]
    fn check(&self, what: &str) {
        for Waiting { only, number, .. } in &self.waiting {
            let has_room = |index: usize| self.backends.in_flight[index].load(SeqCst) < self.backends.cap;
            let stuck = (0..self.backends.in_flight.len()).any(|i| only.is_none_or(|only| only == i) && has_room(i));
            assert!(!stuck, "{what}: request {number} waits for {only:?}, and there is room");
        }
    }
}

#[test]
fn no_request_is_stuck_while_there_is_room_for_it() {
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (workers, backends, cap) = (random.usize(1..4), random.usize(1..4), random.usize(1..3));
        let (has_affinity, has_priorities) = (random.bool(), random.bool());
        let mut world = World::new(workers, backends, cap, seed);
        for round in 0..150 {
            for _ in 0..random.usize(1..12) {
                let only = (has_affinity && random.u8(..3) > 0).then(|| random.usize(..backends));
                let priority = if has_priorities { random.u8(99..102) } else { 100 };
                world.step(only, priority);
            }
            world.settle();
            world.check(&format!("seed {seed}, round {round}"));
        }
        while !world.in_flight.is_empty() {
            world.end(0);
            world.settle();
        }
        assert!(world.waiting.is_empty(), "seed {seed}: the ends serve all");
        assert!(world.lines.iter().all(|line| !line.is_occupied() && line.lobby.claims() == 0), "seed {seed}");
    }
}

#[test]
fn requests_of_all_workers_are_served_in_the_order_of_their_arrival() {
    for seed in 0..50 {
        let mut world = World::new(3, 2, 1, seed);
        for _ in 0..200 {
            if world.random.bool() || world.in_flight.is_empty() {
                world.arrive(None);
            } else {
                let index = world.random.usize(..world.in_flight.len());
                world.end(index);
                // An arrival between an end and its wake does not overtake.
                if world.random.bool() {
                    world.arrive(None);
                }
            }
            world.settle();
        }
        assert!(world.served.is_sorted(), "seed {seed}: {:?}", world.served);
    }
}

#[test]
fn threads_that_race_lose_no_wake() {
    const WORKERS: usize = 3;
    const REQUESTS: usize = 4_000;
    let (epoch, lobbies) = (Instant::now(), Lobbies::new(WORKERS));
    let (backends, left) = (Backends::new(2, 1), AtomicUsize::new(WORKERS));
    let work = |number: usize| {
        let line = line(number, WORKERS, epoch, &lobbies, 1_000);
        let mut random = fastrand::Rng::with_seed(number as u64);
        let (mut waiting, mut in_flight, mut arrived) = (Vec::<(Turn, Option<usize>)>::new(), Vec::new(), 0);
        let began = std::time::Instant::now();
        loop {
            line.take_wakes();
            if arrived < REQUESTS && waiting.len() < 5 {
                arrived += 1;
                let only = (random.u8(..4) == 0).then(|| random.usize(..2));
                let is_behind = only.is_none() && line.is_occupied();
                let first = if is_behind { None } else { backends.pick(only) };
                match first {
                    Some(backend) => in_flight.push(backend),
                    None => {
                        let turn = line.enter(100).unwrap();
                        let found = match is_behind {
                            true => {
                                line.call_next(Some(backends.free()));
                                None
                            }
                            false => backends.look(&turn, only),
                        };
                        match found {
                            Some(backend) => {
                                turn.serve(|| Some(backends.free()));
                                in_flight.push(backend);
                            }
                            None => waiting.push((turn, only)),
                        }
                    }
                }
            }
            for index in (0..waiting.len()).rev() {
                if waiting[index].0.is_woken()
                    && let Some(backend) = backends.look(&waiting[index].0, waiting[index].1)
                {
                    waiting.remove(index).0.serve(|| Some(backends.free()));
                    in_flight.push(backend);
                }
            }
            while let Some(backend) = in_flight.pop() {
                backends.in_flight[backend].fetch_sub(1, SeqCst);
                line.freed();
            }
            if arrived == REQUESTS && waiting.is_empty() {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{} requests are stuck in {number}", waiting.len());
            std::thread::yield_now();
        }
        // Wakes that are on their way here still belong to others.
        left.fetch_sub(1, SeqCst);
        while left.load(SeqCst) > 0 {
            line.take_wakes();
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        (0..WORKERS).for_each(|number| drop(scope.spawn(move || work(number))));
    });
    assert_eq!(backends.free(), 2);
}

#[test]
fn a_cap_is_never_passed_by_threads_that_race_for_the_last_place() {
    let up = lb_balance::Eligibility::of(true, false, 1);
    let backend = Backend::new("b", "127.0.0.1:1", ([127, 0, 0, 1], 1).into(), Arc::default(), up);
    let race = || {
        for _ in 0..20_000 {
            if backend.try_attempt(3) {
                assert!(backend.in_flight() <= 3);
                backend.attempt_ends();
            }
            if backend.try_connection(2) {
                assert!(backend.connections() <= 2);
                backend.connection_ends();
            }
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(race))));
    assert_eq!((backend.in_flight(), backend.connections()), (0, 0));
}

#[test]
fn a_queue_has_its_length_and_a_low_priority_half_of_it() {
    let lobbies = Lobbies::new(2);
    let line = line(0, 2, Instant::now(), &lobbies, 9);
    line.set_rules(&policy(9), [5, 100]);
    let fill = |priority| std::iter::from_fn(|| line.enter(priority).ok()).collect::<Vec<_>>();
    let low = fill(5);
    assert_eq!((low.len(), line.enter(5).err()), (2, Some(Refused::Shed)), "4 of 9 are this worker's part");
    let high = fill(100);
    assert_eq!((high.len(), line.enter(100).err()), (2, Some(Refused::Full)));
    line.wake_own(1);
    assert!(high[0].is_woken() && !low[0].is_woken(), "the high one goes first");
    line.set_rules(&policy(1), [100]);
    assert_eq!(line.enter(100).err(), Some(Refused::Full));
    drop((low, high));
    assert!(line.enter(100).is_ok(), "each worker has a place");
    line.set_rules(&policy(0), [100]);
    assert_eq!(line.enter(100).err(), Some(Refused::Off));
    assert!(!line.is_occupied());
}

#[test]
fn the_order_is_by_priority_and_then_by_time() {
    let mut orders = [(0, 5), (100, 9), (100, 1), (255, u64::MAX), (0, u64::MAX)];
    orders.sort_by_key(|(priority, now_ns)| order(*priority, *now_ns));
    assert_eq!(orders, [(255, u64::MAX), (100, 1), (100, 9), (0, 5), (0, u64::MAX)]);
}
