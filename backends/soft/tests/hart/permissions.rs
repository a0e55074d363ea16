//! What a leaf of the guest's tables allows: every combination of its bits, of the access, of the privilege.

use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::sstatus::{MXR, SUM};
use axvcpu_riscv::paging::{SV39, SV48, SV57, page_size, pte};

use crate::machine::Random;
use crate::probe::{CODE, DATA, Ended, How, Kind, OPS, Op, Probe, Trap};
use crate::tables::Tables;

/// A load, a store, and so on: one operation of each kind.
const KINDS: [&str; 5] = ["fetch", "ld", "sd", "lr.d", "amoadd.d"];

const PRIVILEGES: [How; 3] = [How::U, How::S, How { status: SUM, ..How::S }];

pub fn op(name: &str) -> &'static Op {
    OPS.iter().find(|op| op.name == name).unwrap()
}

/// Privileged architecture, "Virtual Address Translation Process", steps 4 to 9 with Svade, as a predicate on the
/// leaf's flags.
fn allowed(flags: u64, kind: Kind, how: How) -> bool {
    let has = |bit| flags & bit != 0;
    if !has(pte::V) || has(pte::W) && !has(pte::R) {
        return false;
    }
    let right = match kind {
        Kind::Fetch => has(pte::X),
        Kind::Load | Kind::Reserve => has(pte::R) || has(pte::X) && how.status & MXR != 0,
        Kind::Store | Kind::Atomic => has(pte::W),
    };
    let privilege = match (how.user, has(pte::U)) {
        (true, user_page) => user_page,
        (false, false) => true,
        (false, true) => how.status & SUM != 0 && kind != Kind::Fetch,
    };
    let writes = matches!(kind, Kind::Store | Kind::Atomic);
    right && privilege && has(pte::A) && (has(pte::D) || !writes)
}

/// The leaf with the six interesting bits taken from `bits`.
fn flags(bits: u64) -> u64 {
    let all = [pte::R, pte::W, pte::X, pte::U, pte::A, pte::D];
    all.iter().enumerate().fold(pte::V, |f, (i, &bit)| if bits & 1 << i != 0 { f | bit } else { f })
}

/// How an access to a page that allows it ends, or one to a page that does not.
#[track_caller]
pub fn check(
    probe: &Probe,
    ended: Ended,
    name: &str,
    va: u64,
    how: How,
    ok: bool,
    context: &dyn Fn() -> String,
) {
    let kind = op(name).kind;
    let stub = probe.stub(name, how);
    let (cause, value, pc) = match (ok, kind) {
        (true, Kind::Fetch) => (3, va, va),
        (true, _) => (3, stub + 4, stub + 4),
        (false, Kind::Fetch) => (12, va, va),
        (false, _) => (kind.page_fault(), va, stub),
    };
    let trap = ended.unwrap_or_else(|exit| panic!("{exit:x?}: {name} {how:x?} {}", context()));
    let spp = if how.user { 0 } else { 1 << 8 };
    assert_eq!(
        (trap.cause, trap.value, trap.pc, trap.status & 1 << 8),
        (cause, value, pc, spp),
        "{name} at {va:#x} {how:x?} {}: {trap:x?}",
        context()
    );
}

/// Where code and data of the page under test are.
const TARGET: u64 = DATA + 0x3000;

fn prepare(probe: &Probe) {
    for at in [TARGET, DATA] {
        probe.machine.write(at + 0x100, &[0x02, 0x90]); // c.ebreak
    }
}

/// The page under test, its entry at `level`; what points nowhere points to a table without entries.
fn map(probe: &Probe, tables: &Tables, va: u64, level: u32, flags: u64, empty: u64) {
    let size = page_size(level);
    let pa = if flags & pte::RWX == 0 && level > 0 { empty } else { TARGET & !(size - 1) };
    tables.map(&probe.machine, va, level, pa, flags);
}

