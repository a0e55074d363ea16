//! Memory slots: the kernel's copy of the stage-2 table.
//!
//! The table is the truth, and is read when it is set and when a vCPU carries out a
//! [`Fence::STAGE2_TLB`](axvcpu::Fence::STAGE2_TLB). Pages that follow one another in the guest and in the program become one
//! slot; but one that is there stays as it is while the table says the same of all of it, so that memory which grows is more
//! slots and disturbs nobody. When there are too many the next change puts them together.
//!
//! The kernel can neither split a slot nor change what it permits: both take removing it and making others. Memory that
//! was there before and is there after must not be missing for a vCPU in between, so all vCPUs of the machine are held
//! outside of the guest meanwhile: a flag in `immediate_exit` keeps them from entering, a signal takes out who is inside,
//! and a request for which the kernel takes the vCPU's own lock tells when it is.
#![allow(unsafe_code)] // gives memory to the kernel

use std::any::TypeId;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use axvcpu::{AxError, AxMmHal, AxResult, HostPhysAddr};
use axvcpu_stage2::for_each_page;
use axvcpu_x86::ept::Ept;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};

use super::KvmMachine;
use crate::kick::{HELD, Thread};
use crate::sys::{Errno, Mapping, request};

/// A vCPU, as far as others have to do with it.
pub(crate) struct Member {
    pub(crate) fd: OwnedFd,
    pub(crate) page: Arc<Mapping>,
    /// The thread it is bound to, or 0.
    pub(crate) thread: AtomicI32,
}

impl Member {
    /// A new vCPU of this machine.
    pub(crate) fn make(machine: &KvmMachine, number: u32) -> AxResult<Arc<Self>> {
        let fd = request::CREATE_VCPU.call(machine.fd(), number.into())?;
        let page = Arc::new(Mapping::new(fd.as_fd(), machine.page_size())?);
        Ok(Arc::new(Self { fd, page, thread: AtomicI32::new(0) }))
    }
}

/// Memory that is in one piece for the guest and for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    guest: u64,
    /// The program's address.
    host: usize,
    size: u64,
    writable: bool,
}

impl Range {
    fn overlaps(&self, other: &Self) -> bool {
        self.guest < other.guest + other.size && other.guest < self.guest + self.size
    }

    /// Adds `next` at the end, if it is what follows.
    fn extend(&mut self, next: &Self) -> bool {
        let follows = self.guest + self.size == next.guest
            && self.host as u64 + self.size == next.host as u64
            && self.writable == next.writable;
        if follows {
            self.size += next.size;
        }
        follows
    }
}

/// A range, and the kernel's number for it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u32,
    range: Range,
}

/// A table, of which somebody has promised what [`read`] takes, for as long as this is kept.
#[derive(Clone, Copy)]
struct Root {
    at: HostPhysAddr,
    /// [`read`], for the memory that the addresses are of.
    read: unsafe fn(HostPhysAddr) -> Vec<Range>,
    memory: TypeId,
}

/// The slots of a machine.
pub(super) struct Slots {
    /// The table, while vCPUs use it.
    root: Option<Root>,
    users: usize,
    /// In the order of guest addresses.
    slots: Vec<Slot>,
    /// Numbers below this have been used; those that are free again.
    used: u32,
    free: Vec<u32>,
    /// The kernel has no more numbers than this.
    most: u32,
    members: Vec<Arc<Member>>,
}

impl Slots {
    pub(super) fn new(most: u32) -> Self {
        Self {
            root: None,
            users: 0,
            slots: Vec::new(),
            used: 0,
            free: Vec::new(),
            most,
            members: Vec::new(),
        }
    }

    pub(super) fn add_member(&mut self, member: &Arc<Member>) {
        self.members.push(member.clone());
    }

    pub(super) fn remove_member(&mut self, member: &Arc<Member>) {
        self.members.retain(|other| !Arc::ptr_eq(other, member));
    }

