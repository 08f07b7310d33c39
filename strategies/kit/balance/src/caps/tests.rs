//! Every state of a small pool, with strategies that do what real ones do: a ring, a strategy without affinity, and bad
//! ones.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use lb_strategy_host::Refusal;

use super::*;
use crate::{Backend, Eligibility, Fallback, FallbackReason};

/// The state of one backend for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Full,
    Down,
    /// Tried, and it has room.
    Tried,
}

/// A pool and a request, with a record of what the strategy was asked.
struct Scene {
    states: Vec<State>,
    backends: Vec<Arc<Backend>>,
    cursor: AtomicUsize,
    wants_hash: bool,
    has_key: bool,
    asked: RefCell<Vec<Vec<u32>>>,
}

impl Scene {
    fn new(states: &[State], wants_hash: bool, has_key: bool) -> Self {
        let of = |state: &State| {
            let eligibility = Eligibility::of(*state != State::Down, false, 1);
            let socket = "127.0.0.1:1".parse().unwrap();
            Backend::new("b", "127.0.0.1:1", socket, Arc::default(), eligibility)
        };
        let backends = states.iter().map(of).collect();
        let (cursor, asked) = (AtomicUsize::new(0), RefCell::default());
        Self { states: states.to_vec(), backends, cursor, wants_hash, has_key, asked }
    }

