//! What hostile guests of every architecture do.

use axvcpu::{AccessKind, Fence, GuestPhysAddr};
use axvcpu_stage2::PAGE_SIZE;

use super::sandbox::WINDOW_PAGES;
use super::{Hostile, Pressure, Sandbox, attack};
use crate::bench::{Bench, Exit};
use crate::random::Random;
use crate::report::{Verdict, ensure, ensure_eq, fail};
use crate::subject::Subject;

/// The guest reports 0, 1, 2, … for ever.
pub(crate) fn storm<S: Subject, I: Hostile<S>>(bench: &Bench<S, I>) -> Verdict {
    const CALLS: u64 = 20_000;
    for call in 0..CALLS {
        ensure_eq!(bench.hart().report()?, call, "the number of the call");
    }
    Ok(())
}

/// The guest jumps to addresses at which there is nothing, `count` times, and reports the jump's number behind each of them.
/// The handler finds in the register `back` where that is.
pub(crate) fn jumps<S: Subject, I: Hostile<S>>(
    bench: &Bench<S, I>,
    count: usize,
    back: usize,
) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for jump in 0..count as u64 {
        for attempt in 0.. {
            ensure!(attempt < 5, "jump {jump}: the guest does not come back");
            let exit = hart.run()?;
            match hart.call(&exit)? {
                // The guest learns it from its CPU or from the hypervisor, and goes on behind the jump.
                Some((nr, _)) if nr == I::TRAP => I::go_on_at(hart, vcpu.get_gpr(back)?)?,
                Some((nr, [found, ..])) if nr == I::REPORT => {
                    ensure_eq!(found, jump, "the jump");
                    break;
                }
                _ if matches!(exit, Exit::NestedPageFault { access: AccessKind::Execute, .. }) => {
                    vcpu.fail_access()?;
                }
                _ => fail!("jump {jump}: {exit:x?}"),
            }
        }
    }
    hart.end()
}

/// The guest has a vector at which there is nothing, and an exception. Each failure leads to the next.
pub(crate) fn fault_loop<S: Subject, I: Hostile<S>>(bench: &Bench<S, I>, vector: u64) -> Verdict {
    let (hart, vcpu) = (bench.hart(), bench.vcpu());
    for _ in 0..1000 {
        hart.nested_fault(vector, AccessKind::Execute)?;
        vcpu.fail_access()?;
    }
    vcpu.reset()?;
    vcpu.set_entry(GuestPhysAddr::new(I::CODE))?;
    hart.nested_fault(vector, AccessKind::Execute)
}

/// Pages full of instructions at random, in every mode, under a storm of interrupts. `body` goes to the window, and `word`
/// makes 64 bits of program.
pub(crate) fn random_pages<S: Subject, I: Hostile<S>>(
    subject: &S,
    number: u64,
    body: impl FnOnce(&mut I::Guest),
    rounds: usize,
    word: impl Fn(&mut Random) -> u64,
) -> Verdict {
    let size = WINDOW_PAGES * PAGE_SIZE;
    attack::<S, I>(subject, number, Pressure::Storm, body, |sandbox, random| {
        for round in 0..rounds {
            let mode = &I::MODES[round % I::MODES.len()];
            for at in (I::WINDOW..I::WINDOW + size).step_by(8) {
                sandbox.bench.space.write(at, word(random))?;
            }
            sandbox.bench.space.write(I::WINDOW, I::TRAPS)?;
            sandbox.vcpu().request_fence(Fence::INSTRUCTION);
            sandbox.start_in(mode)?;
            I::set_registers(sandbox.bench.hart(), &sandbox.bench.space, |_| {
                sandbox.operand(random)
            })?;
            let go_on = |random: &mut Random| {
                let slots = size / I::SLOT as u64;
                mode.window + I::SLOT as u64 * (1 + random.next() % (slots - 1))
            };
            I::go_on_at(sandbox.bench.hart(), go_on(random))?;
            sandbox.let_go(random, |trap, random| {
                Some(if I::is_interrupt(trap) { 0 } else { go_on(random) })
            })?;
        }
        Ok(())
    })
}

/// A guest under a storm of interrupts.
pub(crate) struct Victim<G> {
    /// What it is like.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) body: fn(&mut G),
    /// Whether it tells of interrupts: its handler reports them, or it counts them in its first page of data.
    pub(crate) tells: bool,
}

/// Every guest under a storm of interrupts, and started over again and again.
pub(crate) fn interrupt_storm<S: Subject, I: Hostile<S>>(
    subject: &S,
    number: u64,
    victims: &[Victim<I::Guest>],
) -> Verdict {
    const STARTS: usize = 2;
    for (index, victim) in (0..).zip(victims) {
        attack::<S, I>(
            subject,
            number + index,
            Pressure::Storm,
            victim.body,
            |sandbox, random| {
                for _ in 0..STARTS {
                    besiege(sandbox, random, victim)?;
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Starts the guest over, and lets it go on until it has taken some interrupts.
fn besiege<S: Subject, I: Hostile<S>>(
    sandbox: &Sandbox<'_, S, I>,
    random: &mut Random,
    victim: &Victim<I::Guest>,
) -> Verdict {
    /// Exits for those who do not tell of interrupts, and between two looks at those who do.
    const EXITS: usize = 100;
    /// Interrupts that those take.
    const ENOUGH: u64 = 5;
    /// How often to let them go on, each time for as many exits or until kicks have come, and at least for a moment: a second,
    /// or what takes longer.
    const PATIENCE: usize = 5000;
    let counters = (I::DATA..I::DATA + PAGE_SIZE).step_by(8);
    for at in counters.clone() {
        sandbox.bench.space.write(at, 0)?;
    }
    sandbox.start(&[])?;
    let mut taken = 0;
    for _ in 0..PATIENCE {
        S::pass();
        sandbox.let_go_for(EXITS, random, |trap, _| {
            taken += u64::from(I::is_interrupt(trap));
            Some(0)
        })?;
        let mut all = taken;
        for at in counters.clone() {
            all = all.saturating_add(sandbox.bench.space.read(at)?);
        }
        if all >= ENOUGH || !victim.tells {
            return Ok(());
        }
    }
    fail!("{}: only {taken} interrupts were reported", victim.name)
}
