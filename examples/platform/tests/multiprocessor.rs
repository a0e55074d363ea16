//! Every thread is a physical CPU.
#![allow(unsafe_code)] // takes frames and words in its own hands

mod suite;

use std::collections::HashSet;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use axvcpu::{AxMmHal, AxVCpuHal, HostPhysAddr};
use axvcpu_example_platform::{Memory, Platform, idle};

// ANCHOR: frames
fn words(frame: HostPhysAddr) -> *mut [u64; 512] {
    ptr::with_exposed_provenance_mut(Memory::phys_to_virt(frame).as_usize())
}

#[test]
fn frames_are_zeroed_aligned_and_apart() {
    for _ in 0..3 {
        let frames: Vec<_> = (0..100).map(|_| Memory::alloc_frame().expect("memory")).collect();
        assert_eq!(frames.iter().collect::<HashSet<_>>().len(), frames.len());
        for &frame in &frames {
            assert_eq!(frame.as_u64() % 4096, 0);
            assert_eq!(Memory::virt_to_phys(Memory::phys_to_virt(frame)), frame);
            // SAFETY: a frame of our own, aligned for any type.
            let words = unsafe { &mut *words(frame) };
            assert_eq!(*words, [0; 512]);
            words.fill(u64::MAX); // a frame that is not cleared shows in the next round
        }
        for frame in frames {
            // SAFETY: taken above, and not used any more.
            unsafe { Memory::dealloc_frame(frame) };
        }
    }
}

#[test]
fn roots_are_contiguous() {
    let root = Memory::alloc_contiguous(4).expect("memory");
    assert_eq!(root.as_u64() % (4 * 4096), 0);
    // SAFETY: taken above, and not used.
    unsafe { Memory::dealloc_contiguous(root, 4) };
}
// ANCHOR_END: frames

// ANCHOR: cpus
#[test]
fn numbers_and_words_are_each_cpus_own() {
    let seen = |mut mark: u8| {
        let word = ptr::from_mut(&mut mark).cast();
        assert!(Platform::load_current().is_null());
        // SAFETY: nothing follows the word before it is put back.
        unsafe { Platform::store_current(word) };
        thread::yield_now();
        assert_eq!(Platform::load_current(), word);
        // SAFETY: what was there before.
        unsafe { Platform::store_current(ptr::null_mut()) };
        let number = Platform::cpu_id();
        assert!(Platform::is_cpu(number));
        number
    };
    let others = thread::scope(|scope| {
        let threads: Vec<_> = (1..8).map(|mark| scope.spawn(move || seen(mark))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a CPU")).collect::<HashSet<_>>()
    });
    assert_eq!(others.len(), 7);
    assert!(!others.contains(&seen(0)));
}
// ANCHOR_END: cpus

// ANCHOR: kick
#[test]
fn no_kick_is_lost() {
    const ROUNDS: usize = 10_000;
    let (asked, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let sleeper = AtomicUsize::new(usize::MAX);
    thread::scope(|scope| {
        scope.spawn(|| {
            sleeper.store(Platform::cpu_id(), Ordering::SeqCst);
            for round in 1..=ROUNDS {
                while asked.load(Ordering::SeqCst) < round {
                    idle(None); // for ever, if a kick gets lost
                }
                done.store(round, Ordering::Release);
            }
        });
        for round in 1..=ROUNDS {
            asked.store(round, Ordering::SeqCst); // the reason first, the kick second
            // Either this finds the sleeper's number, or the sleeper finds the reason before it sleeps.
            Platform::kick_cpu(sleeper.load(Ordering::SeqCst));
            while done.load(Ordering::Acquire) < round {
                thread::yield_now();
            }
        }
    });
    Platform::kick_cpu(usize::MAX); // nobody's number
}
// ANCHOR_END: kick

// ANCHOR: suite
#[test]
fn the_suite() {
    let report = suite::run::<Platform>(true);
    println!("{report}");
    assert!(report.is_passed(), "{} of the cases above failed", report.failed());
    assert_eq!(report.skipped(), 0, "cases skipped");
}
// ANCHOR_END: suite
