//! For the tests of this crate: strategies of one function, and their pickers.

use lb_strategy::Strategy;
use lb_strategy::ffi::hooks::table;
use lb_strategy_conformance::{Picker, World, json, strategy};

/// A strategy `$name` whose pick is the index that `$pick` returns.
macro_rules! probe {
    ($name:ident, |$backends:ident, $request:ident| $pick:expr) => {
        struct $name;

        impl lb_strategy::Strategy for $name {
            const NAME: &'static str = "probe";
            type Config = lb_strategy::NoOptions;
            type Picker = ();

            fn new(_: lb_strategy::NoOptions, _: lb_strategy::Host) -> Result<Self, lb_strategy::Error> {
                Ok(Self)
            }

            fn picker(&self, _: &lb_strategy::Backends<'_>) -> Result<(), lb_strategy::Error> {
                Ok(())
            }

            fn pick(
                &self,
                _: &(),
                $backends: &lb_strategy::Backends<'_>,
                $request: &lb_strategy::Request<'_>,
            ) -> lb_strategy::Pick {
                let picked: Option<usize> = $pick;
                picked.map_or(lb_strategy::Pick::NoBackend, lb_strategy::Pick::Backend)
            }
        }
    };
}
pub(crate) use probe;

/// The picker of a new instance of `S`.
pub(crate) fn picker<S: Strategy>(world: &World) -> Picker {
    // A test makes few tables, and a plugin's table lives as long as the process.
    let table = Box::leak(Box::new(table::<S>("0", "test")));
    world.picker(&strategy(&*table, &json!({})).unwrap()).unwrap()
}
