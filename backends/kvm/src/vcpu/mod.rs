//! The vCPU.
#![allow(unsafe_code)] // takes a stage-2 root, and passes on the promise behind it

mod exit;
mod interface;
mod interrupts;
mod memory;
mod registers;
mod state;

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axvcpu::{AxError, AxResult, AxVCpuExitReason, AxVCpuHal, HostPhysAddr, Requests, VCpuId};
use axvcpu_x86::start::Start;
use bitflags::bitflags;
use kvm_bindings::*;

use crate::cpuid;
use crate::kick::{HELD, KICKED, is_loaded, load};
use crate::machine::{Irqchip, KvmMachine, Member, Parked};
use crate::sys::{RunPage, enter, request};
use interrupts::Pending;
use registers::Kept;
pub use state::State;

/// The local APICs of a machine are below this, which means all of them in messages of 8 bits.
const NOBODY_S_APIC: u32 = 0xff;

/// What a vCPU is made with.
#[derive(Clone)]
pub struct KvmConfig {
    /// The machine it belongs to.
    pub machine: Arc<KvmMachine>,
    /// The CPU it shows to the guest; `None` for the machine's ([`KvmMachine::cpuid`]) with an APIC number of its own.
    pub cpuid: Option<Vec<kvm_cpuid_entry2>>,
}

impl KvmConfig {
    /// A vCPU of this machine, like its others.
    pub fn new(machine: Arc<KvmMachine>) -> Self {
        Self { machine, cpuid: None }
    }
}

/// What a vCPU is set up with: how it begins.
#[derive(Clone, Debug)]
pub enum KvmSetup {
    /// At its entry, in this mode.
    Start(Start),
    /// When another vCPU starts it, through its local APIC (INIT and start-up IPI, SDM volume 3, 10.4). Only with
    /// [`Irqchip::Kernel`], and for other vCPUs than number 0.
    Wait,
    /// Where another one was that had this state; its entry does not count.
    State(Box<State>),
}

bitflags! {
    /// What has to be done before the guest is entered. Nothing, most of the time.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Todo: u8 {
        /// The last exit of the kernel's has more to hand out than was.
        const PIECES = 1 << 0;
        /// The page has an exit that nobody was told of.
        const EXIT = 1 << 1;
        /// Interrupts wait for the guest to take them.
        const INTERRUPTS = 1 << 2;
        /// The page has the registers.
        const REGISTERS = 1 << 3;
        /// The access of the last exit is to be done again.
        const RETRY = 1 << 4;
        /// Something may still be done about the last exit, and no more once the guest is entered. The short way out
        /// of the guest leaves that as it is.
        const OPEN = 1 << 5;
        /// Registers were written while a value was asked for.
        const WRITTEN = 1 << 6;
        /// The stage-2 table is to be read.
        const MEMORY = 1 << 7;
    }
}

/// What may be done about the last exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// Nothing.
    Nothing,
    /// A value is asked for, and has not come.
    Asked,
    /// A store that was handed out.
    Store,
    /// A fetch from memory that there is not.
    Fetch,
}

/// A virtual CPU of KVM's.
pub struct KvmVCpu<H: AxVCpuHal> {
    page: RunPage,
    shared: Arc<Member>,
    todo: Todo,
    open: Open,
    /// Which bytes of the last access were handed out last, from its beginning; and where the next begin.
    at: u32,
    next: u32,
    pending: Pending,
    /// The kernel was given an NMI, and may still have it.
    nmi: bool,
    /// Registers that were written while a value was asked for.
    kept: Kept,
    machine: Arc<KvmMachine>,
    apic: u32,
    entry: u64,
    root: Option<HostPhysAddr>,
    /// As it was set up.
    reset: Option<Box<State>>,
    /// As the kernel made it.
    fresh: Option<Arc<State>>,
    /// What the guest sees of the CPU.
    cpuid: Vec<kvm_cpuid_entry2>,
    hal: PhantomData<fn() -> H>,
}

impl<H: AxVCpuHal> Drop for KvmVCpu<H> {
    fn drop(&mut self) {
        // While the promise for the memory holds that this may still go to.
        let idle = self.drop_exit();
        self.machine.remove_member(&self.shared, self.root);
        // The kernel has no way to give up a vCPU of a machine, nor to make another one with its number.
        if idle.is_ok() {
            let (fresh, member) = (self.fresh.take(), self.shared.clone());
            let cpuid = std::mem::take(&mut self.cpuid);
            self.machine.park(self.apic, Parked { member, fresh, cpuid });
        }
    }
}

