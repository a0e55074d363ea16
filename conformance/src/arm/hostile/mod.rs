//! Guests that try what is not theirs, and everything else.

mod encodings;
mod memory;
mod system;

use axvcpu::AxMmHal;
use axvcpu_arm::asm::*;
use axvcpu_arm::stage2::Ipa;
use axvcpu_stage2::PAGE_SIZE;

use super::NamedCase;
use super::Subject;
use super::bench::{Arm, Bench, Hart, Trap};
use super::guest::*;
use super::paging::{SCTLR, TCR, bits, entry};
use crate::bench::{Isa, Mm};
use crate::hostile::{self, Hostile, Mode, Victim};
use crate::memory::Space;
use crate::random::Random;
use crate::report::{Verdict, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 19] {
    [
        ("hostile: what belongs to others is undefined at EL1", not_the_guests),
        ("hostile: a storm of calls", calls),
        ("hostile: jumps to nowhere", nowhere),
        ("hostile: vectors that lead nowhere", no_vectors),
        ("hostile: a storm of interrupts", interrupts),
        ("hostile: every system register read", system::reads),
        ("hostile: every system register written, every system instruction", system::writes),
        ("hostile: every hint, barrier and part of PSTATE", encodings::hints),
        ("hostile: every class of instructions", encodings::instructions),
        ("hostile: instructions at random", random_instructions),
        ("hostile: programs of 32 bits", encodings::aarch32),
        ("hostile: returns to every kind of state", encodings::returns),
        ("hostile: page tables anywhere", memory::tables),
        ("hostile: page tables full of nonsense", memory::entries),
        ("hostile: device accesses of every width at every edge", memory::edges),
        ("hostile: a guest that writes its own code", memory::self_modifying),
        ("hostile: a guest that writes its own code and does not say so", memory::unannounced),
        ("hostile: a guest that writes over the next instruction", memory::next_instruction),
        ("hostile: a guest that writes over its vectors", memory::vectors),
    ]
}

// What the guest's program finds in its registers when it starts: its tables or 0, SPSR, and where to go.
const TABLES: usize = 19;
const STATE: usize = 20;
const TARGET: usize = 21;

/// The guest's own tables: the second page of its data.
const ROOT: u64 = DATA + PAGE_SIZE;
/// Where its programs find all of the guest's memory, in these tables.
const PROGRAMS: u64 = 0x30_0000_0000;
/// SCTLR_EL1 with everything allowed that programs may be allowed, so that it gets as far as the hypervisor: UCI, nTWE, nTWI,
/// UCT, DZE and UMA.
const ALLOWED: u64 = SCTLR | 1 << 26 | 1 << 18 | 1 << 16 | 1 << 15 | 1 << 14 | 1 << 9;

/// The register that has no more than the three bits of a binary point in it, for writes to [`sys::ICC_BPR1_EL1`]. All else is
/// RES0, but QEMU 10.0 (`hw/intc/arm_gicv3_cpuif.c`, `write_vbpr`) compares all of the value with the least there may be,
/// keeps three bits of it, and after a multiple of 8 it has a 0 there that it takes for impossible with the next interrupt:
/// its assertion `bpr > 0` fails.
const BINARY_POINT: usize = 7;

const fn mode(
    name: &'static str,
    registers: &'static [(usize, u64)],
    window: u64,
    user: bool,
) -> Mode {
    Mode { name, registers, window, user }
}

