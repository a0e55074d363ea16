//! Registers that decide how all else goes.

use axvcpu_x86::asm::*;

use super::super::Subject;
use super::super::bench::X86;
use super::super::guest::*;
use crate::bench::{Exit, Isa};
use crate::hostile::{Pressure, attack};
use crate::report::Verdict;

pub(super) fn msrs<S: Subject>(subject: &S) -> Verdict {
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
    let body = |g: &mut Guest| {
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
    };
    attack::<S, X86>(subject, 350, Pressure::Kicks, body, |sandbox, random| {
        let (hart, vcpu) = (sandbox.bench.hart(), sandbox.bench.vcpu());
        for (start, end) in RANGES {
            let mut next = start;
            while next < end {
                let values = [(12, next), (13, end), (14, random.value()), (15, random.next())];
                sandbox.start(&values)?;
                // The guest steps over what is refused; whatever else ends it, it goes on behind that.
                let mut kicks = 0;
                while kicks < 3 {
                    let exit = vcpu.run()?;
                    kicks += usize::from(exit == Exit::Nothing);
                    match hart.call(&exit)? {
                        Some((TRAP, [vector::GP, _, rip, ..])) => {
                            hart.go_on_at(rip + 2)?;
                            kicks = 0;
                        }
                        Some(_) => break,
                        None if !sandbox.shrug(exit, random)? => break,
                        None => {}
                    }
                }
                next = next.max(vcpu.get_gpr(12)?) + 1;
            }
        }
        Ok(())
    })
}

pub(super) fn control<S: Subject>(subject: &S) -> Verdict {
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
    let body = |g: &mut Guest| {
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
    };
    attack::<S, X86>(subject, 351, Pressure::Kicks, body, |sandbox, random| {
        for round in 0..ROUNDS * WRITES.len() as u64 {
            let value = random.value();
            sandbox.start(&[(12, round % WRITES.len() as u64), (13, value)])?;
            sandbox.let_go(random, |_, _| None)?;
        }
        Ok(())
    })
}

pub(super) fn tables<S: Subject>(subject: &S) -> Verdict {
    const ROUNDS: u64 = 300;
    const ROOT: u64 = X86::WINDOW;
    let body = |g: &mut Guest| {
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
    };
    attack::<S, X86>(subject, 352, Pressure::Kicks, body, |sandbox, random| {
        for round in 0..ROUNDS {
            let kind = round % 4;
            let mut place = sandbox.address(random);
            if kind == 0 && round % 8 == 0 {
                // Tables that are there, and full of entries that lead anywhere.
                for at in (ROOT..ROOT + 0x1000).step_by(8) {
                    sandbox
                        .bench
                        .space
                        .write(at, sandbox.address(random) | random.next() & 0xfff)?;
                }
                place = ROOT;
            }
            sandbox.start(&[(12, kind), (13, place), (14, sandbox.address(random))])?;
            sandbox.let_go(random, |_, _| None)?;
        }
        Ok(())
    })
}