impl<H: AxVCpuHal> KvmVCpu<H> {
    fn make(vcpu: VCpuId, config: KvmConfig) -> AxResult<Self> {
        let KvmConfig { machine, cpuid } = config;
        let apic = u32::try_from(vcpu).map_err(|_| AxError::InvalidInput)?;
        let entries = cpuid.unwrap_or_else(|| cpuid::for_cpu(machine.cpuid(), apic));
        let interrupts = machine.irqchip() == Irqchip::None || apic < NOBODY_S_APIC;
        if !interrupts || entries.len() > request::Cpuid::ROOM {
            return Err(AxError::InvalidInput);
        }
        let old = machine.unpark(apic);
        let (shared, fresh, known) = match old {
            Some(Parked { member, fresh, cpuid }) => (member, fresh, cpuid),
            None => (Member::make(&machine, apic)?, None, Vec::new()),
        };
        let page = RunPage::new(&shared.page);
        let mut this = Self {
            page,
            shared,
            todo: Todo::empty(),
            open: Open::Nothing,
            at: 0,
            next: 0,
            pending: Pending::default(),
            nmi: false,
            kept: Kept::default(),
            machine,
            apic,
            entry: 0,
            root: None,
            reset: None,
            fresh,
            cpuid: known,
            hal: PhantomData,
        };
        this.machine.add_member(&this.shared);
        // The kernel does not take it again from a vCPU that has run.
        if this.cpuid != entries {
            request::SET_CPUID2.call(this.fd(), &request::Cpuid::of(&entries))?;
            this.cpuid = entries;
        }
        this.machine.find_msrs(this.fd())?;
        match this.fresh.clone() {
            Some(fresh) => {
                this.restore(&fresh)?;
                this.page.set_interrupt_window(false);
            }
            None => this.fresh = Some(Arc::new(this.state()?)),
        }
        Ok(this)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }

    /// A run that begins with something else than entering the guest, or ends with anything but a plain port access.
    #[cold]
    #[inline(never)]
    fn run_slowly(
        &mut self,
        entered: Option<i64>,
        requests: Requests<'_>,
        result: &mut AxResult<AxVCpuExitReason>,
    ) {
        *result = self.run_to_exit(entered, Some(requests));
    }

    fn run_to_exit(
        &mut self,
        mut entered: Option<i64>,
        requests: Option<Requests<'_>>,
    ) -> AxResult<AxVCpuExitReason> {
        loop {
            let exit = match entered.take() {
                Some(result) => self.after(result)?,
                None => match self.before()? {
                    Some(exit) => Some(exit),
                    None => self.enter_slowly(requests)?,
                },
            };
            if let Some(exit) = exit {
                return Ok(exit);
            }
        }
    }

    /// Enters the guest after whatever was done, in which kicks may have been used up; what is behind them was not.
    fn enter_slowly(
        &mut self,
        requests: Option<Requests<'_>>,
    ) -> AxResult<Option<AxVCpuExitReason>> {
        if !is_loaded(&self.page) {
            load(&self.page);
        }
        if requests.is_some_and(|requests| requests.pending()) {
            return Ok(Some(AxVCpuExitReason::Nothing));
        }
        self.todo.remove(Todo::REGISTERS | Todo::EXIT | Todo::OPEN);
        let result = enter(self.fd());
        self.after(result)
    }

    /// What has to be done before the guest is entered. An exit, if that is one.
    fn before(&mut self) -> AxResult<Option<AxVCpuExitReason>> {
        self.open = Open::Nothing;
        if self.todo.contains(Todo::MEMORY) {
            self.reread_memory()?;
            self.todo.remove(Todo::MEMORY);
        }
        if self.todo.contains(Todo::RETRY) {
            self.todo.remove(Todo::RETRY);
            if !self.access_memory() {
                return Ok(Some(self.piece()));
            }
        }
        if self.todo.contains(Todo::PIECES) {
            return Ok(Some(self.next_piece()));
        }
        // Both depend on what the instruction of the last exit comes to.
        if self.todo.intersects(Todo::INTERRUPTS | Todo::WRITTEN) {
            self.settle()?;
        }
        if self.todo.contains(Todo::EXIT) {
            self.todo.remove(Todo::EXIT);
            return self.exit();
        }
        if self.todo.contains(Todo::INTERRUPTS) {
            self.offer_interrupts()?;
        }
        Ok(None)
    }

    /// What an entry that answered this came to. `None` goes on.
    fn after(&mut self, result: i64) -> AxResult<Option<AxVCpuExitReason>> {
        self.open = Open::Nothing;
        match -result {
            0 => self.exit(),
            error if error == i64::from(libc::EINTR) || error == i64::from(libc::EAGAIN) => {
                self.come_back();
                Ok(Some(AxVCpuExitReason::Nothing))
            }
            // With this error the page says what memory it was about.
            error
                if error == i64::from(libc::EFAULT)
                    && self.page.exit_reason() == KVM_EXIT_MEMORY_FAULT =>
            {
                self.exit()
            }
            error => Err(AxError::Host { code: error as i32 }),
        }
    }