impl<S: Subject> Hostile<S> for Arm {
    const SLOT: usize = 8;
    const TRAPS: u64 = 0xd420_0000_d420_0000; // brk #0
    const MODES: &'static [Mode] = &[
        mode(
            "EL1",
            &[(TABLES, 0), (STATE, pstate::EL1H), (TARGET, Self::WINDOW)],
            Self::WINDOW,
            false,
        ),
        mode("EL0", &[(TABLES, 0), (STATE, 0), (TARGET, Self::WINDOW)], Self::WINDOW, true),
        mode(
            "EL1, translated",
            &[(TABLES, ROOT), (STATE, pstate::EL1H), (TARGET, Self::WINDOW)],
            Self::WINDOW,
            false,
        ),
        mode(
            "EL0, translated",
            &[(TABLES, ROOT), (STATE, 0), (TARGET, PROGRAMS + Self::WINDOW)],
            PROGRAMS + Self::WINDOW,
            true,
        ),
    ];
    const VECTORS: &'static [usize] = &[0, 1, 7, 15, 16, 20, 31, 32, 33, 200, 1019];
    const LINE: Option<usize> = Some(40);

    /// All but what the vectors use last: `x0`, `x5` and `x6`.
    fn set_registers(
        hart: &Hart<S>,
        _: &Space<Mm<S>, Ipa>,
        mut values: impl FnMut(usize) -> u64,
    ) -> Verdict {
        for register in (1..31).filter(|register| ![5, 6].contains(register)) {
            hart.vcpu.set_gpr(register, values(register))?;
        }
        Ok(())
    }

    /// Writes the tables: the first four gigabytes as they are for EL1, and for programs elsewhere.
    fn repair<M: AxMmHal>(space: &Space<M, Ipa>) -> Verdict {
        for index in 0..512 {
            space.write(ROOT + 8 * index, 0)?;
        }
        for gigabyte in 0..4 {
            let kind = if gigabyte == 0 { bits::DEVICE } else { bits::NORMAL };
            let at = gigabyte << 30;
            let leaf = at | kind | bits::VALID;
            space.write(entry(ROOT, at, 2), leaf)?;
            space.write(entry(ROOT, PROGRAMS + at, 2), leaf | 1 << 6)?; // EL0's too
        }
        Ok(())
    }

    fn is_user(trap: &Trap) -> bool {
        trap.vector >= 8
    }

    fn is_interrupt(trap: &Trap) -> bool {
        trap.vector % 4 == 1
    }
}

impl Guest {
    /// Switches everything on that is off, and goes where the registers say.
    fn go_to_target(&mut self) {
        let off = self.label();
        self.float_on();
        self.gic_on();
        self.set_sys(sys::CNTKCTL_EL1, 0x303); // EL0 has counters and timers
        self.set_sys(sys::SCTLR_EL1, ALLOWED);
        self.isb();
        self.cbz(X19, off);
        self.set_sys(sys::MAIR_EL1, 0xff04);
        self.set_sys(sys::TCR_EL1, TCR);
        self.msr(sys::TTBR0_EL1, X19);
        self.tlbi_vmalle1();
        self.dsb_ish();
        self.isb();
        self.set_sys(sys::SCTLR_EL1, ALLOWED | 1 << 12 | 1 << 2 | 1);
        self.isb();
        self.bind(off);
        self.msr(sys::SPSR_EL1, X20);
        self.msr(sys::ELR_EL1, X21);
        self.eret();
    }
}

/// Instructions of EL2 and EL3, of debuggers, and of nobody.
const NOT_THE_GUESTS: [(&str, u32); 13] = [
    ("tlbi alle1", 0xd50c_879f),
    ("tlbi alle1is", 0xd50c_839f),
    ("tlbi vmalls12e1", 0xd50c_87df),
    ("tlbi ipas2e1is, x20", 0xd50c_8034),
    ("tlbi alle2", 0xd50c_871f),
    ("tlbi vae2, x20", 0xd50c_8734),
    ("at s12e1r, x20", 0xd50c_7894),
    ("at s1e2r, x20", 0xd50c_7814),
    ("drps", 0xd6bf_03e0),
    ("hlt #0", 0xd440_0000),
    ("dcps1", 0xd4a0_0001),
    ("zeroes", 0),
    ("ones", u32::MAX),
];

fn not_the_guests<S: Subject>(subject: &S) -> Verdict {
    let mut at = 0;
    let bench = Bench::boot(subject, |g| {
        at = g.here();
        NOT_THE_GUESTS.iter().for_each(|&(_, word)| g.word(word));
        g.mark(1);
    })?;
    for (elr, (name, _)) in (at..).step_by(4).zip(NOT_THE_GUESTS) {
        let trap = bench.hart().trap()?;
        let found = (trap.vector, trap.class(), trap.elr);
        ensure_eq!(found, (vector::SYNC, class::UNKNOWN, elr), "{name}: vector, class, ELR");
        bench.vcpu().set_return_value(elr + 4)?;
    }
    bench.hart().mark(1)
}

fn calls<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(X19, 0);
        let again = g.here_label();
        g.report(X19);
        g.add_imm(X19, X19, 1);
        g.b(again);
    })?;
    hostile::storm(&bench)
}

