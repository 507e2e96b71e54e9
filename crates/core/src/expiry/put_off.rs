//! Leases that are put off because their mount would not come to them: how late they are. Their entries stand where they are due again, and of each a row
//! tells since when it is late; so that nothing is held in memory per lease, here is the oldest of those that are due again in the same second.

use std::collections::BTreeMap;

use daypass_base::Timestamp;

/// By the second in which they are due again, since when the oldest is late.
#[derive(Default)]
pub(super) struct PutOff(BTreeMap<i64, Timestamp>);

impl PutOff {
    /// Notes one that is put off.
    pub(super) fn note(&mut self, until: Timestamp, since: Timestamp) {
        let oldest = self.0.entry(until.seconds()).or_insert(since);
        *oldest = since.min(*oldest);
        if self.0.len() > SECONDS_MAX
            && let Some((_, since)) = self.0.pop_first()
            && let Some(mut next) = self.0.first_entry()
        {
            let oldest = next.get_mut();
            *oldest = since.min(*oldest);
        }
    }

    /// Forgets those that were due again before this moment: they were met, and each counts by its row.
    pub(super) fn met(&mut self, before: Timestamp) {
        self.0 = self.0.split_off(&before.seconds());
    }

    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.0.values().min().copied()
    }
}

/// None is put off by more than a minute. More are here only while the worker does not come to all that is due.
const SECONDS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_until_it_was_met() {
        let at = Timestamp::from_seconds;
        let mut put_off = PutOff::default();
        for (until, since) in [(1_010, 900), (1_010, 800), (1_020, 700), (1_030, 990)] {
            put_off.note(at(until), at(since));
        }
        for (met, oldest) in [(1_000, Some(700)), (1_015, Some(700)), (1_020, Some(700)), (1_021, Some(990)), (1_031, None)] {
            put_off.met(at(met));
            assert_eq!(put_off.oldest(), oldest.map(at), "{met}");
        }
    }

    #[test]
    fn it_stays_small_and_forgets_no_old_one() {
        let at = Timestamp::from_seconds;
        let mut put_off = PutOff::default();
        for second in 0..1_000 {
            put_off.note(at(1_000 + second), at(500 + second));
        }
        assert_eq!((put_off.0.len(), put_off.oldest()), (SECONDS_MAX, Some(at(500))));
    }
}
