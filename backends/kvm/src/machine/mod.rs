//! A machine: what its vCPUs share.
#![allow(unsafe_code)] // passes on the promise behind a stage-2 root

mod slots;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axvcpu::{AccessWidth, AxMmHal, AxResult, HostPhysAddr};
use axvcpu_x86::reg::msr;
use kvm_bindings::*;

pub(crate) use slots::Member;
use slots::Slots;

use crate::cpuid;
use crate::kvm::{Kvm, KvmError};
use crate::sys::{Errno, request};
use crate::vcpu::State;

/// Who has the interrupt controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Irqchip {
    /// The kernel: local APICs, an I/O APIC, two 8259s and an 8254. Guests wait for interrupts in the kernel.
    #[default]
    Kernel,
    /// Nobody, or whoever uses the backend: vectors come from [`inject_interrupt`](axvcpu::AxVCpu::inject_interrupt).
    None,
}

/// Which accesses to model-specific registers are exits. Others are the kernel's, which knows the usual ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsrExits {
    /// Accesses to registers that the kernel does not know, or with values that it refuses. If not, they are
    /// general-protection faults in the guest.
    pub unknown: bool,
    /// Accesses to these registers, whether the kernel knows them or not; up to 16 ranges of up to 12288. The local APIC's in
    /// x2APIC mode (0x800 to 0x8ff) are the kernel's in any case.
    pub ranges: Vec<RangeInclusive<u32>>,
}

impl Default for MsrExits {
    /// The unknown ones.
    fn default() -> Self {
        Self { unknown: true, ranges: Vec::new() }
    }
}

/// What a machine is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// How many vCPUs there will be, which is what guests read in CPUID. With the kernel's interrupt controllers their
    /// numbers are below 255.
    pub cpus: usize,
    /// Who has the interrupt controllers.
    pub irqchip: Irqchip,
    /// Which accesses to model-specific registers are exits.
    pub msr_exits: MsrExits,
}

impl Default for MachineConfig {
    /// One vCPU, and everything the kernel can do for it.
    fn default() -> Self {
        Self { cpus: 1, irqchip: Irqchip::Kernel, msr_exits: MsrExits::default() }
    }
}

/// Three pages below the 16 MiB for firmware at the top of the lowest 4 GiB, and one for a page table. The kernel needs them
/// on processors that have no real mode under virtualization. No memory of a guest may be there.
const TSS_AT: u64 = 0xfeff_d000;
const IDENTITY_MAP_AT: u64 = TSS_AT - 0x1000;

/// The registers of memory types (SDM volume 3, 13.11.2): variable ranges, fixed ones, and what holds elsewhere, which also
/// switches them on and so comes last.
const MEMORY_TYPES: [RangeInclusive<u32>; 6] = [
    0x200..=0x20f,
    0x250..=0x250,
    0x258..=0x259,
    0x268..=0x26f,
    msr::PAT..=msr::PAT,
    msr::MTRR_DEF_TYPE..=msr::MTRR_DEF_TYPE,
];

/// A virtual machine of the kernel's: memory, interrupt controllers, and the CPU that guests see.
///
/// vCPUs keep it alive. All methods may be called from any thread.
pub struct KvmMachine {
    kvm: Kvm,
    vm: OwnedFd,
    irqchip: Irqchip,
    cpuid: Vec<kvm_cpuid_entry2>,
    /// The size of a vCPU's page.
    page_size: usize,
    slots: Mutex<Slots>,
    /// Model-specific registers that the kernel gives and takes.
    msrs: OnceLock<Vec<u32>>,
    /// vCPUs that are in use no more, by their numbers.
    parked: Mutex<BTreeMap<u32, Parked>>,
}

/// A vCPU that nobody uses.
pub(crate) struct Parked {
    pub(crate) member: Arc<Member>,
    /// As the kernel made it, if it came so far.
    pub(crate) fresh: Option<Arc<State>>,
    /// What its guests saw of the CPU.
    pub(crate) cpuid: Vec<kvm_cpuid_entry2>,
}

/// So many registers the kernel's filter takes in a range (`KVM_MSR_FILTER_MAX_BITMAP_SIZE`, in bits).
const LONGEST_RANGE: u32 = 8 * 0x600;

