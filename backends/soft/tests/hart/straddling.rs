//! Instructions of which each half is in another page.

use axvcpu::{AccessKind, AxVCpuExitReason, Fence, GuestPhysAddr};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::paging::{SV39, pte};

use crate::machine::{DEVICE, Random};
use crate::probe::{DATA, How, Probe};
use crate::tables::ALL;

/// Two pages for code, next to each other only for the guest.
const PAGES: [u64; 2] = [DATA + 0x5000, DATA + 0x2000];
/// What the pieces access.
const PLACE: u64 = DATA + 0x9000;

struct Piece {
    name: &'static str,
    /// Runs up to the instruction.
    before: fn(&mut Asm) -> Option<Label>,
    /// The instruction and what follows, which leaves its findings in `a5` and `t1`. `s7` is its address, `a1`
    /// that of memory, `a2` of a device, `a3` is 9.
    from: fn(&mut Asm, Option<Label>),
}

fn nothing(_: &mut Asm) -> Option<Label> {
    None
}

/// A loop that the instruction is in.
fn top(a: &mut Asm) -> Option<Label> {
    a.li(T1, 3000);
    a.fmv_d_x(FT0, ZERO);
    let top = a.here_label();
    a.c_addi(A5, 1);
    a.addi(T1, T1, -1);
    Some(top)
}

macro_rules! pieces {
    ($($name:literal $before:ident |$a:ident, $label:pat_param| $code:expr;)*) => {
        &[$(Piece { name: $name, before: $before, from: |$a, $label| { $code; } }),*]
    };
}

const PIECES: &[Piece] = pieces! {
    "addi" nothing |a, _| a.addi(A5, A5, 7);
    "lui" nothing |a, _| a.lui(A5, 0x87654);
    "mul" nothing |a, _| a.mul(A5, A3, A3);
    "auipc" nothing |a, _| { a.auipc(A5, 0x12345); a.sub(A5, A5, S7) };
    "branch taken" nothing |a, _| {
        let to = a.label();
        a.beq(ZERO, ZERO, to); a.c_addi(A5, 1); a.bind(to); a.c_addi(A5, 2)
    };
    "branch not taken" nothing |a, _| {
        let to = a.label();
        a.bne(ZERO, ZERO, to); a.c_addi(A5, 1); a.bind(to); a.c_addi(A5, 2)
    };
    "loop" top |a, top| a.bnez(T1, top.unwrap());
    "loop around" top |a, top| { a.addi(A5, A5, 3); a.bnez(T1, top.unwrap()) };
    "loop with a load" top |a, top| { a.ld(T2, 0, A1); a.add(A5, A5, T2); a.bnez(T1, top.unwrap()) };
    "loop with a jump" top |a, top| {
        let to = a.label();
        a.jal(T2, to); a.c_ebreak(); a.bind(to); a.sub(T2, T2, S7); a.add(A5, A5, T2); a.bnez(T1, top.unwrap())
    };
    "loop with a csr" top |a, top| { a.csrrs(T2, csrs::SSCRATCH, ZERO); a.bnez(T1, top.unwrap()) };
    "loop with arithmetic" top |a, top| {
        a.fadd_d(FT0, FT0, FA3, Rounding::Dyn); a.bnez(T1, top.unwrap()); a.fmv_x_d(A5, FT0)
    };
    "jal" nothing |a, _| {
        let to = a.label();
        a.jal(T1, to); a.c_addi(A5, 1); a.bind(to); a.sub(T1, T1, S7)
    };
    "jalr" nothing |a, _| { a.jalr(T1, 6, S7); a.c_addi(A5, 1); a.sub(T1, T1, S7) };
    "ld" nothing |a, _| a.ld(A5, 0, A1);
    "lb" nothing |a, _| a.lb(A5, 1, A1);
    "sd" nothing |a, _| { a.sd(A3, 8, A1); a.ld(A5, 8, A1) };
    "ld misaligned" nothing |a, _| a.ld(A5, 3, A1);
    "ld that faults" nothing |a, _| a.ld(A5, 0, ZERO);
    "ld from a device" nothing |a, _| a.ld(A5, 0, A2);
    "sw to a device" nothing |a, _| { a.sw(A3, 0, A2); a.c_addi(A5, 1) };
    "amoadd" nothing |a, _| a.amoadd_d(A5, A3, A1, Order::Relaxed);
    "amoadd that faults" nothing |a, _| a.amoadd_d(A5, A3, ZERO, Order::Relaxed);
    "lr" nothing |a, _| { a.lr_d(A5, A1, Order::Relaxed); a.sc_d(T1, A3, A1, Order::Relaxed) };
    "flw" nothing |a, _| { a.flw(FA5, 0, A1); a.fmv_x_d(A5, FA5) };
    "fsd" nothing |a, _| { a.fsd(FA3, 8, A1); a.ld(A5, 8, A1) };
    "fadd.d" nothing |a, _| { a.fadd_d(FA5, FA3, FA3, Rounding::Rne); a.fmv_x_d(A5, FA5) };
    "fmadd.d" nothing |a, _| { a.fmadd_d(FA5, FA3, FA3, FA3, Rounding::Rne); a.fmv_x_d(A5, FA5) };
    "csrrw" nothing |a, _| { a.csrrw(A5, csrs::SSCRATCH, A3); a.csrrwi(T1, csrs::SSCRATCH, 0) };
    "csrrwi" nothing |a, _| { a.csrrwi(A5, csrs::FRM, 2); a.csrrwi(T1, csrs::FRM, 0) };
    "fence" nothing |a, _| { a.fence(0b11, 0b11); a.c_addi(A5, 1) };
    "fence.i" nothing |a, _| { a.fence_i(); a.c_addi(A5, 1) };
    "sfence.vma" nothing |a, _| { a.sfence_vma(ZERO, ZERO); a.c_addi(A5, 1) };
    "ebreak" nothing |a, _| { a.ebreak(); a.c_addi(A5, 1) };
    "ecall" nothing |a, _| { a.ecall(); a.c_addi(A5, 1) };
    "wfi" nothing |a, _| { a.wfi(); a.c_addi(A5, 1) };
    "illegal" nothing |a, _| { a.word(0xffff_ffff); a.c_addi(A5, 1) };
};

