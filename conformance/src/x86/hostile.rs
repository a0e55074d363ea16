//! Guests that try whatever they like. Nothing is expected of them, but that every run comes back and that the vCPU is one
//! like any other after a reset.

use core::sync::atomic::{AtomicBool, Ordering};

use axvcpu::AccessWidth::Dword;
use axvcpu::{AxResult, Fence, GuestPhysAddr, VCpuState};
use axvcpu_stage2::Perms;
use axvcpu_x86::asm::*;
use axvcpu_x86::reg::{gpr, rflags};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, X86, write_system};
use super::guest::*;
use crate::bench::{Isa, dispatch};
use crate::random::Random;
use crate::report::{Verdict, ensure, ensure_eq, fail};
use crate::requests::two_cpus;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 9] {
    [
        ("hostile: a storm of calls", storm),
        ("hostile: jumps to nowhere", nowhere),
        ("hostile: a guest that writes its own code", self_modifying),
        ("hostile: every opcode of one byte", |s| opcodes(s, &[])),
        ("hostile: every opcode of two bytes", |s| opcodes(s, &[0x0f])),
        ("hostile: programs of random bytes", random_bytes),
        ("hostile: model-specific registers read and written at random", random_msrs),
        ("hostile: control and debug registers written at random", random_registers),
        ("hostile: page tables and descriptor tables anywhere", random_tables),
    ]
}

