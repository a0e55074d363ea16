//! The threads, and what they wait for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axvcpu::{AxVCpu, AxVCpuExitReason as Exit, Fence};

use crate::Guest;
use crate::account::{Account, resident};

/// What is to happen happens within this, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the threads share.
struct Soak<'a, G> {
    guest: &'a G,
    /// The leaver's exits.
    exits: AtomicU64,
    /// Runs that came back with nothing: the leaver's and the spinner's.
    nothing: [AtomicU64; 2],
    /// Requests are over.
    quiet: AtomicBool,
    /// vCPUs are over, too.
    done: AtomicBool,
    /// The first failure.
    failure: Mutex<Option<String>>,
}

impl<G: Guest> Soak<'_, G> {
    fn fail(&self, what: String) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(what);
        }
        self.quiet.store(true, Ordering::SeqCst);
        self.done.store(true, Ordering::SeqCst);
        self.guest.leaver().kick();
        self.guest.spinner().kick();
    }

    /// Waits until it is so. Mostly that is soon; else the vCPUs are to have the processors.
    fn wait(&self, what: &str, so: impl Fn() -> bool) -> Result<(), String> {
        for _ in 0..100 {
            if so() {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let start = Instant::now();
        while !so() {
            if start.elapsed() > PATIENCE {
                return Err(format!("waited too long for {what}"));
            }
            if self.done.load(Ordering::SeqCst) {
                return Err(format!("over before {what}"));
            }
            thread::sleep(Duration::from_micros(20));
        }
        Ok(())
    }

    /// Does `once` with 1, 2, 3, … until it is quiet, and answers how often.
    fn again(&self, mut once: impl FnMut(u64) -> Result<(), String>) -> u64 {
        let mut count = 0;
        while !self.quiet.load(Ordering::SeqCst) {
            if let Err(error) = once(count + 1) {
                self.fail(error);
                break;
            }
            count += 1;
        }
        count
    }

    /// Runs a vCPU on this thread until everything is done.
    fn run(
        &self,
        vcpu: &AxVCpu<G::Arch>,
        mut exit: impl FnMut(&Exit) -> Result<(), String>,
    ) -> Result<(), String> {
        let _cpu = G::cpu()?;
        vcpu.bind().map_err(|error| format!("bind: {error}"))?;
        while !self.done.load(Ordering::Relaxed) {
            let reason = vcpu.run().map_err(|error| format!("run: {error}"))?;
            exit(&reason)?;
        }
        vcpu.unbind().map_err(|error| format!("unbind: {error}"))
    }

    fn leaver(&self, limit: u64) -> Result<(u64, u64), String> {
        let vcpu = self.guest.leaver();
        let (mut exits, mut early, mut late) = (0, 0, 0);
        self.run(vcpu, |exit| {
            if matches!(exit, Exit::Nothing) {
                self.nothing[0].fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            if let Some(line) = G::LINE.filter(|_| G::lowers(exit)) {
                vcpu.set_interrupt_line(line, false).map_err(|error| error.to_string())?;
            } else if !G::is_usual(exit) {
                return Err(format!("the leaver left with {exit:?}"));
            }
            exits += 1;
            // The others need not know it exactly.
            if exits % 64 == 0 {
                self.exits.store(exits, Ordering::Relaxed);
            }
            if exits == limit / 10 {
                early = resident()?;
            }
            if exits == limit {
                late = resident()?;
            }
            if exits >= limit {
                self.exits.store(exits, Ordering::Relaxed);
            }
            Ok(())
        })?;
        Ok((early, late))
    }

    fn spinner(&self) -> Result<(), String> {
        self.run(self.guest.spinner(), |exit| match exit {
            Exit::Nothing => {
                self.nothing[1].fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            exit => Err(format!("the spinner left with {exit:?}")),
        })
    }

    /// An edge of each vector, one after the other has been taken. More than one would be as wrong as none.
    fn edges(&self, count: u64) -> Result<(), String> {
        for &vector in G::EDGES {
            self.guest.leaver().inject_interrupt(vector).map_err(|error| error.to_string())?;
            let what = format!("edge {count} of vector {vector}");
            self.wait(&what, || self.guest.taken(vector) >= count)?;
            exactly(self.guest, vector, count)?;
        }
        Ok(())
    }

    fn line(&self, line: usize, count: u64) -> Result<(), String> {
        self.guest.leaver().set_interrupt_line(line, true).map_err(|error| error.to_string())?;
        self.wait(&format!("line {count}"), || self.guest.taken(line) >= count)?;
        exactly(self.guest, line, count)
    }

    /// Each ends a run with nothing to tell of, and where nothing else does that, one alone.
    fn kick(&self, count: u64) -> Result<(), String> {
        let which = (count % 2) as usize;
        let vcpu = [self.guest.leaver(), self.guest.spinner()][which];
        let before = self.nothing[which].load(Ordering::SeqCst);
        vcpu.kick();
        self.wait(&format!("the run that kick {count} ends"), || {
            self.nothing[which].load(Ordering::SeqCst) != before
        })
    }

    fn fence(&self, count: u64) -> Result<(), String> {
        const FENCES: [Fence; 3] = [Fence::STAGE2_TLB, Fence::GUEST_TLB, Fence::INSTRUCTION];
        let vcpu = [self.guest.leaver(), self.guest.spinner()][(count % 2) as usize];
        let fence = FENCES[(count / 2 % 3) as usize];
        vcpu.request_fence(fence);
        self.wait(&format!("fence {count}"), || !vcpu.fence_outstanding(fence))
    }

    /// Waits for the exits, and then for the other threads' last requests.
    fn supervise(&self, limit: u64) -> Result<(), String> {
        let (mut last, mut since) = (0, Instant::now());
        while self.exits.load(Ordering::Relaxed) < limit && !self.done.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
            let exits = self.exits.load(Ordering::Relaxed);
            if exits != last {
                (last, since) = (exits, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return Err(format!("the leaver has not left any more after {exits} exits"));
            }
        }
        Ok(())
    }
}

/// Whether the guest has taken the interrupt as often as it came.
fn exactly<G: Guest>(guest: &G, vector: usize, count: u64) -> Result<(), String> {
    match guest.taken(vector) {
        taken if taken == count => Ok(()),
        taken => Err(format!("vector {vector} was taken {taken} times and not {count}")),
    }
}

/// Soaks `guest` until its leaver has left `limit` times.
pub(crate) fn soak<G: Guest>(guest: &G, limit: u64) -> Result<Account, String> {
    let soak = Soak {
        guest,
        exits: AtomicU64::new(0),
        nothing: [AtomicU64::new(0), AtomicU64::new(0)],
        quiet: AtomicBool::new(false),
        done: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    let start = Instant::now();
    let mut account = Account::default();
    thread::scope(|scope| {
        let leaver =
            scope.spawn(|| soak.leaver(limit).inspect_err(|error| soak.fail(error.clone())));
        let spinner = scope.spawn(|| soak.spinner().inspect_err(|error| soak.fail(error.clone())));
        let begun = soak.wait("the spinner to begin", || guest.spins());
        if let Err(error) = begun {
            soak.fail(error);
        }
        let edges = scope.spawn(|| soak.again(|count| soak.edges(count)));
        let lines = scope.spawn(|| match G::LINE {
            Some(line) => soak.again(|count| soak.line(line, count)),
            None => 0,
        });
        let kicks = scope.spawn(|| soak.again(|count| soak.kick(count)));
        let fences = scope.spawn(|| soak.again(|count| soak.fence(count)));
        if let Err(error) = soak.supervise(limit) {
            soak.fail(error);
        }
        soak.quiet.store(true, Ordering::SeqCst);
        let joined = |thread: thread::ScopedJoinHandle<'_, u64>| {
            thread.join().unwrap_or_else(|_| {
                soak.fail("a thread panicked".into());
                0
            })
        };
        account.edges = joined(edges) * G::EDGES.len() as u64;
        account.lines = joined(lines);
        account.kicks = joined(kicks);
        account.fences = joined(fences);
        // Everything that was asked for has been seen. Nothing may come of it any more, while the leaver goes on.
        let settled = soak.exits.load(Ordering::Relaxed) + 1000;
        let more = || soak.exits.load(Ordering::Relaxed) >= settled;
        if let Err(error) = soak.wait("a thousand exits more", more) {
            soak.fail(error);
        }
        for vcpu in [guest.leaver(), guest.spinner()] {
            if vcpu.fence_outstanding(Fence::all()) {
                soak.fail("a fence is outstanding in the end".into());
            }
        }
        let ended: u64 = soak.nothing.iter().map(|count| count.load(Ordering::SeqCst)).sum();
        if G::ONLY_KICKS && ended != account.kicks {
            soak.fail(format!("{} kicks ended {ended} runs", account.kicks));
        }
        soak.done.store(true, Ordering::SeqCst);
        guest.leaver().kick();
        guest.spinner().kick();
        if let Ok(Ok(resident)) = leaver.join() {
            account.resident = resident;
        }
        let _ = spinner.join(); // its failure, if any, was noted
    });
    account.exits = soak.exits.load(Ordering::Relaxed);
    account.time = start.elapsed();
    if let Ok(Some(error)) = soak.failure.into_inner() {
        return Err(error);
    }
    // With what the thousand exits at the end may have brought.
    let injected = account.edges / G::EDGES.len() as u64;
    let edges = G::EDGES.iter().map(|&vector| (vector, injected));
    for (vector, count) in edges.chain(G::LINE.map(|line| (line, account.lines))) {
        exactly(guest, vector, count)?;
    }
    account.check(G::LINE.is_some())
}