/// Writes guest code that begins at `va` and may go from the first page to the second.
fn write(probe: &Probe, base: u64, va: u64, code: Vec<u8>) {
    for (at, byte) in (va - base..).zip(code) {
        probe.machine.write(PAGES[(at >> 12) as usize] + (at & 0xfff), &[byte]);
    }
}

fn start() -> (Probe, u64, [u64; 2]) {
    let probe = Probe::paged(SV39);
    let base = probe.tables().free(1);
    let slots = [0, 1]
        .map(|i| probe.tables().map(&probe.machine, base + 0x1000 * i, 0, PAGES[i as usize], ALL));
    probe.tables().map(&probe.machine, probe.tables().free(0), 0, DEVICE, ALL);
    (probe, base, slots)
}

/// Puts the piece's instruction at `at`; answers where the piece begins.
fn put(probe: &Probe, base: u64, piece: &Piece, at: u64) -> u64 {
    let mut measure = Asm::new(0);
    (piece.before)(&mut measure);
    let va = at - measure.here();
    let mut a = Asm::new(va);
    let label = (piece.before)(&mut a);
    (piece.from)(&mut a, label);
    a.c_ebreak();
    a.c_ebreak();
    write(probe, base, va, a.finish().unwrap());
    probe.machine.write_u64(PLACE, 0x1122_3344_8899_aabb);
    probe.machine.write_u64(PLACE + 8, 0x5566_7788_1122_3344);
    let device = probe.tables().free(0);
    for (register, value) in
        [(A1, PLACE), (A2, device), (A3, 9), (A5, 0), (T1, 0), (S7, at), (T2, 0)]
    {
        probe.set(register, value);
    }
    va
}

