//! H: from a request to the slot where it begins.
//!
//! Invariant: there is a slot for every request with a key. To find it needs no allocation and cannot fail.

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use lb_strategy::{Error, Request};

use crate::expression::{Expression, Range};

/// The course's request ids.
const IDS: RangeInclusive<u32> = 100_000..=999_999;
/// The largest number of digits of a number below 2^32, without leading zeros.
const DIGITS: usize = 10;

pub(crate) struct RequestSlots {
    slots: u32,
    function: Function,
    /// The number of [`IDS`] that begin at each slot. Counted at the first use.
    ids: OnceLock<Box<[u32]>>,
}

enum Function {
    /// A polynomial: the slots of the numbers 0 to M-1, which repeat.
    Table(Box<[u32]>),
    /// Any other function. A check of its range has found no fault.
    Program(Expression),
}

/// The request's number i, if it has a key.
#[inline]
pub(crate) fn number(request: &Request<'_>) -> Option<u32> {
    Some(match decimal(request.key()?) {
        Some(number) => number,
        None => request.hash()? as u32,
    })
}

/// The value of `key` as a decimal number; `None` if it is not one below 2^32.
#[inline]
fn decimal(key: &[u8]) -> Option<u32> {
    let significant = &key[key.iter().position(|&digit| digit != b'0').unwrap_or(key.len())..];
    if key.is_empty() || significant.len() > DIGITS {
        return None;
    }
    let mut number = 0_u64;
    for &digit in significant {
        number = number * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    u32::try_from(number).ok()
}

// === impl RequestSlots ===

impl RequestSlots {
    pub(crate) fn new(text: &str, slots: u32) -> Result<Self, Error> {
        let refused = |why: String| Error::new(format!("request {text:?} {why}"));
        let function = Expression::of_i(text).map_err(|mistake| refused(mistake.to_string()))?;
        let function = if function.is_polynomial() {
            let slot =
                |i: u32| function.value(i128::from(i), 0).map(|value| value.rem_euclid(i128::from(slots)) as u32);
            let table: Result<_, _> = (0..slots).map(slot).collect();
            Function::Table(table.map_err(|fault| refused(format!("has {fault} for some i below {slots}")))?)
        } else {
            let all = Range(0, i128::from(u32::MAX));
            function
                .range(all, Range(0, 0))
                .map_err(|fault| refused(format!("may have {fault} for some i below 2^32")))?;
            Function::Program(function)
        };
        Ok(Self { slots, function, ids: OnceLock::new() })
    }

    /// The slot where this request begins; `None` without a key.
    #[inline]
    pub(crate) fn slot_of(&self, request: &Request<'_>) -> Option<usize> {
        number(request).and_then(|number| self.slot(number))
    }

    #[inline]
    pub(crate) fn slot(&self, number: u32) -> Option<usize> {
        match &self.function {
            Function::Table(table) => Some(table[(number % self.slots) as usize] as usize),
            Function::Program(function) => {
                let value = function.value(i128::from(number), 0).ok()?;
                Some(value.rem_euclid(i128::from(self.slots)) as usize)
            }
        }
    }

    /// The number of the course's ids that begin at each slot.
    pub(crate) fn ids_by_slot(&self) -> &[u32] {
        self.ids.get_or_init(|| {
            let mut counts = vec![0; self.slots as usize];
            IDS.filter_map(|id| self.slot(id)).for_each(|slot| counts[slot] += 1);
            counts.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_digits_is_a_number_and_no_other_is() {
        for (key, number) in [("0", 0), ("000123456", 123_456), ("999999", 999_999), ("4294967295", u32::MAX)] {
            assert_eq!(decimal(key.as_bytes()), Some(number), "{key}");
        }
        for key in ["", "4294967296", "12345678901", "12a", "-1", "+1", " 1", "١"] {
            assert_eq!(decimal(key.as_bytes()), None, "{key:?}");
        }
    }
}
