//! The guest's exceptions are the guest's: none of them is an exit, and each says what it is.

use axvcpu::GuestPhysAddr;
use axvcpu_stage2::Perms;
use axvcpu_x86::asm::*;
use axvcpu_x86::paging::{Size, Tables, entry};
use axvcpu_x86::reg::{cr0, efer, msr, rflags};
use axvcpu_x86::start::{CODE64, DATA as DATA64};

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, Hart, Trap};
use super::guest::*;
use crate::report::{Stop, Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 11] {
    [
        ("exception: undefined opcodes", undefined),
        ("exception: opcodes that never were any", never_defined),
        ("exception: division by zero", division),
        ("exception: general protection", protection),
        ("exception: breakpoints", breakpoints),
        ("exception: software interrupts", software),
        ("exception: page faults of every kind", page_faults),
        ("exception: single steps", single_steps),
        ("exception: system calls", system_calls),
        ("crash: a triple fault, and life after a reset", triple_fault),
        ("crash: again and again", crashes),
    ]
}

/// The guest's next trap, at an instruction that not everything below a backend knows.
fn trap_of_unusual<S: Subject>(subject: &S, hart: &Hart<S>) -> Verdict<Trap> {
    let exit = hart.run()?;
    match exit {
        Exit::InternalError { .. } if subject.emulates() => {
            Err(Stop::Skipped("what is below the backend does not know the instruction"))
        }
        exit => match hart.trap_of(exit)? {
            Some(trap) => Ok(trap),
            None => crate::fail!("expected a trap, found {exit:x?}"),
        },
    }
}

