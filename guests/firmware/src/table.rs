//! Tables of calls, as the guests read them.

/// What a call may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Anything, as long as it returns.
    Any,
    /// This.
    One(u64),
    /// One of these.
    Either(u64, u64),
}

/// A call: the registers it is made with, in the order of the guest's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) registers: [u64; 8],
    /// Which of the architecture's two ways of calling is used, if it has two.
    pub(crate) second: bool,
    pub(crate) expect: Expect,
}

impl Call {
    /// In words, for people.
    pub(crate) fn text(&self, names: [&str; 8]) -> String {
        let registers = names.iter().zip(self.registers);
        let mut text: Vec<_> =
            registers.map(|(name, value)| format!("{name}={value:#x}")).collect();
        if self.second {
            text.push("the second way".into());
        }
        format!("{}; expected: {:x?}", text.join(" "), self.expect)
    }
}

/// The bytes of a call in the table: the places of the eight registers' values in the list of values, those of the two
/// expected answers, and 1 for the second way.
pub(crate) const RECORD: usize = 16;
pub(crate) const EXPECTED: [usize; 2] = [8, 9];
pub(crate) const SECOND: usize = 10;
/// In place of an expected answer: any will do.
pub(crate) const ANY: u8 = 0xff;

/// A table of calls, and the values they refer to.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) values: Vec<u64>,
    pub(crate) records: Vec<u8>,
}

impl Table {
    pub(crate) fn new(calls: &[Call]) -> Self {
        let mut table = Self::default();
        for call in calls {
            let mut record = [0; RECORD];
            for (place, value) in record.iter_mut().zip(call.registers) {
                *place = table.place(value);
            }
            let (one, other) = match call.expect {
                Expect::Any => (ANY, ANY),
                Expect::One(value) => (table.place(value), table.place(value)),
                Expect::Either(one, other) => (table.place(one), table.place(other)),
            };
            (record[EXPECTED[0]], record[EXPECTED[1]]) = (one, other);
            record[SECOND] = call.second.into();
            table.records.extend(record);
        }
        table
    }

    fn place(&mut self, value: u64) -> u8 {
        let known = self.values.iter().position(|known| *known == value);
        let place = known.unwrap_or_else(|| {
            self.values.push(value);
            self.values.len() - 1
        });
        let place = u8::try_from(place).ok().filter(|place| *place != ANY);
        place.expect("no table has more values than a byte can name")
    }
}

/// Pairs of values, for two registers; with each, values for `N` others, which walk through the list as the pairs go on.
pub(crate) fn pairs<const N: usize>(
    values: &[u64],
) -> impl Iterator<Item = ([u64; 2], [u64; N])> + '_ {
    let count = values.len();
    let index = move |number: usize| values[number % count];
    (0..count * count).map(move |pair| {
        let (first, second) = (pair / count, pair % count);
        // Other strides than the pair's own, so that many combinations come.
        let rest = std::array::from_fn(|place| index(pair * (2 * place + 3) + first + 5 * place));
        ([index(first), index(second)], rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_values_once() {
        let call = |expect| Call { registers: [7, 7, 0, 1, 2, 3, 4, 7], second: true, expect };
        let calls = [Expect::Any, Expect::One(9), Expect::Either(9, 1)].map(call);
        let Table { values, records } = Table::new(&calls);
        assert_eq!(values, [7, 0, 1, 2, 3, 4, 9]);
        assert_eq!(records.len(), 3 * RECORD);
        assert_eq!(records[..12], [0, 0, 1, 2, 3, 4, 5, 0, ANY, ANY, 1, 0]);
        assert_eq!(records[RECORD + 8..][..2], [6, 6]);
        assert_eq!(records[2 * RECORD + 8..][..2], [6, 2]);
    }

    #[test]
    fn pairs_are_complete_and_the_rest_is_not_always_the_same() {
        let found: Vec<([u64; 2], [u64; 2])> = pairs(&[1, 2, 3, 4, 5]).collect();
        for first in 1..=5 {
            for second in 1..=5 {
                assert_eq!(found.iter().filter(|(pair, _)| *pair == [first, second]).count(), 1);
            }
        }
        let mut rests: Vec<_> = found.iter().map(|(_, rest)| rest).collect();
        rests.sort();
        rests.dedup();
        assert!(rests.len() > 12, "{rests:?}");
    }
}
