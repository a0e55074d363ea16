//! How CPUs are named: by the affinity fields of their `MPIDR_EL1`, Aff0 in the lowest byte.
//!
//! Aff0 has 16 values only, because an SGI is sent to a list of 16 CPUs that differ in it (Arm IHI 0069,
//! `ICC_SGI1R_EL1`).

/// The affinity of a CPU.
pub const fn of(cpu: usize) -> u64 {
    let cpu = cpu as u64;
    (cpu % 16) | ((cpu / 16) << 8)
}

/// The CPU that has an affinity, if one can.
pub const fn cpu(affinity: u64) -> Option<usize> {
    let (aff0, aff1) = (affinity & 0xff, affinity >> 8);
    if aff0 < 16 && aff1 < 256 { Some((aff1 * 16 + aff0) as usize) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for id in 0..4096 {
            assert_eq!(cpu(of(id)), Some(id));
        }
        assert_eq!((of(17), cpu(0x101)), (0x101, Some(17)));
        for none in [16, 0x10000, 0xff, 1 << 32, u64::MAX] {
            assert_eq!(cpu(none), None);
        }
    }
}
