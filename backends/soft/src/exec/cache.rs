//! Decoded blocks, found by the host address of their first instruction.
//!
//! A block is a run of instructions of one page that ends with a jump, a branch, an instruction with effects on
//! the hart, or where it gets too long. It is valid in the epoch it was decoded or last checked in; `fence.i`
//! starts a new epoch, and a block of an earlier one proves itself by comparing the bytes it was decoded from
//! with memory. So what a guest patches is seen exactly when the architecture says, and what it does not patch
//! is not decoded again.
#![allow(unsafe_code)] // an arena of ops and exits, and the cursors into it

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use super::op::{Cursor, EXITS_OPS, Exits, Link, Op};
use crate::ram::{HostAddr, Width};

/// Instructions in a block, at most. [`Op::at`] counts halfwords in a byte.
pub(crate) const MAX_BLOCK: usize = 64;

/// Ops in the arena. When they are used up everything is decoded anew.
const ARENA: usize = 512 * 1024;
/// Halfwords of guest instructions kept for comparison.
const RAW: usize = 1024 * 1024;
const HASH: usize = 32 * 1024;
const NONE: u32 = u32::MAX;
/// Blocks looked at in search of one. A guest that overwrites the same instruction again and again leaves an old
/// block each time; it must not make every search longer.
const MAX_SEARCH: usize = 64;
/// Places for instructions that straddle two pages.
const STRADDLERS: usize = 64;
/// Ops such an instruction takes: itself, perhaps the op that goes on behind it, and the exits.
const STRADDLER_OPS: usize = 2 + EXITS_OPS;
/// All ops there is room for.
const ARENA_OPS: usize = ARENA + STRADDLERS * STRADDLER_OPS;

struct Block {
    /// Where its first instruction is.
    at: HostAddr,
    epoch: u64,
    first: Cursor,
    /// Its instructions in `raw`.
    raw: u32,
    halfwords: u32,
    /// The next block in the same hash chain.
    next: u32,
}

/// The ops of a block that is being put together.
pub(crate) struct Draft {
    pub(crate) ops: Vec<Op>,
    pub(crate) raw: Vec<u16>,
    /// Instructions, without the op that only goes on behind the last one.
    pub(crate) count: u32,
}

impl Draft {
    pub(crate) fn new() -> Self {
        Self {
            ops: Vec::with_capacity(MAX_BLOCK + 1),
            raw: Vec::with_capacity(2 * MAX_BLOCK),
            count: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.ops.clear();
        self.raw.clear();
        self.count = 0;
    }
}

/// All blocks of one hart.
pub(crate) struct BlockCache {
    /// Room for [`ARENA_OPS`] ops. A raw pointer, because cursors point into it while blocks are added.
    arena: NonNull<Op>,
    used: usize,
    raw: Vec<u16>,
    blocks: Vec<Block>,
    heads: Box<[u32]>,
    straddlers: Box<[(u32, Option<Cursor>)]>,
}

// SAFETY: the arena is the cache's own, and what points into it goes where the cache goes (see `Cursor`).
unsafe impl Send for BlockCache {}

impl BlockCache {
    /// An empty cache; `None` when the host has no memory for it (some 10 MiB).
    pub(crate) fn new() -> Option<Self> {
        let mut arena = Vec::<MaybeUninit<Op>>::new();
        arena.try_reserve_exact(ARENA_OPS).ok()?;
        // SAFETY: there is room for so many, and nothing has to be initialized. Adding them one by one takes a build without
        // optimization milliseconds, and Miri minutes.
        unsafe { arena.set_len(ARENA_OPS) };
        let mut raw = Vec::new();
        raw.try_reserve_exact(RAW).ok()?;
        Some(Self {
            arena: NonNull::from(Box::leak(arena.into_boxed_slice())).cast(),
            used: 0,
            raw,
            blocks: Vec::new(),
            heads: vec![NONE; HASH].into_boxed_slice(),
            straddlers: vec![(0, None); STRADDLERS].into_boxed_slice(),
        })
    }

    /// Removes every block. No handler may be running, and the epoch must change with it.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.raw.clear();
        self.blocks.clear();
        self.heads.fill(NONE);
        self.straddlers.fill((0, None));
    }

    /// Whether the next block may not fit, so that [`clear`](Self::clear) has to come first.
    pub(crate) fn is_full(&self) -> bool {
        self.used + MAX_BLOCK + 1 + EXITS_OPS > ARENA || self.raw.len() + 2 * MAX_BLOCK > RAW
    }

    fn chain(at: HostAddr) -> usize {
        let key = at.as_u64() >> 1;
        (key ^ key >> 15) as usize % HASH
    }

