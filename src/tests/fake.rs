//! A backend whose every answer can be scripted, on a platform that exists once per thread.
#![allow(unsafe_code)] // implements the platform, and promises stage-2 roots that nobody follows

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use crate::*;

pub(super) type Exit = AxVCpuExitReason;

/// How many physical CPUs one thread can pretend to be.
const CPUS: usize = 4;
/// Numbers below are for threads that pretend; every other thread is a CPU of its own.
static NEXT_CPU: AtomicUsize = AtomicUsize::new(CPUS);

std::thread_local! {
    static CPU: Cell<usize> = Cell::new(NEXT_CPU.fetch_add(1, Ordering::Relaxed));
    static OWN_WORD: Cell<*mut ()> = const { Cell::new(core::ptr::null_mut()) };
    static WORDS: [Cell<*mut ()>; CPUS] =
        const { [const { Cell::new(core::ptr::null_mut()) }; CPUS] };
    static KICKED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A platform on which each thread is a physical CPU, and can pretend to be another one.
pub(super) struct Hal;

pub(super) struct NoFrames;

// SAFETY: hands out no frame; the conversions are the identity.
unsafe impl AxMmHal for NoFrames {
    fn alloc_frame() -> Option<HostPhysAddr> {
        None
    }
    unsafe fn dealloc_frame(_: HostPhysAddr) {}
    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }
    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }
}

// SAFETY: one word for each thread and each CPU it pretends to be; numbers are never given twice, and the
// numbers to pretend are used by tests in which a vCPU stays within one thread.
unsafe impl AxVCpuHal for Hal {
    type MmHal = NoFrames;
    fn irq_hanlder() {}
    fn cpu_id() -> usize {
        CPU.get()
    }
    fn kick_cpu(cpu: usize) {
        KICKED.with_borrow_mut(|kicked| kicked.push(cpu));
    }
    fn load_current() -> *mut () {
        let cpu = CPU.get();
        if cpu < CPUS { WORDS.with(|words| words[cpu].get()) } else { OWN_WORD.get() }
    }
    unsafe fn store_current(word: *mut ()) {
        let cpu = CPU.get();
        if cpu < CPUS { WORDS.with(|words| words[cpu].set(word)) } else { OWN_WORD.set(word) }
    }
}

impl Hal {
    /// Makes this thread act as physical CPU `cpu` while `f` runs.
    pub(super) fn on_cpu<R>(cpu: usize, f: impl FnOnce() -> R) -> R {
        assert!(cpu < CPUS);
        let before = CPU.replace(cpu);
        let result = f();
        CPU.set(before);
        result
    }

    /// The physical CPUs this thread kicked since it last asked.
    pub(super) fn kicked() -> Vec<usize> {
        KICKED.take()
    }
}

/// The methods of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    New,
    SetEntry,
    SetEptRoot,
    Setup,
    Run,
    Bind,
    Unbind,
    SetGpr,
    GetGpr,
    Inject,
    Answer,
    Reset,
    Line,
    Fence,
    Retry,
    FailAccess,
}

/// A method that was called, with its arguments, or the CPU it was called on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    SetEntry(u64),
    SetEptRoot(u64),
    Setup(u32),
    Run,
    Bind(usize),
    Unbind(usize),
    SetGpr(usize, u64),
    GetGpr(usize),
    Inject(usize),
    Answer(u64),
    Reset,
    Line(usize, bool),
    Fence(crate::Fence),
    Retry,
    FailAccess,
    Dropped,
}

type Action = Box<dyn FnOnce(&AxVCpu<Fake>) + Send>;

/// What a method does instead of answering `Ok`.
pub(super) enum Act {
    Fail(AxError),
    Panic,
    Exit(Exit),
    /// Calls back with the vCPU whose method this is, then does as usual.
    Do(Action),
}

/// The test's view of a backend that a vCPU owns.
#[derive(Default)]
pub(super) struct Probe {
    calls: Mutex<Vec<Call>>,
    script: Mutex<Vec<(Op, Act)>>,
}

