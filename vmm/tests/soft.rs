//! Machines on the software hart, with guests small enough to read.

mod platform;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axvcpu_riscv::asm::csrs::{SCAUSE, SEPC, SIE, SIP, STIMECMP, STVEC, TIME};
use axvcpu_riscv::asm::*;
use axvcpu_soft::{Clock, ISA, MMU_TYPE, SoftConfig, SoftVCpu, VirtualClock};
use axvcpu_vmm::riscv::layout::{PLIC_BASE, RAM_BASE, UART_BASE};
use axvcpu_vmm::riscv::{LOAD_OFFSET, RiscvVm, RiscvVmConfig};
use axvcpu_vmm::{CpuStats, ExitKind, Outcome, VmHost};
use sbi_spec::{dbcn, hsm, rfnc, spi, srst};

use platform::{Console, Hal, Host, Ram, monotonic_ns};

const HARTS: usize = 4;
const OTHERS: i64 = 0b1110;
const ENTRY: u64 = RAM_BASE + LOAD_OFFSET;

/// SSI, STI and SEI in `sie` and `sip`.
const SOFTWARE: i64 = 1 << 1;
const TIMER: i64 = 1 << 5;
const EXTERNAL: i64 = 1 << 9;

fn call(a: &mut Asm, extension: usize, function: usize) {
    a.li(A7, extension as i64);
    a.li(A6, function as i64);
    a.ecall();
}

/// Prints a character; `S0` holds the serial port's address.
fn print(a: &mut Asm, character: u8) {
    a.li(T0, character.into());
    a.sb(T0, 0, S0);
}

/// Waits until the number at `S1` is `value`.
fn await_count(a: &mut Asm, value: i64) {
    a.li(T1, value);
    let again = a.here_label();
    a.ld(T0, 0, S1);
    a.bne(T0, T1, again);
}

/// Sleeps until one of the interrupts in `mask` is pending. They are enabled, but not taken.
fn sleep(a: &mut Asm, mask: i64) {
    a.li(T2, mask);
    a.csrw(SIE, T2);
    let again = a.label();
    let check = a.label();
    a.j(check);
    a.bind(again);
    a.wfi();
    a.bind(check);
    a.csrr(T0, SIP);
    a.and(T0, T0, T2);
    a.beqz(T0, again);
}

