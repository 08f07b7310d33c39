//! The macro that makes a crate a plugin.

/// Exports a [`Strategy`](crate::Strategy) as this library's one entry symbol. Once per crate, whose type is `cdylib`.
///
/// ```ignore
/// lb_strategy::export!(RoundRobin);
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

            /// The entry that the host looks for.
            ///
            /// # Safety
            /// `host` is null or valid until the process ends.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn lb_strategy_entry_v1(
                host: *const $crate::abi::LbHost,
            ) -> *const $crate::abi::LbStrategyTable {
                // SAFETY: the host's promise, passed on.
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