    fn choose(&self, strategy: impl Fn(&PickRequest<'_>) -> Decision) -> Result<Choice, Unchosen> {
        self.choose_with(true, strategy)
    }

    fn choose_with(
        &self,
        has_queue: bool,
        strategy: impl Fn(&PickRequest<'_>) -> Decision,
    ) -> Result<Choice, Unchosen> {
        let chooser = Chooser {
            backends: &self.backends,
            fallback: Fallback::RoundRobin,
            cursor: &self.cursor,
            wants_hash: self.wants_hash,
        };
        let tried: Vec<_> =
            (0..).zip(&self.states).filter(|(_, state)| **state == State::Tried).map(|(i, _)| i).collect();
        let key = self.has_key.then_some((&b"key"[..], 7));
        let request = PickRequest {
            worker: None,
            attempt: 0,
            tried: &tried,
            key,
            random: 1,
            now_ns: 1,
            dry: false,
            body_length: Some(0),
            lookup: &(),
        };
        let has_room = |index: usize| self.states[index] != State::Full;
        let chosen = chooser.choose(&request, has_room, |request| {
            self.asked.borrow_mut().push(request.tried.to_vec());
            strategy(request)
        });
        match chosen {
            Err(Unchosen::Wait) if !has_queue => chooser.choose_without_queue(&request, has_room),
            chosen => chosen,
        }
    }

    /// A strategy with a fixed order of backends from `first`, as a ring has for a key.
    fn ring(&self, first: usize) -> impl Fn(&PickRequest<'_>) -> Decision {
        move |request| {
            let n = self.backends.len();
            let order = (0..n).map(|step| (first + step) % n);
            let may = |index: &usize| !request.tried.contains(&(*index as u32)) && self.backends[*index].is_eligible();
            order
                .clone()
                .find(may)
                .map_or(Decision::NoBackend, |index| Decision::Backend { index, token: index as u64 })
        }
    }

    fn every(test: impl Fn(Self)) {
        const ALL: [State; 4] = [State::Free, State::Full, State::Down, State::Tried];
        for number in 0..4_usize.pow(6) {
            let states: Vec<_> = (0..6).map(|place| ALL[number / 4_usize.pow(place) % 4]).collect();
            for (wants_hash, has_key) in [(false, false), (true, false), (true, true)] {
                test(Self::new(&states, wants_hash, has_key));
            }
        }
    }

    /// Whether some backend is in this state.
    fn has(&self, state: State) -> bool {
        self.states.contains(&state)
    }
}

#[test]
fn affinity_degrades_along_the_ring_and_ends_after_three_full_backends_more() {
    Scene::every(|scene| {
        let has_affinity = scene.wants_hash && scene.has_key;
        let candidates = (0..6).filter(|index| matches!(scene.states[*index], State::Free | State::Full));
        let first_four: Vec<_> = candidates.take(1 + ASKS_AGAIN_MAX).collect();
        let expected = first_four.iter().find(|index| scene.states[**index] == State::Free);
        let chosen = scene.choose(scene.ring(0));
        match expected {
            Some(index) => {
                assert_eq!(chosen, Ok(Choice { index: *index, token: *index as u64, fallback: None }));
            }
            None if !has_affinity && scene.has(State::Free) => {
                let choice = chosen.unwrap();
                assert_eq!(scene.states[choice.index], State::Free, "no room is left unused");
                assert_eq!(choice.fallback, Some(FallbackReason::NotEligible));
            }
            None if !first_four.is_empty() => assert_eq!(chosen, Err(Unchosen::Overload), "{:?}", scene.states),
            None if scene.has(State::Tried) => assert_eq!(chosen, Err(Unchosen::AllTried), "{:?}", scene.states),
            None => assert_eq!(chosen, Err(Unchosen::NoBackend), "{:?}", scene.states),
        }
    });
}

#[test]
fn each_ask_adds_the_full_backend_to_the_tried_ones() {
    let scene = Scene::new(&[State::Full, State::Tried, State::Full, State::Free], true, true);
    assert_eq!(scene.choose(scene.ring(0)).map(|choice| choice.index), Ok(3));
    assert_eq!(*scene.asked.borrow(), [vec![1], vec![1, 0], vec![1, 0, 2]]);
    let far = Scene::new(&[State::Full, State::Full, State::Full, State::Full, State::Free], true, true);
    assert_eq!(far.choose(far.ring(0)), Err(Unchosen::Overload), "the fifth is too far");
    assert_eq!(far.choose(far.ring(1)).map(|choice| choice.index), Ok(4), "the fourth is not");
    let free = Scene::new(&[State::Free, State::Full], true, true);
    assert_eq!(free.choose(free.ring(0)).map(|choice| choice.index), Ok(0));
    assert_eq!(free.asked.borrow().len(), 1, "a pick with room needs one ask");
}

#[test]
fn no_strategy_gets_a_tried_full_or_down_backend_chosen_or_is_asked_too_often() {
    for seed in 0..3 {
        let random = RefCell::new(fastrand::Rng::with_seed(seed));
        Scene::every(|scene| {
            // What a picker returns after its checks: any untried backend, also a full one or one that is down.
            let any = |request: &PickRequest<'_>| {
                let index = random.borrow_mut().usize(..9);
                match index {
                    6 => Decision::NoBackend,
                    7 => Decision::Refused(Refusal::Panic),
                    8 => Decision::Wait,
                    tried if request.tried.contains(&(tried as u32)) => Decision::Refused(Refusal::AlreadyTried),
                    index => Decision::Backend { index, token: 1 },
                }
            };
            match scene.choose(any) {
                Ok(choice) => assert_eq!(scene.states[choice.index], State::Free),
                Err(Unchosen::AllTried) => {
                    assert!(scene.has(State::Tried) && !scene.has(State::Free) && !scene.has(State::Full));
                }
                Err(Unchosen::Overload) => assert!(scene.has(State::Full)),
                // A retry waits only for another backend, a first attempt for any.
                Err(Unchosen::Wait) => {
                    assert!(!scene.has(State::Tried) || scene.has(State::Free) || scene.has(State::Full));
                }
                // The list of the strategy may be older than the live flags, and have none.
                Err(Unchosen::NoBackend) => {}
            }
            assert!(scene.asked.borrow().len() <= 1 + ASKS_AGAIN_MAX);
        });
    }
}

#[test]
fn a_strategy_whose_list_has_no_backend_gets_no_fallback_and_one_that_declines_gets_it() {
    let scene = Scene::new(&[State::Free, State::Full], false, false);
    assert_eq!(scene.choose(|_| Decision::NoBackend), Err(Unchosen::NoBackend));
    let declined = |_: &PickRequest<'_>| Decision::Refused(Refusal::Declined);
    let choice = scene.choose(declined).unwrap();
    assert_eq!((choice.index, choice.fallback), (0, Some(FallbackReason::Declined)), "the client is served");
    let all_full = Scene::new(&[State::Full, State::Down], false, false);
    assert_eq!(all_full.choose(declined), Err(Unchosen::Overload), "the request may wait");
    // It has only the full backend to offer, so waiting helps.
    let first = Cell::new(true);
    let only_full = |_: &PickRequest<'_>| match first.replace(false) {
        true => Decision::Backend { index: 1, token: 1 },
        false => Decision::NoBackend,
    };
    assert_eq!(scene.choose(only_full), Err(Unchosen::Overload));
}

