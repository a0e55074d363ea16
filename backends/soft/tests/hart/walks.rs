//! Random page tables and random accesses, against a walk written here as the manual describes it.

use axvcpu::{AccessKind, AxVCpuExitReason};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::sstatus::{MXR, SUM};
use axvcpu_riscv::paging::{SV39, SV48, SV57};

use crate::machine::{Machine, RAM, Random};
use crate::permissions::op;
use crate::probe::{DATA, Ended, How, Kind, Probe};

/// What the access comes to.
#[derive(Debug, PartialEq)]
enum Outcome {
    At(u64),
    PageFault,
    /// An entry of the tables is not in memory.
    NoTable(u64),
}

/// Privileged architecture, "Virtual Address Translation Process", step by step.
fn walk(machine: &Machine, levels: u32, root: u64, va: u64, kind: Kind, how: How) -> Outcome {
    let (user, sum, mxr) = (how.user, how.status & SUM != 0, how.status & MXR != 0);
    let va_bits = 12 + 9 * levels;
    let sign = va >> (va_bits - 1);
    if sign != 0 && sign != u64::MAX >> (va_bits - 1) {
        return Outcome::PageFault;
    }
    let mut a = root;
    let mut i = levels - 1;
    loop {
        let at = a + (va >> (12 + 9 * i) & 0x1ff) * 8;
        if !(RAM..RAM + (4 << 20)).contains(&at) {
            return Outcome::NoTable(at);
        }
        let entry = machine.read_u64(at);
        let bit = |n: u32| entry >> n & 1 != 0;
        let [v, r, w, x, u, _, accessed, dirty] = [0, 1, 2, 3, 4, 5, 6, 7].map(bit);
        if !v || !r && w || entry >> 54 != 0 {
            return Outcome::PageFault;
        }
        let ppn = entry >> 10 & 0xfff_ffff_ffff;
        if !r && !x {
            if i == 0 || u || accessed || dirty {
                return Outcome::PageFault;
            }
            a = ppn * 4096;
            i -= 1;
            continue;
        }
        if ppn % (1 << (9 * i)) != 0 {
            return Outcome::PageFault;
        }
        let writes = matches!(kind, Kind::Store | Kind::Atomic);
        let right = match kind {
            Kind::Fetch => x,
            Kind::Load | Kind::Reserve => r || mxr && x,
            _ => w,
        };
        let privileged = if user { u } else { !u || sum && kind != Kind::Fetch };
        if !right || !privileged || !accessed || writes && !dirty {
            return Outcome::PageFault;
        }
        let offset = (1 << (12 + 9 * i)) - 1;
        return Outcome::At((ppn * 4096) & !offset | va & offset);
    }
}

/// What every doubleword of the pages holds: a breakpoint for fetches, and where it is for loads.
fn content(pa: u64) -> u64 {
    pa << 16 | 0x9002
}

