//! What the author of an architecture's guests may get wrong, told before any case fails of it.

use axvcpu_stage2::{Format, PAGE_SIZE, Perms, page_shift};

use super::{Architecture, Reg};
use crate::report::{Verdict, ensure, fail};

/// Checks what an architecture is said to be against what the texts ask for.
pub(super) fn check<I: Architecture>(format: I::Format) -> Verdict {
    check_format(format)?;
    check_places(
        format.guest_bits(),
        &[
            ("CODE", I::CODE, I::CODE_PAGES),
            ("DATA", I::DATA, I::DATA_PAGES),
            ("DEVICE", I::DEVICE, 1),
            ("WINDOW", I::WINDOW, 1),
            ("FIRST", I::FIRST, 1),
            ("SECOND", I::SECOND, 1),
            ("NEAR", I::NEAR, 1),
        ],
    )?;
    ensure!(I::DEVICE < 1 << 32, "DEVICE is {:#x}, not below 4 GiB", I::DEVICE);
    ensure!(I::REGISTERS < 63, "REGISTERS is {}, not below 63", I::REGISTERS);
    let [a, b, c] = Reg::ALL.map(I::gpr);
    ensure!(a != b && b != c && c != a, "two of the three registers have the same number");
    for (name, register) in [("BASE", I::BASE), ("SPARE", I::SPARE)] {
        ensure!(![a, b, c].contains(&register), "{name} is one of the three registers");
    }
    for (name, register) in [
        ("gpr(A)", a),
        ("gpr(B)", b),
        ("gpr(C)", c),
        ("BASE", I::BASE),
        ("SPARE", I::SPARE),
        ("NUMBER", I::NUMBER),
    ] {
        let registers = I::REGISTERS;
        ensure!(register < registers, "{name} is {register}, and there are {registers} registers");
        ensure!(Some(register) != I::ZERO, "{name} is the register that is always zero");
    }
    let [first, second, third] = I::VECTORS;
    let all = [Some(first), Some(second), Some(third), I::NO_VECTOR];
    let twice = |index: usize| all[..index].contains(&all[index]);
    ensure!(!(1..4).any(twice), "VECTORS and NO_VECTOR are not all different: {all:?}");
    let calls = [I::REPORT, I::TRAP, I::END];
    ensure!(
        calls[0] != calls[1] && calls[1] != calls[2] && calls[2] != calls[0],
        "REPORT, TRAP and END are not all different: {calls:x?}"
    );
    Ok(())
}

/// Whether entries say what they were made to say, and the tree has as many addresses as it promises.
fn check_format<F: Format>(format: F) -> Verdict {
    let (levels, guest_bits) = (format.levels(), format.guest_bits());
    let pages = format.root_pages();
    ensure!((1..=5).contains(&levels), "the format has {levels} levels");
    ensure!(pages.is_power_of_two(), "the format's root has {pages} pages, not a power of two");
    let reach = page_shift(levels) + pages.trailing_zeros();
    ensure!(
        guest_bits <= reach,
        "the format has guest addresses of {guest_bits} bits, and its tables reach {reach}"
    );
    ensure!(!F::is_valid(0), "the format takes an entry of zero for a valid one");
    // The highest frame that there can be, and one that is not.
    let top = (1 << format.host_bits()) - PAGE_SIZE;
    for host in [top, PAGE_SIZE] {
        let table = F::table(host);
        ensure!(F::is_valid(table), "the format's table({host:#x}) is not valid");
        ensure!(!F::is_leaf(table), "the format takes table({host:#x}) for a leaf");
        let found = F::addr(table);
        ensure!(found == host, "the format's table({host:#x}) leads to {found:#x}");
        for perms in [Perms::R, Perms::RX, Perms::RW, Perms::RWX] {
            let Ok(leaf) = F::leaf(host, 0, perms) else {
                fail!("the format refuses {perms:?}, which the suite maps pages with");
            };
            ensure!(F::is_valid(leaf), "the format's leaf({host:#x}, 0, {perms:?}) is not valid");
            let found = F::addr(leaf);
            ensure!(found == host, "the format's leaf({host:#x}, …) leads to {found:#x}");
            let found = F::perms(leaf);
            ensure!(found == perms, "the format's leaf of {perms:?} permits {found:?}");
        }
    }
    let large = 1 << page_shift(1);
    let Ok(leaf) = F::leaf(large, 1, Perms::RWX) else {
        fail!("the format refuses a page of {large:#x} bytes");
    };
    ensure!(F::is_leaf(leaf), "the format takes leaf({large:#x}, 1, …) for a table");
    ensure!(F::addr(leaf) == large, "the format's leaf({large:#x}, 1, …) leads elsewhere");
    Ok(())
}