/// An instruction and what it is called.
type Named = (&'static str, fn(&mut Guest));

/// Runs a guest of these instructions, each of which is an exception that leaves RIP at it, with this vector and error
/// code. In `rbx` is an address that is not canonical.
fn faults<S: Subject>(subject: &S, vector: u64, error: u64, insns: &[Named]) -> Verdict {
    for user in [false, true] {
        let mut places = alloc::vec::Vec::new();
        let bench = Bench::boot(subject, |g| {
            if user {
                g.go_user(rflags::FIXED);
            }
            g.li(RBX, 1 << 63 | DATA);
            g.li(RCX, 0);
            for &(name, insn) in insns {
                let from = g.here();
                insn(g);
                places.push((name, from, g.here()));
            }
            g.ud2();
        })?;
        let hart = bench.hart();
        for (name, from, behind) in places {
            let trap = trap_of_unusual(subject, hart)?;
            let found = (trap.vector, trap.error, trap.rip);
            ensure_eq!(found, (vector, error, from), "{name}: vector, error code, RIP");
            ensure_eq!(trap.cs & 3, if user { 3 } else { 0 }, "{name}: CPL");
            hart.go_on_at(behind)?;
        }
        hart.trap_for(vector::UD)?;
    }
    Ok(())
}

fn undefined<S: Subject>(subject: &S) -> Verdict {
    faults(subject, vector::UD, 0, &[("ud2", |g| g.ud2())])
}

fn never_defined<S: Subject>(subject: &S) -> Verdict {
    faults(
        subject,
        vector::UD,
        0,
        &[
            ("ud1", |g| g.bytes(&[0x0f, 0xb9, 0xc0])),
            ("push es", |g| g.bytes(&[0x06])),
            ("aaa", |g| g.bytes(&[0x37])),
            ("lea of a register", |g| g.bytes(&[0x8d, 0xc0])),
            ("lock nop", |g| g.bytes(&[0xf0, 0x90])),
        ],
    )
}

fn division<S: Subject>(subject: &S) -> Verdict {
    faults(
        subject,
        vector::DE,
        0,
        &[("div cl", |g| g.div(CL)), ("div ecx", |g| g.div(ECX)), ("div rcx", |g| g.div(RCX))],
    )
}

fn protection<S: Subject>(subject: &S) -> Verdict {
    faults(
        subject,
        vector::GP,
        0,
        &[
            ("a load from an address that is not canonical", |g| g.mov(EAX, mem(RBX))),
            ("a store to one", |g| g.mov(mem(RBX), AL)),
        ],
    )
}

fn breakpoints<S: Subject>(subject: &S) -> Verdict {
    let mut places = [0; 2];
    let bench = Bench::boot(subject, |g| {
        g.int3();
        places[0] = g.here();
        g.go_user(rflags::FIXED);
        g.int3();
        places[1] = g.here();
        g.ud2();
    })?;
    for place in places {
        let trap = trap_of_unusual(subject, bench.hart())?;
        let found = (trap.vector, trap.rip, trap.error);
        ensure_eq!(found, (vector::BP, place, 0), "vector, RIP and error code");
    }
    bench.hart().trap_for(vector::UD)?;
    Ok(())
}

fn software<S: Subject>(subject: &S) -> Verdict {
    let mut places = [0; 2];
    let bench = Bench::boot(subject, |g| {
        g.int(0x80);
        places[0] = g.here();
        g.go_user(rflags::FIXED);
        g.int(0xff);
        places[1] = g.here();
        g.ud2();
    })?;
    let hart = bench.hart();
    for (place, expected) in places.into_iter().zip([0x80, 0xff]) {
        let trap = trap_of_unusual(subject, hart)?;
        let found = (trap.vector, trap.rip, trap.error);
        if trap.vector == vector::UD && subject.emulates() {
            return Err(Stop::Skipped("what is below the backend does not know the instruction"));
        }
        ensure_eq!(found, (expected, place, 0), "vector, RIP and error code");
    }
    hart.trap_for(vector::UD)?;
    Ok(())
}

/// A part of the address space with tables of 4 KiB pages.
pub(super) const VIRTUAL: u64 = 0x40_0000_0000;
/// Where the tables for all of it are.
pub(super) const ROOT: u64 = 0x90_0000;

/// Makes tables for the guest that map the first 4 GiB to themselves, and these pages of [`VIRTUAL`], one after the
/// other, to memory with these bits.
pub(super) fn write_tables<S: Subject>(
    bench: &mut Bench<S>,
    pages: &[(u64, u64)],
) -> Verdict<Tables> {
    let mut tables = Tables::identity(ROOT, 4, Size::Large, entry::WRITE | entry::USER)?;
    for (address, &(to, flags)) in (VIRTUAL..).step_by(0x1000).zip(pages) {
        tables.map(address, to, Size::Small, flags)?;
    }
    bench.space.add(ROOT, tables.as_slice().len() as u64, Some(Perms::RW))?;
    tables.write(|address, entry| bench.space.write(address, entry))?;
    bench.announce();
    Ok(tables)
}

/// Bits of a page fault's error code (SDM volume 3, 5.7).
mod fault {
    pub(super) const PRESENT: u64 = 1;
    pub(super) const WRITE: u64 = 2;
    pub(super) const USER: u64 = 4;
    pub(super) const FETCH: u64 = 16;
}

fn page_faults<S: Subject>(subject: &S) -> Verdict {
    use fault::*;
    const PAGES: [(u64, u64); 4] = [
        (DATA, entry::USER),                     // for reading
        (DATA, entry::WRITE),                    // for the supervisor
        (DATA, entry::WRITE | entry::USER),      // for all
        (DATA, entry::USER | entry::NO_EXECUTE), // not for code
    ];
    const ABSENT: u64 = VIRTUAL + 0x4000;
    let page = |index: u64| VIRTUAL + 0x1000 * index + 0x123;
    // What the page is, what is done, as a program or not, and the error code.
    let accesses: [(u64, u64, bool, Option<u64>); 14] = [
        (ABSENT + 0x123, 0, false, Some(0)),
        (ABSENT + 0x456, WRITE, false, Some(WRITE)),
        (ABSENT + 0x800, FETCH, false, Some(FETCH)),
        (page(0), 0, false, None),
        (page(0), WRITE, false, Some(PRESENT | WRITE)),
        (page(1), WRITE, false, None),
        (page(3), FETCH, false, Some(PRESENT | FETCH)),
        (ABSENT + 0x123, 0, true, Some(USER)),
        (ABSENT + 0x456, WRITE, true, Some(USER | WRITE)),
        (page(0), 0, true, None),
        (page(0), WRITE, true, Some(PRESENT | WRITE | USER)),
        (page(1), 0, true, Some(PRESENT | USER)),
        (page(2), WRITE, true, None),
        (page(3), FETCH, true, Some(PRESENT | FETCH | USER)),
    ];
    let mut behind = alloc::vec::Vec::new();
    let mut bench = Bench::boot(subject, |g| {
        g.set_msr(msr::EFER, efer::LME | efer::NXE);
        g.mov_from_cr(RAX, 0);
        g.or(RAX, cr0::WP as u32);
        g.mov_to_cr(0, RAX);
        g.li(RAX, ROOT);
        g.mov_to_cr(3, RAX);
        let mut is_user = false;
        for (address, kind, user, _) in accesses {
            if user && !is_user {
                g.go_user(rflags::FIXED);
                is_user = true;
            }
            g.li(RSI, address);
            let from = g.here();
            match kind {
                0 => g.mov(CL, mem(RSI)),
                WRITE => g.mov(mem(RSI), CL),
                _ => g.jmp_at(RSI),
            }
            behind.push((from, g.here()));
        }
        g.ud2();
    })?;
    write_tables(&mut bench, &PAGES)?;
    let hart = bench.hart();
    for ((address, kind, user, error), (from, behind)) in accesses.into_iter().zip(behind) {
        let Some(error) = error else { continue };
        let what = alloc::format!("{address:#x}, access {kind}, as a program: {user}");
        let trap = hart.trap_for(vector::PF)?;
        // A fetch faults where it was to go on.
        let rip = if kind == FETCH { address } else { from };
        ensure_eq!(
            (trap.error, trap.cr2, trap.rip),
            (error, address, rip),
            "{what}: error, CR2, RIP"
        );
        hart.go_on_at(behind)?;
    }
    hart.trap_for(vector::UD)?;
    Ok(())
}

fn single_steps<S: Subject>(subject: &S) -> Verdict {
    const TF: u64 = 1 << 8;
    const STEPS: usize = 6;
    let mut places = alloc::vec::Vec::new();
    let bench = Bench::boot(subject, |g| {
        g.go_user(rflags::FIXED | TF);
        for _ in 0..STEPS {
            g.nop();
            places.push(g.here());
        }
        g.ud2();
    })?;
    let hart = bench.hart();
    for place in places {
        let trap = hart.trap_for(vector::DB)?;
        ensure_eq!((trap.rip, trap.flags & TF), (place, TF), "RIP and RFLAGS.TF");
    }
    let trap = hart.trap_for(vector::UD)?;
    ensure!(trap.cs & 3 == 3, "single steps ended at CPL 0: {trap:x?}");
    Ok(())
}

fn system_calls<S: Subject>(subject: &S) -> Verdict {
    let (mut behind, mut user) = (0, 0);
    let bench = Bench::boot(subject, |g| {
        let (start, entered) = (g.label(), g.label());
        g.jmp(start);
        // SYSCALL keeps the stack and stops interrupts.
        g.bind(entered);
        g.mov(R12, RCX);
        g.mov(R13, R11);
        g.li(RSP, STACK);
        g.pushfq();
        g.pop(R14);
        g.mov_from_seg(R15D, Seg::Cs);
        g.mov_from_seg(EBP, Seg::Ss);
        for register in [R12, R13, R14, R15, RBP] {
            g.report(register);
        }
        g.mov(RCX, R12);
        g.mov(R11, R13);
        g.sysretq();
        g.bind(start);
        g.set_msr(msr::EFER, efer::LME | efer::SCE);
        g.set_msr(msr::STAR, USER_BASE << 48 | u64::from(CODE64) << 32);
        g.set_msr(msr::SYSCALL_MASK, rflags::IF);
        g.la(RAX, entered);
        g.mov(RDX, RAX);
        g.shr(RDX, 32);
        g.li(RCX, msr::LSTAR.into());
        g.wrmsr();
        g.go_user(rflags::FIXED | rflags::IF);
        for _ in 0..2 {
            g.syscall();
        }
        behind = g.here();
        g.mov_from_seg(ECX, Seg::Cs);
        user = g.here();
        g.ud2();
    })?;
    let hart = bench.hart();
    for call in 0..2 {
        let exit = hart.run()?;
        let reported = match hart.call(&exit)? {
            Some((REPORT, [rcx, ..])) => rcx,
            Some((TRAP, _)) if subject.emulates() => {
                return Err(Stop::Skipped("what is below the backend keeps SYSCALL for itself"));
            }
            _ => crate::fail!("expected a report, found {exit:x?}"),
        };
        ensure_eq!(reported, behind - 2 * (1 - call), "RCX: where it goes on");
        let saved = hart.report()?;
        ensure_eq!(saved & (rflags::IF | rflags::FIXED), rflags::IF | rflags::FIXED, "R11");
        ensure_eq!(hart.report()? & rflags::IF, 0, "RFLAGS.IF");
        ensure_eq!(hart.report()?, CODE64.into(), "CS");
        ensure_eq!(hart.report()?, DATA64.into(), "SS");
    }
    let trap = hart.trap_for(vector::UD)?;
    ensure_eq!((trap.rip, trap.cs), (user, USER_CODE.into()), "RIP and CS at the end");
    ensure_eq!(trap.flags & rflags::IF, rflags::IF, "RFLAGS.IF at the end");
    Ok(())
}

/// Without descriptors there is no way to take an exception, nor the one that follows.
fn crash(g: &mut Guest) {
    let limit = DATA + 0x100;
    g.mov(at(limit).of(Width::Qword), 0);
    g.mov(at(limit + 8).of(Width::Qword), 0);
    g.lidt(at(limit));
    g.ud2();
    g.mark(0xbad);
}

fn triple_fault<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mark(1);
        crash(g);
    })?;
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..3 {
        hart.mark(1)?;
        hart.exit(Exit::SystemCrash)?;
        vcpu.reset()?;
        vcpu.set_entry(GuestPhysAddr::new(CODE))?;
    }
    hart.mark(1)?;
    // Another one may be unbound, bound and dropped as it is.
    hart.exit(Exit::SystemCrash)?;
    vcpu.unbind()?;
    vcpu.reset()?;
    vcpu.set_entry(GuestPhysAddr::new(CODE))?;
    vcpu.bind()?;
    hart.mark(1)
}

fn crashes<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, crash)?;
    for _ in 0..500 {
        bench.hart().exit(Exit::SystemCrash)?;
        bench.vcpu().reset()?;
        bench.vcpu().set_entry(GuestPhysAddr::new(CODE))?;
    }
    Ok(())
}
