//! Accesses that the backend makes itself, to memory that was mapped after the kernel had found nothing.
#![allow(unsafe_code)] // reads and writes guest memory

use std::sync::atomic::{AtomicU8, Ordering};

use axvcpu::{AxResult, AxVCpuHal};
use kvm_bindings::kvm_translation;

use super::exit::{Piece, Place};
use super::{KvmVCpu, Open};
use crate::sys::request;

impl<H: AxVCpuHal> KvmVCpu<H> {
    /// Performs the part of the last access that was handed out last on memory. `false`: there still is none.
    pub(super) fn access_memory(&mut self) -> bool {
        let piece = Piece::at(&self.page, self.at);
        let Place::Memory(addr) = piece.place else { return false };
        let len = piece.width.bytes();
        let Some(host) = self.machine.locate(addr, len as u64, piece.write) else { return false };
        // SAFETY: `locate` has found the bytes in a slot, so they are the guest's memory, mapped for the program; both
        // may access them at any time, by bytes as the guest may on a page's border.
        let byte = |index: usize| unsafe { AtomicU8::from_ptr((host + index) as *mut u8) };
        if piece.write {
            for (index, value) in piece.data(&self.page).to_le_bytes()[..len].iter().enumerate() {
                byte(index).store(*value, Ordering::Relaxed);
            }
        } else {
            let mut bytes = [0; 8];
            for (index, value) in bytes[..len].iter_mut().enumerate() {
                *value = byte(index).load(Ordering::Relaxed);
            }
            self.answer(u64::from_le_bytes(bytes));
        }
        self.open = Open::Nothing;
        true
    }

    /// Whether the guest is at a privilege level other than 0.
    pub(super) fn runs_a_user(&self) -> AxResult<bool> {
        Ok(request::GET_SREGS.call(self.fd())?.ss.dpl != 0)
    }

    /// The guest physical address at which the instruction that comes next is missing, or its second half.
    pub(super) fn missing_code(&mut self) -> AxResult<Option<u64>> {
        /// The longest instruction.
        const LONGEST: u64 = 15;
        let registers = request::GET_REGS.call(self.fd())?;
        let special = request::GET_SREGS.call(self.fd())?;
        let base = if special.cs.l == 0 { special.cs.base } else { 0 };
        let first = base.wrapping_add(registers.rip);
        let last = first.wrapping_add(LONGEST - 1);
        let pages = [first, last & !0xfff];
        let pages = if first >> 12 == last >> 12 { &pages[..1] } else { &pages[..] };
        for &linear_address in pages {
            let mut translation = kvm_translation { linear_address, ..Default::default() };
            request::TRANSLATE.call(self.fd(), &mut translation)?;
            let addr = translation.physical_address;
            if translation.valid != 0 && self.machine.locate(addr, 1, false).is_none() {
                return Ok(Some(addr));
            }
        }
        Ok(None)
    }
}
