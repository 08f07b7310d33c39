//! Tests of the members of a pool.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::config::Labels;

fn entry(id: &str, origin: Origin, order: usize) -> Entry {
    let (address, socket) = ("127.0.0.1:5001".to_owned(), "127.0.0.1:5001".parse().unwrap());
    let labels = Labels::default();
    Entry { id: id.into(), address, socket, weight: 1, origin, order, draining: false, backup: false, labels }
}

fn ids(members: &Members) -> Vec<&str> {
    members.iter().map(|member| &*member.entry.id).collect()
}

#[test]
fn the_order_is_file_attached_launched_however_members_were_added() {
    let mut members = Members::default();
    for (id, origin, order) in [
        ("l1", Origin::Launched, 0),
        ("a2", Origin::Attached, 1),
        ("f2", Origin::File, 1),
        ("l2", Origin::Launched, 1),
        ("f1", Origin::File, 0),
        ("a1", Origin::Attached, 0),
    ] {
        assert!(members.insert(entry(id, origin, order)));
    }
    assert_eq!(ids(&members), ["f1", "f2", "a1", "a2", "l1", "l2"]);
    assert!(!members.insert(entry("f1", Origin::Attached, 9)), "ids are unique over all origins");
    assert_eq!(members.next_order(Origin::Launched), 2);
}

#[test]
fn a_plan_has_each_member_once_and_keeps_the_backends_of_those_that_stay() {
    let mut members = Members::of(&[entry("f1", Origin::File, 0), entry("l1", Origin::Launched, 0)], InitialState::Up);
    let planned =
        members.planned(&[entry("f2", Origin::File, 0), entry("l1", Origin::Launched, 0)], InitialState::Up, None);
    assert_eq!(planned.iter().map(|member| &*member.entry.id).collect::<Vec<_>>(), ["f2", "l1"]);
    assert!(Arc::ptr_eq(&planned[1].backend, &members.get("l1").unwrap().backend));
    let Replaced { came, gone, left } = members.replace(planned);
    assert_eq!((came.len(), gone.len(), left.len()), (1, 1, 1));
    assert_eq!(ids(&members), ["f2", "l1"]);
}

#[test]
fn live_numbers_are_kept_over_removal_and_return_and_a_change_of_address() {
    let mut members = Members::default();
    members.insert(entry("b1", Origin::File, 0));
    members.get("b1").unwrap().backend.attempt_begins();
    let first = members.remove("b1").unwrap().backend;
    assert!(!first.is_eligible(), "a removed one takes nothing new");
    members.insert(entry("b1", Origin::File, 0));
    let second = members.get("b1").unwrap().backend.clone();
    assert_eq!(second.in_flight(), 1);
    assert!(second.is_eligible() && !first.is_eligible());
    assert!(members.set_address("b1", "127.0.0.1:6001", "127.0.0.1:6001".parse().unwrap()));
    let third = members.get("b1").unwrap().backend.clone();
    assert!(!second.is_eligible() && third.is_eligible());
    assert_eq!((third.in_flight(), third.socket.port()), (1, 6001));
    assert!(!members.set_address("b1", "127.0.0.1:6001", "127.0.0.1:6001".parse().unwrap()), "the same is no change");
}

#[test]
fn eligibility_acts_on_the_live_backend_at_once() {
    let mut members = Members::default();
    members.insert(entry("b1", Origin::File, 0));
    members.insert(entry("l1", Origin::Launched, 0));
    let (b1, l1) = (members.get("b1").unwrap().backend.clone(), members.get("l1").unwrap().backend.clone());
    assert!(b1.is_eligible() && !l1.is_eligible(), "a launched one waits for its first good check");
    members.update("b1", |member| member.entry.weight = 0);
    assert!(!b1.is_eligible());
    members.update("b1", |member| member.entry.weight = 2);
    assert!(b1.is_eligible());
    members.update("b1", |member| member.entry.draining = true);
    assert!(!b1.is_eligible());
    members.update("l1", |member| member.standing.trust());
    assert!(l1.is_eligible());
}

#[test]
fn restoring_undoes_the_membership_but_not_the_checks() {
    let mut members = Members::default();
    members.insert(entry("b1", Origin::File, 0));
    members.insert(entry("b2", Origin::File, 1));
    let snapshot = members.snapshot();
    members.remove("b1");
    members.insert(entry("a1", Origin::Attached, 0));
    let added = members.get("a1").unwrap().backend.clone();
    members.update("b2", |member| {
        member.entry.weight = 9;
        member.standing.fell("gone".into());
    });
    members.restore(snapshot);
    assert_eq!(ids(&members), ["b1", "b2"]);
    assert!(members.get("b1").unwrap().backend.is_eligible());
    let b2 = members.get("b2").unwrap();
    assert_eq!((b2.entry.weight, b2.backend.is_eligible()), (1, false), "still down");
    assert!(!added.is_eligible());
}