/// Runs to the end and answers all that can be seen of it, addresses relative to the instruction.
fn run(probe: &Probe, va: u64, at: u64, fence: u64) -> (Vec<AxVCpuExitReason>, [u64; 9]) {
    let before = probe.machine.instructions();
    let mut exits = vec![];
    let mut ended = probe.go(va, How::S.fence(fence));
    loop {
        match ended {
            Ok(trap) => {
                let relative =
                    |value: u64| if value >> 40 == at >> 40 { value - at } else { value };
                let seen = [
                    trap.cause,
                    relative(trap.value),
                    relative(trap.pc),
                    trap.status,
                    probe.get(A5),
                    probe.get(T1),
                    probe.machine.read_u64(PLACE),
                    probe.machine.read_u64(PLACE + 8),
                    probe.machine.instructions() - before,
                ];
                return (exits, seen);
            }
            Err(exit) => {
                if exit.asks() {
                    probe.machine.vcpu.set_return_value(0xabcd).unwrap();
                }
                probe.machine.vcpu.wake();
                // The arguments of a call are no business of this test.
                exits.push(match exit {
                    AxVCpuExitReason::Hypercall { nr, .. } => {
                        AxVCpuExitReason::Hypercall { nr, function: 0, args: [0; 6] }
                    }
                    exit => exit,
                });
                ended = probe.resume();
            }
        }
    }
}

const FENCES: u64 = How::ALL | How::INSTRUCTIONS;

/// Wherever in the page the instruction is, also across its end, it does the same.
#[test]
fn the_place_makes_no_difference() {
    let (probe, base, _) = start();
    crate::memory::value(&probe, 3.25_f64.to_bits());
    for piece in PIECES {
        let at = base + 0x200;
        let va = put(&probe, base, piece, at);
        let expected = run(&probe, va, at, FENCES);
        for offset in (0xff0..0x1008).step_by(2).chain([0xffe, 0xffe]) {
            let at = base + offset;
            let va = put(&probe, base, piece, at);
            assert_eq!(run(&probe, va, at, FENCES), expected, "{} at {offset:#x}", piece.name);
            // Once more with everything decoded.
            let va = put(&probe, base, piece, at);
            let mut again = run(&probe, va, at, 0);
            again.1[8] += 2; // the two fences that the supervisor did not execute
            assert_eq!(again, expected, "{} at {offset:#x} again", piece.name);
        }
    }
}

/// The second half's page is missing: the trap value says which, the program counter which instruction, and
/// nothing of it has happened.
#[test]
fn a_half_is_missing() {
    let (probe, base, slots) = start();
    crate::memory::value(&probe, 3.25_f64.to_bits());
    for piece in PIECES.iter().filter(|piece| (piece.before)(&mut Asm::new(0)).is_none()) {
        for (missing, value) in [(1, base + 0x1000), (0, base + 0xffe)] {
            for flags in [0, ALL & !pte::X, ALL & !pte::A, ALL | pte::U] {
                let at = base + 0xffe;
                put(&probe, base, piece, at);
                let good = probe.machine.read_u64(slots[missing]);
                probe.machine.write_u64(slots[missing], pte::new(PAGES[missing], flags));
                for fence in [FENCES, 0] {
                    let trap = probe.go(at, How::S.fence(fence)).unwrap();
                    assert_eq!(
                        (trap.cause, trap.value, trap.pc),
                        (12, value, at),
                        "{} {flags:#x}",
                        piece.name
                    );
                    assert_eq!((probe.get(A5), probe.get(T1)), (0, 0));
                }
                probe.machine.write_u64(slots[missing], good);
                let seen = run(&probe, at, at, FENCES);
                let again = base + 0x200;
                put(&probe, base, piece, again);
                assert_eq!(seen, run(&probe, again, again, FENCES), "{}", piece.name);
            }
        }
    }
}