fn nowhere<S: Subject>(subject: &S) -> Verdict {
    // Nothing, a device, the end of memory, beyond what the CPU can name, not an instruction's address.
    let addresses = [
        0,
        DEVICE,
        DATA + DATA_PAGES * PAGE_SIZE,
        1 << 38,
        1 << 51,
        0xdead_beef_0000_0000,
        CODE + 2,
        u64::MAX,
    ];
    let bench = Bench::boot(subject, |g| {
        for (index, address) in (0..).zip(addresses) {
            g.li(X19, address);
            g.blr(X19);
            g.mark(index);
        }
    })?;
    hostile::jumps(&bench, addresses.len(), 30)
}

fn no_vectors<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.set_sys(sys::VBAR_EL1, DEVICE);
        g.isb();
        g.udf(0);
    })?;
    hostile::fault_loop(&bench, DEVICE + 0x200)
}

fn interrupts<S: Subject>(subject: &S) -> Verdict {
    /// What a guest can tell the CPU interface.
    const INTERFACE: [u16; 11] = [
        sys::ICC_PMR_EL1,
        sys::ICC_EOIR1_EL1,
        sys::ICC_DIR_EL1,
        sys::ICC_BPR1_EL1,
        sys::ICC_CTLR_EL1,
        sys::ICC_IGRPEN1_EL1,
        sys::ICC_SGI1R_EL1,
        sys::ICC_SRE_EL1,
        sys::reg(3, 0, 12, 9, 0),  // ICC_AP1R0_EL1
        sys::reg(3, 0, 12, 8, 4),  // ICC_AP0R0_EL1
        sys::reg(3, 0, 12, 12, 6), // ICC_IGRPEN0_EL1
    ];
    const VICTIMS: [Victim<Guest>; 6] = [
        Victim {
            name: "counts them, and makes calls and waits meanwhile",
            body: |g| {
                g.li(X19, DATA);
                g.count_interrupts();
                g.enable_interrupts();
                let again = g.here_label();
                g.mark(2);
                g.wfi();
                g.b(again);
            },
            tells: true,
        },
        Victim {
            name: "traps all the while",
            body: |g| {
                g.enable_interrupts();
                let again = g.here_label();
                g.udf(0);
                g.brk(0);
                g.b(again);
            },
            tells: true,
        },
        Victim {
            name: "takes all there are, and ends none",
            body: |g| {
                g.gic_on();
                let again = g.here_label();
                g.mrs(X19, sys::ICC_IAR1_EL1);
                g.b(again);
            },
            tells: false,
        },
        Victim {
            name: "has its vectors nowhere",
            body: |g| {
                g.enable_interrupts();
                g.set_sys(sys::VBAR_EL1, DEVICE);
                g.wait_for_ever();
            },
            tells: false,
        },
        Victim {
            name: "tells the CPU interface anything",
            body: |g| {
                g.enable_interrupts();
                g.li(X19, 1);
                g.li(X20, 0x9e37_79b9_7f4a_7c15);
                let again = g.here_label();
                for (index, register) in (0..).zip(INTERFACE) {
                    g.mul(X19, X19, X20);
                    g.add_imm(X19, X19, 1);
                    // Large numbers, and small ones.
                    let small = register == sys::ICC_BPR1_EL1; // see `BINARY_POINT`
                    g.lsr(X21, X19, if small { 61 } else { 8 * (index % 8) });
                    g.msr(register, X21);
                    g.mrs(X22, sys::ICC_IAR1_EL1);
                }
                g.b(again);
            },
            tells: false,
        },
        Victim {
            name: "interrupts itself without an end",
            body: |g| {
                g.enable_interrupts();
                g.li(X19, 1 << 24 | 1); // SGI 1, to the first of the lowest cluster
                let again = g.here_label();
                g.msr(sys::ICC_SGI1R_EL1, X19);
                g.b(again);
            },
            tells: true,
        },
    ];
    hostile::interrupt_storm::<S, Arm>(subject, 200, &VICTIMS)
}

fn random_instructions<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 60;
    let word = |random: &mut Random| random.next();
    hostile::random_pages::<S, Arm>(subject, 210, Guest::go_to_target, ROUNDS, word)
}
