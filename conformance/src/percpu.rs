//! The switch of a physical CPU's virtualization hardware.

use axvcpu::{AxArchPerCpu, AxError, AxPerCpu, PerCpuState};

use crate::report::{Report, Verdict, ensure_eq};

/// Checks that virtualization on this physical CPU can be switched on and off again and again, and that misuse
/// is refused. Virtualization is off before and after; no vCPU is bound to the CPU.
pub fn run_per_cpu<P: AxArchPerCpu>(name: &str, cpu_id: usize) -> Report {
    let mut report = Report::new(name);
    report.add("switched on and off, several times", on_and_off::<P>(cpu_id));
    report.add("misuse is refused", misuse::<P>(cpu_id));
    report.add("switched off by dropping, and on again", dropped::<P>(cpu_id));
    report
}

fn on_and_off<P: AxArchPerCpu>(cpu_id: usize) -> Verdict {
    let mut cpu = AxPerCpu::<P>::new();
    cpu.init(cpu_id)?;
    for _ in 0..3 {
        ensure_eq!(cpu.state(), PerCpuState::Disabled, "before");
        cpu.hardware_enable()?;
        ensure_eq!(cpu.state(), PerCpuState::Enabled, "switched on");
        cpu.hardware_disable()?;
        ensure_eq!(cpu.state(), PerCpuState::Disabled, "switched off");
    }
    Ok(())
}

fn misuse<P: AxArchPerCpu>(cpu_id: usize) -> Verdict {
    let refused = |found| Err(AxError::BadCpuState { found });
    let mut cpu = AxPerCpu::<P>::new();
    ensure_eq!(cpu.hardware_enable(), refused(PerCpuState::Uninitialized), "on before init");
    ensure_eq!(cpu.hardware_disable(), refused(PerCpuState::Uninitialized), "off before init");
    cpu.init(cpu_id)?;
    ensure_eq!(cpu.init(cpu_id), refused(PerCpuState::Disabled), "init twice");
    ensure_eq!(cpu.hardware_disable(), refused(PerCpuState::Disabled), "off while off");
    cpu.hardware_enable()?;
    ensure_eq!(cpu.hardware_enable(), refused(PerCpuState::Enabled), "on while on");
    ensure_eq!(cpu.init(cpu_id), refused(PerCpuState::Enabled), "init while on");
    cpu.hardware_disable()?;
    Ok(())
}

fn dropped<P: AxArchPerCpu>(cpu_id: usize) -> Verdict {
    for _ in 0..2 {
        let mut cpu = AxPerCpu::<P>::new();
        cpu.init(cpu_id)?;
        cpu.hardware_enable()?;
    }
    Ok(())
}