/// Names the request in an error.
fn refused(what: &'static str) -> impl Fn(Errno) -> KvmError {
    move |error| KvmError::Refused { what, error: error.into() }
}

/// Where lines lead, as on any PC: to the 8259s, of which the second one is at input 2 of the first, and to the I/O APIC,
/// where the timer is at input 2, which is free.
fn routes() -> request::Routes {
    let pics = (0..16).filter(|&line| line != 2).map(|line| {
        let chip = if line < 8 { KVM_IRQCHIP_PIC_MASTER } else { KVM_IRQCHIP_PIC_SLAVE };
        (line, chip, line % 8)
    });
    let apic = (0..24).filter(|&line| line != 2);
    let apic = apic.map(|line| (line, KVM_IRQCHIP_IOAPIC, if line == 0 { 2 } else { line }));
    request::Routes::of(pics.chain(apic))
}

impl KvmMachine {
    /// Makes a machine without memory and without vCPUs.
    ///
    /// # Errors
    ///
    /// [`Missing`](KvmError::Missing) when the kernel lacks what `config` asks for; [`Refused`](KvmError::Refused).
    pub fn new(kvm: Kvm, config: &MachineConfig) -> Result<Arc<Self>, KvmError> {
        let fd = kvm.fd();
        let page_size =
            request::GET_VCPU_MMAP_SIZE.call(fd, 0).map_err(refused("the page size"))?;
        let cpuid = cpuid::supported(&kvm).map_err(refused("the CPU's features"))?;
        let vm = request::CREATE_VM.call(fd, 0).map_err(refused("a machine"))?;
        let cpuid = cpuid::model(&kvm, cpuid, config);
        let slots = Mutex::new(Slots::new(kvm.capability(KVM_CAP_NR_MEMSLOTS)));
        let (irqchip, page_size) = (config.irqchip, page_size as usize);
        let (msrs, parked) = (OnceLock::new(), Mutex::default());
        let this = Self { kvm, vm, irqchip, cpuid, page_size, slots, msrs, parked };
        this.prepare(config)?;
        Ok(Arc::new(this))
    }

    fn prepare(&self, config: &MachineConfig) -> Result<(), KvmError> {
        let vm = self.fd();
        request::SET_IDENTITY_MAP_ADDR
            .call(vm, &IDENTITY_MAP_AT)
            .map_err(refused("a place for a page table"))?;
        request::SET_TSS_ADDR.call(vm, TSS_AT).map_err(refused("a place for a task state"))?;
        if self.irqchip == Irqchip::Kernel {
            self.kvm.check_irqchip()?;
            request::CREATE_IRQCHIP.call(vm, 0).map_err(refused("interrupt controllers"))?;
            // Port 0x61 is part of the timer's.
            let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
            request::CREATE_PIT2.call(vm, &pit).map_err(refused("a timer"))?;
            request::SET_GSI_ROUTING
                .call(vm, &routes())
                .map_err(refused("routes of interrupts"))?;
        }
        // A user's fetch from memory that is not there is an undefined instruction else. Older kernels know nothing better.
        const FAILURE: u32 = KVM_CAP_EXIT_ON_EMULATION_FAILURE;
        if self.kvm.capability(FAILURE) != 0 {
            self.enable(FAILURE, "KVM_CAP_EXIT_ON_EMULATION_FAILURE", 1)?;
        }
        self.report_msrs(&config.msr_exits)
    }

