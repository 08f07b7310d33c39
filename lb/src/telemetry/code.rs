//! Counters by exact status code, without a label built per request and without 500 counters for the three codes that
//! occur: a class (2xx) gets its hundred rows when its first code does. Any number may come from a backend, so what is
//! no status code of the five classes is counted as one, `other`; the label's range stays closed.
//!
//! Invariant: one thread adds, any thread reads; a class once there stays, so a count never goes back.

use std::sync::OnceLock;

use super::cell::Counter;

/// Counters by code and by a second thing of `WIDTH` values (the method, or 1 for nothing).
#[derive(Debug)]
pub(super) struct CodeTable<const WIDTH: usize> {
    classes: ByClass<Box<[[Counter; WIDTH]; CODES_PER_CLASS]>>,
}

/// One value per class of status codes, made when the class is first met.
#[derive(Debug)]
pub(super) struct ByClass<T>([OnceLock<T>; CLASSES.len()]);

/// Codes whose series are there with 0 before anything happens, as `rate` loses the first event of a series that begins with it, and the
/// first failure is the one somebody waits for: what backends answer when they are well, do not know a path or break, and what `lb`
/// answers in their place (502 to 504) or notes when the client has left (499). The others come with their first event.
pub(super) const KNOWN_CODES: [u16; 7] = [200, 404, 499, 500, 502, 503, 504];

/// The same of backends' answers: few, because each is a series per backend, but with the errors that most servers give.
pub(super) const KNOWN_BACKEND_CODES: [u16; 3] = [200, 500, 503];

/// The code under which all numbers outside the five classes are counted; its label is `other`.
pub(super) const OTHER_CODE: u16 = 0;

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
const OTHER_CLASS: usize = 5;
/// Of requests, that of tunnels (101), whose time is how long they were open.
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

    /// Calls `see(code, column, count)` for everything that has happened.
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

    /// What belongs to the class of `code`, made now if this is its first.
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
    fn what_is_no_status_code_is_counted_as_other() {
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
