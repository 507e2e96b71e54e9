//! Looks a key up in the ledger: who had it made, who got it last, and how often it was handed out.
//!
//! A credential that a role shares may have been handed out a million times. The small rows of key ids are read whole, and say how often; of the
//! mints themselves only the oldest and the newest are read and kept.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use daypass_base::Timestamp;
use daypass_sdk::Result;

use super::{KEYS, Keys, MINTS, Mint, Mints, PAGE, row_name};
use crate::rows::config_key;

/// What is known of an access key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Who had it made: the oldest use that is no reuse, or the oldest of all where that one is forgotten.
    pub(crate) maker: Mint,
    /// The newest uses, newest first, and the maker's in any case.
    pub(crate) uses: Vec<Mint>,
    /// How often it was handed out, those among it that are not in `uses`.
    pub(crate) total: usize,
}

/// What a look into the ledger brought.
pub(crate) struct Look {
    /// `None`: nothing is known of the key.
    pub(crate) found: Option<Found>,
    /// Rows that do not open: uses of the key may stand there.
    pub(crate) damaged: usize,
}

/// The uses that are worth keeping of all that come by, in any order.
#[derive(Default)]
struct Sifted {
    maker: Option<Mint>,
    newest: BTreeMap<(Timestamp, String), Mint>,
}

impl Sifted {
    fn add(&mut self, mint: &Mint) {
        if self.maker.as_ref().is_none_or(|maker| age(mint) < age(maker)) {
            self.maker = Some(mint.clone());
        }
        self.newest.insert((mint.issued, mint.lease_id.clone()), mint.clone());
        if self.newest.len() > NEWEST_MAX {
            self.newest.pop_first();
        }
    }

    fn found(self, total: usize) -> Option<Found> {
        let maker = self.maker?;
        let mut uses: Vec<Mint> = self.newest.into_values().rev().collect();
        if !uses.contains(&maker) {
            uses.push(maker.clone());
        }
        Some(Found { maker, uses, total })
    }
}

/// By what the maker's use comes before all others. Whoever waited while it was made may stand before its maker.
fn age(mint: &Mint) -> (bool, Timestamp, &str) {
    (mint.facts.contains_key("reused"), mint.issued, &mint.lease_id)
}

/// Rows with uses of the key: the first of them and the last, which are read.
#[derive(Default)]
struct Ends {
    first: Vec<String>,
    last: VecDeque<(String, usize)>,
    in_last: usize,
    uses: usize,
    /// Rows of which neither the keys open nor the mints.
    damaged: usize,
}

impl Ends {
    /// `most` uses are wanted of the last rows.
    fn add(&mut self, row: String, uses: usize, most: usize) {
        self.uses += uses;
        if self.first.len() < FIRST_ROWS {
            self.first.push(row);
            return;
        }
        self.last.push_back((row, uses));
        self.in_last += uses;
        while let Some((_, oldest)) = self.last.front() {
            if self.in_last.saturating_sub(*oldest) < most {
                return;
            }
            self.in_last = self.in_last.saturating_sub(*oldest);
            self.last.pop_front();
        }
    }
}

impl Mints {
    /// Everything that is known of an access key. Damaged rows are passed over. Errors: the store cannot be read.
    pub(crate) async fn find(&self, access_key_id: &str) -> Result<Look> {
        let mut sifted = Sifted::default();
        // Memory first: what moves from there into the store meanwhile is then seen twice, never not at all; and it is known again by its lease.
        let filling = self.filling.lock().await;
        let name = filling.name.clone();
        let mut in_memory = HashSet::new();
        for written in filling.mints.iter().filter(|mint| mint.access_key_id == access_key_id) {
            let mint = written.read()?;
            sifted.add(&mint);
            in_memory.insert(mint.lease_id);
        }
        for mint in self.waiting.lock().mints.iter().filter(|mint| mint.access_key_id == access_key_id) {
            sifted.add(mint);
            in_memory.insert(mint.lease_id.clone());
        }
        drop(filling);
        let ends = self.rows_of(access_key_id, &name, NEWEST_MAX + in_memory.len()).await?;
        let (mut twice, mut damaged) = (0, ends.damaged);
        for row in ends.first.iter().chain(ends.last.iter().map(|(row, _)| row)) {
            let stored = self.stored(row).await?.unwrap_or_else(|_error| {
                damaged += 1;
                Vec::new()
            });
            for mint in stored.iter().filter(|mint| mint.access_key_id == access_key_id) {
                if in_memory.contains(&mint.lease_id) {
                    twice += 1;
                } else {
                    sifted.add(mint);
                }
            }
        }
        let found = sifted.found((ends.uses + in_memory.len()).saturating_sub(twice));
        Ok(Look { found, damaged })
    }

