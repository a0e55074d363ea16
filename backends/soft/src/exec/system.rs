//! Instructions with effects on the hart itself: environment calls, CSRs, fences, traps and waiting.

use core::sync::atomic::{Ordering, compiler_fence, fence};

use axvcpu::AxVCpuExitReason;
use axvcpu_riscv::csr::cause;

use super::op::{Cursor, R, Stop};
use super::{goto, illegal, jump, leave, step, stop_at};
use crate::hart::Hart;

/// The SBI Timer extension and the legacy call it replaces (SBI 2.0, chapters 6 and 5.1).
const SBI_TIME: u64 = 0x5449_4d45;
const SBI_LEGACY_SET_TIMER: u64 = 0;

/// An instruction that does not exist.
pub(super) fn undefined(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    illegal(h, c, pc, left)
}

/// `ebreak`.
pub(super) fn ebreak(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    stop_at(h, c, pc, left);
    let at = h.pc;
    h.trap(cause::BREAKPOINT, at);
    Stop::Next
}

/// `ecall`: to the guest's kernel from U-mode, to the hypervisor from S-mode.
pub(super) fn ecall(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    if h.user {
        stop_at(h, c, pc, left);
        h.trap(cause::USER_ECALL, 0);
        return Stop::Next;
    }
    let exits = c.exits();
    let left = left - i64::from(exits.count);
    let next = pc.wrapping_add(exits.len.into());
    let [a0, a1, a2, a3, a4, a5] =
        [R::X10, R::X11, R::X12, R::X13, R::X14, R::X15].map(|register| h.get(register));
    match (h.get(R::X17), h.get(R::X16)) {
        (SBI_TIME, 0) => {
            h.set_timer(a0, left);
            h.set(R::X10, 0);
            h.set(R::X11, 0);
            leave(h, next, left, Stop::Next)
        }
        (SBI_LEGACY_SET_TIMER, _) => {
            h.set_timer(a0, left);
            h.set(R::X10, 0);
            leave(h, next, left, Stop::Next)
        }
        (nr, function) => {
            h.exit =
                Some(AxVCpuExitReason::Hypercall { nr, function, args: [a0, a1, a2, a3, a4, a5] });
            leave(h, next, left, Stop::Exit)
        }
    }
}

/// `sret`.
pub(super) fn sret(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    if h.user {
        return illegal(h, c, pc, left);
    }
    let left = left - i64::from(c.exits().count);
    h.trap_return();
    if h.csr.deliverable(h.user).is_some() {
        h.left = left;
        return Stop::Next;
    }
    h.attention = false;
    let to = h.pc;
    jump(h, to, left)
}

/// `wfi`: goes on if an enabled interrupt is pending, whether or not it can be taken.
pub(super) fn wfi(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    if h.user {
        return illegal(h, c, pc, left);
    }
    let exits = c.exits();
    let left = left - i64::from(exits.count);
    leave(h, pc.wrapping_add(exits.len.into()), left, Stop::Next);
    h.poll_timer(left);
    if h.has_wakeup() {
        h.attention = true;
        return Stop::Next;
    }
    h.exit = Some(AxVCpuExitReason::Halt { wake_after_ns: h.timer_ns() });
    Stop::Exit
}

/// `sfence.vma`. One address space or all makes no difference: the caches do not tell them apart.
pub(super) fn sfence_vma(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    if h.user {
        return illegal(h, c, pc, left);
    }
    let (op, exits) = (c.op(), c.exits());
    if op.rs1 == R::X0 {
        h.flush_guest_tlb();
    } else {
        h.flush_guest_page(h.get(op.rs1));
    }
    leave(h, pc.wrapping_add(exits.len.into()), left - i64::from(exits.count), Stop::Next)
}

/// `fence.i`.
pub(super) fn fence_i(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    let exits = c.exits();
    h.flush_instructions();
    leave(h, pc.wrapping_add(exits.len.into()), left - i64::from(exits.count), Stop::Next)
}

/// `fence` that orders earlier writes before later reads: a full barrier.
pub(super) fn fence_full(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    fence(Ordering::SeqCst);
    step(h, c, pc, left)
}

/// `fence` that does not.
pub(super) fn fence_partial(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    fence(Ordering::AcqRel);
    compiler_fence(Ordering::SeqCst);
    step(h, c, pc, left)
}

/// `csrrw`, `csrrs`, `csrrc` and their immediate forms. The immediate is the instruction itself.
pub(super) fn csr(h: &mut Hart, c: Cursor, pc: u64, left: i64) -> Stop {
    let (op, exits) = (c.op(), c.exits());
    let after = left - i64::from(exits.count);
    let bits = op.imm as u32;
    let number = (bits >> 20) as u16;
    let field = u64::from(bits >> 15 & 31);
    let operand = if bits & 0x4000 != 0 { field } else { h.get(op.rs1) };
    let replace = bits >> 12 & 3 == 1;
    // Setting or clearing no bits is not a write, and replacing a value nobody wants is not a read; but no
    // read here has a side effect.
    let write = replace || field != 0;
    let Ok(old) = h.read_csr(number, write, after) else {
        return illegal(h, c, pc, left);
    };
    if write {
        let new = match bits >> 12 & 3 {
            1 => operand,
            2 => old | operand,
            _ => old & !operand,
        };
        if h.write_csr(number, new, after).is_err() {
            return illegal(h, c, pc, left);
        }
    }
    h.set(op.rd, old);
    let next = pc.wrapping_add(exits.len.into());
    // A new address space takes effect with the next fetch.
    if h.attention || number == axvcpu_riscv::csr::num::SATP {
        return leave(h, next, after, Stop::Next);
    }
    goto::<false>(h, c, pc, next, after)
}