fn storm<S: Subject>(subject: &S) -> Verdict {
    const CALLS: u64 = 20_000;
    let bench = Bench::boot(subject, |g| {
        g.li(RAX, 0);
        let again = g.here_label();
        g.out_imm(0x72, EAX);
        g.inc(EAX);
        g.jmp(again);
    })?;
    for call in 0..CALLS {
        bench.hart().io_write(0x72, Dword, call)?;
    }
    Ok(())
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
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for index in 0..ADDRESSES.len() as u64 {
        for _ in 0..5 {
            let exit = hart.run()?;
            match hart.call(&exit)? {
                // The guest learns it from its CPU or from the hypervisor, and goes on behind the jump.
                Some((TRAP, _)) => hart.go_on_at(vcpu.get_gpr(14)?)?,
                Some((REPORT, [found, ..])) => {
                    ensure_eq!(found, index, "the jump");
                    break;
                }
                _ if matches!(exit, Exit::NestedPageFault { .. }) => vcpu.fail_access()?,
                _ => fail!("jump {index}: {exit:x?}"),
            }
        }
    }
    hart.end()
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

/// Where there is something to hit.
impl Random {
    /// An address of something, more or less.
    fn address(&mut self) -> u64 {
        const PLACES: [u64; 8] = [CODE, DATA, SYSTEM, TABLES, HANDLERS, DEVICE, 0, 1 << 40];
        match self.next() % 4 {
            0 => self.value(),
            1 => PLACES[self.next() as usize % 8] + (self.next() & 0xfff),
            _ => PLACES[self.next() as usize % 8],
        }
    }
}

/// A guest that starts over with every attempt.
struct Sandbox<S: Subject> {
    bench: Bench<S>,
    program: alloc::vec::Vec<u8>,
}

/// Exits after which a guest has had its chance,
const ENOUGH: usize = 60;
/// and kicks.
const KICKS: usize = 3;

impl<S: Subject> Sandbox<S> {
    /// A guest that marks 1 and does `body`, which finds in its registers what [`start`](Self::start) puts there. Behind
    /// it is nothing but traps.
    fn new(subject: &S, body: impl FnOnce(&mut Guest)) -> Verdict<Self> {
        let program = Guest::assemble(|g| {
            g.mark(1);
            body(g);
            g.ud2();
        })?;
        let mut bench = Bench::empty(subject)?;
        bench.space.add(X86::WINDOW, 1, Some(Perms::RWX))?;
        bench.space.fill(CODE, &program)?;
        bench.add_bound(subject, 1)?;
        Ok(Self { bench, program })
    }

    /// Starts the guest over, with these registers, and runs it to its first mark.
    fn start(&self, registers: &[(usize, u64)]) -> Verdict {
        let (hart, vcpu) = (self.bench.hart(), self.bench.vcpu());
        for repair in [false, true] {
            if repair {
                // The guest has written over itself.
                write_system(&self.bench.space)?;
                self.bench.space.fill(CODE, &self.program)?;
                vcpu.request_fence(Fence::all());
            }
            vcpu.reset()?;
            vcpu.wake_here();
            vcpu.set_entry(GuestPhysAddr::new(CODE))?;
            for &(register, value) in registers {
                vcpu.set_gpr(register, value)?;
            }
            // Kicks may come, and do not count.
            let Ok(exit) = hart.try_run() else { fail!("running failed after a reset") };
            if matches!(hart.call(&exit)?, Some((REPORT, [1, ..]))) {
                return Ok(());
            }
        }
        fail!("it does not start any more")
    }

    /// Lets the guest go on, and does with its exits what a hypervisor may that has no idea of them.
    fn let_go(&self, random: &mut Random) -> Verdict {
        let mut kicks = 0;
        for _ in 0..ENOUGH {
            let exit = self.bench.vcpu().run()?;
            kicks += usize::from(exit == Exit::Nothing);
            if kicks == KICKS {
                break;
            }
            if !self.shrug(exit, random)? {
                break;
            }
        }
        let state = self.bench.vcpu().state();
        ensure!(state != VCpuState::Invalid, "the vCPU is {state}");
        Ok(())
    }

    /// `false` at the guest's end.
    fn shrug(&self, exit: Exit, random: &mut Random) -> Verdict<bool> {
        let (hart, vcpu) = (self.bench.hart(), self.bench.vcpu());
        let value = random.next();
        let done: AxResult = match exit {
            Exit::SysRegRead { .. } | Exit::SysRegWrite { .. } if value & 1 == 0 => {
                vcpu.fail_access()
            }
            Exit::SysRegRead { .. } | Exit::MmioRead { .. } | Exit::IoRead { .. } => {
                vcpu.set_return_value(value)
            }
            Exit::NestedPageFault { .. } => vcpu.fail_access(),
            Exit::Halt { .. } => {
                vcpu.wake_here();
                Ok(())
            }
            Exit::ExternalInterrupt { .. } => {
                dispatch::<S>();
                Ok(())
            }
            Exit::IoWrite { .. } => match hart.call(&exit)? {
                Some((TRAP | END, _)) => return Ok(false),
                _ => Ok(()),
            },
            Exit::SystemCrash
            | Exit::SystemDown
            | Exit::SystemReset
            | Exit::InternalError { .. }
            | Exit::FailEntry { .. } => return Ok(false),
            _ => Ok(()),
        };
        done?;
        Ok(true)
    }

    /// And after all that it is a vCPU like any other.
    fn finish(self) -> Verdict {
        write_system(&self.bench.space)?;
        self.bench.space.fill(CODE, &Guest::assemble(|g| g.mark(7))?)?;
        let (hart, vcpu) = (self.bench.hart(), self.bench.vcpu());
        vcpu.request_fence(Fence::all());
        vcpu.reset()?;
        vcpu.wake_here();
        vcpu.set_entry(GuestPhysAddr::new(CODE))?;
        hart.mark(7)?;
        hart.end()
    }
}

/// Does `attempts` here, while another CPU kicks the vCPU now and then: guests that go round in circles are let go on only
/// so long.
fn kicked<S: Subject>(
    subject: &S,
    sandbox: Sandbox<S>,
    mut attempts: impl FnMut(&Sandbox<S>) -> Verdict,
) -> Verdict {
    let done = AtomicBool::new(false);
    let vcpu = sandbox.bench.vcpu();
    two_cpus(
        subject,
        || {
            let result = attempts(&sandbox);
            done.store(true, Ordering::SeqCst);
            result
        },
        || {
            while !done.load(Ordering::SeqCst) {
                vcpu.kick();
                for looks in 0..2000 {
                    S::look_again(looks);
                }
            }
            Ok(())
        },
    )?;
    sandbox.finish()
}

/// Puts addresses of everything into the registers, and goes to the window: at CPL 3 if `rbp` says so.
fn to_the_window(g: &mut Guest) {
    let supervisor = g.label();
    g.test(RBP, RBP);
    g.jcc(Cond::E, supervisor);
    g.go_user(rflags::FIXED);
    g.bind(supervisor);
    for register in [R8, R9, R10, R11, R12, R13, R14, R15] {
        g.li(register, pattern(register.number().into()));
    }
    g.li(RAX, 0x1234);
    g.li(RBX, DEVICE);
    g.li(RCX, 3);
    g.li(RDX, 0xf0);
    g.li(RSI, DATA);
    g.li(RDI, DATA + 0x800);
    g.li(RBP, X86::WINDOW);
    g.jmp_at(RBP);
}

/// Every opcode behind these bytes, with operands at random, in the supervisor and in a program.
fn opcodes<S: Subject>(subject: &S, before: &[u8]) -> Verdict {
    const TRIES: usize = 2;
    let sandbox = Sandbox::new(subject, to_the_window)?;
    let mut random = Random::new(1);
    kicked(subject, sandbox, |sandbox| {
        for opcode in 0..=255 {
            for attempt in 0..2 * TRIES as u64 {
                let tail = [random.next(), random.next()].map(u64::to_le_bytes);
                let prefix: &[u8] = match random.next() % 6 {
                    0 => &[0x48],
                    1 => &[0x66],
                    2 => &[0xf3],
                    _ => &[],
                };
                let code = [prefix, before, &[opcode], tail.as_flattened()].concat();
                let space = &sandbox.bench.space;
                space.write(X86::WINDOW + 24, 0x0b0f_0b0f_0b0f_0b0f)?; // ud2
                space.fill(X86::WINDOW, &code)?;
                sandbox.bench.vcpu().request_fence(Fence::INSTRUCTION);
                sandbox.start(&[(gpr::RBP, attempt % 2)])?;
                sandbox.let_go(&mut random)?;
            }
        }
        Ok(())
    })
}

fn random_bytes<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 150;
    let sandbox = Sandbox::new(subject, to_the_window)?;
    let mut random = Random::new(1);
    kicked(subject, sandbox, |sandbox| {
        for round in 0..ROUNDS {
            for at in (X86::WINDOW..X86::WINDOW + 0x1000).step_by(8) {
                sandbox.bench.space.write(at, random.next())?;
            }
            sandbox.bench.vcpu().request_fence(Fence::INSTRUCTION);
            sandbox.start(&[(gpr::RBP, round % 2)])?;
            sandbox.let_go(&mut random)?;
        }
        Ok(())
    })
}