#[test]
fn random_tables() {
    let mut tried = [0; 3];
    for (seed, mode) in [SV39, SV48, SV57].repeat(4).into_iter().enumerate() {
        let probe = Probe::paged(mode);
        let machine = &probe.machine;
        let random = &mut Random(0x1234_5678 + seed as u64);
        // A few frames for tables and pages. The upper part of the root keeps what the probe needs.
        let tables: Vec<u64> = (0..8).map(|_| probe.tables().frame()).collect();
        let pages: Vec<u64> = (0..8).map(|i| DATA + 0x1000 * i).collect();
        for &page in &pages {
            for at in (page..page + 0x1000).step_by(8) {
                machine.write_u64(at, content(at));
            }
        }
        // Addresses differ in a few values of each index.
        let indices = [0_u64, 1, 255, 256, 511];
        let address = |random: &mut Random| {
            let mut va: u64 = random.pick(&[0, 0, 0, 8, 0x7f8, 0xff8]);
            for level in 0..mode.levels {
                let root = level + 1 == mode.levels;
                let index: u64 =
                    if root { random.pick(&[200, 300]) } else { random.pick(&indices) };
                va |= index << (12 + 9 * level);
            }
            let top = 64 - mode.bits;
            let va = ((va << top) as i64 >> top) as u64;
            if random.below(50) == 0 {
                va ^ 1 << (mode.bits + random.below(64 - mode.bits as u64) as u32)
            } else {
                va
            }
        };
        let entry = |random: &mut Random, level: u32| {
            if level > 0 && random.below(10) < 7 {
                let bad = [0, 0, 0, 0, 0, 0, 0, 0x10, 0x40, 0x80, 1 << 60, 0x20, 0x300];
                let table = if random.below(20) == 0 { 0x4000_0000 } else { random.pick(&tables) };
                return table >> 12 << 10 | 1 | random.pick(&bad);
            }
            let bits = if random.below(2) == 0 { random.below(1024) } else { 0xdf };
            let pa = if level == 0 {
                if random.below(20) == 0 { 0x1000_0000 } else { random.pick(&pages) }
            } else if level < 3 && random.below(4) != 0 {
                if level == 1 { DATA } else { RAM }
            } else {
                random.pick(&pages) // misaligned, as a rule
            };
            pa >> 12 << 10
                | bits
                | if random.below(40) == 0 { 1 << (54 + random.below(10)) } else { 0 }
        };
        for _ in 0..100 {
            for _ in 0..20 {
                let va = address(random);
                let level = random.below(mode.levels.into()) as u32;
                let table = if level + 1 == mode.levels {
                    probe.tables().root
                } else {
                    random.pick(&tables)
                };
                machine.write_u64(table + 8 * mode.index(va, level) as u64, entry(random, level));
            }
            let mut fence = How::ALL;
            for _ in 0..40 {
                let va = address(random);
                let name = random.pick(&["fetch", "ld", "sd", "lr.d", "amoswap.d", "fld"]);
                let how = How {
                    user: random.below(2) == 0,
                    status: random.pick(&[0, SUM, MXR, SUM | MXR]),
                    fence,
                    fp_off: false,
                };
                fence = 0;
                let expected =
                    walk(machine, mode.levels, probe.tables().root, va, op(name).kind, how);
                probe.set(A5, 0);
                // Pages are also found as tables and code by mistake: nothing is changed by writing.
                if let Outcome::At(pa) = expected {
                    probe
                        .set(A3, if (DATA..DATA + 0x8000).contains(&pa) { content(pa) } else { 0 });
                    let writes = matches!(op(name).kind, Kind::Store | Kind::Atomic);
                    if !(DATA..DATA + 0x8000).contains(&pa)
                        && (pa >= RAM && writes || name == "fetch")
                    {
                        continue;
                    }
                }
                let ended = probe.access(name, va, how);
                judge(&probe, name, va, how, &expected, ended, &mut tried);
            }
        }
    }
    assert!(tried.iter().all(|&count| count > 500), "too few of a kind: {tried:?}");
}

fn judge(
    probe: &Probe,
    name: &str,
    va: u64,
    how: How,
    expected: &Outcome,
    ended: Ended,
    tried: &mut [u32; 3],
) {
    let kind = op(name).kind;
    let context = || format!("{name} at {va:#x} {how:x?}: expected {expected:x?}, got {ended:x?}");
    let pc = if kind == Kind::Fetch { va } else { probe.stub(name, how) };
    match *expected {
        Outcome::PageFault => {
            tried[0] += 1;
            let trap = ended.unwrap_or_else(|_| panic!("{}", context()));
            assert_eq!(
                (trap.cause, trap.value, trap.pc),
                (kind.page_fault(), va, pc),
                "{}",
                context()
            );
        }
        Outcome::NoTable(at) => {
            tried[1] += 1;
            let AxVCpuExitReason::NestedPageFault { addr, access: AccessKind::Read } =
                ended.expect_err(&context())
            else {
                panic!("{}", context());
            };
            assert_eq!(addr.as_u64(), at, "{}", context());
            probe.machine.vcpu.fail_access().unwrap();
            let trap = probe.resume().unwrap();
            assert_eq!(
                (trap.cause, trap.value, trap.pc),
                (kind.access_fault(), va, pc),
                "{}",
                context()
            );
        }
        Outcome::At(pa) if (RAM..RAM + (4 << 20)).contains(&pa) => {
            tried[2] += 1;
            let trap = ended.unwrap_or_else(|_| panic!("{}", context()));
            let end = if kind == Kind::Fetch { va } else { pc + 4 };
            assert_eq!((trap.cause, trap.pc), (3, end), "{}", context());
            if matches!(name, "ld" | "lr.d" | "amoswap.d") {
                assert_eq!(probe.get(A5), probe.machine.read_u64(pa), "{}", context());
            }
        }
        Outcome::At(pa) => {
            let exit = ended.expect_err(&context());
            let (AxVCpuExitReason::MmioRead { addr, .. }
            | AxVCpuExitReason::MmioWrite { addr, .. }
            | AxVCpuExitReason::NestedPageFault { addr, .. }) = exit
            else {
                panic!("{}", context());
            };
            assert_eq!(addr.as_u64(), pa, "{}", context());
            probe.machine.vcpu.fail_access().unwrap();
            assert_eq!(probe.resume().unwrap().cause, kind.access_fault(), "{}", context());
        }
    }
}
