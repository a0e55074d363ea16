//! Caches of translations: one for data, which hands out host addresses in a few instructions, one for
//! instruction fetches, and the table of jump targets.
#![allow(unsafe_code)] // turns cached translations into host addresses

use alloc::boxed::Box;
use alloc::vec;

use crate::exec::Cursor;
use crate::mmu::{Page, Privilege};
use crate::ram::{HostAddr, Width};

const PAGE_MASK: u64 = !0xfff;
/// Entries for each privilege.
const SETS: usize = 512;

/// A tag no aligned access compares equal to.
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Entry {
    /// The page as loads look for it, or [`NEVER`].
    read: u64,
    /// The page as stores look for it, or [`NEVER`].
    write: u64,
    /// Host address minus guest virtual address.
    addend: u64,
}

const EMPTY: Entry = Entry { read: NEVER, write: NEVER, addend: 0 };

type Part = Box<[Entry; SETS]>;

/// Translations of loads and stores, direct-mapped, a part for each privilege, so that changing the privilege
/// loses none.
pub(crate) struct DataTlb {
    /// The part of the current privilege: the only one that loads and stores look at.
    current: Part,
    privilege: Privilege,
    /// The parts of the other privileges; empty for the current one.
    parked: [Option<Part>; 3],
    /// A large page was cached below or above the middle of the address space: one of its pages' fences
    /// concerns others too.
    large: [bool; 2],
}

impl DataTlb {
    pub(crate) fn new() -> Self {
        let part = || boxed(EMPTY);
        let privilege = Privilege::Supervisor;
        let mut parked = [Some(part()), Some(part()), Some(part())];
        let current = parked[privilege as usize].take().unwrap_or_else(part);
        Self { current, privilege, parked, large: [false; 2] }
    }

    /// Makes the part of `by` the current one.
    pub(crate) fn select(&mut self, by: Privilege) {
        if let Some(part) = self.parked[by as usize].take() {
            let before = core::mem::replace(&mut self.current, part);
            self.parked[self.privilege as usize] = Some(before);
            self.privilege = by;
        }
    }

    /// Whose permissions the current part is about.
    pub(crate) fn privilege(&self) -> Privilege {
        self.privilege
    }

    #[inline]
    fn index(va: u64) -> usize {
        (va >> 12) as usize & (SETS - 1)
    }

    /// Where a load of this width goes, if the page is cached and the address is aligned.
    #[inline]
    pub(crate) fn read<W: Width>(&self, va: u64) -> Option<HostAddr> {
        let entry = &self.current[Self::index(va)];
        // One comparison checks page and alignment: the low bits of a tag are zero.
        (entry.read == va & (PAGE_MASK | (W::BYTES - 1))).then(|| {
            // SAFETY: `insert` got the page from a walk, and `flush` comes with every stage-2 fence.
            unsafe { HostAddr::new(va.wrapping_add(entry.addend)) }
        })
    }

    /// Where a store of this width goes, if the page is cached for stores and the address is aligned.
    #[inline]
    pub(crate) fn write<W: Width>(&self, va: u64) -> Option<HostAddr> {
        let entry = &self.current[Self::index(va)];
        (entry.write == va & (PAGE_MASK | (W::BYTES - 1))).then(|| {
            // SAFETY: as for `read`.
            unsafe { HostAddr::new(va.wrapping_add(entry.addend)) }
        })
    }

    /// Remembers the page of `va` for the current privilege.
    pub(crate) fn insert(&mut self, va: u64, page: Page) {
        let tag = va & PAGE_MASK;
        let known = |allowed: bool| if allowed { tag } else { NEVER };
        self.current[Self::index(va)] = Entry {
            read: known(page.read),
            write: known(page.write),
            addend: page.host.as_u64().wrapping_sub(tag),
        };
        self.large[(va >> 63) as usize] |= page.large;
    }

    /// Forgets everything.
    pub(crate) fn flush(&mut self) {
        self.current.fill(EMPTY);
        self.parked.iter_mut().flatten().for_each(|part| part.fill(EMPTY));
        self.large = [false; 2];
    }

    /// Forgets what is known of the page of `va`.
    pub(crate) fn flush_page(&mut self, va: u64) {
        if self.large[(va >> 63) as usize] {
            return self.flush();
        }
        self.current[Self::index(va)] = EMPTY;
        self.parked.iter_mut().flatten().for_each(|part| part[Self::index(va)] = EMPTY);
    }
}

