//! Memory accesses that the data cache could not serve: misses, misaligned accesses, devices, faults; and
//! instruction fetches.

use axvcpu::{AccessWidth, AxError, AxResult, AxVCpuExitReason};

use super::Hart;
use crate::clock::NS_PER_TICK;
use crate::exec::R;
use crate::mmu::{Access, Fault, Privilege};
use crate::ram::{AtomicWidth, HostAddr, Width};

/// The register a load goes to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dest {
    Int {
        register: R,
        signed: bool,
    },
    /// Single precision is boxed when it arrives.
    Float {
        register: R,
    },
}

/// The access an exit told the hypervisor about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenAccess {
    /// The instruction.
    pub(crate) pc: u64,
    /// The one after it.
    pub(crate) next: u64,
    /// What the guest tried to access, by its own address.
    pub(crate) va: u64,
    pub(crate) access: Access,
    pub(crate) width: AccessWidth,
    /// Where an answer goes; `None` when none is asked for.
    pub(crate) dest: Option<Dest>,
    /// Whether the instruction has retired.
    pub(crate) retired: bool,
}

/// What is known about an access when it fails.
pub(crate) struct Attempt {
    pub(crate) pc: u64,
    pub(crate) next: u64,
    pub(crate) va: u64,
    pub(crate) access: Access,
    /// What a device would be asked: the width, and the register to load or the value to store. `None` for
    /// accesses no device answers.
    pub(crate) device: Option<(AccessWidth, DeviceAccess)>,
}

pub(crate) enum DeviceAccess {
    Load(Dest),
    Store(u64),
}

impl Hart {
    /// The host address of one aligned access, which fills the cache.
    fn locate(&mut self, va: u64, access: Access) -> Result<HostAddr, Fault> {
        let page = self.translation().translate(va, access, self.data.privilege())?;
        self.data.insert(va, page);
        Ok(page.host.within_page(va))
    }

    /// The host address of one byte.
    fn locate_byte(&mut self, va: u64, access: Access) -> Result<HostAddr, (Fault, u64)> {
        let known = match access {
            Access::Store => self.data.write::<u8>(va),
            _ => self.data.read::<u8>(va),
        };
        match known {
            Some(addr) => Ok(addr),
            None => self.locate(va, access).map_err(|fault| (fault, va)),
        }
    }

    /// A load the cache could not serve.
    pub(crate) fn load_slowly<W: Width>(&mut self, va: u64) -> Result<u64, (Fault, u64)> {
        if va % W::BYTES == 0 {
            let addr = self.locate(va, Access::Load).map_err(|fault| (fault, va))?;
            return Ok(W::load(addr).into());
        }
        let last = va.wrapping_add(W::BYTES - 1);
        if (va ^ last) >> 12 == 0 {
            // Within a page: cut the value out of the one or two aligned words that hold it.
            let addr = self.locate_byte(va, Access::Load)?;
            let word = |at: u64| u128::from(u64::load(addr.within_page(at & !7)));
            // One word is read once: two reads of it could see two values.
            let both = word(va) | if (va ^ last) & !7 != 0 { word(last) << 64 } else { 0 };
            let bits = 8 * W::BYTES as u32;
            return Ok((both >> (8 * (va & 7))) as u64 & (u64::MAX >> (64 - bits)));
        }
        let mut value = 0;
        for i in 0..W::BYTES {
            let addr = self.locate_byte(va.wrapping_add(i), Access::Load)?;
            value |= u64::from(u8::load(addr)) << (8 * i);
        }
        Ok(value)
    }

    /// A store the cache could not serve.
    pub(crate) fn store_slowly<W: Width>(
        &mut self,
        va: u64,
        value: u64,
    ) -> Result<(), (Fault, u64)> {
        if va % W::BYTES == 0 {
            let addr = self.locate(va, Access::Store).map_err(|fault| (fault, va))?;
            W::store(addr, W::cut(value));
            return Ok(());
        }
        // Both pages must be writable before the first byte changes.
        let last = va.wrapping_add(W::BYTES - 1);
        let first_page = self.locate_byte(va, Access::Store)?;
        let last_page = if (va ^ last) >> 12 == 0 {
            first_page
        } else {
            self.locate_byte(last & !0xfff, Access::Store)?
        };
        for i in 0..W::BYTES {
            let byte = va.wrapping_add(i);
            let page = if (byte ^ va) >> 12 == 0 { first_page } else { last_page };
            u8::store(page.within_page(byte), (value >> (8 * i)) as u8);
        }
        Ok(())
    }

    /// Where an atomic goes. Atomics are aligned, or fault.
    pub(crate) fn locate_atomic<W: AtomicWidth>(
        &mut self,
        va: u64,
        access: Access,
    ) -> Result<HostAddr, (Fault, u64)> {
        if va % W::BYTES != 0 {
            return Err((Fault::Guest { cause: access.misaligned() }, va));
        }
        let known = match access {
            Access::Store => self.data.write::<W>(va),
            _ => self.data.read::<W>(va),
        };
        match known {
            Some(addr) => Ok(addr),
            None => self.locate(va, access).map_err(|fault| (fault, va)),
        }
    }