fn random_msrs<S: Subject>(subject: &S) -> Verdict {
    /// Architectural, of the local APIC, of hypervisors, and of AMD.
    const RANGES: [(u64, u64); 7] = [
        (0, 0x400),
        (0x480, 0x4a0),
        (0x800, 0x840),
        (0x4000_0000, 0x4000_0120),
        (0x4b56_4d00, 0x4b56_4d10),
        (0xc000_0080, 0xc000_0110),
        (0xc001_0000, 0xc001_0140),
    ];
    let sandbox = Sandbox::new(subject, |g| {
        // From `r12` up to `r13`, with values that come from `r14` and `r15`.
        let again = g.here_label();
        g.mov(ECX, R12D);
        g.rdmsr();
        g.add(R14, R15);
        g.mov(RAX, R14);
        g.mov(RDX, R14);
        g.shr(RDX, 32);
        g.mov(ECX, R12D);
        g.wrmsr();
        g.inc(R12);
        g.cmp(R12, R13);
        g.jcc(Cond::B, again);
    })?;
    let mut random = Random::new(1);
    kicked(subject, sandbox, |sandbox| {
        let (hart, vcpu) = (sandbox.bench.hart(), sandbox.bench.vcpu());
        for (start, end) in RANGES {
            let mut next = start;
            while next < end {
                let values = [(12, next), (13, end), (14, random.value()), (15, random.next())];
                sandbox.start(&values)?;
                // The guest steps over what is refused; whatever else ends it, it goes on behind that.
                let ended = loop {
                    let exit = vcpu.run()?;
                    match hart.call(&exit)? {
                        Some((TRAP, [vector::GP, _, rip, ..])) => hart.go_on_at(rip + 2)?,
                        Some((TRAP, [vector::UD, ..])) => break true,
                        Some(_) => break false,
                        None if !sandbox.shrug(exit, &mut random)? => break false,
                        None => {}
                    }
                };
                next = if ended { end } else { next.max(vcpu.get_gpr(12)?) + 1 };
            }
        }
        Ok(())
    })
}