const FETCH_SETS: usize = 256;
const JUMPS: usize = 4096;
/// Bits of the filter that tells which pages were ever fetched from.
const FETCHED_BITS: u64 = 4096;

#[derive(Clone, Copy)]
struct FetchEntry {
    tag: u64,
    host: u64,
}

#[derive(Clone, Copy)]
struct Jump {
    tag: u64,
    generation: u64,
    target: Option<Cursor>,
}

/// Translations of instruction fetches, and, by virtual address, the blocks they led to.
pub(crate) struct FetchTlb {
    pages: Box<[FetchEntry; FETCH_SETS]>,
    jumps: Box<[Jump; JUMPS]>,
    /// Jumps of other generations are forgotten.
    generation: u64,
    fetched: Box<[u64; (FETCHED_BITS / 64) as usize]>,
    large: [bool; 2],
}

/// Virtual address and privilege in one number: instructions are at even addresses.
#[inline]
const fn fetch_tag(va: u64, user: bool) -> u64 {
    va | user as u64
}

impl FetchTlb {
    pub(crate) fn new() -> Self {
        Self {
            pages: boxed(FetchEntry { tag: NEVER, host: 0 }),
            jumps: boxed(Jump { tag: NEVER, generation: 0, target: None }),
            generation: 1,
            fetched: boxed(0),
            large: [false; 2],
        }
    }

    /// The block at `va`, if it is known.
    #[inline]
    pub(crate) fn jump(&self, va: u64, user: bool) -> Option<Cursor> {
        let jump = &self.jumps[(va >> 1) as usize & (JUMPS - 1)];
        if jump.tag == fetch_tag(va, user) && jump.generation == self.generation {
            jump.target
        } else {
            None
        }
    }

    pub(crate) fn insert_jump(&mut self, va: u64, user: bool, target: Cursor) {
        self.jumps[(va >> 1) as usize & (JUMPS - 1)] =
            Jump { tag: fetch_tag(va, user), generation: self.generation, target: Some(target) };
    }

    /// The host address of the instruction at `va`, if its page is known.
    pub(crate) fn page(&self, va: u64, user: bool) -> Option<HostAddr> {
        let entry = &self.pages[(va >> 12) as usize & (FETCH_SETS - 1)];
        (entry.tag == fetch_tag(va & PAGE_MASK, user)).then(|| {
            // SAFETY: `insert` got the page from a walk, and `flush` comes with every stage-2 fence.
            unsafe { HostAddr::new(entry.host | va & !PAGE_MASK) }
        })
    }

    pub(crate) fn insert(&mut self, va: u64, user: bool, page: Page) {
        let tag = fetch_tag(va & PAGE_MASK, user);
        self.pages[(va >> 12) as usize & (FETCH_SETS - 1)] =
            FetchEntry { tag, host: page.host.as_u64() };
        let bit = Self::filter_bit(va);
        self.fetched[(bit / 64) as usize] |= 1 << (bit % 64);
        self.large[(va >> 63) as usize] |= page.large;
    }

    const fn filter_bit(va: u64) -> u64 {
        (va >> 12 ^ va >> 24) % FETCHED_BITS
    }

    /// Forgets all jumps; pages are still known.
    pub(crate) fn flush_jumps(&mut self) {
        self.generation += 1;
    }

    /// Forgets everything.
    pub(crate) fn flush(&mut self) {
        self.generation += 1;
        self.pages.fill(FetchEntry { tag: NEVER, host: 0 });
        self.fetched.fill(0);
        self.large = [false; 2];
    }

    /// Forgets what is known of the page of `va`. Most fenced pages hold data, and forgetting every jump for
    /// them would cost more than the filter.
    pub(crate) fn flush_page(&mut self, va: u64) {
        let bit = Self::filter_bit(va);
        if self.large[(va >> 63) as usize]
            || self.fetched[(bit / 64) as usize] & 1 << (bit % 64) != 0
        {
            self.flush();
        }
    }
}

/// A boxed array that was never on the stack.
fn boxed<T: Clone, const N: usize>(value: T) -> Box<[T; N]> {
    match vec![value; N].into_boxed_slice().try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("the vector has N elements"),
    }
}