impl Probe {
    /// Lets the next call of `op` that nothing is planned for do `act`.
    pub(super) fn plan(&self, op: Op, act: Act) {
        self.script.lock().unwrap().push((op, act));
    }

    pub(super) fn plan_exit(&self, exit: Exit) {
        self.plan(Op::Run, Act::Exit(exit));
    }

    pub(super) fn plan_call(&self, op: Op, f: impl FnOnce(&AxVCpu<Fake>) + Send + 'static) {
        self.plan(op, Act::Do(Box::new(f)));
    }

    fn next(&self, op: Op) -> Option<Act> {
        let mut script = self.script.lock().unwrap();
        let index = script.iter().position(|&(planned, _)| planned == op)?;
        Some(script.remove(index).1)
    }

    /// Whether everything planned has happened.
    pub(super) fn played_out(&self) -> bool {
        self.script.lock().unwrap().is_empty()
    }

    /// The calls since the last time this was asked.
    pub(super) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn record(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

pub(super) struct Fake {
    ids: CurrentVCpu,
    probe: Arc<Probe>,
    regs: [u64; 4],
}

impl Fake {
    fn call(&mut self, op: Op, call: Call) -> AxResult<Option<Exit>> {
        assert_eq!(current_ids::<Hal>(), Some(self.ids), "current vCPU in {call:?}");
        self.probe.record(call);
        match self.probe.next(op) {
            None => Ok(None),
            Some(Act::Fail(error)) => Err(error),
            Some(Act::Panic) => panic!("planned panic in {op:?}"),
            Some(Act::Exit(exit)) => Ok(Some(exit)),
            Some(Act::Do(f)) => {
                with_current_vcpu::<Self, _>(f).expect("a backend method has a current vCPU");
                Ok(None)
            }
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        assert_ne!(current_ids::<Hal>(), Some(self.ids), "dropping a backend is no backend method");
        self.probe.record(Call::Dropped);
    }
}

impl AxArchVCpu for Fake {
    type Hal = Hal;
    type CreateConfig = Arc<Probe>;
    type SetupConfig = u32;

    fn new(vm_id: VmId, vcpu_id: VCpuId, probe: Arc<Probe>) -> AxResult<Self> {
        let ids = CurrentVCpu { vm_id, vcpu_id };
        assert_ne!(current_ids::<Hal>(), Some(ids), "there is no vCPU yet");
        if let Some(Act::Fail(error)) = probe.next(Op::New) {
            return Err(error);
        }
        Ok(Self { ids, probe, regs: [0; 4] })
    }
    fn set_entry(&mut self, entry: GuestPhysAddr) -> AxResult {
        self.call(Op::SetEntry, Call::SetEntry(entry.as_u64())).map(drop)
    }
    unsafe fn set_ept_root(&mut self, root: HostPhysAddr) -> AxResult {
        self.call(Op::SetEptRoot, Call::SetEptRoot(root.as_u64())).map(drop)
    }
    fn setup(&mut self, config: u32) -> AxResult {
        self.call(Op::Setup, Call::Setup(config)).map(drop)
    }
    fn run(&mut self) -> AxResult<Exit> {
        Ok(self.call(Op::Run, Call::Run)?.unwrap_or(Exit::Nothing))
    }
    fn bind(&mut self) -> AxResult {
        self.call(Op::Bind, Call::Bind(Hal::cpu_id())).map(drop)
    }
    fn unbind(&mut self) -> AxResult {
        self.call(Op::Unbind, Call::Unbind(Hal::cpu_id())).map(drop)
    }
    fn set_gpr(&mut self, reg: usize, val: u64) -> AxResult {
        self.call(Op::SetGpr, Call::SetGpr(reg, val))?;
        *self.regs.get_mut(reg).ok_or(AxError::InvalidInput)? = val;
        Ok(())
    }
    fn inject_interrupt(&mut self, vector: usize) -> AxResult {
        self.call(Op::Inject, Call::Inject(vector)).map(drop)
    }
    fn set_return_value(&mut self, val: u64) {
        let _ = self.call(Op::Answer, Call::Answer(val)); // has no way to fail
    }
    fn get_gpr(&mut self, reg: usize) -> AxResult<u64> {
        self.call(Op::GetGpr, Call::GetGpr(reg))?;
        self.regs.get(reg).copied().ok_or(AxError::InvalidInput)
    }
    fn reset(&mut self) -> AxResult {
        self.call(Op::Reset, Call::Reset)?;
        self.regs = [0; 4];
        Ok(())
    }
    fn set_interrupt_line(&mut self, vector: usize, asserted: bool) -> AxResult {
        self.call(Op::Line, Call::Line(vector, asserted)).map(drop)
    }
    fn fence(&mut self, fence: crate::Fence) -> AxResult {
        self.call(Op::Fence, Call::Fence(fence)).map(drop)
    }
    fn retry(&mut self) -> AxResult {
        self.call(Op::Retry, Call::Retry).map(drop)
    }
    fn fail_access(&mut self) -> AxResult {
        self.call(Op::FailAccess, Call::FailAccess).map(drop)
    }
}

/// A backend with the mandatory methods only.
#[derive(Default)]
pub(super) struct Bare;

impl AxArchVCpu for Bare {
    type Hal = Hal;
    type CreateConfig = ();
    type SetupConfig = ();
    fn new(_: VmId, _: VCpuId, (): ()) -> AxResult<Self> {
        Ok(Self)
    }
    fn set_entry(&mut self, _: GuestPhysAddr) -> AxResult {
        Ok(())
    }
    unsafe fn set_ept_root(&mut self, _: HostPhysAddr) -> AxResult {
        Ok(())
    }
    fn setup(&mut self, (): ()) -> AxResult {
        Ok(())
    }
    fn run(&mut self) -> AxResult<Exit> {
        Ok(Exit::Nothing)
    }
    fn bind(&mut self) -> AxResult {
        Ok(())
    }
    fn unbind(&mut self) -> AxResult {
        Ok(())
    }
    fn set_gpr(&mut self, _: usize, _: u64) -> AxResult {
        Ok(())
    }
    fn inject_interrupt(&mut self, _: usize) -> AxResult {
        Ok(())
    }
    fn set_return_value(&mut self, _: u64) {}
}

pub(super) const ENTRY: GuestPhysAddr = GuestPhysAddr::new(0x8000_0000);
pub(super) const ROOT: HostPhysAddr = HostPhysAddr::new(0x1000);
pub(super) const CONFIG: u32 = 77;
pub(super) const HALT: Exit = Exit::Halt { wake_after_ns: None };
pub(super) const HYPERCALL: Exit = Exit::Hypercall { nr: 1, function: 2, args: [3; 6] };
pub(super) const READ: Exit =
    Exit::MmioRead { addr: GuestPhysAddr::new(0x1000_0000), width: AccessWidth::Dword };

/// A vCPU in state `Created`, numbered 7 in machine 3.
pub(super) fn created() -> (AxVCpu<Fake>, Arc<Probe>) {
    let probe = Arc::new(Probe::default());
    (AxVCpu::new(3, 7, 0, None, probe.clone()).unwrap(), probe)
}

pub(super) fn setup(vcpu: &AxVCpu<Fake>) -> AxResult {
    // SAFETY: the fake backend follows no root.
    unsafe { vcpu.setup(ENTRY, ROOT, CONFIG) }
}

pub(super) fn free() -> (AxVCpu<Fake>, Arc<Probe>) {
    let (vcpu, probe) = created();
    setup(&vcpu).unwrap();
    (vcpu, probe)
}

/// A vCPU that is `Ready` on this thread's CPU, with no call recorded.
pub(super) fn ready() -> (AxVCpu<Fake>, Arc<Probe>) {
    let (vcpu, probe) = free();
    vcpu.bind().unwrap();
    probe.calls();
    (vcpu, probe)
}
