//! The instructions of one pick through the host, without the loop around it: for comparing two builds of the host.
//!
//! Run it under callgrind, with a library that asks for nothing and does little. A library in C that always picks
//! index 0 is best.
//!
//! `valgrind --tool=callgrind --toggle-collect='*one_pick::one_pick*' target/release/examples/one_pick LIBRARY PICKS`
//!
//! The cost is callgrind's "Collected", divided by PICKS. It includes the call of `one_pick` itself. Callgrind needs
//! the name of the function: build with `CARGO_PROFILE_RELEASE_STRIP=none`.

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;

use lb_strategy_conformance::{Decision, Picker, Strategy, World};
use lb_strategy_host::{Loader, PickRequest, Wanted};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(library), Some(picks)) = (words.next(), words.next()) else {
        return Err("two arguments are needed: LIBRARY PICKS".into());
    };
    let (library, picks) = (PathBuf::from(library), picks.parse::<u64>()?);
    let directory = std::env::temp_dir().join(format!("one_pick.{}", std::process::id()));
    let plugin = Loader::new(directory.clone(), 1).load(&Wanted { path: &library, name: None, sha256: None });
    let _ = std::fs::remove_dir_all(directory);
    let picker = World::of(3).picker(&Strategy::new(plugin?, &json!({}))?)?;
    for number in 0..picks {
        let request = PickRequest {
            worker: Some(0),
            attempt: 0,
            tried: &[],
            key: Some((b"123456", number)),
            random: number,
            now_ns: number,
            dry: false,
            body_length: Some(0),
            lookup: &(),
        };
        black_box(one_pick(&picker, black_box(&request)));
    }
    Ok(())
}

#[inline(never)]
fn one_pick(picker: &Picker, request: &PickRequest<'_>) -> Decision {
    picker.pick(request)
}