    /// After an entry that was kept from being one.
    fn come_back(&mut self) {
        // The kernel finishes the access of the last exit first, and says nothing of it.
        self.page.set_finished();
        // The request behind a kick is in the vCPU's word already, and is looked at after this.
        let flags = self.page.immediate_exit().fetch_and(!KICKED, Ordering::SeqCst);
        if flags & HELD != 0 {
            self.machine.wait_for_memory();
        }
    }

    /// Whether the kernel has something to do about the last exit when the guest is entered next.
    fn is_unfinished(&self) -> bool {
        matches!(
            self.page.exit_reason(),
            KVM_EXIT_IO | KVM_EXIT_MMIO | KVM_EXIT_X86_RDMSR | KVM_EXIT_X86_WRMSR
        ) && !self.todo.contains(Todo::EXIT)
    }

    /// Has the kernel finish the last exit, without executing anything. It gives the registers with it. What it leaves
    /// for instead, if it cannot go on, is kept for the next run.
    fn finish(&mut self) -> AxResult {
        self.page.set_wants_registers(true);
        self.page.immediate_exit().fetch_or(KICKED, Ordering::SeqCst);
        let result = enter(self.fd());
        // A kick is no loss: nobody is in the guest, and whoever kicks has left word before.
        self.page.immediate_exit().fetch_and(!KICKED, Ordering::SeqCst);
        self.page.set_wants_registers(false);
        match -result {
            0 => self.todo |= Todo::EXIT | Todo::REGISTERS,
            error if error == i64::from(libc::EINTR) => {
                self.page.set_finished();
                self.todo |= Todo::REGISTERS;
            }
            error => return Err(AxError::Host { code: error as i32 }),
        }
        Ok(())
    }

    /// Puts everything that is only in the page where the kernel has it. An access that still has its value to come, or
    /// parts that were not handed out, stays as it is; so does a store that may still be undone or fail, whose registers the
    /// kernel has written already.
    fn settle(&mut self) -> AxResult {
        if self.can_finish() {
            self.finish()?;
            self.write_what_was_kept();
        }
        if self.page.registers_are_changed() {
            request::SET_REGS.call(self.fd(), &self.page.registers())?;
            self.page.set_registers_changed(false);
            self.page.set_not_ready_for_interrupt();
        }
        Ok(())
    }

    /// The same for a vCPU at rest. What an access is finished with may go to memory: that of `ins`, or of a string that is
    /// copied from a device. Nobody who takes memory away waits for a vCPU at rest, so this looks first whether it is there.
    fn settle_at_rest(&mut self) -> AxResult {
        if self.can_finish() {
            self.look_for_memory()?;
        }
        self.settle()
    }

    /// Rereads the table if the kernel may go to memory when it finishes the last exit.
    fn look_for_memory(&self) -> AxResult {
        let access = matches!(self.page.exit_reason(), KVM_EXIT_IO | KVM_EXIT_MMIO);
        if access && self.asks() { self.reread_memory() } else { Ok(()) }
    }

    fn can_finish(&self) -> bool {
        self.is_unfinished()
            && !matches!(self.open, Open::Asked | Open::Store)
            && !self.todo.intersects(Todo::PIECES | Todo::RETRY)
    }

    /// Forgets the last exit, whatever it was, before everything else is replaced: registers may be anything after this.
    fn drop_exit(&mut self) -> AxResult {
        const TRIES: usize = 64;
        self.todo.remove(Todo::PIECES | Todo::RETRY | Todo::WRITTEN);
        self.open = Open::Nothing;
        if self.is_unfinished() {
            self.look_for_memory()?;
        }
        for _ in 0..TRIES {
            self.todo.remove(Todo::EXIT);
            if !self.is_unfinished() {
                return Ok(());
            }
            // A string would go on, from a device for up to 1024 elements before the kernel looks at the flag, from a port
            // for as many as there are (`x86_emulate_insn` in Linux, arch/x86/kvm/emulate.c). Now it is at its last
            // element. Without even that one the kernel would keep its data for the next instruction.
            let registers = request::GET_REGS.call(self.fd())?;
            self.page.set_registers(kvm_regs { rcx: 1, ..registers });
            self.page.set_registers_changed(true);
            self.finish()?;
        }
        Err(AxError::Host { code: libc::EBUSY })
    }

    fn set_root(&mut self, root: HostPhysAddr) -> AxResult {
        if self.root == Some(root) {
            return Ok(());
        }
        if self.root.is_some() {
            // The machine's memory is one for all vCPUs.
            return Err(AxError::InvalidInput);
        }
        // SAFETY: the caller of `set_ept_root` promises it until this vCPU is dropped, which takes it back.
        unsafe { self.machine.use_root::<H::MmHal>(root, &self.shared)? };
        self.root = Some(root);
        Ok(())
    }

    fn reread_memory(&self) -> AxResult {
        self.machine.reread(&self.shared)
    }

    fn has_irqchip(&self) -> bool {
        self.machine.irqchip() == Irqchip::Kernel
    }
}