/// Uses everything the machine has and prints a letter for each part that works.
fn tour() -> Vec<u8> {
    let mut a = Asm::new(ENTRY);
    let a = &mut a;
    let (worker, handler, text, counter, failed) =
        (a.label(), a.label(), a.label(), a.label(), a.label());

    a.li(S0, UART_BASE as i64);
    a.la(S1, counter);
    a.la(T0, handler);
    a.csrw(STVEC, T0);
    print(a, b'A');

    a.li(A0, 2);
    a.la(A1, text);
    a.li(A2, 0);
    call(a, dbcn::EID_DBCN, dbcn::CONSOLE_WRITE);
    a.bnez(A0, failed);

    for hart in 1..HARTS as i64 {
        a.li(A0, hart);
        a.la(A1, worker);
        a.mv(A2, S1);
        call(a, hsm::EID_HSM, hsm::HART_START);
        a.bnez(A0, failed);
    }
    await_count(a, 3);
    print(a, b'D');

    a.li(A0, OTHERS);
    a.li(A1, 0);
    call(a, spi::EID_SPI, spi::SEND_IPI);
    a.bnez(A0, failed);
    await_count(a, 6);
    print(a, b'E');

    for function in [rfnc::REMOTE_FENCE_I, rfnc::REMOTE_SFENCE_VMA] {
        a.li(A0, OTHERS);
        a.li(A1, 0);
        a.li(A2, 0);
        a.li(A3, 0);
        call(a, rfnc::EID_RFNC, function);
        a.bnez(A0, failed);
    }
    print(a, b'F');

    for hart in 1..HARTS as i64 {
        let again = a.here_label();
        a.li(A0, hart);
        call(a, hsm::EID_HSM, hsm::HART_GET_STATUS);
        a.li(T0, hsm::hart_state::STOPPED as i64);
        a.bne(A1, T0, again);
    }
    print(a, b'G');

    // Nothing is at 0x4000: the handler prints the cause.
    a.li(T3, 0x4000);
    a.lw(T0, 0, T3);
    a.sw(T0, 0, T3);

    a.csrr(T0, TIME);
    a.addi(T0, T0, 1000);
    a.csrw(STIMECMP, T0);
    sleep(a, TIMER);
    print(a, b'H');

    // Input interrupts, through the interrupt controller, until a `q` comes.
    a.li(S2, PLIC_BASE as i64);
    a.li(T0, 1);
    a.sw(T0, 40, S2);
    a.li(S3, (PLIC_BASE + 0x2080) as i64);
    a.li(T0, 1 << 10);
    a.sw(T0, 0, S3);
    a.li(S3, (PLIC_BASE + 0x20_1000) as i64);
    a.li(T0, 1);
    a.sb(T0, 1, S0);
    let again = a.here_label();
    sleep(a, EXTERNAL);
    a.lw(S4, 4, S3);
    a.lbu(S5, 0, S0);
    a.sb(S5, 0, S0);
    a.sw(S4, 4, S3);
    a.li(T0, b'q'.into());
    a.bne(S5, T0, again);

    a.li(A0, 0);
    a.li(A1, 0);
    call(a, srst::EID_SRST, srst::SYSTEM_RESET);

    a.bind(failed);
    a.li(A0, 0);
    a.li(A1, 1);
    call(a, srst::EID_SRST, srst::SYSTEM_RESET);

    // `a1` has the counter's address.
    a.bind(worker);
    a.li(T1, 1);
    a.amoadd_d(ZERO, T1, A1, Order::AcqRel);
    sleep(a, SOFTWARE);
    a.csrw(SIP, ZERO);
    a.amoadd_d(ZERO, T1, A1, Order::AcqRel);
    call(a, hsm::EID_HSM, hsm::HART_STOP);

    a.align(4);
    a.bind(handler);
    a.csrr(T4, SCAUSE);
    a.addi(T4, T4, b'0'.into());
    a.sb(T4, 0, S0);
    a.csrr(T4, SEPC);
    a.addi(T4, T4, 4);
    a.csrw(SEPC, T4);
    a.sret();

    a.bind(text);
    a.bytes(b"BC");
    a.align(8);
    a.bind(counter);
    a.quad(0);
    core::mem::replace(a, Asm::new(0)).finish().unwrap()
}

const TOUR: &str = "ABCDEFG57Hxyzq";

fn machine(kernel: &[u8], clock: Clock) -> (RiscvVm<SoftVCpu<Hal>>, Arc<Console>) {
    let console = Arc::new(Console::default());
    let config =
        RiscvVmConfig { cpus: HARTS, isa: ISA, mmu_type: MMU_TYPE, kernel, ..Default::default() };
    let vm = RiscvVm::new(
        &config,
        Box::new(Ram::new()),
        console.clone(),
        |_| SoftConfig::new(clock.clone()),
        |_| (),
    );
    (vm.unwrap(), console)
}

/// Runs every hart on a thread of its own and `meanwhile` on this one. All harts see the same end.
fn run_on_threads(vm: &RiscvVm<SoftVCpu<Hal>>, meanwhile: impl FnOnce()) -> Outcome {
    thread::scope(|scope| {
        let run = |cpu| scope.spawn(move || vm.run_vcpu(cpu, &Host(None)));
        let threads: Vec<_> = (0..HARTS).map(run).collect();
        meanwhile();
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
        outcomes[0]
    })
}

