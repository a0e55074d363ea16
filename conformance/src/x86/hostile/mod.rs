//! Guests that try whatever they like. Nothing is expected of most of them, but that every run comes back and that the vCPU is
//! one like any other after a reset.

mod encodings;
mod memory;
mod modes;
mod registers;

use axvcpu::AxMmHal;
use axvcpu_stage2::Perms;
use axvcpu_x86::asm::*;
use axvcpu_x86::ept::Ept;
use axvcpu_x86::reg::{gpr, rflags};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, Hart, Trap, X86, write_system};
use super::guest::*;
use crate::bench::{Isa, Mm};
use crate::hostile::{self, Hostile, Mode, Victim};
use crate::memory::Space;
use crate::report::{Verdict, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 18] {
    [
        ("hostile: a storm of calls", calls),
        ("hostile: jumps to nowhere", nowhere),
        ("hostile: handlers that lead nowhere", no_handlers),
        ("hostile: a storm of interrupts", interrupts),
        ("hostile: a guest that writes its own code", self_modifying),
        ("hostile: a guest that writes over the next instruction", memory::next_instruction),
        ("hostile: every opcode of one byte", |s| encodings::opcodes(s, 320, &[&[]])),
        ("hostile: every opcode of two bytes", |s| encodings::opcodes(s, 321, &[&[0x0f]])),
        ("hostile: every opcode of three bytes, and with VEX", encodings::longer),
        ("hostile: programs of random bytes", encodings::random_bytes),
        ("hostile: programs of random bytes in compatibility mode", modes::compatibility),
        ("hostile: programs of random bytes in protected and in real mode", modes::legacy),
        ("hostile: model-specific registers read and written at random", registers::msrs),
        ("hostile: control and debug registers written at random", registers::control),
        ("hostile: page tables and descriptor tables anywhere", registers::tables),
        ("hostile: page tables full of nonsense", memory::entries),
        ("hostile: device accesses of every width at every edge", memory::edges),
        ("hostile: ports of every width at every edge", memory::ports),
    ]
}

/// What tells the guest's program to go to the window as a program of CPL 3.
const USER: usize = gpr::RBP;

impl<S: Subject> Hostile<S> for X86 {
    const SLOT: usize = 32;
    const TRAPS: u64 = 0x0606_0606_0606_0606; // push es, which code of 64 bits has not: one byte
    const MODES: &'static [Mode] = &[
        Mode { name: "CPL 0", registers: &[(USER, 0)], window: Self::WINDOW, user: false },
        Mode { name: "CPL 3", registers: &[(USER, 1)], window: Self::WINDOW, user: true },
    ];
    const VECTORS: &'static [usize] = &[0x20, 0x21, 0x80, 0xff];
    const LINE: Option<usize> = None;

    fn go_on_at(hart: &Hart<S>, address: u64) -> Verdict {
        hart.go_on_at(address)
    }

    /// All but the stack pointer, which is what it was at first. Those that the handler saves it takes from its stack again.
    fn set_registers(
        hart: &Hart<S>,
        space: &Space<Mm<S>, Ept>,
        mut values: impl FnMut(usize) -> u64,
    ) -> Verdict {
        /// As the handler's stack has them, and behind them vector, error code, RIP and CS.
        const SAVED: [usize; 7] = [8, gpr::RDI, gpr::RSI, gpr::RDX, gpr::RCX, gpr::RBX, gpr::RAX];
        let stack = hart.vcpu.get_gpr(gpr::RSP)?;
        // A guest that has moved its stack goes on with what it has.
        let is_ours =
            (SYSTEM..SYSTEM + (SYSTEM_PAGES - 1) * 0x1000).contains(&stack) && stack % 8 == 0;
        if is_ours {
            for (at, register) in (stack..).step_by(8).zip(SAVED) {
                space.write(at, values(register))?;
            }
            let user = space.read(stack + 80)? & 3 == 3;
            let (flags, top) = (space.read(stack + 88)?, if user { USER_STACK } else { STACK });
            space.write(stack + 88, flags & rflags::IF | rflags::FIXED)?;
            space.write(stack + 96, top - 0x200)?;
        }
        for register in (9..16).chain([gpr::RBP]) {
            hart.vcpu.set_gpr(register, values(register))?;
        }
        Ok(())
    }

    fn repair<M: AxMmHal>(space: &Space<M, Ept>) -> Verdict {
        write_system(space)
    }

    /// Whatever a CPU does that gives up on itself, and what is below a backend and does not know an instruction.
    fn is_last(exit: &Exit) -> bool {
        matches!(
            exit,
            Exit::SystemCrash
                | Exit::SystemDown
                | Exit::SystemReset
                | Exit::InternalError { .. }
                | Exit::FailEntry { .. }
        )
    }

    fn is_user(trap: &Trap) -> bool {
        trap.cs & 3 == 3
    }

    fn is_interrupt(trap: &Trap) -> bool {
        trap.vector >= 32 || trap.vector == vector::NMI
    }
}