/// The second stage refuses the second half.
#[test]
fn a_half_is_missing_in_the_second_stage() {
    let (mut probe, base, _) = start();
    let at = base + 0xffe;
    put(&probe, base, &PIECES[0], at);
    for (page, addr) in [(PAGES[1], PAGES[1]), (PAGES[0], PAGES[0] + 0xffe)] {
        let gpa = GuestPhysAddr::new(page);
        let host = probe.machine.host(page);
        assert_eq!(probe.go(at, How::S.fence(FENCES)).unwrap().cause, 3);
        probe.machine.stage2.unmap(gpa, 4096).unwrap();
        probe.machine.vcpu.request_fence(Fence::STAGE2_TLB);
        let fault = AxVCpuExitReason::NestedPageFault {
            addr: GuestPhysAddr::new(addr),
            access: AccessKind::Execute,
        };
        assert_eq!(probe.go(at, How::S), Err(fault));
        probe.machine.vcpu.fail_access().unwrap();
        let trap = probe.resume().unwrap();
        let value = if page == PAGES[1] { base + 0x1000 } else { at };
        assert_eq!((trap.cause, trap.value, trap.pc), (1, value, at));
        assert_eq!(probe.go(at, How::S), Err(fault));
        probe.machine.stage2.map(gpa, host, 4096, axvcpu_riscv::stage2::Perms::RWX).unwrap();
        assert_eq!(probe.resume().unwrap().cause, 3);
    }
}

/// Either page is exchanged for another: after the fence the instruction is what the two halves are now.
#[test]
fn a_half_is_exchanged() {
    let (probe, base, slots) = start();
    let at = base + 0xffe;
    // Halves of `addi rd, a5, n`: the first says which register, the second how much.
    let others = [DATA + 0xb000, DATA + 0xc000];
    let halves = |rd: X, n: i32| {
        let mut a = Asm::new(0);
        a.addi(rd, A5, n);
        let bytes = a.finish().unwrap();
        (bytes[..2].to_vec(), bytes[2..].to_vec())
    };
    let c_ebreak = [0x02, 0x90];
    for (page, n) in [(PAGES[1], 1), (others[1], 200)] {
        probe.machine.write(page, &halves(A5, n).1);
        probe.machine.write(page + 2, &c_ebreak);
    }
    for (page, rd) in [(PAGES[0], A5), (others[0], T1)] {
        probe.machine.write(page + 0xffe, &halves(rd, 1).0);
    }
    let mut combinations = vec![];
    for first in [PAGES[0], others[0]] {
        for second in [PAGES[1], others[1]] {
            combinations.push((first, second));
        }
    }
    let random = &mut Random(7);
    for _ in 0..40 {
        let (first, second) = random.pick(&combinations);
        probe.machine.write_u64(slots[0], pte::new(first, ALL));
        probe.machine.write_u64(slots[1], pte::new(second, ALL));
        probe.set(A5, 1000);
        probe.set(T1, 1000);
        assert_eq!(probe.go(at, How::S.fence(How::ALL)).unwrap().pc, base + 0x1002);
        let changed = 1000 + if second == PAGES[1] { 1 } else { 200 };
        let expected = if first == PAGES[0] { (changed, 1000) } else { (1000, changed) };
        assert_eq!((probe.get(A5), probe.get(T1)), expected);
    }
    // One page at a time, fenced by its address; and the second half overwritten, with `fence.i`.
    probe.machine.write_u64(slots[0], pte::new(PAGES[0], ALL));
    for second in [PAGES[1], others[1]].repeat(5) {
        probe.machine.write_u64(slots[1], pte::new(second, ALL));
        probe.set(A5, 0);
        probe.set(A1, base + 0x1ff8);
        assert_eq!(probe.go(at, How::S.fence(How::ADDRESS)).unwrap().cause, 3);
        assert_eq!(probe.get(A5), if second == PAGES[1] { 1 } else { 200 });
        for n in [-7, 3] {
            let before = probe.machine.read(second, 2);
            probe.machine.write(second, &halves(A5, n).1);
            probe.set(A5, 100);
            assert_eq!(probe.go(at, How::S.fence(How::INSTRUCTIONS)).unwrap().cause, 3);
            assert_eq!(probe.get(A5), 100_u64.wrapping_add_signed(n.into()));
            probe.machine.write(second, &before);
        }
        probe.set(A5, 0);
        assert_eq!(probe.go(at, How::S.fence(How::INSTRUCTIONS)).unwrap().cause, 3);
    }
}

