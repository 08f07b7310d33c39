//! The JSON form: an object with the fields of the message, by their names there or by their names in JSON.
//!
//! Values are visited in place, so no tree is built. Unknown fields are skipped, for the reason in `text`. Invariants:
//! a number of a known field is a JSON number, and the object is all that the text has.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};

use super::Malformed;
use super::draft::{Draft, Map, Scalar};

pub(super) fn read(text: &[u8], draft: &mut Draft<'_>) -> Result<(), Malformed> {
    let mut refused = None;
    let mut parser = serde_json::Deserializer::from_slice(text);
    let read = parser.deserialize_map(Report { draft, refused: &mut refused });
    match read.and_then(|()| parser.end()) {
        Ok(()) => Ok(()),
        Err(_) => Err(refused.unwrap_or(Malformed::Json)),
    }
}

/// The object.
struct Report<'r, 'm> {
    draft: &'r mut Draft<'m>,
    /// Set if a value was refused; then the error of the parser only ends the walk.
    refused: &'r mut Option<Malformed>,
}

/// One map of the object.
struct Entries<'r, 'm> {
    report: Report<'r, 'm>,
    map: Map,
}

/// A name, reduced to a value by a function, so that it is not copied.
struct Name<F>(F);

/// The meaning of a name of the object.
enum Field {
    Scalar(Scalar),
    Map(Map),
    Unknown,
}

// === impl Report ===

impl Report<'_, '_> {
    fn took<E: Error>(&mut self, taken: Result<(), Malformed>) -> Result<(), E> {
        taken.map_err(|malformed| {
            *self.refused = Some(malformed);
            E::custom(malformed)
        })
    }
}

impl<'de> Visitor<'de> for Report<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with the fields of OrcaLoadReport")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        while let Some(field) = fields.next_key_seed(Name(Field::of))? {
            match field {
                Field::Scalar(scalar) => {
                    let taken = self.draft.scalar(scalar, fields.next_value()?);
                    self.took(taken)?;
                }
                Field::Map(map) => {
                    let report = Report { draft: &mut *self.draft, refused: &mut *self.refused };
                    fields.next_value_seed(Entries { report, map })?;
                }
                Field::Unknown => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

// === impl Entries ===

impl<'de> DeserializeSeed<'de> for Entries<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of names and numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { mut report, map } = self;
        while let Some(place) = entries.next_key_seed(Name(|key: &str| report.draft.place(map, key.as_bytes())))? {
            let Some(place) = place else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            let taken = report.draft.named(place, entries.next_value()?);
            report.took(taken)?;
        }
        Ok(())
    }
}

// === impl Name ===

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Name<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<T, D::Error> {
        parser.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Name<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        Ok((self.0)(name))
    }
}

// === impl Field ===

impl Field {
    fn of(name: &str) -> Self {
        let name = name.as_bytes();
        Scalar::of(name).map(Self::Scalar).or_else(|| Map::of(name).map(Self::Map)).unwrap_or(Self::Unknown)
    }
}