#[test]
fn a_strategy_may_let_a_request_wait_and_without_a_queue_the_fallback_picks() {
    use State::{Down, Free, Full, Tried};
    let wait = |states: &[State], has_queue| {
        let chosen = Scene::new(states, false, false).choose_with(has_queue, |_| Decision::Wait);
        chosen.map(|choice| (choice.index, choice.fallback.unwrap().as_str()))
    };
    assert_eq!(wait(&[Free, Free], true), Err(Unchosen::Wait), "although a backend has room");
    assert_eq!(wait(&[Full, Down], true), Err(Unchosen::Wait));
    assert_eq!(wait(&[Down, Down], true), Err(Unchosen::Wait), "one may recover");
    assert_eq!(wait(&[Tried, Full], true), Err(Unchosen::Wait), "a retry, for the other one");
    assert_eq!(wait(&[Tried, Down], true), Err(Unchosen::AllTried), "a retry has nothing to wait for");
    assert_eq!(wait(&[Tried, Full, Free], false), Ok((2, "no_queue")));
    assert_eq!(wait(&[Full, Down], false), Err(Unchosen::Overload));
    assert_eq!(wait(&[Down], false), Err(Unchosen::NoBackend));
    // A full pick, and then a wait.
    let scene = Scene::new(&[Full, Free], false, false);
    let first = Cell::new(true);
    let chosen = scene.choose(|_| match first.replace(false) {
        true => Decision::Backend { index: 0, token: 1 },
        false => Decision::Wait,
    });
    assert_eq!(chosen, Err(Unchosen::Wait));
}

#[test]
fn a_retry_takes_another_backend_while_one_is_eligible_and_then_says_so() {
    // Three attempts that fail, on a ring: 2, 3, then all are tried.
    let mut states = [State::Down, State::Down, State::Free, State::Free];
    let mut order = Vec::new();
    let end = loop {
        let scene = Scene::new(&states, true, true);
        match scene.choose(scene.ring(2)) {
            Ok(choice) => {
                order.push(choice.index);
                states[choice.index] = State::Tried;
            }
            Err(end) => break end,
        }
    };
    assert_eq!((order, end), (vec![2, 3], Unchosen::AllTried));
}

#[test]
fn caps_count_requests_and_connections() {
    let none = Caps::default();
    assert!(none.has_room(u32::MAX, u32::MAX, 0) && none.room(9, 9, 9).is_none());
    for requests in [None, Some(0), Some(3)] {
        for connections in [None, Some(0), Some(3)] {
            let caps = Caps { requests, connections };
            for in_flight in 0..5 {
                for open in 0..5 {
                    for idle in 0..=open as usize {
                        let below = requests.is_none_or(|most| in_flight < most);
                        let can_connect = idle > 0 || connections.is_none_or(|most| open < most);
                        assert_eq!(caps.has_room(in_flight, open, idle), below && can_connect);
                        let room = caps.room(in_flight, open, idle);
                        assert_eq!(room.is_none_or(|room| room > 0), caps.has_room(in_flight, open, idle), "{caps:?}");
                    }
                }
            }
        }
    }
    let caps = Caps { requests: Some(10), connections: Some(6) };
    assert_eq!([caps.room(0, 0, 0), caps.room(0, 5, 2), caps.room(8, 1, 1)], [Some(6), Some(3), Some(2)]);
}