#[test]
fn restoring_keeps_the_present_shares_so_that_a_look_does_not_change_them_again() {
    let mut members = Members::of(&[entry("b1", Origin::File, 0), entry("b2", Origin::File, 1)], InitialState::Up);
    members.slow_start.set_ramp(Some(Ramp::default()));
    members.look_at_shares(0);
    members.update("b2", |member| member.standing.fell("gone".into()));
    members.look_at_shares(1);
    let published = members.snapshot();
    members.update("b2", |member| member.standing.trust());
    assert_eq!(members.look_at_shares(2).len(), 1);
    members.restore(published);
    assert_eq!(members.look_at_shares(2), []);
}

#[test]
fn a_warm_member_whose_removal_is_refused_stays_warm() {
    let mut members = Members::of(&[entry("b1", Origin::File, 0), entry("b2", Origin::File, 1)], InitialState::Up);
    members.slow_start.set_ramp(Some(Ramp::default()));
    members.look_at_shares(0);
    let published = members.snapshot();
    members.remove("b1");
    members.look_at_shares(1);
    members.restore(published);
    assert_eq!(members.look_at_shares(2), []);
}

#[test]
fn live_numbers_of_removed_idle_backends_are_dropped_at_a_limit() {
    let mut members = Members::default();
    members.insert(entry("busy", Origin::File, 0));
    let busy = members.remove("busy").unwrap().backend;
    busy.attempt_begins();
    for n in 0..2 * REMEMBERED_MAX {
        members.insert(entry(&format!("b{n}"), Origin::Attached, n));
        members.remove(&format!("b{n}"));
    }
    assert!(members.stats.len() <= REMEMBERED_MAX + 1);
    members.insert(entry("busy", Origin::File, 0));
    assert_eq!(members.get("busy").unwrap().backend.in_flight(), 1);
}

#[test]
fn a_member_that_joins_by_a_reload_has_its_first_share_in_the_first_list() {
    let file = [entry("f1", Origin::File, 0), entry("f2", Origin::File, 1)];
    let mut members = Members::of(&file[..1], InitialState::Up);
    let ramp = Some(Ramp::default());
    members.look_at_shares(0);
    let shares = |planned: &[Member]| planned.iter().map(Member::share).collect::<Vec<_>>();
    assert_eq!(shares(&members.planned(&file, InitialState::Up, None)), [1000, 1000]);
    let down = members.planned(&file, InitialState::Down, ramp);
    assert_eq!(shares(&down), [1000, 1000], "it has no share before it is up");
    let planned = members.planned(&file, InitialState::Up, ramp);
    assert_eq!(shares(&planned), [1000, 100], "also if the same reload switches slow start on");
    members.replace(planned);
    members.slow_start.set_ramp(ramp);
    assert_eq!(members.shares_due_ns(), 0, "a change of members asks for a look");
    assert_eq!(members.look_at_shares(1), [], "the list in force has these shares already");
    let moved = Entry { socket: "127.0.0.1:5002".parse().unwrap(), ..file[0].clone() };
    let planned = members.planned(&[moved, file[1].clone()], InitialState::Up, ramp);
    members.replace(planned);
    members.look_at_shares(2);
    assert_eq!(shares(&members.snapshot()), [100, 100], "another server under the same id is new");

    let closed = file.map(|entry| Entry { weight: 0, ..entry });
    let planned = members.planned(&closed, InitialState::Up, ramp);
    assert_eq!(members.replace(planned).came.len(), 1);
    members.look_at_shares(3);
    let open = closed.map(|entry| Entry { weight: 1, ..entry });
    assert_eq!(shares(&members.planned(&open, InitialState::Up, ramp)), [100, 100], "their ramps begin when they open");
}

#[test]
fn a_member_that_stays_can_be_picked_at_each_moment_of_a_restore() {
    let mut members = Members::of(&[entry("f1", Origin::File, 0)], InitialState::Up);
    let backend = members.get("f1").unwrap().backend.clone();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !is_over.load(Relaxed) {
                assert!(backend.is_eligible(), "a request would have found no backend");
            }
        });
        for _ in 0..10_000 {
            let snapshot = members.snapshot();
            members.insert(entry("f2", Origin::File, 1));
            members.restore(snapshot);
        }
        is_over.store(true, Relaxed);
        watcher.join().unwrap();
    });
    assert_eq!(ids(&members), ["f1"]);
}

#[test]
fn new_rules_are_applied_to_present_counts_at_once() {
    let mut members = Members::of(&[entry("f1", Origin::File, 0)], InitialState::Up);
    members.look(0, |_| (0, 0));
    assert!(members.next_look_ns() > 0);
    members.set_rules(OutlierRules::default(), PanicRules::OFF, None);
    assert_eq!(members.next_look_ns(), 0);
}
