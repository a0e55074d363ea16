//! Guests that try what is not theirs, and everything else.

use core::sync::atomic::{AtomicBool, Ordering};

use axvcpu::{AccessKind, AxResult, Fence, GuestPhysAddr, VCpuState};
use axvcpu_arm::asm::*;
use axvcpu_stage2::{PAGE_SIZE, Perms};

use super::NamedCase;
use super::Subject;
use super::bench::{Arm, Bench, Exit, dispatch};
use super::guest::*;
use crate::bench::Isa;
use crate::random::Random;
use crate::report::{Verdict, ensure, ensure_eq, fail};
use crate::requests::two_cpus;

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 7] {
    [
        ("hostile: what belongs to others is undefined at EL1", not_the_guests),
        ("hostile: a storm of calls", storm),
        ("hostile: jumps to nowhere", nowhere),
        ("hostile: vectors that lead nowhere", no_vectors),
        ("hostile: reads of system registers at random", random_reads),
        ("hostile: writes of system registers at random", random_writes),
        ("hostile: instructions at random", random_instructions),
    ]
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

fn storm<S: Subject>(subject: &S) -> Verdict {
    const CALLS: u64 = 20_000;
    let bench = Bench::boot(subject, |g| {
        g.li(X19, 0);
        let again = g.here_label();
        g.mov(X0, X19);
        g.hvc(0);
        g.add_imm(X19, X19, 1);
        g.b(again);
    })?;
    for call in 0..CALLS {
        match bench.hart().run()? {
            Exit::Hypercall { nr, .. } if nr == call => {}
            exit => fail!("call {call}: {exit:x?}"),
        }
    }
    Ok(())
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
    ];
    let bench = Bench::boot(subject, |g| {
        for (index, address) in (0..).zip(addresses) {
            g.li(X19, address);
            g.blr(X19);
            g.mark(index);
        }
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for index in 0..addresses.len() as u64 {
        for _ in 0..5 {
            match hart.run()? {
                Exit::NestedPageFault { access: AccessKind::Execute, .. } => vcpu.fail_access()?,
                // The guest learns it from its CPU or from the hypervisor, and goes on behind the jump.
                Exit::Hypercall { nr: TRAP, .. } => vcpu.set_return_value(vcpu.get_gpr(30)?)?,
                Exit::Hypercall { nr: REPORT, args, .. } => {
                    ensure_eq!(args[0], index, "the jump");
                    break;
                }
                exit => fail!("jump {index}: {exit:x?}"),
            }
        }
    }
    hart.end()
}

fn no_vectors<S: Subject>(subject: &S) -> Verdict {
    const VECTORS: u64 = DEVICE;
    let bench = Bench::boot(subject, |g| {
        g.set_sys(sys::VBAR_EL1, VECTORS);
        g.isb();
        g.udf(0);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    // Each failure leads to the next.
    for _ in 0..1000 {
        hart.nested_fault(VECTORS + 0x200, AccessKind::Execute)?;
        vcpu.fail_access()?;
    }
    vcpu.reset()?;
    vcpu.set_entry(GuestPhysAddr::new(CODE))?;
    hart.nested_fault(VECTORS + 0x200, AccessKind::Execute)
}

/// Does with an exit what a hypervisor may that has no idea of it. `false` at the guest's end.
fn shrug<S: Subject>(bench: &Bench<S>, exit: Exit, random: &mut Random) -> Verdict<bool> {
    let vcpu = bench.vcpu();
    let fail = random.next() % 2 == 0;
    let done: AxResult = match exit {
        Exit::Hypercall { nr: END, .. } => return Ok(false),
        Exit::Hypercall { nr: TRAP, args: [vector, _, elr, ..], .. } if vector % 4 == 0 => {
            vcpu.set_return_value(elr.wrapping_add(4))
        }
        Exit::Hypercall { .. } | Exit::SendIpi { .. } | Exit::Nothing => Ok(()),
        Exit::SysRegRead { .. } | Exit::SysRegWrite { .. } | Exit::MmioRead { .. } if fail => {
            vcpu.fail_access()
        }
        Exit::SysRegRead { .. } | Exit::MmioRead { .. } => vcpu.set_return_value(random.next()),
        Exit::SysRegWrite { .. } | Exit::MmioWrite { .. } => Ok(()),
        Exit::NestedPageFault { .. } => vcpu.fail_access(),
        Exit::Halt { .. } => {
            vcpu.wake();
            Ok(())
        }
        Exit::ExternalInterrupt { .. } => {
            dispatch::<S>();
            Ok(())
        }
        exit => fail!("{exit:x?}"),
    };
    done?;
    Ok(true)
}

/// Runs a guest that takes instructions as they come, to its end.
fn survives<S: Subject>(bench: &Bench<S>, random: &mut Random) -> Verdict {
    /// More than any of these guests has instructions that exit.
    const LIMIT: usize = 100_000;
    for _ in 0..LIMIT {
        let exit = bench.hart().run()?;
        if !shrug(bench, exit, random)? {
            return Ok(());
        }
    }
    fail!("it does not come to its end")
}

/// A register or system instruction at random.
fn encoding(random: &mut Random) -> u16 {
    let number = random.next();
    let op0 = 1 + number % 3;
    // Half of them among those that are allocated, more or less.
    let crn = if number >> 8 & 1 == 0 {
        number >> 12 & 15
    } else {
        [0, 1, 4, 12, 14][(number >> 16) as usize % 5]
    };
    (op0 << 14 | (number >> 20 & 7) << 11 | crn << 7 | (number >> 24 & 127)) as u16
}

fn random_reads<S: Subject>(subject: &S) -> Verdict {
    let mut random = Random::new(1);
    let bench = Bench::boot(subject, |g| {
        for _ in 0..4000 {
            g.mrs(X21, encoding(&mut random));
        }
        g.mark(1);
    })?;
    survives(&bench, &mut random)
}

fn random_writes<S: Subject>(subject: &S) -> Verdict {
    // What decides where the guest's own handler is, and whether it runs undisturbed.
    const SPARED: [u16; 3] = [sys::SCTLR_EL1, sys::VBAR_EL1, sys::DAIF];
    let mut random = Random::new(1);
    let bench = Bench::boot(subject, |g| {
        for _ in 0..2500 {
            let register = encoding(&mut random);
            if SPARED.contains(&register) {
                continue;
            }
            g.li(X20, random.value());
            g.msr(register, X20);
        }
        g.mark(1);
    })?;
    survives(&bench, &mut random)?;
    // Another guest there sees nothing of it.
    let bench = Bench::boot(subject, |g| g.mark(1))?;
    bench.hart().mark(1)
}

fn random_instructions<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: usize = 60;
    /// Exits after which a guest has had its chance.
    const ENOUGH: usize = 300;
    const WINDOW: u64 = Arm::WINDOW;
    let program = Guest::assemble(|g| {
        g.float_on();
        for register in registers() {
            g.li(register, pattern(register.number().into()));
        }
        g.li(X19, DATA);
        g.li(X20, DATA + 0x800);
        g.li(X21, DEVICE);
        g.li(X30, WINDOW);
        g.br(X30);
    })?;
    let mut bench = Bench::empty(subject)?;
    bench.space.add(WINDOW, 1, Some(Perms::RWX))?;
    bench.add_bound(subject, 1)?;
    let (vcpu, space) = (bench.vcpu(), &bench.space);
    let done = AtomicBool::new(false);
    two_cpus(
        subject,
        || {
            let result = (|| -> Verdict {
                let mut random = Random::new(1);
                for round in 0..ROUNDS {
                    // A guest may have written over itself.
                    space.fill(CODE, &program)?;
                    for at in (WINDOW..WINDOW + PAGE_SIZE).step_by(8) {
                        space.write(at, random.next())?;
                    }
                    vcpu.request_fence(Fence::all());
                    vcpu.reset()?;
                    vcpu.wake();
                    vcpu.set_entry(GuestPhysAddr::new(CODE))?;
                    for _ in 0..ENOUGH {
                        let exit = vcpu.run()?;
                        if !shrug(&bench, exit, &mut random)? {
                            break;
                        }
                        let state = vcpu.state();
                        ensure!(
                            state != VCpuState::Invalid,
                            "round {round}: {state} after {exit:x?}"
                        );
                    }
                }
                Ok(())
            })();
            done.store(true, Ordering::SeqCst);
            result
        },
        || {
            // Guests that go round in circles are let go on only so long.
            while !done.load(Ordering::SeqCst) {
                vcpu.kick();
                for looks in 0..2000 {
                    S::look_again(looks);
                }
            }
            Ok(())
        },
    )?;
    // And after all that it is a vCPU like any other.
    let program = Guest::assemble(|g| g.mark(1))?;
    bench.space.fill(CODE, &program)?;
    bench.vcpu().request_fence(Fence::all());
    bench.vcpu().reset()?;
    bench.vcpu().wake();
    bench.vcpu().set_entry(GuestPhysAddr::new(CODE))?;
    bench.hart().mark(1)
}