    /// The mints of a row. The outer error: the store cannot be read; the inner one: this row.
    pub(super) async fn stored(&self, row: &str) -> Result<Result<Vec<Mint>>> {
        let stored = self.rows.look(&config_key(format!("{MINTS}{row}"))).await?;
        Ok(stored.map_or_else(|| Ok(Vec::new()), |read| read.map(|(mints, _version)| mints)))
    }

    /// Rows with uses of a key, without the one that is being filled.
    async fn rows_of(&self, access_key_id: &str, filling: &str, most: usize) -> Result<Ends> {
        let mut ends = Ends::default();
        let mut after: Option<Bytes> = None;
        loop {
            let (page, last) = self.rows.scan_each::<Keys>(&config_key(KEYS), after.as_deref(), PAGE).await?;
            let Some(last) = last else { return Ok(ends) };
            after = Some(last);
            for (key, keys) in page {
                let row = row_name(&key);
                if row == filling {
                    continue;
                }
                let uses = match keys {
                    Ok(keys) => keys.keys.iter().filter(|key| *key == access_key_id).count(),
                    // Its mints say the same, and may be whole.
                    Err(_damaged) => match self.stored(&row).await? {
                        Ok(mints) => mints.iter().filter(|mint| mint.access_key_id == access_key_id).count(),
                        Err(error) => {
                            tracing::warn!(%error, row = %row, "a row of the mint ledger is damaged; it is passed over");
                            ends.damaged += 1;
                            0
                        }
                    },
                };
                if uses > 0 {
                    ends.add(row.into_owned(), uses, most);
                }
            }
        }
    }
}

/// The newest uses that are shown.
const NEWEST_MAX: usize = 99;
/// Rows that the maker is looked for in: it lies in the first, or behind some who waited for it, at the begin of the second.
const FIRST_ROWS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn mint(number: i64, reused: bool) -> Mint {
        let at = Timestamp::from_seconds(number);
        let text = String::new;
        Mint {
            access_key_id: "ASIA".to_owned(),
            path: text(),
            lease_id: number.to_string(),
            request_id: text(),
            issued: at,
            expires: at,
            last_end: None,
            display_name: text(),
            entity_id: text(),
            accessor: text(),
            metadata: BTreeMap::new(),
            claims: BTreeMap::new(),
            remote_address: text(),
            facts: reused.then(|| ("reused".to_owned(), "true".to_owned())).into_iter().collect(),
        }
    }

    /// Story: the hundredth reuse pushed the maker out, and whoever came a hundred uses before the last was named as the maker.
    #[test]
    fn the_maker_is_kept_and_the_newest_in_whatever_order_they_come() {
        for backwards in [false, true] {
            let mut all: Vec<Mint> = (1..500).map(|number| mint(number, number != 2)).collect();
            if backwards {
                all.reverse();
            }
            let mut sifted = Sifted::default();
            for mint in &all {
                sifted.add(mint);
            }
            let found = sifted.found(all.len()).unwrap();
            let shown: Vec<i64> = found.uses.iter().map(|mint| mint.issued.seconds()).collect();
            assert_eq!((found.maker.issued.seconds(), shown.len()), (2, NEWEST_MAX + 1), "who waited for it stands before it");
            assert_eq!((shown[0], shown[98], shown[99]), (499, 401, 2));
        }
    }

    #[test]
    fn of_one_whose_maker_is_forgotten_the_oldest_use_is_named() {
        let mut sifted = Sifted::default();
        for number in [3, 1, 2] {
            sifted.add(&mint(number, true));
        }
        let found = sifted.found(3).unwrap();
        assert_eq!((found.maker.issued.seconds(), found.uses.len()), (1, 3));
        assert_eq!(Sifted::default().found(0), None);
    }

    #[test]
    fn only_the_first_rows_and_as_many_of_the_last_as_are_wanted_are_read() {
        let mut ends = Ends::default();
        for row in 0..10_000 {
            ends.add(row.to_string(), 64, NEWEST_MAX);
        }
        let last: Vec<&str> = ends.last.iter().map(|(row, _)| row.as_str()).collect();
        assert_eq!((ends.first.join(" "), last, ends.uses), ("0 1".to_owned(), vec!["9998", "9999"], 640_000));
    }
}