    /// The host address of the instruction at `va`.
    pub(crate) fn locate_fetch(&mut self, va: u64) -> Result<HostAddr, Fault> {
        if let Some(addr) = self.fetch.page(va, self.user) {
            return Ok(addr);
        }
        let by = if self.user { Privilege::User } else { Privilege::Supervisor };
        let page = self.translation().translate(va, Access::Fetch, by)?;
        self.fetch.insert(va, self.user, page);
        Ok(page.host.within_page(va))
    }

    /// The bits of the instruction at `va` (16 or 32), if they can be fetched.
    pub(crate) fn instruction_at(&mut self, va: u64) -> Result<u32, (Fault, u64)> {
        let low = u16::load(self.locate_fetch(va).map_err(|fault| (fault, va))?);
        if low & 3 != 3 {
            return Ok(low.into());
        }
        let va = va.wrapping_add(2);
        let high = u16::load(self.locate_fetch(va).map_err(|fault| (fault, va))?);
        Ok(u32::from(low) | u32::from(high) << 16)
    }

    /// An access failed: enters the guest's trap handler, or sets up an exit and answers `true`. `fault_va`
    /// is the byte that failed. `self.pc` is where to go on, in either case.
    pub(crate) fn access_failed(&mut self, attempt: Attempt, fault: Fault, fault_va: u64) -> bool {
        let Attempt { pc, next, va, access, device } = attempt;
        self.pc = pc;
        let (gpa, kind, walk) = match fault {
            Fault::Guest { cause } => {
                self.trap(cause, fault_va);
                return false;
            }
            Fault::Stage2 { gpa, kind, walk } => (gpa, kind, walk),
        };
        let open = OpenAccess {
            pc,
            next,
            va: fault_va,
            access,
            width: AccessWidth::Byte,
            dest: None,
            retired: false,
        };
        match device {
            Some((width, _)) if !walk && va % width.bytes() as u64 != 0 => {
                // Devices have no misaligned registers.
                self.trap(access.misaligned(), va);
                return false;
            }
            Some((width, DeviceAccess::Load(dest))) if !walk => {
                self.open = Some(OpenAccess { width, dest: Some(dest), ..open });
                self.exit = Some(AxVCpuExitReason::MmioRead { addr: gpa, width });
            }
            Some((width, DeviceAccess::Store(value))) if !walk => {
                self.open = Some(OpenAccess { width, retired: true, ..open });
                self.pc = next;
                self.left -= 1;
                self.exit = Some(AxVCpuExitReason::MmioWrite {
                    addr: gpa,
                    width,
                    data: value & width.mask(),
                });
            }
            _ => {
                self.open = Some(open);
                self.exit = Some(AxVCpuExitReason::NestedPageFault { addr: gpa, access: kind });
            }
        }
        true
    }

    /// Completes a load with what a device answered.
    pub(crate) fn complete_load(&mut self, value: u64) {
        let Some(OpenAccess { next, width, dest: Some(dest), .. }) = self.open.take() else {
            return;
        };
        let bits = 8 * width.bytes() as u32;
        let value = value & width.mask();
        match dest {
            Dest::Int { register, signed: true } => {
                self.set(register, ((value << (64 - bits)) as i64 >> (64 - bits)) as u64);
            }
            Dest::Int { register, signed: false } => self.set(register, value),
            // NaN boxing: all bits above the value are ones.
            Dest::Float { register } => self.setf(register, value | !width.mask()),
        }
        self.pc = next;
        self.retired += 1;
        self.pass_ns(1);
    }

    /// Forgets the access of the last exit: the instruction runs again.
    pub(crate) fn retry_access(&mut self) -> AxResult {
        let open = self.open.take().ok_or(AxError::NotAsked)?;
        self.pc = open.pc;
        self.retired -= u64::from(open.retired);
        Ok(())
    }

    /// Makes the access of the last exit an access fault.
    pub(crate) fn fail_access(&mut self) -> AxResult {
        let open = self.open.take().ok_or(AxError::NotAsked)?;
        self.pc = open.pc;
        self.retired -= u64::from(open.retired);
        self.trap(open.access.access_fault(), open.va);
        // A bus that does not answer takes long. A hart whose trap handler is not there does nothing but this, and
        // each time costs the host much more than an instruction.
        self.pass_ns(NS_PER_TICK);
        Ok(())
    }

    /// The guest physical address stage 2 refused a fetch at, as an exit.
    pub(crate) fn fetch_failed(&mut self, fault: Fault, va: u64) -> bool {
        let pc = self.pc;
        let attempt = Attempt { pc, next: pc, va, access: Access::Fetch, device: None };
        self.access_failed(attempt, fault, va)
    }
}
