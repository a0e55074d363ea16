//! Programs that are not of 64 bits.

use axvcpu::Fence;
use axvcpu_x86::asm::*;
use axvcpu_x86::start::{CODE32, DATA as DATA_SEGMENT};

use super::super::Subject;
use super::super::bench::X86;
use super::super::guest::*;
use crate::bench::Isa;
use crate::hostile::{Pressure, attack};
use crate::random::Random;
use crate::report::Verdict;

const WINDOW: u64 = X86::WINDOW;

/// Goes on with code of 32 bits where `ebp` says, which is in the first 4 GiB.
fn go_to_compatibility_mode(g: &mut Guest) {
    g.li(RAX, DATA_SEGMENT.into());
    for segment in [Seg::Ss, Seg::Ds, Seg::Es] {
        g.mov_to_seg(segment, RAX);
    }
    g.push(u32::from(CODE32));
    g.push(RBP);
    g.retfq();
}

/// Leaves paging and long mode, and goes on with the byte behind these: `mov eax, cr0`; `and eax, 0x7fff_ffff`;
/// `mov cr0, eax`; `mov ecx, 0xc000_0080`; `xor eax, eax`; `xor edx, edx`; `wrmsr`.
const TO_PROTECTED_MODE: [u8; 22] = [
    0x0f, 0x20, 0xc0, 0x25, 0xff, 0xff, 0xff, 0x7f, 0x0f, 0x22, 0xc0, 0xb9, 0x80, 0x00, 0x00, 0xc0,
    0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30,
];
/// The same from there to real mode: `mov eax, cr0`; `and al, 0xfe`; `mov cr0, eax`. Segments are what they were, with all
/// of their limits.
const TO_REAL_MODE: [u8; 8] = [0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0];
/// And to a code segment as real mode has them, from 0x3_0000 on: `ljmp 0x3000:0x2d_5040`, which is in the window.
const FAR: [u8; 7] = [0xea, 0x40, 0x50, 0x2d, 0x00, 0x00, 0x30];

/// Random bytes behind these, again and again.
fn behind<S: Subject>(subject: &S, number: u64, starts: &[&[&[u8]]]) -> Verdict {
    const ROUNDS: usize = 50;
    attack::<S, X86>(
        subject,
        number,
        Pressure::Storm,
        go_to_compatibility_mode,
        |sandbox, random: &mut Random| {
            for round in 0..ROUNDS {
                for at in (WINDOW..WINDOW + 0x4000).step_by(8) {
                    sandbox.bench.space.write(at, random.next())?;
                }
                sandbox.bench.space.fill(WINDOW, &starts[round % starts.len()].concat())?;
                sandbox.vcpu().request_fence(Fence::INSTRUCTION);
                sandbox.start(&[(axvcpu_x86::reg::gpr::RBP, WINDOW)])?;
                sandbox.let_go(random, |_, random| {
                    random.once_in(2).then(|| WINDOW + (random.next() & 0x3fff))
                })?;
            }
            Ok(())
        },
    )
}

pub(super) fn compatibility<S: Subject>(subject: &S) -> Verdict {
    behind(subject, 340, &[&[]])
}

pub(super) fn legacy<S: Subject>(subject: &S) -> Verdict {
    behind(
        subject,
        341,
        &[
            &[&TO_PROTECTED_MODE],
            &[&TO_PROTECTED_MODE, &TO_REAL_MODE],
            &[&TO_PROTECTED_MODE, &TO_REAL_MODE, &FAR],
        ],
    )
}