#[test]
fn a_thread_for_each_hart() {
    let (vm, console) = machine(&tour(), Clock::Host(monotonic_ns));
    assert_eq!(vm.push_console_input(b"xyzq"), 4);
    assert_eq!(run_on_threads(&vm, || ()), Outcome::PowerOff);
    assert_eq!(console.text(), TOUR);
    assert_eq!(vm.total_stats().count(ExitKind::Unclaimed), 2);
}

#[test]
fn all_harts_in_turn_do_the_same_every_time() {
    let run = || -> (Vec<CpuStats>, u64) {
        let clock = VirtualClock::new();
        let (vm, console) = machine(&tour(), Clock::Instructions(clock.clone()));
        vm.push_console_input(b"xyzq");
        assert_eq!(vm.run_in_turn(&Host(Some(clock.clone()))), Outcome::PowerOff);
        assert_eq!(console.text(), TOUR);
        (vm.stats(), clock.now_ns())
    };
    let first = run();
    assert!(first.1 >= 100_000, "the timer alone takes that long");
    assert_eq!(first, run());
}

/// A host that interrupts every run, all the time.
struct Ticking;

impl VmHost for Ticking {
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn wait(&self, deadline_ns: Option<u64>) {
        Host(None).wait(deadline_ns);
    }

    fn begin_slice(&self, _: Option<u64>) -> bool {
        true // the ticks come anyway
    }

    fn relax(&self, _: u32) {
        thread::yield_now();
    }
}

/// Harts that wait for each other in loops, and only the host's timer takes one off for another.
#[test]
fn harts_share_threads() {
    for sharing in [2, 3, HARTS] {
        let (vm, console) = machine(&tour(), Clock::Host(monotonic_ns));
        assert_eq!(vm.push_console_input(b"xyzq"), 4);
        let cpus: Vec<_> = (0..HARTS).collect();
        thread::scope(|scope| {
            for cpus in cpus.chunks(sharing) {
                scope.spawn(|| assert_eq!(vm.run_vcpus(cpus, &Ticking), Outcome::PowerOff));
            }
            while vm.outcome().is_none() {
                thread::sleep(Duration::from_millis(1));
                vm.cpus().iter().for_each(|cpu| cpu.vcpu().kick());
            }
        });
        assert_eq!(console.text(), TOUR, "{sharing} on a thread");
    }
}

/// The host stops a guest that loops, one that sleeps, and one that has stopped half of its harts.
#[test]
fn the_host_ends_any_guest() {
    let loops = |a: &mut Asm| {
        let here = a.here_label();
        a.j(here);
    };
    let sleeps = |a: &mut Asm| {
        let here = a.here_label();
        a.wfi();
        a.j(here);
    };
    for program in [&loops as &dyn Fn(&mut Asm), &sleeps] {
        let mut a = Asm::new(ENTRY);
        program(&mut a);
        let (vm, _) = machine(&a.finish().unwrap(), Clock::Host(monotonic_ns));
        let outcome = run_on_threads(&vm, || {
            thread::sleep(Duration::from_millis(20));
            assert_eq!(vm.outcome(), None);
            vm.stop(Outcome::Stopped);
        });
        assert_eq!(outcome, Outcome::Stopped);
    }
}

/// A kernel of random bytes. Whatever it does is its own problem; the machine goes on until it is stopped.
#[test]
fn random_guests() {
    let mut random = 0x1234_5678_9abc_def0u64;
    for _ in 0..200 {
        let kernel: Vec<u8> = core::iter::repeat_with(|| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_le_bytes()
        })
        .take(512)
        .flatten()
        .collect();
        let clock = VirtualClock::new();
        let (vm, _) = machine(&kernel, Clock::Instructions(clock.clone()));
        thread::scope(|scope| {
            let thread = scope.spawn(|| vm.run_in_turn(&Host(Some(clock))));
            thread::sleep(Duration::from_millis(2));
            vm.stop(Outcome::Stopped);
            thread.join().unwrap();
        });
    }
}
