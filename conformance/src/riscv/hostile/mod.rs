//! Guests that try what is not theirs, and everything else.

mod encodings;
mod memory;
mod refused;

use axvcpu::AxMmHal;
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::{CAUSE_INTERRUPT, irq, num, sstatus};
use axvcpu_riscv::paging::{Mode as Stage2Mode, PAGE_SIZE, SV39, pte};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Hart, Riscv, Trap};
use super::guest::*;
use crate::bench::{Isa, Mm};
use crate::hostile::{self, Hostile, Mode, Victim};
use crate::memory::Space;
use crate::random::Random;
use crate::report::Verdict;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 18] {
    [
        ("hostile: what belongs to others is illegal in VS-mode", refused::in_supervisor_mode),
        ("hostile: what belongs to others is illegal in VU-mode", refused::in_user_mode),
        ("hostile: registers written with nonsense", refused::nonsense),
        ("hostile: a storm of calls", calls),
        ("hostile: jumps to nowhere", nowhere),
        ("hostile: vectors that lead nowhere", no_vectors),
        ("hostile: a storm of interrupts", interrupts),
        ("hostile: every class of instructions", encodings::instructions),
        ("hostile: every class of compressed instructions", encodings::compressed),
        ("hostile: every CSR read and written", encodings::csrs),
        ("hostile: instructions at random", random_instructions),
        ("hostile: page tables anywhere", memory::tables),
        ("hostile: page tables full of nonsense", memory::entries),
        ("hostile: device accesses of every width at every edge", memory::edges),
        ("hostile: a guest that writes its own code", memory::self_modifying),
        ("hostile: a guest that writes its own code without a fence", memory::unfenced),
        ("hostile: a guest that writes over the next instruction", memory::next_instruction),
        ("hostile: a guest that writes over its handler", memory::handler),
    ]
}

// What the guest's program finds in its registers when it starts: `satp`, bits of `sstatus`, and where to go.
const SATP: usize = 18;
const STATUS: usize = 19;
const TARGET: usize = 20;

/// The guest's own tables: the second page of its data.
const ROOT: u64 = DATA + PAGE_SIZE;
/// Where its programs find all of the guest's memory, in these tables.
const PROGRAMS: u64 = 0x10_0000_0000;
/// Everything that programs may be given: units that are off otherwise, and interrupts.
const ON: u64 = sstatus::FS | VS | sstatus::SPIE;
/// The vector unit's state.
const VS: u64 = 3 << 9;
const SUPERVISOR: u64 = ON | sstatus::SPP;
/// Every interrupt.
const ALL: u64 = 1 << irq::SOFTWARE | 1 << irq::TIMER | 1 << irq::EXTERNAL;

const fn mode(
    name: &'static str,
    registers: &'static [(usize, u64)],
    window: u64,
    user: bool,
) -> Mode {
    Mode { name, registers, window, user }
}

impl<S: Subject> Hostile<S> for Riscv {
    const SLOT: usize = 16;
    const TRAPS: u64 = 0x9002_9002_9002_9002; // c.ebreak: no place behind a jump is between two instructions
    const MODES: &'static [Mode] = &[
        mode(
            "VS-mode",
            &[(SATP, 0), (STATUS, SUPERVISOR), (TARGET, Self::WINDOW)],
            Self::WINDOW,
            false,
        ),
        mode("VU-mode", &[(SATP, 0), (STATUS, ON), (TARGET, Self::WINDOW)], Self::WINDOW, true),
        mode(
            "VS-mode, Sv39",
            &[
                (SATP, SV39.root_register(ROOT)),
                (STATUS, SUPERVISOR | sstatus::SUM | sstatus::MXR),
                (TARGET, Self::WINDOW),
            ],
            Self::WINDOW,
            false,
        ),
        mode(
            "VU-mode, Sv39",
            &[(SATP, SV39.root_register(ROOT)), (STATUS, ON), (TARGET, PROGRAMS + Self::WINDOW)],
            PROGRAMS + Self::WINDOW,
            true,
        ),
    ];
    const VECTORS: &'static [usize] = &[irq::SOFTWARE, irq::TIMER, irq::EXTERNAL];
    const LINE: Option<usize> = Some(irq::EXTERNAL);

    /// All but `a0`, which the handler uses last.
    fn set_registers(
        hart: &Hart<S>,
        _: &Space<Mm<S>, Stage2Mode>,
        mut values: impl FnMut(usize) -> u64,
    ) -> Verdict {
        for register in (1..32).filter(|&register| register != 10) {
            hart.vcpu.set_gpr(register, values(register))?;
        }
        Ok(())
    }

    /// Writes the tables: the first four gigabytes as they are for the supervisor, and for programs elsewhere.
    fn repair<M: AxMmHal>(space: &Space<M, Stage2Mode>) -> Verdict {
        const BITS: u64 = pte::V | pte::RWX | pte::A | pte::D;
        for index in 0..512 {
            space.write(ROOT + 8 * index, 0)?;
        }
        for gigabyte in 0..4u64 {
            let at = gigabyte << 30;
            let entry = |address| ROOT + 8 * SV39.index(address, 2) as u64;
            space.write(entry(at), pte::new(at, BITS))?;
            space.write(entry(PROGRAMS + at), pte::new(at, BITS | pte::U))?;
        }
        Ok(())
    }

    fn is_user(trap: &Trap) -> bool {
        trap.status & sstatus::SPP == 0
    }

    fn is_interrupt(trap: &Trap) -> bool {
        trap.cause & CAUSE_INTERRUPT != 0
    }
}

