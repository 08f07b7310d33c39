//! What the response of an attempt was, for strategies that ask: bytes, the first byte of the body, named headers.
//!
//! Why a box of its own: most strategies do not ask, and their attempts have none. Invariants: at most
//! [`VALUES_MAX_BYTES`] of header values are copied. Values go only to the instance whose names were looked up.

use std::sync::Arc;

use lb_strategy::abi::RESPONSE_HEADERS_MAX;
use lb_strategy_host::{Answered, Strategy};

use crate::generation::PoolGeneration;
use crate::http1::Fields;

/// The values of all named headers together. One that does not fit is left out.
const VALUES_MAX_BYTES: usize = 512;

/// The account of one attempt.
pub(super) struct Account {
    /// The instance that was in charge when the attempt began.
    instance: u64,
    names: Arc<[Box<[u8]>]>,
    /// The values, one behind the other.
    text: Vec<u8>,
    /// Begin and end of each value in `text`.
    values: [Option<(u16, u16)>; RESPONSE_HEADERS_MAX],
    bytes_in: u64,
    bytes_out: u64,
    first_body_ns: u64,
    /// Header values for shadows. Mostly none.
    others: Vec<Self>,
}

// === impl Account ===

impl Account {
    /// For this strategy alone.
    pub(super) fn new(strategy: &Strategy) -> Box<Self> {
        Box::new(Self::of(strategy, Vec::new()))
    }

    /// For the strategy in charge and the shadows that ask for it.
    pub(super) fn of_pool(shared: &PoolGeneration) -> Box<Self> {
        let shadows = shared.shadows.iter().filter(|shadow| shadow.wants.answer);
        let others = shadows.map(|shadow| Self::of(shadow.picker.strategy(), Vec::new())).collect();
        Box::new(Self::of(shared.picker.strategy(), others))
    }

    fn of(strategy: &Strategy, others: Vec<Self>) -> Self {
        Self {
            instance: strategy.instance(),
            names: strategy.plugin().response_headers().clone(),
            text: Vec::new(),
            values: [None; RESPONSE_HEADERS_MAX],
            bytes_in: 0,
            bytes_out: 0,
            first_body_ns: 0,
            others,
        }
    }

    /// Takes the named values of a head or of trailers. A value that is there already stays.
    pub(super) fn take(&mut self, fields: &Fields) {
        for (name, value) in self.names.iter().zip(&mut self.values) {
            if value.is_none()
                && let Some(found) = fields.get(name)
                && self.text.len() + found.len() <= VALUES_MAX_BYTES
            {
                let begin = self.text.len() as u16;
                self.text.extend_from_slice(found);
                *value = Some((begin, self.text.len() as u16));
            }
        }
        self.others.iter_mut().for_each(|other| other.take(fields));
    }

    /// Bytes of the request's body so far.
    pub(super) fn received(&mut self, bytes: u64) {
        self.bytes_in = bytes;
    }

    /// More bytes of the response's body; `elapsed_ns` is asked for at the first ones.
    pub(super) fn sent(&mut self, bytes: u64, elapsed_ns: impl FnOnce() -> u64) {
        if self.bytes_out == 0 && bytes > 0 {
            self.first_body_ns = elapsed_ns().max(1);
        }
        self.bytes_out += bytes;
    }

    /// Passes the account to `tell`, for this strategy instance.
    pub(super) fn with<T>(&self, instance: u64, tell: impl FnOnce(&Answered<'_>) -> T) -> T {
        let of = self.others.iter().find(|other| other.instance == instance).unwrap_or(self);
        let value = |place: Option<(u16, u16)>| place.map(|(begin, end)| &of.text[begin as usize..end as usize]);
        let headers = of.values.map(value);
        let count = if instance == of.instance { of.names.len() } else { 0 };
        tell(&Answered {
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            first_body_ns: self.first_body_ns,
            headers: &headers[..count],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(names: &[&str]) -> Account {
        Account {
            instance: 7,
            names: names.iter().map(|name| Box::from(name.as_bytes())).collect(),
            text: Vec::new(),
            values: [None; RESPONSE_HEADERS_MAX],
            bytes_in: 0,
            bytes_out: 0,
            first_body_ns: 0,
            others: Vec::new(),
        }
    }

    fn told(account: &Account, instance: u64) -> Vec<Option<String>> {
        let text = |value: &Option<&[u8]>| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        account.with(instance, |answered| answered.headers.iter().map(text).collect())
    }

    #[test]
    fn a_head_counts_before_trailers_and_an_absent_name_stays_absent() {
        let mut account = account(&["x-load", "x-none", "x-late"]);
        account.take(&[("x-load", "0.5"), ("other", "1")].into_iter().collect());
        account.take(&[("x-load", "0.9"), ("x-late", "")].into_iter().collect());
        assert_eq!(told(&account, 7), [Some("0.5".to_owned()), None, Some(String::new())]);
        assert_eq!(told(&account, 8), Vec::<Option<String>>::new(), "another instance has other names");
    }

    #[test]
    fn values_beyond_the_limit_are_left_out() {
        let mut account = account(&["a", "b", "c"]);
        let long = "x".repeat(VALUES_MAX_BYTES - 1);
        account.take(&[("a", &*long), ("b", "22"), ("c", "3")].into_iter().collect());
        assert_eq!(told(&account, 7), [Some(long), None, Some("3".to_owned())]);
    }

    #[test]
    fn the_first_bytes_have_a_time_and_no_bytes_have_none() {
        let mut account = account(&[]);
        account.sent(0, || 5);
        account.sent(10, || 6);
        account.sent(20, || 7);
        account.received(3);
        account.with(7, |answered| {
            assert_eq!((answered.bytes_in, answered.bytes_out, answered.first_body_ns), (3, 30, 6));
        });
    }
}
