//! List registers, as the guest leaves them and as they are filled anew.

use std::sync::Mutex;
use std::vec::Vec;

use axvcpu_arm::gic::ForwardAll;

use super::*;

/// A distributor with a priority for each interrupt, or none; [`ENDED`] marks one that is deactivated.
#[derive(Default)]
struct Table(Mutex<Vec<(u32, Option<u8>)>>);

const ENDED: Option<u8> = Some(0xff);

impl Forwarding for Table {
    fn generation(&self) -> u32 {
        self.0.lock().unwrap().len() as u32
    }

    fn take_ended(&self) -> u64 {
        let table = self.0.lock().unwrap();
        table.iter().filter(|entry| entry.1 == ENDED).fold(0, |all, entry| all | 1 << entry.0)
    }

    fn priority(&self, intid: u32) -> Option<u8> {
        let table = self.0.lock().unwrap();
        table.iter().rev().find(|entry| entry.0 == intid).map_or(Some(0xa0), |entry| entry.1)
    }
}

const COUNT: usize = 4;

struct Bench {
    interrupts: Interrupts,
    lrs: [u64; MAX_LIST_REGISTERS],
    hcr: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(Arc::new(ForwardAll))
    }

    fn with(forwarding: Arc<dyn Forwarding>) -> Self {
        Self { interrupts: Interrupts::new(forwarding), lrs: [0; 16], hcr: 0 }
    }

    fn fill(&mut self) -> Vec<u32> {
        end_active(self.interrupts.renew(), &mut self.lrs);
        self.hcr = self.interrupts.fill(&mut self.lrs, COUNT);
        self.pending()
    }

    /// What the guest is shown, in its order.
    fn pending(&self) -> Vec<u32> {
        let pending = self.lrs.iter().filter(|&&value| value & lr::PENDING != 0);
        let mut pending: Vec<_> =
            pending.map(|&value| (value >> lr::PRIORITY_SHIFT & 0xff, lr::intid(value))).collect();
        pending.sort();
        pending.into_iter().map(|(_, intid)| intid).collect()
    }

    fn register(&mut self, intid: u32) -> &mut u64 {
        self.lrs.iter_mut().find(|value| **value != 0 && lr::intid(**value) == intid).unwrap()
    }

    /// The guest acknowledges.
    fn acknowledge(&mut self, intid: u32) {
        let register = self.register(intid);
        *register = *register & !lr::PENDING | lr::ACTIVE;
    }

    /// The guest ends.
    fn end(&mut self, intid: u32) {
        *self.register(intid) &= !(lr::PENDING | lr::ACTIVE);
    }
}

#[test]
fn an_edge_is_shown_once() {
    let mut bench = Bench::new();
    bench.interrupts.inject(40);
    bench.interrupts.inject(40);
    assert_eq!(bench.fill(), [40]);
    assert_eq!(bench.fill(), [40], "still the same one");
    bench.acknowledge(40);
    assert_eq!(bench.fill(), []);
    bench.end(40);
    assert_eq!(bench.fill(), []);
    assert!(!bench.interrupts.waits() && bench.hcr == ich_hcr::EN);
}

#[test]
fn an_edge_that_comes_while_its_interrupt_is_active_is_kept() {
    let mut bench = Bench::new();
    bench.interrupts.inject(40);
    bench.fill();
    bench.acknowledge(40);
    bench.interrupts.inject(40);
    assert_eq!(bench.fill(), [40]);
    assert_eq!(*bench.register(40) >> 62, 0b11, "pending and active, in the one register");
    assert_eq!(bench.lrs.iter().filter(|&&value| value != 0).count(), 1);
}

#[test]
fn a_line_is_shown_as_long_as_it_is_asserted() {
    let mut bench = Bench::new();
    bench.interrupts.set_line(33, true);
    assert_eq!(bench.fill(), [33]);
    assert_ne!(
        *bench.register(33) & lr::EOI,
        0,
        "its end must be told: the line may be asserted still"
    );
    bench.interrupts.set_line(33, false);
    assert_eq!(bench.fill(), [], "taken back before the guest has seen it");
    bench.interrupts.set_line(33, true);
    bench.fill();
    bench.acknowledge(33);
    bench.interrupts.set_line(33, false);
    bench.fill();
    assert_eq!(*bench.register(33) & lr::EOI, 0, "nothing to tell");
    bench.interrupts.set_line(33, true);
    bench.fill();
    assert_ne!(*bench.register(33) & lr::EOI, 0);
    bench.end(33);
    assert_eq!(bench.fill(), [33], "again");
}

