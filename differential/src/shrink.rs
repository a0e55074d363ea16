//! Making a program that shows a difference as short as possible.

use alloc::vec::Vec;

use crate::program::Program;

/// Takes items away as long as `differs` still holds; `differs(program)` holds already. The rest keeps its
/// registers, its data and the targets of its jumps.
///
/// # Errors
///
/// Those of `differs`.
pub fn shrink<E>(
    program: &Program,
    mut differs: impl FnMut(&Program) -> Result<bool, E>,
) -> Result<Program, E> {
    let mut best = program.clone();
    loop {
        let before = best.instructions();
        let mut size = best.items.len().next_power_of_two();
        while size > 0 {
            for start in (0..best.items.len()).step_by(size) {
                let mut candidate = best.clone();
                // Emptied, not removed: jumps name items by their number.
                candidate.items.iter_mut().skip(start).take(size).for_each(Vec::clear);
                if candidate.instructions() < best.instructions() && differs(&candidate)? {
                    best = candidate;
                }
            }
            size /= 2;
        }
        if best.instructions() == before {
            return Ok(best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate;

    #[test]
    fn what_is_not_needed_goes() {
        let program = generate::program(7, 300);
        let wanted = |p: &Program| [10, 90].iter().all(|&i| !p.items[i].is_empty());
        let shrunk = shrink(&program, |p| Ok::<_, ()>(wanted(p))).unwrap();
        assert!(wanted(&shrunk));
        assert_eq!(shrunk.items.iter().filter(|item| !item.is_empty()).count(), 2);
        assert!(shrunk.code().is_ok());
    }
}