    /// The block at `at` whose instructions are what memory holds in this epoch. Of very many old ones only the
    /// youngest are looked at.
    pub(crate) fn find(&mut self, at: HostAddr, epoch: u64) -> Option<Cursor> {
        let mut index = self.heads[Self::chain(at)];
        for _ in 0..MAX_SEARCH {
            let Some(block) = self.blocks.get_mut(index as usize) else { break };
            if block.at == at {
                if block.epoch == epoch {
                    return Some(block.first);
                }
                // Blocks stay within a page, so all of its memory is at hand.
                let raw = &self.raw[block.raw as usize..][..block.halfwords as usize];
                let same = |(i, half): (usize, &u16)| {
                    u16::load(at.within_page(at.as_u64() + 2 * i as u64)) == *half
                };
                if raw.iter().enumerate().all(same) {
                    block.epoch = epoch;
                    return Some(block.first);
                }
            }
            index = block.next;
        }
        None
    }

    /// Adds the block at `at`.
    pub(crate) fn insert(&mut self, at: HostAddr, epoch: u64, draft: &Draft) -> Cursor {
        let first = self.write(self.used, draft);
        self.used += draft.ops.len() + EXITS_OPS;
        let head = &mut self.heads[Self::chain(at)];
        let block = Block {
            at,
            epoch,
            first,
            raw: self.raw.len() as u32,
            halfwords: draft.raw.len() as u32,
            next: *head,
        };
        *head = self.blocks.len() as u32;
        self.raw.extend_from_slice(&draft.raw);
        self.blocks.push(block);
        first
    }

    /// The block of an instruction with these bits that straddles two pages. It is found by its bits alone: no
    /// host address stands for both halves.
    pub(crate) fn find_straddler(&self, bits: u32) -> Option<Cursor> {
        let (known, block) = self.straddlers[Self::straddler(bits)];
        if known == bits { block } else { None }
    }

    /// Adds a block of one instruction that straddles two pages; another one's place may be taken.
    pub(crate) fn insert_straddler(&mut self, bits: u32, draft: &Draft) -> Cursor {
        debug_assert!(draft.ops.len() + EXITS_OPS <= STRADDLER_OPS);
        let place = Self::straddler(bits);
        let block = self.write(ARENA + place * STRADDLER_OPS, draft);
        self.straddlers[place] = (bits, Some(block));
        block
    }

    fn straddler(bits: u32) -> usize {
        (bits >> 7 ^ bits >> 20) as usize % STRADDLERS
    }

    /// Writes the ops of a complete block and its exits at `index`.
    fn write(&mut self, index: usize, draft: &Draft) -> Cursor {
        let length = draft.ops.len();
        assert!(length != 0 && index + length + EXITS_OPS <= ARENA_OPS);
        // SAFETY: the place is inside the arena, with room for an `Exits` behind the ops, whose alignment is no
        // larger than theirs. It stays where it is for the life of the cache, and is written again only after
        // `clear` or for another straddler, when no cursor to it is in use. No other code has a reference into the
        // arena: cursors are raw pointers.
        unsafe {
            let place = self.arena.add(index);
            for (i, op) in draft.ops.iter().enumerate() {
                place.add(i).write(*op);
            }
            let first = Cursor::new(place);
            place.add(length).cast::<Exits>().write(Exits {
                count: draft.count,
                len: 2 * draft.raw.len() as u32,
                taken: Link::none(first),
                fall: Link::none(first),
            });
            first
        }
    }
}

impl Drop for BlockCache {
    fn drop(&mut self) {
        let arena = core::ptr::slice_from_raw_parts_mut(
            self.arena.as_ptr().cast::<MaybeUninit<Op>>(),
            ARENA_OPS,
        );
        // SAFETY: leaked in `new`, with this length, and freed once; cursors do not outlive their cache's hart.
        drop(unsafe { Box::from_raw(arena) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn old_blocks_do_not_make_searches_longer() {
        static MEMORY: AtomicU64 = AtomicU64::new(0);
        // SAFETY: eight bytes of memory that stays.
        let at = unsafe { HostAddr::new(MEMORY.as_ptr() as u64) };
        let mut cache = BlockCache::new().unwrap();
        let versions = MAX_SEARCH as u64 + 1;
        // An instruction in its many versions, a block each; the zeros behind it are none, and end the block.
        for version in 0..versions {
            MEMORY.store(version << 7 | 1, Ordering::Relaxed);
            assert!(cache.find(at, version).is_none());
            let mut draft = Draft::new();
            crate::exec::decode::block(at, &mut draft);
            cache.insert(at, version, &draft);
        }
        let mut epoch = versions;
        let mut found = |version: u64| {
            MEMORY.store(version << 7 | 1, Ordering::Relaxed);
            epoch += 1;
            cache.find(at, epoch).is_some()
        };
        assert!(found(versions - 1), "the youngest");
        assert!(found(1), "the oldest that is looked at");
        assert!(!found(0));
    }
}
