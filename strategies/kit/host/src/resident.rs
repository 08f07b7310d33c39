//! The libraries that this process has opened, as text for the handler of crashes.
//!
//! Why: a thread that a plugin has started is in no hook, so its crash has no name. An operator then needs to know
//! which plugins may have started it. Invariants: an image stays until the process ends, so an entry is only ever
//! added. The handler reads the list without a lock and does not allocate.

use std::sync::OnceLock;

/// The bytes of a line, at most.
const LINE_BYTES: usize = 2048;
/// Ends a line that would be longer.
const MORE: &str = ", and more\n";

/// One library, and those that were opened after it.
struct Resident {
    /// Its file.
    file: Box<str>,
    next: OnceLock<Box<Resident>>,
}

/// A line that is made without allocation. A part that has no space is left out, and so are all behind it.
pub(crate) struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
    is_cut: bool,
}

static FIRST: OnceLock<Box<Resident>> = OnceLock::new();

/// Adds a library that was opened.
pub(crate) fn note(file: String) {
    append(&FIRST, file);
}

/// The line that ends with the libraries of this process.
pub(crate) fn line(parts: &[&str]) -> Line {
    line_of(parts, &FIRST)
}

fn append(first: &OnceLock<Box<Resident>>, file: String) {
    let mut next = first;
    let mut new = Box::new(Resident { file: file.into(), next: OnceLock::new() });
    // Another thread may add one at the same time: then this one goes behind it.
    while let Err(unset) = next.set(new) {
        new = unset;
        match next.get() {
            Some(resident) => next = &resident.next,
            None => return,
        }
    }
}

fn line_of(parts: &[&str], first: &OnceLock<Box<Resident>>) -> Line {
    let mut line = Line { bytes: [0; LINE_BYTES], length: 0, is_cut: false };
    parts.iter().for_each(|part| line.push(&[part]));
    let mut next = first.get();
    if next.is_none() {
        line.push(&["none"]);
    }
    let mut separator = "";
    while let Some(resident) = next {
        line.push(&[separator, &resident.file]);
        (separator, next) = (", ", resident.next.get());
    }
    line
}

// === impl Line ===

impl Line {
    /// The text, with its end of line.
    pub(crate) fn finish(&mut self) -> &str {
        let end = if self.is_cut { MORE } else { "\n" };
        let to = self.length + end.len();
        self.bytes[self.length..to].copy_from_slice(end.as_bytes());
        std::str::from_utf8(&self.bytes[..to]).unwrap_or("?\n")
    }

    fn push(&mut self, parts: &[&str]) {
        let more: usize = parts.iter().map(|part| part.len()).sum();
        self.is_cut |= self.length + more + MORE.len() > LINE_BYTES;
        if self.is_cut {
            return;
        }
        for part in parts {
            self.bytes[self.length..self.length + part.len()].copy_from_slice(part.as_bytes());
            self.length += part.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_all_libraries_or_says_that_there_are_more() {
        let list = OnceLock::new();
        let line = || line_of(&["lb: x: "], &list).finish().to_owned();
        assert_eq!(line(), "lb: x: none\n");
        append(&list, "/a.so".to_owned());
        append(&list, "/b.so".to_owned());
        assert_eq!(line(), "lb: x: /a.so, /b.so\n");
        (0..3).for_each(|_| append(&list, "ä".repeat(500)));
        let long = line();
        assert!(long.ends_with("ä, and more\n") && long.len() <= LINE_BYTES, "{long}");
    }

    #[test]
    fn threads_that_add_at_the_same_time_lose_none() {
        let list: OnceLock<Box<Resident>> = OnceLock::new();
        std::thread::scope(|scope| {
            (0..8).for_each(|_| drop(scope.spawn(|| append(&list, "x".to_owned()))));
        });
        let all = std::iter::successors(list.get(), |resident| resident.next.get());
        assert_eq!(all.count(), 8);
    }
}
