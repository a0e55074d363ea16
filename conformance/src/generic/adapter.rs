//! What the author of an architecture's guests may get wrong, told before any case fails of it.

use super::{Architecture, Reg};
use crate::report::{Verdict, ensure};

const PAGE: u64 = 4096;

/// Checks the constants of an architecture against what their texts ask for.
pub(super) fn check<I: Architecture>() -> Verdict {
    check_places(&[
        ("CODE", I::CODE, I::CODE_PAGES),
        ("DATA", I::DATA, I::DATA_PAGES),
        ("DEVICE", I::DEVICE, 1),
        ("WINDOW", I::WINDOW, 1),
        ("FIRST", I::FIRST, 1),
        ("SECOND", I::SECOND, 1),
        ("NEAR", I::NEAR, 1),
    ])?;
    ensure!(I::DEVICE < 1 << 32, "DEVICE is {:#x}, not below 4 GiB", I::DEVICE);
    ensure!(I::REGISTERS < 63, "REGISTERS is {}, not below 63", I::REGISTERS);
    let [a, b, c] = Reg::ALL.map(I::gpr);
    ensure!(a != b && b != c && c != a, "two of the three registers have the same number");
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

/// Names, addresses and numbers of pages, none of which may touch another.
fn check_places(places: &[(&str, u64, u64)]) -> Verdict {
    for (index, &(name, start, pages)) in places.iter().enumerate() {
        ensure!(start % PAGE == 0, "{name} is {start:#x}, not a multiple of {PAGE}");
        ensure!(pages > 0, "{name} has no pages");
        let end = pages.checked_mul(PAGE).and_then(|size| start.checked_add(size));
        ensure!(end.is_some(), "{name} begins at {start:#x} and goes beyond all addresses");
        for &(other, other_start, other_pages) in &places[..index] {
            let apart = start - start.min(other_start) >= other_pages * PAGE
                || other_start - start.min(other_start) >= pages * PAGE;
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

    use super::*;
    use crate::report::Stop;
    use crate::{arm::Arm, riscv::Riscv, x86::X86};

    #[test]
    fn the_architectures_that_the_suite_knows_are_in_order() {
        for (name, verdict) in
            [("RISC-V", check::<Riscv>()), ("AArch64", check::<Arm>()), ("x86", check::<X86>())]
        {
            assert!(verdict.is_ok(), "{name}: {verdict:?}");
        }
    }

    fn refusal(places: &[(&str, u64, u64)]) -> Option<String> {
        match check_places(places) {
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

    #[test]
    fn places_are_pages() {
        for (place, reason) in [
            (("A", 0x1800, 1), "not a multiple"),
            (("A", 0x1000, 0), "no pages"),
            (("A", 0x1000, u64::MAX), "beyond all addresses"),
            (("A", !0xfff, 2), "beyond all addresses"),
        ] {
            assert!(refusal(&[place]).unwrap_or_default().contains(reason), "{place:x?}");
        }
    }
}
