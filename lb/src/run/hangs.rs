//! Workers that hang, and the builder: each is asked once which plugin it is in.
//!
//! Why two looks: after a process was suspended, every thread seems silent until it runs again. Invariant: a thread
//! that hangs, recovers and hangs again is asked again.

use std::collections::HashMap;

/// So many looks in a row must find a worker silent.
const LOOKS: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct Hangs {
    /// By thread, how many looks in a row found it silent.
    looks: HashMap<i32, u32>,
}

// === impl Hangs ===

impl Hangs {
    /// Takes the threads that are silent now. Returns those to ask.
    pub(super) fn look(&mut self, silent: Vec<i32>) -> Vec<i32> {
        let count = |thread: i32| (thread, self.looks.get(&thread).copied().unwrap_or_default().saturating_add(1));
        self.looks = silent.into_iter().filter(|thread| *thread != 0).map(count).collect();
        self.looks.iter().filter(|(_, looks)| **looks == LOOKS).map(|(thread, _)| *thread).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_asked_at_the_second_look_and_once_for_each_hang() {
        let mut hangs = Hangs::default();
        let asked = [vec![7], vec![7], vec![7, 8], vec![], vec![7], vec![7]].map(|silent| hangs.look(silent));
        assert_eq!(asked, [vec![], vec![7], vec![], vec![], vec![], vec![7]]);
    }

    #[test]
    fn a_thread_without_a_number_is_not_asked() {
        let mut hangs = Hangs::default();
        assert_eq!([hangs.look(vec![0]), hangs.look(vec![0])], [const { Vec::<i32>::new() }; 2]);
    }
}