#[test]
fn the_only_one_is_shown_as_if_there_were_more() {
    for (edge, line) in [(Some(40), None), (None, Some(33)), (Some(15), None), (Some(1019), None)] {
        let (mut one, mut other) = (Bench::new(), Bench::new());
        for bench in [&mut one, &mut other] {
            edge.iter().for_each(|&edge| bench.interrupts.inject(edge));
            line.iter().for_each(|&line| bench.interrupts.set_line(line, true));
        }
        other.fill();
        assert_eq!(one.interrupts.take_only(), Some(other.lrs[0]));
        assert_eq!(one.interrupts.waits(), line.is_some());
    }
    let mut bench = Bench::new();
    assert_eq!(bench.interrupts.take_only(), None);
    for intid in [40, 41] {
        bench.interrupts.inject(intid);
    }
    assert_eq!(bench.interrupts.take_only(), None);
    assert_eq!(bench.fill(), [40, 41]);
    bench.interrupts.inject(900);
    bench.interrupts.set_line(33, true);
    assert_eq!(bench.interrupts.take_only(), None);
    let table = Arc::new(Table::default());
    table.0.lock().unwrap().push((40, None));
    let mut bench = Bench::with(table);
    bench.interrupts.inject(40);
    assert_eq!(bench.interrupts.take_only(), None);
    assert!(bench.interrupts.waits());
}

#[test]
fn a_line_and_an_edge_are_one_interrupt() {
    let mut bench = Bench::new();
    bench.interrupts.inject(33);
    bench.interrupts.set_line(33, true);
    assert_eq!(bench.fill(), [33]);
    assert_eq!(bench.lrs.iter().filter(|&&value| value != 0).count(), 1);
}

#[test]
fn the_most_important_are_shown_and_the_rest_follows() {
    let table = Arc::new(Table::default());
    table.0.lock().unwrap().extend((32..42).map(|intid| (intid, Some(8 * (42 - intid) as u8))));
    let mut bench = Bench::with(table);
    (32..42).for_each(|intid| bench.interrupts.inject(intid));
    assert_eq!(bench.fill(), [41, 40, 39, 38]);
    assert_eq!(bench.hcr, ich_hcr::EN | ich_hcr::NPIE);
    let mut taken = Vec::new();
    while let Some(&first) = bench.pending().first() {
        bench.acknowledge(first);
        taken.push(first);
        bench.end(first);
        if bench.pending().is_empty() {
            bench.fill();
        }
    }
    assert_eq!(taken, (32..42).rev().collect::<Vec<_>>());
    assert_eq!(bench.hcr, ich_hcr::EN);
}

#[test]
fn a_more_important_one_takes_the_place_of_one_that_only_waits() {
    let table = Arc::new(Table::default());
    table.0.lock().unwrap().push((50, Some(8)));
    let mut bench = Bench::with(table);
    (32..36).for_each(|intid| bench.interrupts.inject(intid));
    assert_eq!(bench.fill(), [32, 33, 34, 35]);
    bench.interrupts.inject(50);
    assert_eq!(bench.fill(), [50, 32, 33, 34]);
    assert_eq!(bench.hcr, ich_hcr::EN | ich_hcr::NPIE);
}

#[test]
fn active_ones_give_up_their_registers_for_pending_ones() {
    let table = Arc::new(Table::default());
    table.0.lock().unwrap().extend((32..42).map(|intid| (intid, Some(8 * (42 - intid) as u8))));
    let mut bench = Bench::with(table);
    // Each preempts the one before.
    for intid in 32..42 {
        bench.interrupts.inject(intid);
        assert_eq!(bench.fill(), [intid]);
        bench.acknowledge(intid);
    }
    let wanted = ich_hcr::EN | ich_hcr::LRENPIE | ich_hcr::TDIR;
    assert_eq!(bench.hcr, wanted);
    // The least important ones, which end last, are not in registers.
    for intid in 32..38 {
        assert!(bench.interrupts.spilled.contains(intid), "{intid}");
    }
    for intid in (38..42).rev() {
        bench.end(intid);
        bench.fill();
    }
    assert_eq!(bench.hcr, wanted, "two are left over");
    assert!(!bench.interrupts.spilled.contains(37) && bench.interrupts.spilled.contains(33));
    for intid in (32..38).rev() {
        bench.end(intid);
        bench.fill();
    }
    assert_eq!((bench.hcr, bench.interrupts.waits()), (ich_hcr::EN, false));
}

