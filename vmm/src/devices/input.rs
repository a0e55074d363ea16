//! Input on its way to a guest: what serial ports receive from.

use alloc::collections::VecDeque;

use crate::ConsoleSink;

/// Bytes that may wait for the guest.
pub(super) const LINE: usize = 1024;
/// Looking at the status this often without doing anything is asking for input.
const ASKING: u8 = 2;

/// A bounded queue of bytes, and whether the guest wants them.
///
/// Drivers throw away what they find in the receiver when they open the port, and what was typed until then
/// would be lost. So bytes wait here until the guest wants them. It does while it has receiver interrupts on.
/// One that has never used interrupts does when it looks at the port's status twice without writing anything in
/// between, as everybody does who waits.
pub(super) struct Input {
    /// Never more than `LINE`, which it has room for from the start.
    line: VecDeque<u8>,
    /// Input was refused, and its sender waits to be told of room.
    refused: bool,
    /// The guest has used interrupts: a driver is at work that says when it wants to receive.
    has_driver: bool,
    /// How often the guest looked since it last did something, up to `ASKING`.
    looks: u8,
}

impl Input {
    pub(super) fn new() -> Self {
        let line = VecDeque::with_capacity(LINE);
        Self { line, refused: false, has_driver: false, looks: 0 }
    }

    /// Takes as many of `bytes` as there is room for, and answers how many.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let accepted = bytes.len().min(LINE - self.line.len());
        self.line.extend(&bytes[..accepted]);
        self.refused |= accepted < bytes.len();
        accepted
    }

    pub(super) fn pop(&mut self) -> Option<u8> {
        self.line.pop_front()
    }

    /// Throws away the first `count` bytes.
    pub(super) fn discard(&mut self, count: usize) {
        self.line.drain(..count.min(self.line.len()));
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    /// After bytes were taken: tells a sender that was refused that there is room.
    pub(super) fn tell_of_room(&mut self, sink: &dyn ConsoleSink) {
        // Not for every single byte, which would be a call each.
        if self.refused && self.line.len() <= LINE / 2 {
            self.refused = false;
            sink.input_wanted();
        }
    }

    /// The guest looked at the port's status.
    #[inline]
    pub(super) fn looked(&mut self) {
        self.looks = (self.looks + 1).min(ASKING);
    }

    /// The guest did something else, and so is not waiting.
    #[inline]
    pub(super) fn acted(&mut self) {
        self.looks = 0;
    }

    /// The guest uses the port's interrupts.
    pub(super) fn driven(&mut self) {
        self.has_driver = true;
    }

    /// Whether the guest wants input. `interrupts`: its receiver interrupts are on; `polling`: it may poll.
    #[inline]
    pub(super) fn is_wanted(&self, interrupts: bool, polling: bool) -> bool {
        if self.has_driver { interrupts } else { polling && self.looks >= ASKING }
    }
}
