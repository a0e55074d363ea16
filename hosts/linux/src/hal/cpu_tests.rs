use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use axvcpu::AxVCpuHal;

use super::super::{LinuxHal, monotonic_ns};
use super::*;

const MS: u64 = 1_000_000;

#[test]
fn every_thread_is_one_cpu_and_no_other() {
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                let cpu = (n % 2 == 0).then(|| Cpu::register().unwrap());
                let id = LinuxHal::cpu_id();
                assert_eq!(cpu.as_ref().map_or(id, Cpu::id), id);
                assert_eq!(id < MAX_CPUS, cpu.is_some());
                barrier.wait(); // all of them are alive here
                assert_eq!(LinuxHal::cpu_id(), id);
                id
            })
        })
        .collect();
    let mut ids: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8);
}

#[test]
fn a_thread_registers_once_and_never_changes_its_id() {
    thread::spawn(|| {
        let cpu = Cpu::register().unwrap();
        assert_eq!(Cpu::register().unwrap_err(), RegisterError::AlreadyACpu);
        drop(cpu);
        let _ = Cpu::register().unwrap();
        let unregistered = LinuxHal::cpu_id();
        assert!(unregistered >= MAX_CPUS);
        assert_eq!(Cpu::register().unwrap_err(), RegisterError::AlreadyACpu);
        assert_eq!(LinuxHal::cpu_id(), unregistered);
    })
    .join()
    .unwrap();
}

#[test]
fn the_current_word_is_each_threads_own() {
    let mut mine = 1u8;
    store_current(ptr::from_mut(&mut mine).cast());
    thread::spawn(|| assert!(LinuxHal::load_current().is_null())).join().unwrap();
    assert_eq!(LinuxHal::load_current(), ptr::from_mut(&mut mine).cast());
    store_current(ptr::null_mut());
}

#[test]
fn a_kick_before_the_sleep_ends_it() {
    let cpu = Cpu::register().unwrap();
    LinuxHal::kick_cpu(cpu.id());
    LinuxHal::kick_cpu(cpu.id());
    assert!(cpu.idle(None)); // would never return if the kick were lost
    // Kicks do not add up: the second one went with the first.
    assert!(!cpu.idle(Some(monotonic_ns() + MS)));
}

#[test]
fn a_sleep_ends_at_its_deadline_and_not_before() {
    let cpu = Cpu::register().unwrap();
    for length in [0, 1, 3] {
        let deadline = monotonic_ns() + length * MS;
        assert!(!cpu.idle(Some(deadline)));
        assert!(monotonic_ns() >= deadline);
    }
    assert!(!cpu.idle(Some(0)), "a deadline in the past");
    LinuxHal::kick_cpu(cpu.id());
    assert!(cpu.idle(Some(0)), "a kick counts although the deadline has passed");
}

#[test]
fn kicks_to_cpus_that_do_not_exist_do_nothing() {
    for cpu in [MAX_CPUS - 1, MAX_CPUS, usize::MAX] {
        LinuxHal::kick_cpu(cpu);
    }
}

/// Two threads hand a token to and fro, each asleep until it has it. One lost kick and they sleep forever.
#[test]
fn no_kick_is_lost_between_the_check_and_the_sleep() {
    const ROUNDS: u64 = 20_000;
    let turn = Arc::new(AtomicU64::new(0));
    let (ids, other) = mpsc::channel();
    let player = |parity: u64, me: mpsc::Sender<usize>, other: mpsc::Receiver<usize>| {
        let turn = Arc::clone(&turn);
        thread::spawn(move || {
            let cpu = Cpu::register().unwrap();
            me.send(cpu.id()).unwrap();
            let other = other.recv().unwrap();
            for round in 0..ROUNDS {
                while turn.load(Ordering::Acquire) != 2 * round + parity {
                    cpu.idle(None);
                }
                turn.store(2 * round + parity + 1, Ordering::Release);
                kick(other);
            }
        })
    };
    let (ids2, other2) = mpsc::channel();
    let players = [player(0, ids, other2), player(1, ids2, other)];
    for player in players {
        player.join().unwrap();
    }
    assert_eq!(turn.load(Ordering::Acquire), 2 * ROUNDS);
}

/// Many kickers at once, and a sleeper with deadlines that expire in the middle of it.
#[test]
fn every_kick_is_seen_whatever_the_deadline_does() {
    const KICKERS: u64 = 3;
    const EACH: u64 = 5_000;
    let posted = Arc::new(AtomicU64::new(0));
    let cpu = Cpu::register().unwrap();
    let id = cpu.id();
    let kickers: Vec<_> = (0..KICKERS)
        .map(|_| {
            let posted = Arc::clone(&posted);
            thread::spawn(move || {
                for n in 0..EACH {
                    posted.fetch_add(1, Ordering::Release);
                    kick(id);
                    if n % 64 == 0 {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let (mut seen, mut n) = (0, 0u64);
    while seen < KICKERS * EACH {
        n += 1;
        let deadline = (n % 2 == 0).then(|| monotonic_ns() + n % 50 * 1000);
        cpu.idle(deadline);
        seen = posted.load(Ordering::Acquire);
    }
    for kicker in kickers {
        kicker.join().unwrap();
    }
}
