//! What the guest computes, said once more in Rust.

/// The checksum before the first round.
pub(crate) const START: u64 = 0x9e37_79b9;
/// Bytes that are sieved.
pub(crate) const SIEVE: usize = 32 << 10;
/// Bytes that are summed up.
pub(crate) const BUFFER: usize = 16 << 10;
/// The polynomial of CRC-32, reflected.
pub(crate) const POLYNOMIAL: u32 = 0xedb8_8320;
/// Rows and columns of the matrices.
pub(crate) const SIDE: usize = 32;
/// Numbers that are sorted.
pub(crate) const SORTED: usize = 2048;
/// Elements of the list, and how often it is walked through.
pub(crate) const LIST: usize = 4096;
pub(crate) const WALKS: usize = 4;
/// The successor of element `i` is `(i * STEP + OFFSET) % LIST`, which reaches all of them.
pub(crate) const STEP: usize = 1229;
pub(crate) const OFFSET: usize = 853;
/// The Fibonacci number that is computed the slow way.
pub(crate) const FIBONACCI: u64 = 17;
/// Knuth's linear congruential generator for 64 bits.
pub(crate) const FACTOR: u64 = 6_364_136_223_846_793_005;
pub(crate) const INCREMENT: u64 = 1_442_695_040_888_963_407;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(FACTOR).wrapping_add(INCREMENT);
    *state
}

fn primes() -> u64 {
    let mut prime = vec![true; SIEVE];
    let mut i = 2;
    while i * i < SIEVE {
        if prime[i] {
            (i * i..SIEVE).step_by(i).for_each(|j| prime[j] = false);
        }
        i += 1;
    }
    prime.iter().map(|&prime| u64::from(prime)).sum() // with 0 and 1, as the guest counts them
}

fn crc(seed: u64, buffer: &[u8]) -> u64 {
    let table = |index: u32| {
        (0..8).fold(index, |c, _| if c & 1 == 0 { c >> 1 } else { c >> 1 ^ POLYNOMIAL })
    };
    let step = |c: u32, &byte: &u8| table((c ^ u32::from(byte)) & 0xff) ^ c >> 8;
    u64::from(buffer.iter().fold(seed as u32, step))
}

fn product(a: &[u64], b: &[u64]) -> u64 {
    let mut sum = 0u64;
    for row in 0..SIDE {
        for column in 0..SIDE {
            let terms = (0..SIDE).map(|k| a[row * SIDE + k].wrapping_mul(b[k * SIDE + column]));
            sum = sum.wrapping_mul(33) ^ terms.fold(0, u64::wrapping_add);
        }
    }
    sum
}

fn sorted() -> u64 {
    let mut state = START;
    let mut numbers: Vec<_> = (0..SORTED).map(|_| random(&mut state)).collect();
    numbers.sort_unstable();
    numbers.iter().fold(0, |sum: u64, &number| sum.wrapping_mul(31).wrapping_add(number))
}

fn walked() -> u64 {
    let (mut at, mut sum) = (0, 0u64);
    for _ in 0..LIST * WALKS {
        at = (at * STEP + OFFSET) % LIST;
        sum = sum.wrapping_mul(3).wrapping_add(8 * at as u64);
    }
    sum
}

fn fibonacci(n: u64) -> u64 {
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

/// The checksum the guest prints after `rounds` rounds.
pub fn checksum(rounds: u32) -> u64 {
    let mut state = START;
    let mut fill = |count: usize| (0..count).map(|_| random(&mut state)).collect::<Vec<_>>();
    let buffer: Vec<u8> = fill(BUFFER / 8).into_iter().flat_map(u64::to_le_bytes).collect();
    let (a, b) = (fill(SIDE * SIDE), fill(SIDE * SIDE));
    let always = [primes(), product(&a, &b), sorted(), walked(), fibonacci(FIBONACCI)];
    (0..rounds).fold(START, |sum, _| {
        let [primes, product, sorted, walked, fibonacci] = always;
        let mix = |sum: u64, value: u64| sum.wrapping_mul(31).wrapping_add(value);
        let sum = mix(sum, primes);
        let sum = mix(sum, crc(sum, &buffer));
        [product, sorted, walked, fibonacci].into_iter().fold(sum, mix)
    })
}
