//! What calls may answer, by the specifications of PSCI 1.1 and of the SMC calling convention 1.2, and by what the book says
//! of the machine.

use super::{RAM, RAM_END};
use crate::table::Expect::{self, Any, Either, One};

/// Function identifiers.
pub(super) mod id {
    /// Of functions with arguments of 64 bits.
    pub(crate) const SMC64: u64 = 1 << 30;

    pub(crate) const SMCCC_VERSION: u64 = 0x8000_0000;
    pub(crate) const ARCH_FEATURES: u64 = 0x8000_0001;
    pub(crate) const PSCI_VERSION: u64 = 0x8400_0000;
    pub(crate) const CPU_SUSPEND: u64 = 0x8400_0001;
    pub(crate) const CPU_OFF: u64 = 0x8400_0002;
    pub(crate) const CPU_ON: u64 = 0x8400_0003;
    pub(crate) const AFFINITY_INFO: u64 = 0x8400_0004;
    pub(crate) const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
    pub(crate) const SYSTEM_OFF: u64 = 0x8400_0008;
    pub(crate) const SYSTEM_RESET: u64 = 0x8400_0009;
    pub(crate) const PSCI_FEATURES: u64 = 0x8400_000a;
    pub(crate) const SYSTEM_RESET2: u64 = 0x8400_0012;
}

const NOT_SUPPORTED: u64 = -1i64 as u64;
const INVALID_PARAMETERS: u64 = -2i64 as u64;
const ALREADY_ON: u64 = -4i64 as u64;
const INVALID_ADDRESS: u64 = -9i64 as u64;

/// The state and the level of a standby (PSCI, 5.4.2); any other bit is reserved, or means to power down.
const STANDBY: u64 = 0x0300_ffff;

/// What the CPUs do that do not make the calls of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// They are off at first, and the calls may start them.
    Off,
    /// They make calls, too.
    On,
}

/// What a call may answer; nothing if it does not return.
pub(super) fn expected(call: [u64; 8], cpus: u32, others: Others) -> Option<Expect> {
    // 32 bits say what is called, and one of them how wide the arguments are.
    let function = call[0] & 0xffff_ffff;
    let width = if function & id::SMC64 == 0 { 0xffff_ffff } else { u64::MAX };
    let [first, second] = [call[1] & width, call[2] & width];
    // The affinity of a CPU is its number here, as long as there are so few.
    let exists = first < u64::from(cpus);
    Some(match function {
        id::SMCCC_VERSION => One(1 << 16 | 2),
        id::ARCH_FEATURES => match first {
            id::SMCCC_VERSION | id::ARCH_FEATURES => One(0),
            _ => One(NOT_SUPPORTED),
        },
        id::PSCI_VERSION => One(1 << 16 | 1),
        id::PSCI_FEATURES => One(if is_in_psci(first) { 0 } else { NOT_SUPPORTED }),
        id::MIGRATE_INFO_TYPE => One(2),
        id::CPU_OFF | id::SYSTEM_OFF | id::SYSTEM_RESET => return None,
        _ => match function & !id::SMC64 {
            id::SYSTEM_RESET2 if first == 0 => return None,
            id::SYSTEM_RESET2 => One(INVALID_PARAMETERS),
            id::CPU_SUSPEND if first & !STANDBY == 0 => One(0),
            id::CPU_SUSPEND => One(INVALID_PARAMETERS),
            id::AFFINITY_INFO if !exists || second != 0 => One(INVALID_PARAMETERS),
            id::AFFINITY_INFO if first == 0 || others == Others::On => One(0),
            id::AFFINITY_INFO => Any, // on, off, or about to be on
            id::CPU_ON => {
                let entry = second % 4 == 0 && (RAM..=RAM_END - 4).contains(&second);
                let is_on = first == 0 || others == Others::On;
                match (exists, entry) {
                    (false, true) => One(INVALID_PARAMETERS),
                    (false, false) => Either(INVALID_PARAMETERS, INVALID_ADDRESS),
                    (true, false) => Either(INVALID_ADDRESS, ALREADY_ON),
                    (true, true) if is_on => One(ALREADY_ON),
                    (true, true) => Any, // it is on, off, or about to be on
                }
            }
            _ => One(NOT_SUPPORTED),
        },
    })
}

/// Whether `PSCI_FEATURES` says that there is such a function.
fn is_in_psci(function: u64) -> bool {
    let of_32_bits = [
        id::SMCCC_VERSION,
        id::PSCI_VERSION,
        id::CPU_OFF,
        id::MIGRATE_INFO_TYPE,
        id::SYSTEM_OFF,
        id::SYSTEM_RESET,
        id::PSCI_FEATURES,
    ];
    of_32_bits.contains(&function) || takes_several(function)
}

/// Whether it is a function whose arguments depend on each other. Of these there are two, with arguments of 32 and of 64
/// bits.
pub(super) fn takes_several(function: u64) -> bool {
    let several = [id::CPU_SUSPEND, id::CPU_ON, id::AFFINITY_INFO, id::SYSTEM_RESET2];
    several.contains(&(function & !id::SMC64))
}
