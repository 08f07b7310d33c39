//! Counters by exact status code.
//!
//! No label is built per request, and there are no 500 counters for the three codes that occur. A class (2xx) gets its
//! hundred rows at its first code. A backend may send any number. A number that is no status code of the five classes
//! counts as `other`, so the label's range stays closed. Invariant: one thread adds, any thread reads. A class is never
//! removed, so a count never goes back.

use std::sync::OnceLock;

use super::cell::Counter;

/// Counters by code and by a second thing of `WIDTH` values (the method, or 1 for nothing).
#[derive(Debug)]
pub(super) struct CodeTable<const WIDTH: usize> {
    classes: ByClass<Box<[[Counter; WIDTH]; CODES_PER_CLASS]>>,
}

/// One value per class of status codes, made at the first code of the class.
#[derive(Debug)]
pub(super) struct ByClass<T>([OnceLock<T>; CLASSES.len()]);

/// Codes whose series exist with 0 before any event, because `rate` loses the first event of a series that begins with
/// it. The first failure is the important one. Included are usual statuses of backends, and those that `lb` sends in
/// their place (502 to 504) or records if the client has left (499). Series of other codes begin with their first
/// event.
pub(super) const KNOWN_CODES: [u16; 7] = [200, 404, 499, 500, 502, 503, 504];

/// The same for backends' responses: few, because each is a series per backend, but with the errors that most servers
/// send.
pub(super) const KNOWN_BACKEND_CODES: [u16; 3] = [200, 500, 503];

/// The code under which all numbers outside the five classes are counted; its label is `other`.
pub(super) const OTHER_CODE: u16 = 0;

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
const OTHER_CLASS: usize = 5;
/// The class of tunnels (101); their duration is how long they were open.
pub(super) const TUNNELS: usize = 0;
const CODES_PER_CLASS: usize = 100;

/// The `code` label.
pub(super) fn code_label(code: u16) -> String {
    if code == OTHER_CODE { "other".to_owned() } else { code.to_string() }
}

/// The `code_class` label of a class by its number.
pub(super) fn class_label(class: usize) -> &'static str {
    CLASSES[class]
}

#[inline]
fn class_of(code: u16) -> usize {
    if (100..600).contains(&code) { usize::from(code) / 100 - 1 } else { OTHER_CLASS }
}

// === impl CodeTable ===

impl<const WIDTH: usize> CodeTable<WIDTH> {
    pub(super) const fn new() -> Self {
        CodeTable { classes: ByClass::new() }
    }

    #[inline]
    pub(super) fn count(&self, code: u16, column: usize) {
        let class =
            self.classes.get_or_make(code, || Box::new([const { [const { Counter::new() }; WIDTH] }; CODES_PER_CLASS]));
        let row = if class_of(code) == OTHER_CLASS { 0 } else { usize::from(code) % CODES_PER_CLASS };
        class[row][column].inc();
    }

    /// Calls `see(code, column, count)` for every count above 0.
    pub(super) fn each(&self, mut see: impl FnMut(u16, usize, u64)) {
        for (class, rows) in self.classes.made() {
            for (row, columns) in rows.iter().enumerate() {
                for (column, counter) in columns.iter().enumerate() {
                    let count = counter.get();
                    if count > 0 {
                        let code = if class == OTHER_CLASS { OTHER_CODE } else { (class * 100 + 100 + row) as u16 };
                        see(code, column, count);
                    }
                }
            }
        }
    }
}

// === impl ByClass ===

impl<T> ByClass<T> {
    pub(super) const fn new() -> Self {
        ByClass([const { OnceLock::new() }; CLASSES.len()])
    }

    /// The value for the class of `code`, made now at its first code.
    #[inline]
    pub(super) fn get_or_make(&self, code: u16, make: impl FnOnce() -> T) -> &T {
        self.0[class_of(code)].get_or_init(make)
    }

    /// The values made so far, each with the number of its class.
    pub(super) fn made(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0.iter().enumerate().filter_map(|(class, value)| Some((class, value.get()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted<const WIDTH: usize>(table: &CodeTable<WIDTH>) -> Vec<(u16, usize, u64)> {
        let mut seen = Vec::new();
        table.each(|code, column, count| seen.push((code, column, count)));
        seen
    }

    #[test]
    fn every_code_has_its_own_counter() {
        let table = CodeTable::<2>::new();
        for code in 100..600 {
            table.count(code, 1);
        }
        assert_eq!(counted(&table), (100..600).map(|code| (code, 1, 1)).collect::<Vec<_>>());
    }

    #[test]
    fn a_number_that_is_no_status_code_counts_as_other() {
        let table = CodeTable::<1>::new();
        for code in [0, 99, 600, 999, u16::MAX] {
            table.count(code, 0);
        }
        assert_eq!(counted(&table), [(OTHER_CODE, 0, 5)]);
        assert_eq!(code_label(OTHER_CODE), "other");
    }

    #[test]
    fn nothing_is_allocated_for_classes_that_do_not_occur() {
        let table = CodeTable::<1>::new();
        table.count(200, 0);
        table.count(204, 0);
        assert_eq!(table.classes.made().count(), 1);
    }
}