impl Guest {
    /// Goes to the window with interrupts let in, as a program of CPL 3 if [`USER`] says so.
    fn go_to_window(&mut self) {
        let supervisor = self.label();
        self.test(RBP, RBP);
        self.jcc(Cond::E, supervisor);
        self.go_user(rflags::FIXED | rflags::IF);
        self.bind(supervisor);
        self.li(RBP, X86::WINDOW);
        // Programs may not, and have them on.
        let there = self.label();
        self.mov_from_seg(RAX, Seg::Cs);
        self.test(EAX, 3);
        self.jcc(Cond::Ne, there);
        self.sti();
        self.bind(there);
        self.jmp_at(RBP);
    }
}

fn calls<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(R12, 0);
        let again = g.here_label();
        g.report(R12);
        g.inc(R12);
        g.jmp(again);
    })?;
    hostile::storm(&bench)
}

fn nowhere<S: Subject>(subject: &S) -> Verdict {
    // Nothing, a device, the end of memory, what no table maps, what is no address, and the last byte of all.
    const ADDRESSES: [u64; 7] =
        [0, DEVICE, DATA + 0x1000 * DATA_PAGES, 1 << 38, 1 << 51, 0xdead_beef_0000_0000, u64::MAX];
    let bench = Bench::boot(subject, |g| {
        for (index, address) in (0..).zip(ADDRESSES) {
            let behind = g.label();
            g.la(R14, behind);
            g.li(RSI, address);
            g.jmp_at(RSI);
            g.bind(behind);
            g.mark(index);
        }
    })?;
    hostile::jumps(&bench, ADDRESSES.len(), 14)
}

/// Handlers of exceptions that fault themselves: where there is nothing, where there are no tables, and in themselves. In the
/// end the CPU shuts down, or the exceptions go on for ever.
fn no_handlers<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 24;
    let body = |g: &mut Guest| {
        // For page faults what `r12` says, and for undefined instructions what `r13` says.
        for (vector, handler) in [(vector::PF, R12), (vector::UD, R13), (vector::GP, R14)] {
            g.mov(RAX, handler);
            let gate = IDT + 16 * vector;
            g.mov(at(gate), AX);
            g.shr(RAX, 16);
            g.mov(at(gate + 6), AX);
            g.shr(RAX, 16);
            g.mov(at(gate + 8), RAX);
        }
        g.ud2();
    };
    hostile::attack::<S, X86>(subject, 300, hostile::Pressure::Kicks, body, |sandbox, random| {
        // An undefined instruction, which is its own handler.
        let trap = X86::WINDOW;
        sandbox.clear_window()?;
        for round in 0..ROUNDS {
            let mut place = || if round % 3 == 0 { trap } else { sandbox.address(random) };
            let registers = [(12, place()), (13, place()), (14, place())];
            sandbox.start(&registers)?;
            sandbox.let_go(random, |_, _| None)?;
            // What it wrote is no part of its program.
            write_system(&sandbox.bench.space)?;
        }
        Ok(())
    })
}

fn interrupts<S: Subject>(subject: &S) -> Verdict {
    const VICTIMS: [Victim<Guest>; 4] = [
        Victim {
            name: "counts them, and makes calls and waits meanwhile",
            body: |g| {
                g.count_interrupts(&[0x20, 0x21, 0x80, 0xff], DATA);
                g.sti();
                let again = g.here_label();
                g.mark(2);
                g.hlt();
                g.jmp(again);
            },
            tells: true,
        },
        Victim {
            name: "traps all the while",
            body: |g| {
                let (start, handler) = (g.label(), g.label());
                g.jmp(start);
                // Steps over it.
                g.bind(handler);
                g.add(qword(RSP), 2);
                g.iretq();
                g.bind(start);
                g.set_handler(vector::UD, handler);
                g.sti();
                let again = g.here_label();
                g.ud2();
                g.pass();
                g.jmp(again);
            },
            tells: true,
        },
        Victim {
            name: "lets none of them in",
            body: |g| {
                g.cli();
                g.wait_for_ever();
            },
            tells: false,
        },
        Victim {
            name: "has no descriptors for them",
            body: |g| {
                g.li(RAX, 0);
                g.mov(at(DATA), RAX);
                g.mov(at(DATA + 8), RAX);
                g.lidt(at(DATA));
                g.sti();
                g.wait_for_ever();
            },
            tells: false,
        },
    ];
    hostile::interrupt_storm::<S, X86>(subject, 310, &VICTIMS)
}

fn self_modifying<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 300;
    let mut bench = Bench::boot(subject, |g| {
        g.li(RSI, X86::WINDOW);
        g.li(R12, 0);
        g.li(R13, 0);
        let again = g.here_label();
        // The number of the instruction at the window, and the one right behind this.
        g.mov(mem(RSI) + 1, R12D);
        let place = g.label();
        g.mov(rip(place) + 1, R12D);
        g.call_at(RSI);
        g.add(R13, RBX);
        g.bind(place);
        g.bytes(&[0xbb, 0, 0, 0, 0]); // mov ebx, a number
        g.add(R13, RBX);
        g.inc(R12D);
        g.cmp(R12D, ROUNDS as u32);
        g.jcc(Cond::Ne, again);
        g.report(R13);
    })?;
    bench.space.add(X86::WINDOW, 1, Some(Perms::RWX))?;
    bench.space.fill(X86::WINDOW, &[0xbb, 0, 0, 0, 0, 0xc3])?; // and `ret`
    bench.announce();
    ensure_eq!(bench.hart().report()?, ROUNDS * (ROUNDS - 1), "the sum of what was executed");
    bench.hart().end()
}