#[test]
fn ends_that_the_hardware_has_counted_are_those_of_the_most_important() {
    let mut bench = Bench::new();
    for intid in 32..40 {
        bench.interrupts.inject(intid);
        bench.fill();
        bench.acknowledge(intid);
    }
    let spilled = (32..40).filter(|&intid| bench.interrupts.spilled.contains(intid));
    let spilled: Vec<_> = spilled.collect();
    assert_eq!(spilled.len(), 4);
    bench.interrupts.end_counted(2);
    assert!(!bench.interrupts.spilled.contains(spilled[0]));
    assert!(!bench.interrupts.spilled.contains(spilled[1]));
    assert!(bench.interrupts.spilled.contains(spilled[2]));
    bench.interrupts.end_counted(9);
    bench.fill();
    assert!(!bench.interrupts.waits());
    // It was active once: it can be pending again.
    bench.interrupts.inject(spilled[0]);
    assert_eq!(bench.fill(), [spilled[0]]);
}

#[test]
fn a_timer_that_has_lost_its_register_ends_the_physical_one_all_the_same() {
    let table = Arc::new(Table::default());
    table.0.lock().unwrap().push((27, Some(0xf0)));
    let mut bench = Bench::with(table);
    bench.interrupts.timers = todo::VIRTUAL_TIMER;
    bench.fill();
    bench.acknowledge(27);
    for intid in 32..36 {
        bench.interrupts.inject(intid);
        bench.fill();
        bench.acknowledge(intid);
    }
    assert!(bench.interrupts.spilled.contains(27));
    assert_eq!(bench.interrupts.spilled_timers, todo::VIRTUAL_TIMER);
    bench.end(35);
    bench.fill();
    assert_eq!(*bench.register(27) & (lr::HW | lr::ACTIVE), lr::HW | lr::ACTIVE, "and is back");
    assert_eq!(bench.interrupts.spilled_timers, 0);
}

#[test]
fn an_edge_of_a_spilled_one_waits_for_its_end() {
    let mut bench = Bench::new();
    for intid in 32..37 {
        bench.interrupts.inject(intid);
        bench.fill();
        bench.acknowledge(intid);
    }
    let spilled = (32..37).find(|&intid| bench.interrupts.spilled.contains(intid)).unwrap();
    bench.interrupts.inject(spilled);
    assert_eq!(bench.fill(), []);
    assert!(bench.interrupts.end_spilled(spilled));
    assert_eq!(bench.fill(), [spilled]);
}

#[test]
fn disabled_ones_wait() {
    let table = Arc::new(Table::default());
    let mut bench = Bench::with(table.clone());
    bench.interrupts.inject(40);
    assert_eq!(bench.fill(), [40]);
    table.0.lock().unwrap().push((40, None));
    assert!(bench.interrupts.is_outdated());
    assert_eq!(bench.fill(), [], "taken back");
    assert!(bench.interrupts.waits() && !bench.interrupts.is_outdated());
    table.0.lock().unwrap().push((40, Some(0)));
    assert_eq!(bench.fill(), [40]);
}

#[test]
fn the_distributor_can_end_what_is_active() {
    let table = Arc::new(Table::default());
    let mut bench = Bench::with(table.clone());
    table.0.lock().unwrap().push((40, ENDED));
    bench.interrupts.inject(40);
    bench.interrupts.inject(41);
    bench.fill(); // nothing was active
    bench.acknowledge(40);
    bench.acknowledge(41);
    bench.interrupts.inject(41);
    assert_eq!(bench.fill(), [41]);
    assert_eq!(bench.lrs.iter().filter(|&&value| value & lr::ACTIVE != 0).count(), 2);
    table.0.lock().unwrap().push((41, ENDED));
    assert_eq!(bench.fill(), [41]);
    assert_eq!(bench.lrs.iter().filter(|&&value| value & lr::ACTIVE != 0).count(), 0);
    bench.interrupts.inject(40);
    assert_eq!(bench.fill(), [40, 41]);
}

#[test]
fn a_timer_s_interrupt_ends_with_the_physical_one() {
    let mut bench = Bench::new();
    bench.interrupts.timers = todo::VIRTUAL_TIMER;
    assert_eq!(bench.fill(), [27]);
    let hardware = lr::HW | 27 << lr::PHYSICAL_SHIFT;
    assert_eq!(*bench.register(27) & (lr::HW | lr::PHYSICAL), hardware);
    assert_eq!(bench.interrupts.timers, 0);
    assert_eq!(bench.fill(), [27], "not lost when looked at");
    bench.acknowledge(27);
    // It went away to another CPU and back, and fired there before the guest has ended it.
    *bench.register(27) &= !(lr::HW | lr::PHYSICAL);
    bench.interrupts.timers = todo::VIRTUAL_TIMER;
    assert_eq!(bench.fill(), []);
    assert_eq!(*bench.register(27) & (lr::HW | lr::PHYSICAL), hardware);
    assert_eq!(bench.interrupts.timers, 0);
}
