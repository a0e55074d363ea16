//! Outputs that several threads compute, without locks.

use core::sync::atomic::{AtomicU32, Ordering};

/// Who computes an output: one thread at a time.
///
/// Two threads that compute an output at once could pass it on in the wrong order. So the second only leaves
/// word, and the first looks again before it goes.
#[derive(Default)]
pub(crate) struct Updates(AtomicU32);

impl Updates {
    /// Has `update` run, on this thread or by the one that is at it, after everything this thread has done.
    #[inline]
    pub(crate) fn run(&self, mut update: impl FnMut()) {
        if self.0.fetch_add(1, Ordering::SeqCst) != 0 {
            return;
        }
        let mut seen = 1;
        loop {
            update();
            match self.0.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(more) => seen = more,
            }
        }
    }
}
