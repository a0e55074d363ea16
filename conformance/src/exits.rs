//! What may be done with an exit: what is the same on every architecture once the guest is there.

use axvcpu::AccessWidth::{Byte, Dword, Qword};
use axvcpu::{AxError, Fence, GuestPhysAddr, VCpuState};
use axvcpu_stage2::Perms;

use crate::bench::{Bench, Hart, Isa, pattern};
use crate::report::{Verdict, ensure_eq};
use crate::subject::Subject;

/// The guest loads 32 bits from the device, reports them and ends.
pub(crate) fn unanswered<S: Subject, I: Isa>(bench: &Bench<S, I>) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(I::DEVICE, Dword)?;
    for _ in 0..3 {
        ensure_eq!(vcpu.run(), Err(AxError::Unanswered), "entering without the answer");
        ensure_eq!(vcpu.state(), VCpuState::Ready, "after the refusal");
    }
    let entry = vcpu.set_entry(GuestPhysAddr::new(I::CODE));
    ensure_eq!(entry, Err(AxError::Unanswered), "another entry without the answer");
    vcpu.set_return_value(7)?;
    ensure_eq!(vcpu.set_return_value(8), Err(AxError::NotAsked), "a second answer");
    hart.mark(7)?;
    hart.end()
}

/// The guest loads 32 bits from the device, and reports the load's target, another register and the load's base.
pub(crate) fn registers_before_the_answer<S: Subject, I: Isa>(
    bench: &Bench<S, I>,
    [target, other, base]: [usize; 3],
) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    hart.mmio_read(I::DEVICE, Dword)?;
    vcpu.set_gpr(target, 1)?; // the load overwrites it
    vcpu.set_gpr(other, 2)?;
    vcpu.set_gpr(base, 3)?; // the base is not used again
    vcpu.set_return_value(4)?;
    hart.mark(4)?;
    hart.mark(2)?;
    hart.mark(3)
}

/// The guest stores the lower half of the device's address there; accesses the device in a way that no device can answer;
/// waits; and marks 1. `refused_access` runs to the exit of that access, and `step_over` takes the guest behind it when it
/// was failed.
pub(crate) fn not_asked<S: Subject, I: Isa>(
    bench: &Bench<S, I>,
    refused_access: impl Fn(&Hart<S, I>) -> Verdict,
    step_over: impl Fn(&Hart<S, I>) -> Verdict,
) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let refused = Err(AxError::NotAsked);
    ensure_eq!(vcpu.set_return_value(1), refused, "before the first run");
    hart.mmio_write(I::DEVICE, Dword, I::DEVICE)?;
    ensure_eq!(vcpu.set_return_value(1), refused, "after a store");
    refused_access(hart)?;
    ensure_eq!(vcpu.set_return_value(1), refused, "after an access that no device can answer");
    vcpu.fail_access()?;
    step_over(hart)?;
    hart.halt()?;
    ensure_eq!(vcpu.set_return_value(1), refused, "after a halt");
    vcpu.wake();
    hart.mark(1)
}

/// The guest loads 64 bits, 8 behind the device's address, and reports them.
pub(crate) fn retry_load<S: Subject, I: Isa>(mut bench: Bench<S, I>) -> Verdict {
    bench.hart().mmio_read(I::DEVICE + 8, Qword)?;
    bench.space.add(I::DEVICE, 1, Some(Perms::RW))?;
    bench.space.write(I::DEVICE + 8, pattern(1))?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.vcpu().retry()?;
    ensure_eq!(bench.vcpu().set_return_value(1), Err(AxError::NotAsked), "an answer after all");
    ensure_eq!(bench.hart().report()?, pattern(1), "what the load found in memory");
    Ok(())
}

/// The guest stores `pattern(2)` there, and marks 1.
pub(crate) fn retry_store<S: Subject, I: Isa>(mut bench: Bench<S, I>) -> Verdict {
    bench.hart().mmio_write(I::DEVICE + 8, Qword, pattern(2))?;
    bench.space.add(I::DEVICE, 1, Some(Perms::RW))?;
    bench.vcpu().request_fence(Fence::STAGE2_TLB);
    bench.vcpu().retry()?;
    bench.hart().mark(1)?;
    ensure_eq!(bench.space.read(I::DEVICE + 8)?, pattern(2), "what the store left in memory");
    Ok(())
}

/// The guest loads the byte 3 behind the device's address, to the register that held it, and reports it; stores the lower
/// half of the address 4 behind it; and marks 1.
pub(crate) fn retry_unchanged<S: Subject, I: Isa>(bench: &Bench<S, I>) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..3 {
        hart.mmio_read(I::DEVICE + 3, Byte)?;
        vcpu.retry()?;
    }
    hart.mmio_read(I::DEVICE + 3, Byte)?;
    vcpu.set_return_value(0x1ff)?;
    hart.mark(0xff)?;
    for _ in 0..3 {
        hart.mmio_write(I::DEVICE + 4, Dword, I::DEVICE)?;
        vcpu.retry()?;
    }
    hart.mmio_write(I::DEVICE + 4, Dword, I::DEVICE)?;
    hart.mark(1)
}

/// The guest loads 32 bits from the device, marks 1 and waits.
pub(crate) fn nothing_open<S: Subject, I: Isa>(bench: &Bench<S, I>) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    let nothing = |when: &str| -> Verdict {
        ensure_eq!(vcpu.retry(), Err(AxError::NotAsked), "retry {when}");
        ensure_eq!(vcpu.fail_access(), Err(AxError::NotAsked), "fail_access {when}");
        Ok(())
    };
    nothing("before the first run")?;
    hart.mmio_read(I::DEVICE, Dword)?;
    vcpu.set_return_value(1)?;
    nothing("after the answer")?;
    hart.mark(1)?;
    nothing("after a hypercall")?;
    hart.halt()?;
    nothing("after a halt")
}
