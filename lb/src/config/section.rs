//! Sections that pools and routes may set for themselves: one list of keys makes the full and the partial form.
//!
//! The full form has every key and its default: `[timeouts]`. In the partial form every key is optional:
//! `[pools.api.timeouts]`. A pool's partial form goes over the global section, and a route's over that of its pool
//! ([`Partial::over`]). [`Scope`] says for each key where it may be set.
//!
//! To add a section of requests:
//!
//! 1. List its keys with `section!` in [`super::file`], or beside their checks as in [`super::failing`]. Add the full
//!    form to `File`, and the partial one to `PoolTable` and `Route`.
//! 2. Add a field to [`Sections`](super::policy::Sections), [`Own`](super::policy::Own) and
//!    [`Policy`](super::validated::Policy). The compiler then names the places that need a line. The global values are
//!    the first policy; `Config` needs no field.
//! 3. Describe the keys in `config/lb.toml`.
//!
//! A section that only pools have is like `health`: it has no field in `Route`, and a line in [`not_for_a_route`].
//!
//! Invariant: both forms have the same keys, because they come from one list.

use super::error::Fault;
use super::key_path::{KeyPath, Step};

/// Where a key may be set, beside its global section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// For a pool and for a route.
    Route,
    /// For a pool; the reason why not for a route.
    Pool(&'static str),
    /// Nowhere else; the reason.
    Global(&'static str),
}

/// The owner of a partial form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Pool,
    Route,
}

/// The partial form of a section.
pub(super) trait Partial {
    type Full;

    const KEYS: &'static [(&'static str, Scope)];

    /// `full` with the keys that are set here.
    fn over(&self, full: &Self::Full) -> Self::Full;

    fn is_set(&self, key: &str) -> bool;

    /// The keys of `full` that do not have their default.
    fn changed_in(full: &Self::Full) -> Self;
}

/// Defines a section's full and partial form. A key is written `name: type = default, scope;`.
macro_rules! section {
    ($full:ident, $partial:ident { $($(#[$attribute:meta])* $key:ident: $type:ty = $default:expr, $scope:expr;)* }) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default, expecting = "a table")]
        pub(super) struct $full {
            $($(#[$attribute])* pub(super) $key: $type,)*
        }

        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default, expecting = "a table")]
        pub(super) struct $partial {
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(super) $key: Option<$type>,
            )*
        }

        impl $partial {
            /// Without a key.
            pub(super) const NONE: Self = Self { $($key: None,)* };
        }

        impl Default for $full {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl $crate::config::section::Partial for $partial {
            type Full = $full;

            const KEYS: &'static [(&'static str, $crate::config::section::Scope)] = &[$((stringify!($key), $scope),)*];

            fn over(&self, full: &$full) -> $full {
                $full { $($key: self.$key.clone().unwrap_or_else(|| full.$key.clone()),)* }
            }

            fn is_set(&self, key: &str) -> bool {
                match key {
                    $(stringify!($key) => self.$key.is_some(),)*
                    _ => false,
                }
            }

            fn changed_in(full: &$full) -> Self {
                let default = $full::default();
                Self { $($key: (full.$key != default.$key).then(|| full.$key.clone()),)* }
            }
        }
    };
}

pub(super) use section;

/// Refuses the keys in `own`, which is the section `key`, that have no meaning for `owner`.
pub(super) fn check_scopes<P: Partial>(own: &P, key: &KeyPath, owner: Owner) -> Result<(), Fault> {
    let name = match key.steps().last() {
        Some(Step::Key(name)) => name.as_str(),
        _ => "",
    };
    for (set, scope) in P::KEYS.iter().filter(|(set, _)| own.is_set(set)) {
        let what = match (scope, owner) {
            (Scope::Global(why), _) => format!("{why}: set it in [{name}]"),
            (Scope::Pool(why), Owner::Route) => format!("{why}: set it in [pools.NAME.{name}] or [{name}]"),
            (Scope::Pool(_), Owner::Pool) | (Scope::Route, _) => continue,
        };
        return Err(Fault::new(key.key(set), what));
    }
    Ok(())
}

/// What to write instead of a section that only pools have, if `key` is one on a route.
pub(super) fn not_for_a_route(key: &KeyPath) -> Option<String> {
    let [Step::Key(routes), Step::Index(_), Step::Key(section)] = key.steps() else { return None };
    let why = match section.as_str() {
        "health" => "lb checks backends, which belong to a pool",
        "sticky" => "a session belongs to a backend of a pool",
        "outlier" | "panic" | "slow_start" => "the rule is about backends, which belong to a pool",
        "queue" => "the requests of all routes wait in the queue of their pool",
        _ => return None,
    };
    (routes == "routes").then(|| format!("{why}: set it in [pools.NAME.{section}] or [{section}]"))
}