    /// One vCPU more uses the table.
    ///
    /// # Safety
    ///
    /// See [`KvmMachine::use_root`](super::KvmMachine::use_root).
    pub(super) unsafe fn acquire<M: AxMmHal + 'static>(
        &mut self,
        vm: BorrowedFd<'_>,
        at: HostPhysAddr,
        me: &Member,
    ) -> AxResult {
        let memory = TypeId::of::<M>();
        match self.root {
            Some(there) if there.at != at || there.memory != memory => {
                return Err(AxError::InvalidInput);
            }
            Some(_) => {}
            // The caller's promise is for as long as it is kept: `release` forgets it with its last user.
            None => self.root = Some(Root { at, read: read::<M>, memory }),
        }
        if let Err(error) = self.reread(vm, me) {
            if self.users == 0 {
                self.empty(vm);
            }
            return Err(error);
        }
        self.users += 1;
        Ok(())
    }

    /// One vCPU less uses it.
    pub(super) fn release(&mut self, vm: BorrowedFd<'_>) {
        self.users = self.users.saturating_sub(1);
        if self.users == 0 {
            self.empty(vm);
        }
    }

    fn empty(&mut self, vm: BorrowedFd<'_>) {
        self.root = None;
        let all: Vec<_> = self.slots.iter().map(|slot| slot.range).collect();
        // The kernel does not refuse to remove what is there; if it did, the memory would stay with a machine that has no
        // vCPU to use it.
        let _ = self.remove(vm, &all);
    }

    /// Makes the slots what the table says.
    pub(super) fn reread(&mut self, vm: BorrowedFd<'_>, me: &Member) -> AxResult {
        let Some(Root { at, read, .. }) = self.root else { return Ok(()) };
        // SAFETY: the promise behind a root.
        let wanted = unsafe { read(at) };
        let before: Vec<_> = self.slots.iter().map(|slot| slot.range).collect();
        let pieces = along(&wanted, &before);
        let wanted = if pieces.len() <= wanted.len() + SPARE { pieces } else { wanted };
        let (gone, new) = (missing(&before, &wanted), missing(&wanted, &before));
        let disturbing = new.iter().any(|new| overlaps_any(new, &gone));
        let held = disturbing.then(|| Held::all_but(me, &self.members)).transpose()?;
        let result = self.remove(vm, &gone).and_then(|()| {
            // SAFETY: the table maps it, so by the caller's promise it is memory for the guest to use, until a fence
            // that comes here again; or until the last vCPU that uses the table is dropped, which empties the slots.
            unsafe { self.add(vm, &new) }
        });
        drop(held);
        result
    }

    fn remove(&mut self, vm: BorrowedFd<'_>, ranges: &[Range]) -> AxResult {
        for range in ranges {
            let Some(index) = self.slots.iter().position(|slot| slot.range == *range) else {
                continue;
            };
            let Slot { number, range } = self.slots[index];
            // SAFETY: a size of zero takes memory from the kernel.
            unsafe { give(vm, number, &Range { size: 0, ..range }) }?;
            self.slots.remove(index);
            self.free.push(number);
        }
        Ok(())
    }

    /// # Safety
    ///
    /// The memory is the guest's to use as the ranges say, until they are removed.
    unsafe fn add(&mut self, vm: BorrowedFd<'_>, ranges: &[Range]) -> AxResult {
        for &range in ranges {
            let number = match self.free.pop() {
                Some(number) => number,
                None if self.used < self.most => {
                    self.used += 1;
                    self.used - 1
                }
                None => return Err(AxError::NoMemory),
            };
            // SAFETY: the caller's promise.
            if let Err(error) = unsafe { give(vm, number, &range) } {
                self.free.push(number);
                return Err(error.into());
            }
            let at = self.slots.partition_point(|slot| slot.range.guest < range.guest);
            self.slots.insert(at, Slot { number, range });
        }
        Ok(())
    }

    pub(super) fn locate(&self, guest: u64, len: u64, write: bool) -> Option<usize> {
        let after = self.slots.partition_point(|slot| slot.range.guest <= guest);
        let range = self.slots.get(after.checked_sub(1)?)?.range;
        let offset = guest - range.guest;
        let inside = offset < range.size && len <= range.size - offset;
        (inside && (range.writable || !write)).then(|| range.host + offset as usize)
    }
}

/// So many slots more than there have to be are worth it that vCPUs are left alone.
const SPARE: usize = 64;

/// The same as `wanted`, cut so that each of the ranges `before` which is inside of one stays as it is. All are in the order
/// of guest addresses.
fn along(wanted: &[Range], before: &[Range]) -> Vec<Range> {
    let mut pieces = Vec::with_capacity(wanted.len());
    let mut before = before.iter().peekable();
    for range in wanted {
        let (mut at, end) = (range.guest, range.guest + range.size);
        let part = |from: u64, to: u64| Range {
            guest: from,
            host: range.host + (from - range.guest) as usize,
            size: to - from,
            ..*range
        };
        while let Some(there) = before.next_if(|there| there.guest < end) {
            let to = there.guest + there.size;
            if there.guest < at || to > end || *there != part(there.guest, to) {
                continue;
            }
            if at < there.guest {
                pieces.push(part(at, there.guest));
            }
            pieces.push(*there);
            at = to;
        }
        if at < end {
            pieces.push(part(at, end));
        }
    }
    pieces
}

/// The ranges that `others` has not. Both are in the order of guest addresses.
fn missing(ranges: &[Range], others: &[Range]) -> Vec<Range> {
    let is_there = |range: &&Range| {
        let at = others.binary_search_by_key(&range.guest, |other| other.guest);
        at.is_ok_and(|at| others[at] == **range)
    };
    ranges.iter().filter(|range| !is_there(range)).copied().collect()
}