fn random_registers<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 40;
    // What `r12` selects is written with `r13`.
    type Write = fn(&mut Guest);
    const WRITES: [Write; 12] = [
        |g| g.mov_to_cr(0, R13),
        |g| g.mov_to_cr(2, R13),
        |g| g.mov_to_cr(3, R13),
        |g| g.mov_to_cr(4, R13),
        |g| g.mov_to_cr(8, R13),
        |g| g.mov_to_dr(0, R13),
        |g| g.mov_to_dr(3, R13),
        |g| g.mov_to_dr(6, R13),
        |g| g.mov_to_dr(7, R13),
        |g| {
            g.mov(RAX, R13);
            g.mov(RDX, R13);
            g.shr(RDX, 32);
            g.li(RCX, 0);
            g.xsetbv();
        },
        |g| {
            g.push(R13);
            g.popfq();
        },
        |g| g.mov_to_seg(Seg::Ss, R13),
    ];
    let sandbox = Sandbox::new(subject, |g| {
        let done = g.label();
        for (index, write) in (0u32..).zip(WRITES) {
            let next = g.label();
            g.cmp(R12D, index);
            g.jcc(Cond::Ne, next);
            write(g);
            g.jmp(done);
            g.bind(next);
        }
        g.bind(done);
        g.mov(R8, at(DATA));
        g.mov(at(DATA + 8), R8);
        g.push(R8);
        g.int3();
    })?;
    let mut random = Random::new(1);
    kicked(subject, sandbox, |sandbox| {
        for round in 0..ROUNDS * WRITES.len() as u64 {
            let value = random.value();
            sandbox.start(&[(12, round % WRITES.len() as u64), (13, value)])?;
            sandbox.let_go(&mut random)?;
        }
        Ok(())
    })
}

fn random_tables<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 300;
    const ROOT: u64 = X86::WINDOW;
    let sandbox = Sandbox::new(subject, |g| {
        let (global, interrupts, task, done) = (g.label(), g.label(), g.label(), g.label());
        g.cmp(R12D, 1);
        g.jcc(Cond::E, global);
        g.cmp(R12D, 2);
        g.jcc(Cond::E, interrupts);
        g.cmp(R12D, 3);
        g.jcc(Cond::E, task);
        g.mov_to_cr(3, R13);
        g.mov(R8, mem(R14));
        g.jmp(done);
        // The limit, and behind it the base.
        g.bind(global);
        g.mov(at(DATA), R14);
        g.mov(at(DATA + 2), R13);
        g.lgdt(at(DATA));
        g.mov_to_seg(Seg::Fs, R14);
        g.push(R14);
        g.lea(RAX, rip(done));
        g.push(RAX);
        g.retfq();
        g.bind(interrupts);
        g.mov(at(DATA), R14);
        g.mov(at(DATA + 2), R13);
        g.lidt(at(DATA));
        g.int3();
        g.ud2();
        g.bind(task);
        g.ltr(R14.of(Width::Word));
        g.bind(done);
        g.int3();
    })?;
    let mut random = Random::new(1);
    kicked(subject, sandbox, |sandbox| {
        for round in 0..ROUNDS {
            let kind = round % 4;
            let mut place = random.address();
            if kind == 0 && round % 8 == 0 {
                // Tables that are there, and full of entries that lead anywhere.
                for at in (ROOT..ROOT + 0x1000).step_by(8) {
                    sandbox.bench.space.write(at, random.address() | random.next() & 0xfff)?;
                }
                place = ROOT;
            }
            sandbox.start(&[(12, kind), (13, place), (14, random.address())])?;
            sandbox.let_go(&mut random)?;
        }
        Ok(())
    })
}