#[test]
fn every_leaf_at_every_level() {
    for mode in [SV39, SV48, SV57] {
        for level in 0..mode.levels {
            let probe = Probe::paged(mode);
            prepare(&probe);
            let tables = probe.tables();
            let empty = tables.frame();
            for half in 0..2 {
                let va = tables.address(half, level, TARGET);
                for bits in 0..64 {
                    let flags = flags(bits);
                    map(&probe, tables, va, level, flags, empty);
                    let mut fence = How::ALL;
                    for name in KINDS {
                        for how in PRIVILEGES {
                            for mxr in [0, MXR] {
                                let how = how.status(how.status | mxr).fence(fence);
                                fence = 0; // switching privilege, SUM or MXR takes no fence
                                let va = va + if name == "fetch" { 0x100 } else { 0x200 };
                                let ok = allowed(flags, op(name).kind, how);
                                let before = probe.machine.read_u64(TARGET + 0x200);
                                probe.set(A3, 1);
                                let ended = probe.access(name, va, how);
                                check(&probe, ended, name, va, how, ok, &|| {
                                    format!("{flags:#x} at level {level} of {mode:?}")
                                });
                                let written = matches!(name, "sd" | "amoadd.d") && ok;
                                let after = probe.machine.read_u64(TARGET + 0x200);
                                let sum = if name == "sd" { 1 } else { before + 1 };
                                assert_eq!(after, if written { sum } else { before });
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The same in no order and hardly ever with a fence, so that each finds what others have left in the caches.
#[test]
fn privilege_takes_effect_without_a_fence() {
    let probe = Probe::paged(SV39);
    prepare(&probe);
    let tables = probe.tables();
    let mut random = Random(0x5eed);
    // Leaves on pages of their own, so that all of them stay in use.
    let at = |bits: u64| tables.free(1) + 4096 * bits;
    for bits in 0..64 {
        tables.map(&probe.machine, at(bits), 0, TARGET & !0xfff, flags(bits));
    }
    for _ in 0..20_000 {
        let bits = random.below(64);
        let name = random.pick(&KINDS);
        let privilege = random.pick(&PRIVILEGES);
        let how = privilege.status(privilege.status | random.pick(&[0, MXR]));
        let va = at(bits) + if name == "fetch" { 0x100 } else { 0x200 };
        let ok = allowed(flags(bits), op(name).kind, how);
        let ended = probe.access(name, va, how);
        check(&probe, ended, name, va, how, ok, &|| format!("{:#x}", flags(bits)));
    }
}

/// A supervisor that switches SUM or MXR on and off around its accesses.
#[test]
fn permissions_change_under_way() {
    let probe = Probe::paged(SV39);
    let tables = probe.tables();
    let user = tables.free(0);
    let code = user + 0x1000;
    let bits = pte::V | pte::A | pte::D;
    tables.map(&probe.machine, user, 0, TARGET, bits | pte::R | pte::W | pte::U);
    tables.map(&probe.machine, code, 0, TARGET, bits | pte::X);
    probe.set(T1, SUM);
    probe.set(T2, MXR);
    probe.run(|a| a.nop(), How::S.fence(How::ALL));
    for (bit, va) in [(T1, user), (T2, code)] {
        probe.set(A1, va);
        for _ in 0..3 {
            let switched = |a: &mut Asm| {
                a.csrrs(ZERO, csrs::SSTATUS, bit);
                a.ld(A5, 0, A1);
                a.lr_d(A5, A1, Order::Relaxed);
                a.csrrc(ZERO, csrs::SSTATUS, bit);
                a.ld(A5, 0, A1);
            };
            let trap = probe.execute(switched, How::S).unwrap();
            assert_eq!((trap.cause, trap.value, trap.pc), (13, va, CODE + 16));
            let before = probe.execute(|a| a.ld(A5, 0, A1), How::S).unwrap();
            assert_eq!((before.cause, before.pc), (13, CODE));
        }
    }
}

/// Entries that fault whatever the access, at each level.
#[test]
fn reserved_encodings() {
    const LEAF: u64 = pte::V | pte::RWX | pte::A | pte::D;
    for mode in [SV39, SV48, SV57] {
        let probe = Probe::paged(mode);
        prepare(&probe);
        let tables = probe.tables();
        let fails = |va: u64, level: u32, entry: u64, user: bool, what: &str| {
            let slot = tables.entry(&probe.machine, va, level);
            probe.machine.write_u64(slot, entry);
            for name in KINDS {
                let how = if user { How::U } else { How::S }.fence(How::ALL);
                let ended = probe.access(name, va, how);
                check(&probe, ended, name, va, how, false, &|| format!("{what}, level {level}"));
            }
        };
        for level in 0..mode.levels {
            let va = tables.address(0, level, TARGET + 0x100);
            let pa = TARGET & !(page_size(level) - 1);
            for user in [false, true] {
                let leaf = pte::new(pa, LEAF | if user { pte::U } else { 0 });
                fails(va, level, leaf & !pte::V, user, "not valid");
                for bit in 54..64 {
                    fails(va, level, leaf | 1 << bit, user, &format!("bit {bit}"));
                }
                for bit in 10..10 + 9 * level {
                    fails(va, level, leaf ^ 1 << bit, user, &format!("misaligned: bit {bit}"));
                }
                // What says nothing: the bits for software, and G.
                for bits in [pte::G, pte::RSW, pte::G | pte::RSW] {
                    let slot = tables.entry(&probe.machine, va, level);
                    probe.machine.write_u64(slot, leaf | bits);
                    let how = if user { How::U } else { How::S }.fence(How::ALL);
                    let ended = probe.access("fetch", va, how);
                    check(&probe, ended, "fetch", va, how, true, &|| format!("{bits:#x}"));
                }
            }
        }
        // Bits that are reserved in an entry that leads to a table, which itself is good.
        for level in 1..mode.levels {
            let va = tables.address(1, 0, TARGET + 0x100);
            tables.map(&probe.machine, va, 0, TARGET, LEAF);
            let slot = tables.entry(&probe.machine, va, level);
            let good = probe.machine.read_u64(slot);
            for bit in [4, 6, 7].into_iter().chain(54..64) {
                fails(va, level, good | 1 << bit, false, &format!("table bit {bit}"));
            }
            for bits in [0, pte::G, pte::RSW] {
                probe.machine.write_u64(slot, good | bits);
                let how = How::S.fence(How::ALL);
                let ended = probe.access("fetch", va, how);
                check(&probe, ended, "fetch", va, how, true, &|| format!("table {bits:#x}"));
            }
        }
        // At the last level there is no further table.
        let va = tables.address(1, 0, TARGET + 0x100);
        fails(va, 0, pte::new(TARGET, pte::V), false, "table below the last level");
    }
}

/// Addresses whose upper bits do not repeat the highest translated one.
#[test]
fn addresses_that_are_not_canonical() {
    for mode in [SV39, SV48, SV57] {
        let probe = Probe::paged(mode);
        prepare(&probe);
        let tables = probe.tables();
        for half in 0..2 {
            let good = tables.address(half, 0, TARGET + 0x100);
            tables.map(&probe.machine, good, 0, TARGET, pte::V | pte::RWX | pte::A | pte::D);
            let how = How::S.fence(How::ALL);
            for name in KINDS {
                for bit in mode.bits..64 {
                    let va = good ^ 1 << bit;
                    let ended = probe.access(name, va, how);
                    check(&probe, ended, name, va, how, false, &|| format!("bit {bit}"));
                }
                let va = good ^ 1 << (mode.bits - 1); // all its bits in another page: not mapped
                let ended = probe.access(name, va, how);
                check(&probe, ended, name, va, how, false, &|| "highest bit".into());
            }
            let ended = probe.access("fetch", good, how);
            check(&probe, ended, "fetch", good, how, true, &|| "good".into());
        }
        // Odd targets lose their lowest bit before they are looked at.
        let good = tables.address(0, 0, TARGET + 0x100);
        let trap = probe.access("fetch", good + 1, How::S).unwrap();
        assert_eq!(trap, Trap { cause: 3, value: good, pc: good, ..trap });
    }
}