    fn report_msrs(&self, exits: &MsrExits) -> Result<(), KvmError> {
        let mut reasons = 0;
        if exits.unknown {
            reasons |= KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL;
        }
        if !exits.ranges.is_empty() {
            reasons |= KVM_MSR_EXIT_REASON_FILTER;
        }
        if reasons == 0 {
            return Ok(());
        }
        self.enable(KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR", reasons.into())?;
        if exits.ranges.is_empty() {
            return Ok(());
        }
        if self.kvm.capability(KVM_CAP_X86_MSR_FILTER) == 0 {
            return Err(KvmError::Missing { capability: "KVM_CAP_X86_MSR_FILTER" });
        }
        let mut filter =
            kvm_msr_filter { flags: KVM_MSR_FILTER_DEFAULT_ALLOW, ..Default::default() };
        // A zero in the map denies the access, and what is denied is an exit. The kernel copies the maps.
        // It reads them by words of 64 bits.
        if exits.ranges.len() > filter.ranges.len() {
            return Err(refused("more than 16 ranges of model-specific registers")(Errno(
                libc::E2BIG,
            )));
        }
        let fits = |range: &RangeInclusive<u32>| {
            !range.is_empty() && range.end() - range.start() < LONGEST_RANGE
        };
        if !exits.ranges.iter().all(fits) {
            return Err(refused("a range of no or too many model-specific registers")(Errno(
                libc::EINVAL,
            )));
        }
        let lengths = exits.ranges.iter().map(|range| range.end() - range.start() + 1);
        let mut maps: Vec<Vec<u64>> =
            lengths.clone().map(|count| vec![0; count.div_ceil(64) as usize]).collect();
        let ranges = exits.ranges.iter().zip(lengths);
        for (((range, count), map), to) in ranges.zip(&mut maps).zip(&mut filter.ranges) {
            to.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
            to.base = *range.start();
            to.nmsrs = count;
            to.bitmap = map.as_mut_ptr().cast();
        }
        request::X86_SET_MSR_FILTER
            .call(self.fd(), &filter)
            .map_err(refused("a filter of model-specific registers"))?;
        Ok(())
    }

    fn enable(&self, cap: u32, name: &'static str, argument: u64) -> Result<(), KvmError> {
        if self.kvm.capability(cap) == 0 {
            return Err(KvmError::Missing { capability: name });
        }
        let enable = kvm_enable_cap { cap, args: [argument, 0, 0, 0], ..Default::default() };
        request::ENABLE_CAP.call(self.fd(), &enable).map_err(refused(name))?;
        Ok(())
    }

    /// Raises or lowers a line of the interrupt controllers (`KVM_IRQ_LINE`): 0 to 15 are those of a PC, and all of them,
    /// up to 23, go to the I/O APIC.
    ///
    /// # Errors
    ///
    /// The kernel's; there are none without [`Irqchip::Kernel`].
    pub fn set_line(&self, line: u32, asserted: bool) -> io::Result<()> {
        let mut level = kvm_irq_level { level: asserted.into(), ..Default::default() };
        level.__bindgen_anon_1.irq = line;
        request::IRQ_LINE.call(self.fd(), &level)?;
        Ok(())
    }

    /// Makes every write to `event`, an eventfd, an edge on a line (`KVM_IRQFD`): for devices that run elsewhere and
    /// need no vCPU's thread to interrupt.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn connect_line(&self, line: u32, event: BorrowedFd<'_>) -> io::Result<()> {
        let fd = event.as_raw_fd() as u32;
        request::IRQFD.call(self.fd(), &kvm_irqfd { fd, gsi: line, ..Default::default() })?;
        Ok(())
    }

