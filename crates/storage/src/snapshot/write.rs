//! From an [`Export`] to the file.

use std::io::{self, Read, Write};

use daypass_base::Timestamp;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Export, FORMAT, META, Manifest, SEALED_SUMS, STATE, SUMS, sums, tar};

/// A snapshot that is about to be written.
pub struct Archive {
    export: Export,
    manifest: Manifest,
    meta: Vec<u8>,
    sums: String,
}

impl Archive {
    /// Of this export, made by this program at this time.
    #[must_use]
    pub fn new(export: Export, made_by: &str, time: Timestamp) -> Self {
        let manifest = Manifest {
            format: FORMAT,
            made_by: made_by.to_owned(),
            time,
            config_version: export.config_version,
            rows: export.totals.rows,
            state_bytes: export.totals.bytes,
            id: "daypass".to_owned(),
            index: export.config_version,
            term: 1,
            version: 1,
        };
        let meta = serde_json::to_vec(&manifest).unwrap_or_default();
        let sums = sums(&meta, &export.totals.sha256);
        Self { export, manifest, meta, sums }
    }

    /// What it will say of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the caller is to seal.
    #[must_use]
    pub fn sums(&self) -> &str {
        &self.sums
    }

    /// Writes all of it. Blocks. Errors: those of `out` and of the export.
    pub fn write(mut self, sealed_sums: &[u8], out: impl Write) -> io::Result<()> {
        let seconds = u64::try_from(self.manifest.time.seconds()).unwrap_or_default();
        // Values are sealed, so they do not get smaller, and looking for what repeats in them would cost more than all the rest.
        let mut gzip = GzEncoder::new(out, Compression::fast());
        let small = |gzip: &mut GzEncoder<_>, name: &str, bytes: &[u8]| -> io::Result<()> {
            tar::write_header(gzip, name, bytes.len() as u64, seconds)?;
            gzip.write_all(bytes)?;
            tar::write_padding(gzip, bytes.len() as u64)
        };
        small(&mut gzip, META, &self.meta)?;
        let size = self.manifest.state_bytes;
        tar::write_header(&mut gzip, STATE, size, seconds)?;
        let copied = io::copy(&mut self.export.state.by_ref().take(size), &mut gzip)?;
        if copied != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the export has {copied} bytes instead of {size}")));
        }
        tar::write_padding(&mut gzip, size)?;
        small(&mut gzip, SUMS, self.sums.as_bytes())?;
        small(&mut gzip, SEALED_SUMS, sealed_sums)?;
        tar::write_end(&mut gzip)?;
        gzip.finish()?.flush()
    }
}