/// Whether one of `others`, which are in order and do not overlap, has something of `range`.
fn overlaps_any(range: &Range, others: &[Range]) -> bool {
    let after = others.partition_point(|other| other.guest < range.guest + range.size);
    after.checked_sub(1).is_some_and(|last| others[last].overlaps(range))
}

/// What a table says, in as few pieces as there are.
///
/// # Safety
///
/// As for [`for_each_page`], with a table in the format of EPT.
unsafe fn read<M: AxMmHal>(root: HostPhysAddr) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let add = |guest: axvcpu::GuestPhysAddr, page: axvcpu_stage2::Mapping| {
        let next = Range {
            guest: guest.as_u64(),
            host: M::phys_to_virt(page.host).as_usize(),
            size: page.page_size,
            writable: page.perms.write,
        };
        if !ranges.last_mut().is_some_and(|last| last.extend(&next)) {
            ranges.push(next);
        }
    };
    // SAFETY: the caller's promise.
    unsafe { for_each_page::<M, _>(Ept, root, add) };
    ranges
}

/// # Safety
///
/// The memory is the guest's to use as the range says, until its number is given something else.
unsafe fn give(vm: BorrowedFd<'_>, slot: u32, range: &Range) -> Result<(), Errno> {
    let region = kvm_userspace_memory_region {
        slot,
        flags: if range.writable { 0 } else { KVM_MEM_READONLY },
        guest_phys_addr: range.guest,
        memory_size: range.size,
        userspace_addr: range.host as u64,
    };
    // SAFETY: the caller's promise.
    unsafe { request::SET_USER_MEMORY_REGION.call(vm, &region) }.map(drop)
}

/// vCPUs that are kept out of the guest, until this is dropped.
struct Held(Vec<Arc<Member>>);

impl Held {
    /// All but the caller's own, which is in no guest. They may be waiting for the same lock as the caller has: then
    /// they are in none either.
    fn all_but(me: &Member, members: &[Arc<Member>]) -> AxResult<Self> {
        let others = members.iter().filter(|other| !std::ptr::eq(&***other, me));
        let held = Self(others.cloned().collect());
        for member in &held.0 {
            member.page.immediate_exit().fetch_or(HELD, Ordering::SeqCst);
            match member.thread.load(Ordering::SeqCst) {
                0 => {}
                thread => Thread::from_id(thread).kick(),
            }
        }
        for member in &held.0 {
            // The kernel answers when nobody runs the vCPU. Whoever runs it next finds the flag.
            request::GET_DEBUGREGS.call(member.fd.as_fd())?;
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for member in &self.0 {
            member.page.immediate_exit().fetch_and(!HELD, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(guest: u64, size: u64) -> Range {
        Range { guest, host: 0x7000_0000 + guest as usize, size, writable: true }
    }

    #[test]
    fn changes_are_found() {
        let before = [range(0, 4), range(8, 4), range(16, 8), range(32, 1)];
        let after = [range(0, 4), range(8, 2), range(20, 4), range(40, 1)];
        assert_eq!(missing(&before, &after), before[1..]);
        assert_eq!(missing(&after, &before), after[1..]);
        assert_eq!(missing(&before, &before), []);
        let read_only = Range { writable: false, ..before[0] };
        assert_eq!(missing(&before[..1], &[read_only]), before[..1]);
    }

    #[test]
    fn what_is_there_stays_in_one_piece() {
        let whole = [range(0, 16), range(32, 16)];
        assert_eq!(along(&whole, &[]), whole);
        assert_eq!(along(&whole, &whole), whole);
        // Grown at both ends and in the middle.
        let before = [range(2, 2), range(6, 2), range(40, 8)];
        let grown = [
            range(0, 2),
            range(2, 2),
            range(4, 2),
            range(6, 2),
            range(8, 8),
            range(32, 8),
            range(40, 8),
        ];
        assert_eq!(along(&whole, &before), grown);
        // Shrunk, moved, of another kind, in no range or in two.
        let moved = Range { host: 1, ..range(4, 2) };
        let read_only = Range { writable: false, ..range(8, 2) };
        let before = [moved, read_only, range(12, 8), range(22, 4), range(30, 4), range(47, 4)];
        assert_eq!(along(&whole, &before), whole);
        assert_eq!(along(&[], &before), []);
        assert_eq!(along(&[range(0, 4), range(8, 4)], &[range(0, 12)]), [range(0, 4), range(8, 4)]);
    }

    #[test]
    fn overlaps_are_found() {
        let others = [range(0, 4), range(8, 4), range(16, 8)];
        for (guest, size, is_one) in [
            (4, 4, false),
            (3, 2, true),
            (4, 5, true),
            (12, 4, false),
            (0, 99, true),
            (24, 9, false),
        ] {
            assert_eq!(overlaps_any(&range(guest, size), &others), is_one, "{size} at {guest}");
        }
        assert!(!overlaps_any(&range(0, 9), &[]));
    }
}
