//! Rules for unit tests: checks once a second, down after 3 and up after 2.

use std::time::Duration;

use crate::config::{CheckKind, Health, InitialState};

pub(in crate::control) fn rules() -> Health {
    let second = Duration::from_secs(1);
    Health {
        enabled: true,
        kind: CheckKind::Http,
        path: "/heartbeat".into(),
        host: None,
        port: None,
        expect_status: vec![100..=499],
        expect_body: None,
        interval: second,
        fast_interval: second / 4,
        timeout: second,
        down_after: 3,
        up_after: 2,
        initial: InitialState::Up,
    }
}