    /// Makes the guest's writes of this width to a port write to `event`, an eventfd, instead of being exits
    /// (`KVM_IOEVENTFD`); of `value` only if there is one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn connect_port(
        &self,
        port: u16,
        width: AccessWidth,
        value: Option<u64>,
        event: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let flags = 1 << kvm_ioeventfd_flag_nr_pio;
        self.connect(port.into(), width, value, event, flags)
    }

    /// The same for writes to an address.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn connect_address(
        &self,
        addr: u64,
        width: AccessWidth,
        value: Option<u64>,
        event: BorrowedFd<'_>,
    ) -> io::Result<()> {
        self.connect(addr, width, value, event, 0)
    }

    fn connect(
        &self,
        addr: u64,
        width: AccessWidth,
        value: Option<u64>,
        event: BorrowedFd<'_>,
        flags: u32,
    ) -> io::Result<()> {
        let matches = if value.is_some() { 1 << kvm_ioeventfd_flag_nr_datamatch } else { 0 };
        let event = kvm_ioeventfd {
            datamatch: value.unwrap_or(0),
            addr,
            len: width.bytes() as u32,
            fd: event.as_raw_fd(),
            flags: flags | matches,
            ..Default::default()
        };
        request::IOEVENTFD.call(self.fd(), &event)?;
        Ok(())
    }

    /// Who has the interrupt controllers.
    pub fn irqchip(&self) -> Irqchip {
        self.irqchip
    }

    /// The CPU that guests see, but for what tells one of them from another.
    pub fn cpuid(&self) -> &[kvm_cpuid_entry2] {
        &self.cpuid
    }

    /// The model-specific registers that vCPUs have which the kernel gives and takes, without those that are time: it goes on
    /// whoever looks.
    pub(crate) fn msrs(&self) -> &[u32] {
        self.msrs.get().map_or(&[], Vec::as_slice)
    }

    /// Finds them with the first vCPU. Some that the kernel lists it neither gives nor takes, depending on the CPU that
    /// the guest sees; and memory types it does not list.
    pub(crate) fn find_msrs(&self, vcpu: BorrowedFd<'_>) -> Result<(), Errno> {
        const TSC_ADJUST: u32 = 0x3b;
        if self.msrs.get().is_some() {
            return Ok(());
        }
        let works = |&index: &u32| {
            let mut one = request::OneMsr::new(index, 0);
            ![msr::TSC, TSC_ADJUST, msr::TSC_DEADLINE].contains(&index)
                && request::GET_MSRS.call(vcpu, &mut one) == Ok(1)
                && request::SET_MSRS.call(vcpu, &one) == Ok(1)
        };
        let mut list = request::MsrList::room();
        request::GET_MSR_INDEX_LIST.call(self.kvm.fd(), &mut list)?;
        let listed = list.entries();
        let others = MEMORY_TYPES.into_iter().flatten().filter(|index| !listed.contains(index));
        let found = listed.iter().copied().chain(others).filter(works).collect();
        let _ = self.msrs.set(found); // somebody else has found the same meanwhile
        Ok(())
    }

    /// Keeps a vCPU that is in use no more.
    pub(crate) fn park(&self, number: u32, vcpu: Parked) {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).insert(number, vcpu);
    }

    /// The vCPU with this number, if there was one.
    pub(crate) fn unpark(&self, number: u32) -> Option<Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }

    pub(crate) fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.vm.as_fd()
    }

    /// Sends an interrupt to the local APIC with this number.
    pub(crate) fn send(&self, apic: u32, vector: u8) -> Result<(), Errno> {
        // As a device does: fixed delivery, edge-triggered, to one APIC by its number (SDM volume 3, 12.11), which has 8
        // bits here.
        let msi = kvm_msi {
            address_lo: 0xfee0_0000 | (apic & 0xff) << 12,
            data: vector.into(),
            ..Default::default()
        };
        request::SIGNAL_MSI.call(self.fd(), &msi).map(drop)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Slots> {
        // Every change leaves them as they are in the kernel, whatever happens on the way.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a vCPU one that is held while memory changes.
    pub(crate) fn add_member(&self, member: &Arc<Member>) {
        self.slots().add_member(member);
    }

    /// Takes it away again, and its use of the table if it had one.
    pub(crate) fn remove_member(&self, member: &Arc<Member>, root: Option<HostPhysAddr>) {
        let mut slots = self.slots();
        slots.remove_member(member);
        if root.is_some() {
            slots.release(self.fd());
        }
    }

    /// Makes this the machine's memory.
    ///
    /// # Safety
    ///
    /// As for [`AxArchVCpu::set_ept_root`](axvcpu::AxArchVCpu::set_ept_root), until
    /// [`remove_member`](Self::remove_member).
    pub(crate) unsafe fn use_root<M: AxMmHal + 'static>(
        &self,
        root: HostPhysAddr,
        me: &Member,
    ) -> AxResult {
        // SAFETY: the caller's promise.
        unsafe { self.slots().acquire::<M>(self.fd(), root, me) }
    }

    /// Makes the kernel's slots what the table says now. Without a table there are none.
    pub(crate) fn reread(&self, me: &Member) -> AxResult {
        self.slots().reread(self.fd(), me)
    }

    /// Where the program finds `len` bytes of guest memory, if they are there and may be written or not.
    pub(crate) fn locate(&self, guest: u64, len: u64, write: bool) -> Option<usize> {
        self.slots().locate(guest, len, write)
    }

    /// Waits until nobody changes memory.
    pub(crate) fn wait_for_memory(&self) {
        drop(self.slots());
    }
}
