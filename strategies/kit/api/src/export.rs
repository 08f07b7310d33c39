//! The macro that makes a crate a plugin.

/// Exports a [`Strategy`](crate::Strategy) as the entry symbol of this library. Use it once in a crate of type
/// `cdylib`.
///
/// A complete strategy. It picks the first candidate:
///
/// ```
/// use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, Strategy};
///
/// struct First;
///
/// impl Strategy for First {
///     const NAME: &'static str = "first";
///     type Config = NoOptions;
///     type Picker = ();
///
///     fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
///         Ok(Self)
///     }
///
///     fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
///         Ok(())
///     }
///
///     fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
///         backends.candidates(request).next().map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
///     }
/// }
///
/// lb_strategy::export!(First);
/// ```
#[macro_export]
macro_rules! export {
    ($strategy:ty) => {
        #[cfg(panic = "abort")]
        compile_error!("a strategy needs panic = \"unwind\": with abort, one panic would end the load balancer");

        const _: () = {
            static TABLE: $crate::abi::LbStrategyTable = $crate::ffi::hooks::table::<$strategy>(
                env!("CARGO_PKG_VERSION"),
                concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), ", ", $crate::sdk_version!()),
            );

            /// The entry that the host looks up.
            ///
            /// # Safety
            /// `host` is null or valid until the process ends.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn lb_strategy_entry_v1(
                host: *const $crate::abi::LbHost,
            ) -> *const $crate::abi::LbStrategyTable {
                // SAFETY: `host` is as `entry` requires.
                unsafe { $crate::ffi::hooks::entry(host, &TABLE) }
            }
        };
    };
}

/// The SDK's name and version as a literal, for `concat!`.
#[doc(hidden)]
#[macro_export]
macro_rules! sdk_version {
    () => {
        "lb-strategy 0.1"
    };
}
