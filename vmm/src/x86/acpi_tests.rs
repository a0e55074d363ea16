//! The tables, read back as an operating system does: from the root pointer on.

use alloc::vec::Vec;

use super::*;
use crate::loader::{u16_at, u32_at, u64_at};

struct Tables(Vec<u8>);

impl Tables {
    fn new(cpus: u8) -> Self {
        Self(build(cpus))
    }

    fn from(&self, addr: u64) -> &[u8] {
        &self.0[(addr - ACPI) as usize..]
    }

    /// The table at `addr`, whose header is checked.
    fn at(&self, addr: u64, signature: &[u8; 4]) -> &[u8] {
        let table = self.from(addr);
        let table = &table[..u32_at(table, 4).unwrap() as usize];
        assert_eq!(&table[..4], signature);
        assert_eq!(sum(table), 0, "{signature:?}");
        assert_eq!(&table[10..16], b"AXVCPU");
        table
    }

    /// The table with this signature that the root table lists.
    fn listed(&self, signature: &[u8; 4]) -> &[u8] {
        let xsdt = self.at(u64_at(&self.0, 24).unwrap(), b"XSDT");
        let addr = xsdt[36..]
            .chunks_exact(8)
            .map(|entry| u64_at(entry, 0).unwrap())
            .find(|&addr| self.from(addr).starts_with(signature));
        self.at(addr.unwrap(), signature)
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

#[test]
fn the_root_pointer_is_where_it_is_searched() {
    assert!((0xe_0000..0x10_0000).contains(&ACPI) && ACPI % 16 == 0);
    for cpus in [1, 255] {
        let tables = build(cpus);
        assert!(ACPI + tables.len() as u64 <= 0x10_0000);
        assert_eq!(&tables[..8], b"RSD PTR ");
        assert_eq!((sum(&tables[..20]), sum(&tables[..36])), (0, 0));
        assert_eq!((tables[15], u32_at(&tables, 16), u32_at(&tables, 20)), (2, Some(0), Some(36)));
    }
}

#[test]
fn fixed_hardware() {
    let tables = Tables::new(1);
    let fadt = tables.listed(b"FACP");
    let [half, word, long] = [
        |f: &[u8], at| u64::from(u16_at(f, at).unwrap()),
        |f: &[u8], at| u64::from(u32_at(f, at).unwrap()),
        |f: &[u8], at| u64_at(f, at).unwrap(),
    ];
    assert_eq!((fadt.len(), fadt[8]), (276, 6));
    assert_eq!(half(fadt, 46), 9); // SCI_INT
    assert_eq!(word(fadt, 48), 0); // SMI_CMD: always in ACPI mode
    assert_eq!((word(fadt, 56), fadt[88]), (0x600, 4)); // PM1a_EVT_BLK
    assert_eq!((word(fadt, 64), fadt[89]), (0x604, 2)); // PM1a_CNT_BLK
    assert_eq!((word(fadt, 76), fadt[91]), (0, 0)); // no PM timer
    assert_eq!(half(fadt, 109), 0b10_0101); // legacy devices, no 8042, no VGA, no CMOS RTC
    let flags = word(fadt, 112);
    assert!(flags & 1 << 10 != 0, "reset register");
    assert_eq!(flags & (1 << 20 | 1 << 8), 0, "not reduced, no 32-bit timer");
    assert_eq!(fadt[116..128], [1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0]);
    assert_eq!(fadt[128], 6);
    assert_eq!(fadt[148..160], [1, 32, 0, 2, 0, 6, 0, 0, 0, 0, 0, 0]);
    assert_eq!(fadt[172..184], [1, 16, 0, 2, 4, 6, 0, 0, 0, 0, 0, 0]);
    // Both ways to the DSDT lead there, and one to the FACS.
    assert_eq!(word(fadt, 40), long(fadt, 140));
    tables.at(long(fadt, 140), b"DSDT");
    assert_eq!(long(fadt, 132), 0);
    let facs = tables.from(word(fadt, 36));
    assert_eq!(word(fadt, 36) % 64, 0);
    assert_eq!((&facs[..4], u32_at(facs, 4), facs[32]), (&b"FACS"[..], Some(64), 2));
}

#[test]
fn interrupt_controllers() {
    for cpus in [1u8, 3, 255] {
        let tables = Tables::new(cpus);
        let madt = tables.listed(b"APIC");
        assert_eq!((u32_at(madt, 36), u32_at(madt, 40)), (Some(0xfee0_0000), Some(1)));
        let mut rest = &madt[44..];
        let mut entries = Vec::new();
        while let [_, len, ..] = *rest {
            let (entry, behind) = rest.split_at(len.into());
            entries.push(entry);
            rest = behind;
        }
        assert!(rest.is_empty());
        let (local, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry[0] == 0);
        assert_eq!(local.len(), cpus.into());
        for (cpu, entry) in (0..cpus).zip(local) {
            assert_eq!(entry, [0, 8, cpu, cpu, 1, 0, 0, 0]);
        }
        assert_eq!(
            others,
            [
                &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0][..],
                &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
                &[2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0],
                &[4, 6, 0xff, 0, 0, 1],
            ]
        );
    }
}

/// What is behind an opcode and its length, which ends where the content does.
fn content<'a>(aml: &'a [u8], op: &[u8]) -> &'a [u8] {
    let rest = aml.strip_prefix(op).unwrap();
    &rest[1..rest[0].into()]
}

#[test]
fn names_in_the_dsdt() {
    let tables = Tables::new(1);
    let fadt = tables.listed(b"FACP");
    let aml = &tables.at(u64_at(fadt, 140).unwrap(), b"DSDT")[36..];
    let package = content(aml.strip_prefix(b"\x08_S5_").unwrap(), &[0x12]);
    assert_eq!(package, [4, 0x0a, 5, 0x0a, 5, 0, 0]);
    let scope = content(&aml[5 + 2 + package.len()..], &[0x10]);
    let device = content(scope.strip_prefix(b"\\_SB_").unwrap(), &[0x5b, 0x82]);
    let rest = device.strip_prefix(b"COM1\x08_HID\x0c\x41\xd0\x05\x01\x08_CRS").unwrap();
    let resources = content(rest, &[0x11]);
    assert_eq!(resources[..2], [0x0a, 13]);
    assert_eq!(resources[2..], [0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8, 0x22, 0x10, 0, 0x79, 0]);
    // Each ends exactly where what it is in ends.
    assert_eq!(rest.len(), 2 + resources.len());
    assert_eq!(scope.len(), 5 + 3 + device.len());
    assert_eq!(aml.len(), 5 + 2 + package.len() + 2 + scope.len());
}
