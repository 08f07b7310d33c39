//! Panics of a Rust strategy that is linked in. Its options name the hook that panics. No panic leaves the table, even
//! if its payload panics again when it is dropped.

use std::sync::Arc;

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Host, Outcome, Pick, Request, StateSchema, Tick};
use lb_strategy_host::{Decision, Finish, HookError, Picker, Refusal, Strategy, backend_id, plugin_from_table};
use serde::Deserialize;
use serde_json::json;

use crate::fixture::{HeaderList, list, request};

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Panicky>("0", "test");

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Place {
    Nowhere,
    New,
    Picker,
    Pick,
    Finish,
    Export,
    Import,
    Tick,
    Explain,
    PickerDrop,
    StrategyDrop,
}

#[derive(Deserialize)]
struct Options {
    place: Place,
    /// Whether the payload panics when it is dropped.
    bomb: bool,
}

struct Panicky(Arc<Options>);
struct PanickyPicker(Arc<Options>);
struct Bomb;

// === impl Options ===

impl Options {
    fn reached(&self, place: Place) {
        match (self.place == place, self.bomb) {
            (false, _) => {}
            (true, true) => std::panic::panic_any(Bomb),
            (true, false) => panic!("as the options say"),
        }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload's drop panics");
    }
}

// === impl Panicky ===

impl lb_strategy::Strategy for Panicky {
    const NAME: &'static str = "panicky";
    const WANTS_FINISH: bool = true;
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "panicky", version: 1 });
    const TICK_MS: u32 = 1;
    const EXPLAINS: bool = true;
    type Config = Options;
    type Picker = PanickyPicker;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        options.reached(Place::New);
        Ok(Self(Arc::new(options)))
    }

    fn picker(&self, _: &Backends<'_>) -> Result<PanickyPicker, Error> {
        self.0.reached(Place::Picker);
        Ok(PanickyPicker(self.0.clone()))
    }

    fn pick(&self, _: &PanickyPicker, _: &Backends<'_>, _: &Request<'_>) -> Pick {
        self.0.reached(Place::Pick);
        Pick::Backend(0)
    }

    fn on_finish(&self, _: &lb_strategy::Finish<'_>) {
        self.0.reached(Place::Finish);
    }

    fn export(&self) -> Vec<u8> {
        self.0.reached(Place::Export);
        Vec::new()
    }

    fn import(&self, _: u32, _: &[u8]) -> Result<(), Error> {
        self.0.reached(Place::Import);
        Ok(())
    }

    fn tick(&self, _: u64) -> Tick {
        self.0.reached(Place::Tick);
        Tick::Rebuild
    }

    fn explain(&self, _: &PanickyPicker, _: &Backends<'_>, _: &Request<'_>) -> String {
        self.0.reached(Place::Explain);
        "{}".to_owned()
    }
}

impl Drop for Panicky {
    fn drop(&mut self) {
        self.0.reached(Place::StrategyDrop);
    }
}

impl Drop for PanickyPicker {
    fn drop(&mut self) {
        self.0.reached(Place::PickerDrop);
    }
}

/// The result of each hook that has one, in the order of calls: import, export, tick, then pick and explain. An
/// instance or a picker that cannot be made ends the list. Finishes and drops run too, without a result.
fn live(place: &str, bomb: bool) -> Vec<String> {
    let word = |result: Result<(), HookError>| result.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
    let plugin = plugin_from_table(&TABLE, 1).expect("a sound table");
    let mut story = Vec::new();
    let strategy = match Strategy::new(plugin, &json!({ "place": place, "bomb": bomb })) {
        Ok(strategy) => strategy,
        Err(error) => return vec![error.to_string()],
    };
    story.push(word(strategy.import_state(1, b"")));
    story.push(word(strategy.export_state().expect("a hook").map(drop)));
    story.push(word(strategy.tick(1).map(drop)));
    match Picker::new(strategy.clone(), list(1, &[0])) {
        Err(error) => story.push(error.to_string()),
        Ok(picker) => {
            let headers = HeaderList(&[]);
            story.push(match picker.pick(&request(&[], &headers)) {
                Decision::Backend { index: 0, token: 0 } => "ok".to_owned(),
                Decision::Refused(Refusal::Panic) => "pick panicked".to_owned(),
                other => format!("{other:?}"),
            });
            picker.finish(&Finish {
                worker: None,
                backend_id: backend_id("b0"),
                outcome: Outcome::Ok,
                http_status: Some(200),
                attempt: 0,
                own: true,
                upgraded: false,
                token: 0,
                time_to_head_ns: 1,
                total_ns: 1,
                now_ns: 1,
            });
            let words = picker.explain(&request(&[], &headers)).expect("it has the hook");
            story.push(words.map_or_else(|error| error.to_string(), |_| "ok".to_owned()));
        }
    }
    drop(strategy);
    story
}

#[test]
fn a_panic_does_not_leave_the_plugin_and_is_reported() {
    for bomb in [false, true] {
        for (place, expected) in [
            ("nowhere", "ok, ok, ok, ok, ok"),
            ("new", "strategy panicky failed in strategy_new: it panicked"),
            ("import", "strategy panicky failed in state_import: it panicked, ok, ok, ok, ok"),
            ("export", "ok, strategy panicky failed in state_export: it panicked, ok, ok, ok"),
            ("tick", "ok, ok, strategy panicky failed in tick: it panicked, ok, ok"),
            ("picker", "ok, ok, ok, strategy panicky failed in picker_new: it panicked"),
            ("pick", "ok, ok, ok, pick panicked, ok"),
            ("finish", "ok, ok, ok, ok, ok"),
            ("explain", "ok, ok, ok, ok, strategy panicky failed in explain: it panicked"),
            ("picker_drop", "ok, ok, ok, ok, ok"),
            ("strategy_drop", "ok, ok, ok, ok, ok"),
        ] {
            assert_eq!(live(place, bomb).join(", "), expected, "panic in {place}, payload that panics: {bomb}");
        }
    }
}
