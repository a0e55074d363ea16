//! The suite for AArch64, as far as a machine without such CPUs can try it: its guests assemble, and a backend that does
//! nothing right passes no case.

mod idle;
mod platform;

use std::sync::Arc;

use axvcpu::AxResult;
use axvcpu_arm::gic::Forwarding;
use axvcpu_conformance::arm;
use idle::{Nothing, nothing_passes};

impl arm::Subject for Nothing<()> {
    fn forwarding_config(&self, _: Arc<dyn Forwarding>) -> AxResult<()> {
        Ok(())
    }
    fn time_base(&self) -> u64 {
        62_500_000
    }
    fn has_atomics(&self) -> bool {
        true
    }
}

#[test]
fn the_guests_assemble_and_nothing_passes() {
    nothing_passes(&arm::run(&Nothing(())));
}
