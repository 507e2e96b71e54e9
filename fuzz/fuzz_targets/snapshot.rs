//! Whatever is uploaded as a snapshot: it is refused or read, and what is read is written again as it was.
#![no_main]

use daypass_storage::CommitError;
use daypass_storage::snapshot::record::{decode, encode};
use daypass_storage::snapshot::{Record, Sink, read};
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Counting(u64);

impl Sink for Counting {
    fn record(&mut self, _: Record) -> Result<(), CommitError> {
        self.0 += 1;
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut counting = Counting::default();
    if let Ok(whole) = read(data, &mut counting) {
        assert_eq!(whole.manifest.rows.all(), counting.0, "rows that nobody counted");
        assert!(!whole.sealed_sums.is_empty());
    }

    // The rows alone: no sum stands before them.
    let (mut rest, mut buffer, mut again) = (data, Vec::new(), Vec::new());
    while let Ok(Some(record)) = decode(&mut rest, &mut buffer) {
        encode(&record.borrowed(), &mut again);
        let read = data.len() - rest.len();
        assert_eq!(again, &data[..read], "one record, two forms");
    }
});