/// The same two halves in two places, a loop each: what comes before differs.
#[test]
fn twins() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let places = [1, 2].map(|each| {
        let va = tables.free(1) + 0x10_0000 * each as u64;
        let page = DATA + 0x10_0000 + 0x2000 * each as u64;
        tables.map(&probe.machine, va, 0, page, ALL);
        tables.map(&probe.machine, va + 0x1000, 0, page + 0x1000, ALL);
        let mut a = Asm::new(va + 0xff6);
        let top = a.here_label();
        a.addi(T1, T1, -1);
        a.addi(A5, A5, each);
        a.bnez(T1, top);
        a.addi(A5, A5, 100 * each);
        a.ebreak();
        probe.machine.write_code(page + 0xff6, a);
        (va + 0xff6, each as u64)
    });
    for (va, each) in places.repeat(4) {
        probe.set(T1, 20);
        probe.set(A5, 0);
        assert_eq!(probe.go(va, How::S).unwrap().cause, 3);
        assert_eq!(probe.get(A5), 120 * each);
    }
}

/// Many of them in a row, more than are kept, each reached from the instruction before.
#[test]
fn many_and_each_reached_from_the_one_before() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let va = tables.free(1);
    const COUNT: u64 = 150;
    let page = |i: u64| DATA + 0x2_0000 + 0x1000 * i;
    let mut slots = vec![];
    for i in 0..=COUNT {
        slots.push(tables.map(&probe.machine, va + 0x1000 * i, 0, page(i), ALL));
        let at = |i: u64| va + 0x1000 * i + 0xffa;
        let mut a = Asm::new(at(i));
        a.c_addi(T1, 1);
        a.c_nop();
        a.addi(A5, A5, i as i32 + 1);
        let code = a.finish().unwrap();
        probe.machine.write(page(i) + 0xffa, &code[..6]);
        if i < COUNT {
            probe.machine.write(page(i + 1), &code[6..]);
            // From the second half's page to the end of that page.
            let mut a = Asm::new(va + 0x1000 * (i + 1) + 2);
            let next = a.label();
            a.jal(ZERO, next);
            a.zero(0xffa - 6);
            a.bind(next);
            let code = a.finish().unwrap();
            probe.machine.write(page(i + 1) + 2, &code[..4]);
        }
    }
    // The last one ends it.
    probe.machine.write(page(COUNT) + 2, &[0x02, 0x90]);
    let expected: u64 = (1..=COUNT).sum();
    let run = |fence| {
        probe.set(A5, 0);
        probe.set(T1, 0);
        assert_eq!(probe.go(va + 0xffa, How::S.fence(fence)).unwrap().cause, 3);
        assert_eq!(probe.get(T1), COUNT);
        probe.get(A5)
    };
    for fence in [0, 0, How::INSTRUCTIONS, 0, How::ALL, 0] {
        assert_eq!(run(fence), expected);
    }
    // One second half exchanged for another, without a word to the page before.
    let other = DATA + 0x1_0000;
    probe.machine.write(other, &probe.machine.read(page(70), 0x1000));
    let first = probe.machine.read(page(70), 2);
    probe.machine.write(other, &[first[0] ^ 0x40, first[1]]);
    let mut sums = vec![];
    for target in [other, page(70), other, page(70)] {
        probe.machine.write_u64(slots[70], pte::new(target, ALL));
        probe.set(A1, va + 0x1000 * 70 + 0x123);
        let sum = run(How::ADDRESS);
        assert_eq!(run(0), sum);
        sums.push(sum);
    }
    assert_eq!(sums[1], expected);
    assert_eq!(sums[0] as i64 - expected as i64, if first[0] & 0x40 == 0 { 4 } else { -4 });
    assert_eq!(sums[..2], sums[2..]);
}
