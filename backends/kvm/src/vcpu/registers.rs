//! General-purpose registers, and where the guest goes on.

use axvcpu::{AxError, AxResult, AxVCpuHal};
use axvcpu_x86::start::{Mode, Segment, Start};
use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

use super::{KvmVCpu, Open, Todo};
use crate::sys::request;

/// The register with this number in instructions.
fn gpr(registers: &mut kvm_regs, number: usize) -> Option<&mut u64> {
    let kvm_regs { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, .. } = registers;
    let kvm_regs { r8, r9, r10, r11, r12, r13, r14, r15, .. } = registers;
    let all = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
    all.into_iter().nth(number)
}

/// Registers that were written while a value was asked for.
///
/// The kernel is in the middle of the instruction then, and would forget what that writes if it was given registers
/// (`emulate_regs_need_sync_from_vcpu` in Linux, arch/x86/kvm/x86.c). So they are kept here until the instruction is
/// finished. One that it has changed is its own: what was written to it came before.
#[derive(Default)]
pub(super) struct Kept {
    /// A bit for each register.
    which: u16,
    values: [u64; 16],
    /// All of them, before.
    before: kvm_regs,
}

impl<H: AxVCpuHal> KvmVCpu<H> {
    /// The registers, as they are between two instructions; while a value is asked for, as they are without it.
    fn registers(&mut self) -> AxResult<kvm_regs> {
        if self.can_finish() {
            self.settle_at_rest()?;
        }
        if !self.todo.contains(Todo::REGISTERS) {
            self.settle()?;
            let registers = request::GET_REGS.call(self.fd())?;
            self.page.set_registers(registers);
            self.todo |= Todo::REGISTERS;
        }
        Ok(self.page.registers())
    }

    /// Whether the kernel is in the middle of an instruction that waits for a value.
    fn is_in_a_read(&self) -> bool {
        self.is_unfinished() && !self.can_finish() && self.asks()
    }

    /// Writes what was kept, after the instruction was finished.
    pub(super) fn write_what_was_kept(&mut self) {
        if !self.todo.contains(Todo::WRITTEN) {
            return;
        }
        self.todo.remove(Todo::WRITTEN);
        let (mut before, mut registers) = (self.kept.before, self.page.registers());
        for number in (0..16).filter(|number| self.kept.which & 1 << number != 0) {
            if let (Some(before), Some(now)) =
                (gpr(&mut before, number), gpr(&mut registers, number))
            {
                if before == now {
                    *now = self.kept.values[number];
                }
            }
        }
        self.set_registers(registers);
    }

    /// Changes them; the kernel takes them over at the next entry.
    pub(super) fn set_registers(&mut self, registers: kvm_regs) {
        self.page.set_registers(registers);
        self.page.set_registers_changed(true);
    }

    pub(super) fn read_gpr(&mut self, number: usize) -> AxResult<u64> {
        let mut registers = self.registers()?;
        let value = *gpr(&mut registers, number).ok_or(AxError::InvalidInput)?;
        let kept = self.todo.contains(Todo::WRITTEN) && self.kept.which & 1 << number != 0;
        Ok(if kept { self.kept.values[number] } else { value })
    }

    pub(super) fn write_gpr(&mut self, number: usize, value: u64) -> AxResult {
        let mut registers = self.registers()?;
        let register = gpr(&mut registers, number).ok_or(AxError::InvalidInput)?;
        if self.is_in_a_read() {
            if !self.todo.contains(Todo::WRITTEN) {
                self.todo |= Todo::WRITTEN;
                self.kept = Kept { before: registers, ..Kept::default() };
            }
            self.kept.which |= 1 << number;
            self.kept.values[number] = value;
        } else {
            *register = value;
            self.set_registers(registers);
        }
        Ok(())
    }

    /// Goes on at this address, in the mode the guest is in.
    pub(super) fn go_to(&mut self, entry: u64) -> AxResult {
        // What the last instruction still has to do comes before: its end is an address too.
        self.todo.remove(Todo::PIECES | Todo::RETRY);
        self.open = Open::Nothing;
        let mut registers = self.registers()?;
        let mut special = request::GET_SREGS.call(self.fd())?;
        let base = if special.cs.l == 0 { special.cs.base } else { 0 };
        let inside = entry.wrapping_sub(base) <= u64::from(special.cs.limit);
        if special.cs.l == 0 && !inside {
            let real = special.cr0 & axvcpu_x86::reg::cr0::PE == 0;
            let place = real.then(|| Start::REAL.code(entry)).flatten();
            let (segment, ip) = place.ok_or(AxError::InvalidInput)?;
            special.cs = kvm_segment_of(&segment);
            request::SET_SREGS.call(self.fd(), &special)?;
            registers.rip = ip;
        } else {
            registers.rip = entry.wrapping_sub(base);
        }
        // What the last instruction failed with would be delivered there.
        self.drop_exception()?;
        self.set_registers(registers);
        Ok(())
    }
}

fn kvm_segment_of(segment: &Segment) -> kvm_segment {
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: segment.kind,
        present: 1,
        dpl: 0,
        db: segment.big.into(),
        s: segment.is_code_or_data.into(),
        l: segment.long.into(),
        g: u8::from(segment.limit > 0xf_ffff),
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}

/// What a CPU starts with, on top of what a reset leaves. `None` when it cannot start there.
pub(super) fn start(
    start: &Start,
    entry: u64,
    mut special: kvm_sregs,
) -> Option<(kvm_sregs, kvm_regs)> {
    let (code, rip) = start.code(entry)?;
    let data = kvm_segment_of(&start.data());
    special.cs = kvm_segment_of(&code);
    (special.ds, special.es, special.fs) = (data, data, data);
    (special.gs, special.ss) = (data, data);
    special.tr = kvm_segment_of(&start.task());
    let (base, limit) = start.gdtr();
    special.gdt = kvm_dtable { base, limit, ..Default::default() };
    // No table of interrupts but in real mode: an exception before the guest has made one shuts the CPU down.
    let limit = if start.mode == Mode::Real { 0x3ff } else { 0 };
    special.idt = kvm_dtable { base: 0, limit, ..Default::default() };
    special.cr0 = start.cr0();
    special.cr3 = start.cr3;
    special.cr4 = start.cr4();
    special.efer = start.efer();
    let registers = kvm_regs { rip, rflags: axvcpu_x86::reg::rflags::FIXED, ..Default::default() };
    Some((special, registers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_the_numbers_of_instructions() {
        let mut registers = kvm_regs::default();
        for number in 0..16 {
            *gpr(&mut registers, number).unwrap() = 100 + number as u64;
        }
        assert!(gpr(&mut registers, 16).is_none());
        let kvm_regs { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r15, .. } = registers;
        assert_eq!(
            [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi],
            [100, 101, 102, 103, 104, 105, 106, 107]
        );
        assert_eq!((r8, r15), (108, 115));
    }
}