/// Names, addresses and numbers of pages, none of which may touch another, within `bits` of address.
fn check_places(bits: u32, places: &[(&str, u64, u64)]) -> Verdict {
    for (index, &(name, start, pages)) in places.iter().enumerate() {
        ensure!(start % PAGE_SIZE == 0, "{name} is {start:#x}, not a multiple of {PAGE_SIZE}");
        ensure!(pages > 0, "{name} has no pages");
        let end = pages.checked_mul(PAGE_SIZE).and_then(|size| start.checked_add(size));
        ensure!(
            end.is_some_and(|end| end <= 1 << bits),
            "{name} has {pages} pages from {start:#x} on, and guest addresses have {bits} bits"
        );
        for &(other, other_start, other_pages) in &places[..index] {
            let apart = start - start.min(other_start) >= other_pages * PAGE_SIZE
                || other_start - start.min(other_start) >= pages * PAGE_SIZE;
            ensure!(
                apart,
                "{other} ({other_pages} pages from {other_start:#x} on) and {name} ({pages} from \
                 {start:#x} on) overlap"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use axvcpu::{AxError, AxResult};
    use axvcpu_riscv::paging::Mode;

    use super::*;
    use crate::report::Stop;
    use crate::{arm::Arm, riscv::Riscv, x86::X86};

    #[test]
    fn the_architectures_that_the_suite_knows_are_in_order() {
        for (name, verdict) in [
            ("RISC-V", check::<Riscv>(axvcpu_riscv::paging::SV39X4)),
            ("AArch64", check::<Arm>(axvcpu_arm::stage2::IPA39)),
            ("x86", check::<X86>(axvcpu_x86::ept::Ept)),
        ] {
            assert!(verdict.is_ok(), "{name}: {verdict:?}");
        }
    }

    fn refusal(places: &[(&str, u64, u64)]) -> Option<String> {
        match check_places(40, places) {
            Ok(()) => None,
            Err(Stop::Failed(failure)) => Some(failure.to_string()),
            Err(stop) => panic!("{stop:?}"),
        }
    }

    #[test]
    fn places_are_apart() {
        assert_eq!(refusal(&[("A", 0x1000, 2), ("B", 0x3000, 1), ("C", 0, 1)]), None);
        for overlapping in [
            [("A", 0x1000, 2), ("B", 0x2000, 1)],
            [("A", 0x2000, 1), ("B", 0x1000, 2)],
            [("A", 0x1000, 1), ("B", 0x1000, 1)],
            [("A", 0, 16), ("B", 0x4000, 1)],
        ] {
            let text = refusal(&overlapping).unwrap_or_default();
            assert!(
                text.starts_with("A (") && text.contains("and B ("),
                "{overlapping:x?}: {text}"
            );
        }
    }

    /// Sv39x4 with something wrong.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Wrong<const WHAT: u8>;

    impl<const WHAT: u8> Format for Wrong<WHAT> {
        fn levels(self) -> u32 {
            3
        }
        fn guest_bits(self) -> u32 {
            if WHAT == 1 { 42 } else { 41 }
        }
        fn host_bits(self) -> u32 {
            56
        }
        fn root_pages(self) -> usize {
            if WHAT == 2 { 3 } else { 4 }
        }
        fn leaf(host: u64, level: u32, perms: Perms) -> AxResult<u64> {
            match WHAT {
                3 if !perms.execute => Err(AxError::InvalidInput),
                4 => Mode::leaf(host, level, Perms::RWX),
                5 => Mode::leaf(host & 0xffff_ffff, level, perms),
                6 if level == 1 => Ok(Mode::table(host)),
                _ => Mode::leaf(host, level, perms),
            }
        }
        fn table(at: u64) -> u64 {
            if WHAT == 7 { Mode::table(at) | 2 } else { Mode::table(at) }
        }
        fn is_valid(entry: u64) -> bool {
            WHAT == 8 || Mode::is_valid(entry)
        }
        fn is_leaf(entry: u64) -> bool {
            Mode::is_leaf(entry)
        }
        fn addr(entry: u64) -> u64 {
            Mode::addr(entry)
        }
        fn perms(entry: u64) -> Perms {
            Mode::perms(entry)
        }
    }

    #[test]
    fn formats_say_what_they_were_told() {
        let refusal = |verdict| match verdict {
            Err(Stop::Failed(failure)) => failure.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(check_format(Wrong::<0>).is_ok());
        for (verdict, reason) in [
            (check_format(Wrong::<1>), "42 bits"),
            (check_format(Wrong::<2>), "3 pages"),
            (check_format(Wrong::<3>), "refuses"),
            (check_format(Wrong::<4>), "permits"),
            (check_format(Wrong::<5>), "leads to"),
            (check_format(Wrong::<6>), "for a table"),
            (check_format(Wrong::<7>), "for a leaf"),
            (check_format(Wrong::<8>), "zero"),
        ] {
            let text = refusal(verdict);
            assert!(text.contains(reason), "{reason}: {text}");
        }
    }

    #[test]
    fn places_are_pages() {
        for (place, reason) in [
            (("A", 0x1800, 1), "not a multiple"),
            (("A", 0x1000, 0), "no pages"),
            (("A", 0x1000, u64::MAX), "40 bits"),
            (("A", !0xfff, 2), "40 bits"),
            (("A", 1 << 40, 1), "40 bits"),
        ] {
            assert!(refusal(&[place]).unwrap_or_default().contains(reason), "{place:x?}");
        }
    }
}