impl Guest {
    /// Exchanges the handler for one that clears the software interrupt besides. Uses `t0`.
    fn clearing_handler(&mut self) {
        let (start, handler) = (self.label(), self.label());
        self.j(start);
        self.align(4);
        self.bind(handler);
        self.csrrci(ZERO, num::SIP, 1 << irq::SOFTWARE);
        self.report_trap();
        self.bind(start);
        self.la(T0, handler);
        self.csrw(num::STVEC, T0);
    }

    /// Lets all interrupts in that are let in by the target's status, and goes there.
    fn go_to_target(&mut self) {
        self.clearing_handler();
        self.li(T0, ALL as i64);
        self.csrw(num::SIE, T0);
        self.csrw(num::SATP, S2);
        self.sfence_vma(ZERO, ZERO);
        self.li(T0, sstatus::SPP as i64);
        self.csrrc(ZERO, num::SSTATUS, T0);
        self.csrrs(ZERO, num::SSTATUS, S3);
        self.csrw(num::SEPC, S4);
        self.sret();
    }
}

fn calls<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(S2, 0);
        let again = g.here_label();
        g.report(S2);
        g.addi(S2, S2, 1);
        g.j(again);
    })?;
    hostile::storm(&bench)
}

fn nowhere<S: Subject>(subject: &S) -> Verdict {
    // Nothing, a device, the end of memory, beyond what the CPU can name, an odd address, and the last byte of all.
    let addresses = [
        0,
        DEVICE,
        DATA + DATA_PAGES * PAGE_SIZE,
        1 << 40,
        1 << 41,
        1 << 55,
        0xdead_beef_0000_0000,
        u64::MAX,
    ];
    let bench = Bench::boot(subject, |g| {
        for (index, address) in (0..).zip(addresses) {
            g.li(S2, address as i64);
            g.jalr(RA, 0, S2);
            g.mark(index);
        }
    })?;
    hostile::jumps(&bench, addresses.len(), 1)
}

fn no_vectors<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.li(T0, DEVICE as i64);
        g.csrw(num::STVEC, T0);
        g.ebreak();
    })?;
    hostile::fault_loop(&bench, DEVICE)
}

fn interrupts<S: Subject>(subject: &S) -> Verdict {
    const VICTIMS: [Victim<Guest>; 6] = [
        Victim {
            name: "counts them, and makes calls and waits meanwhile",
            body: |g| {
                g.li(S2, DATA as i64);
                g.count_interrupts();
                g.enable_interrupts(ALL);
                let again = g.here_label();
                g.mark(2);
                g.wfi();
                g.j(again);
            },
            tells: true,
        },
        Victim {
            name: "traps all the while, and clears what it can",
            body: |g| {
                g.clearing_handler();
                g.enable_interrupts(ALL);
                let again = g.here_label();
                g.word(0xffff_ffff);
                g.ebreak();
                g.j(again);
            },
            tells: true,
        },
        Victim {
            name: "clears nothing",
            body: |g| {
                g.enable_interrupts(ALL);
                g.wait_for_ever();
            },
            tells: true,
        },
        Victim {
            name: "has its handler nowhere",
            body: |g| {
                g.enable_interrupts(ALL);
                g.li(T0, DEVICE as i64);
                g.csrw(num::STVEC, T0);
                g.wait_for_ever();
            },
            tells: false,
        },
        Victim {
            name: "has a vector table in a table of addresses beyond memory",
            body: |g| {
                g.enable_interrupts(ALL);
                g.li(T0, (DATA + DATA_PAGES * PAGE_SIZE - 4) as i64 | 1);
                g.csrw(num::STVEC, T0);
                g.wait_for_ever();
            },
            tells: false,
        },
        Victim {
            name: "sends itself software interrupts without an end",
            body: |g| {
                g.enable_interrupts(ALL);
                let again = g.here_label();
                g.csrrsi(ZERO, num::SIP, 1 << irq::SOFTWARE);
                g.j(again);
            },
            tells: true,
        },
    ];
    hostile::interrupt_storm::<S, Riscv>(subject, 100, &VICTIMS)
}

fn random_instructions<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 60;
    // Half of the words at random, half of them with the low bits of an instruction of 32 bits.
    let word =
        |random: &mut Random| random.next() | if random.once_in(2) { 3 << 32 | 3 } else { 0 };
    hostile::random_pages::<S, Riscv>(subject, 110, Guest::go_to_target, ROUNDS, word)
}
