//! What goes wrong with a backend, and when. The kinds are those of the live experiments, and some more.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::time::Time;

/// A fault of one backend for a time. It is read by hand, because serde ignores unknown keys beside a flattened field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// From the end of the warm-up.
    pub at: Time,
    /// Default: until the end.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Time>,
    /// The number of the backend, from 1. Not used by `hot_key`.
    pub backend: u32,
    #[serde(flatten)]
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FaultKind {
    /// It works slower by this factor.
    Slow { factor: f64 },
    /// Each request takes this much longer.
    Delay { extra: Time },
    /// It stands still, as a process that is stopped by a signal. Afterwards it continues.
    Stall,
    /// It accepts requests and never responds to them; those that it has continue.
    Hang,
    /// It refuses connections; requests that it has continue.
    Refuse,
    /// Its process ends. Its requests are reset, and it refuses connections until it is there again.
    Kill,
    /// This share of its requests gets an error at once: a sinkhole.
    Errors {
        rate: f64,
        #[serde(default = "internal_server_error")]
        status: u16,
        /// Whether health checks fail, too.
        #[serde(default)]
        checks: bool,
    },
    /// This share of its connections is reset when the request arrives.
    Reset { rate: f64 },
    /// It leaves the pool. After `for` it joins again.
    Remove,
    /// This share of all requests has the same key.
    HotKey { share: f64 },
}

const fn internal_server_error() -> u16 {
    500
}

// === impl Fault ===

impl Fault {
    /// Until the end of the simulation.
    pub fn new(at: Time, backend: u32, kind: FaultKind) -> Self {
        Self { at, lasts: None, backend, kind }
    }

    #[must_use]
    pub fn lasting(self, lasts: Time) -> Self {
        Self { lasts: Some(lasts), ..self }
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = Map::deserialize(deserializer)?;
        let at = taken(&mut keys, "at")?.ok_or_else(|| D::Error::missing_field("at"))?;
        let (lasts, backend) = (taken(&mut keys, "for")?, taken(&mut keys, "backend")?.unwrap_or_default());
        let kind: FaultKind = serde_json::from_value(Value::Object(keys.clone())).map_err(D::Error::custom)?;
        match keys.keys().find(|key| *key != "kind" && !kind.keys().contains(&key.as_str())) {
            Some(key) => {
                let known = ["at", "for", "backend"].iter().chain(kind.keys()).copied().collect::<Vec<_>>().join(", ");
                Err(D::Error::custom(format_args!("unknown key `{key}`: this kind has {known}")))
            }
            None => Ok(Self { at, lasts, backend, kind }),
        }
    }
}

/// Takes a key out of the map; `None` if it is not there.
fn taken<T: DeserializeOwned, E: Error>(keys: &mut Map<String, Value>, key: &str) -> Result<Option<T>, E> {
    let value = keys.remove(key).map(serde_json::from_value).transpose();
    value.map_err(|error| E::custom(format_args!("{key}: {error}")))
}

// === impl FaultKind ===

impl FaultKind {
    /// Whether it affects one backend, not the pool.
    pub const fn affects_one(self) -> bool {
        !matches!(self, Self::HotKey { .. })
    }

    /// The keys of this kind beside `kind` and those of every fault.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Slow { .. } => &["factor"],
            Self::Delay { .. } => &["extra"],
            Self::Errors { .. } => &["rate", "status", "checks"],
            Self::Reset { .. } => &["rate"],
            Self::HotKey { .. } => &["share"],
            Self::Stall | Self::Hang | Self::Refuse | Self::Kill | Self::Remove => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Fault, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_key_of_no_fault_or_of_another_kind_is_refused() {
        let slow = read("at = \"1s\"\nfor = \"2s\"\nkind = \"slow\"\nfactor = 4\nbackend = 2").unwrap();
        assert_eq!(slow, Fault::new(Time::seconds(1), 2, FaultKind::Slow { factor: 4.0 }).lasting(Time::seconds(2)));
        assert_eq!(toml::from_str::<Fault>(&toml::to_string(&slow).unwrap()).unwrap(), slow);
        let misspelt = read("at = \"1s\"\nkind = \"stall\"\nback_end = 2").unwrap_err();
        assert_eq!(misspelt, "unknown key `back_end`: this kind has at, for, backend");
        let of_another = read("at = \"1s\"\nkind = \"slow\"\nfactor = 4\nextra = \"1s\"").unwrap_err();
        assert_eq!(of_another, "unknown key `extra`: this kind has at, for, backend, factor");
        assert_eq!(read("kind = \"stall\"").unwrap_err(), "missing field `at`");
        assert!(read("at = \"1\"\nkind = \"stall\"").unwrap_err().starts_with("at: \"1\" is no time"));
        assert!(read("at = \"1s\"\nkind = \"slow\"").unwrap_err().contains("missing field `factor`"));
    }
}
