//! From a file to rows. The file is a stranger's until its sums were compared.

use std::io::{self, BufRead, BufReader, Read};

use aws_lc_rs::digest::{Context, SHA256};
use flate2::bufread::GzDecoder;

use super::export::sum;
use super::record::{self, Record};
use super::{Counts, FORMAT, META, Manifest, SEALED_SUMS, SMALL_MEMBER_BYTES_MAX, STATE, SUMS, sums, tar};
use crate::CommitError;

/// Takes what is read. Nothing of it counts before [`read`] has returned.
pub trait Sink {
    /// What the file says of itself comes first.
    fn manifest(&mut self, _manifest: &Manifest) -> Result<(), CommitError> {
        Ok(())
    }

    /// A row.
    fn record(&mut self, record: Record) -> Result<(), CommitError>;
}

/// A snapshot that was read to its end and is what its sums say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The sums that were compared.
    pub sums: String,
    /// The same, under a key of the server that made it: proves that one with that key did.
    pub sealed_sums: Vec<u8>,
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is no snapshot, was cut off, or has been altered.
    #[error("{0}")]
    Broken(String),
    /// A newer daypass made it.
    #[error("the snapshot has format {found}, this daypass knows up to {FORMAT}: use the daypass that made it, or a newer one")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// It could not be read on.
    #[error("the snapshot could not be read to its end: {0}")]
    Read(io::Error),
    /// The sink did not take a row.
    #[error("{0}")]
    Sink(CommitError),
}

/// Reads a whole snapshot and compares its sums. Blocks.
pub fn read(source: impl Read, sink: &mut dyn Sink) -> Result<Whole, SnapshotError> {
    let mut gzip = GzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, source));
    let meta = small(&mut gzip, META)?;
    let manifest = read_manifest(&meta)?;
    sink.manifest(&manifest).map_err(SnapshotError::Sink)?;
    let header = header(&mut gzip, STATE)?;
    if header.size != manifest.state_bytes {
        return Err(broken(format!("{STATE} has {} bytes, {META} says {}", header.size, manifest.state_bytes)));
    }
    let mut state = Summed { source: (&mut gzip).take(header.size), hash: Context::new(&SHA256) };
    let rows = read_state(&mut BufReader::with_capacity(BUFFER_BYTES, &mut state), sink)?;
    if state.source.limit() > 0 {
        return Err(CUT.into());
    }
    let sha256 = sum(state.hash);
    tar::read_padding(&mut gzip, header.size)?;
    let given = small(&mut gzip, SUMS)?;
    let sealed_sums = small(&mut gzip, SEALED_SUMS)?;
    tar::read_end(&mut gzip)?;
    // At its end the decoder has compared gzip's own sum.
    if gzip.into_inner().fill_buf()?.is_empty() { Ok(()) } else { Err(broken("there is something behind the end of the snapshot")) }?;
    let sums = sums(&meta, &sha256);
    if given != sums.as_bytes() {
        return Err(broken(format!("the content is not what {SUMS} says: the file was damaged or altered")));
    }
    if rows != manifest.rows {
        return Err(broken(format!("the snapshot has {} rows, {META} says {}", rows.all(), manifest.rows.all())));
    }
    if sealed_sums.is_empty() {
        return Err(broken(format!("{SEALED_SUMS} is empty: the server could not finish the snapshot")));
    }
    Ok(Whole { manifest, sums, sealed_sums })
}

fn read_manifest(meta: &[u8]) -> Result<Manifest, SnapshotError> {
    /// The one thing that every format has.
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let foreign = |error: serde_json::Error| {
        broken(format!("{META} is not that of a daypass snapshot ({error}); snapshots of Vault cannot be restored here"))
    };
    let Format { format } = serde_json::from_slice(meta).map_err(foreign)?;
    if format == 0 || format > FORMAT {
        return Err(SnapshotError::Newer { found: format });
    }
    let manifest: Manifest = serde_json::from_slice(meta).map_err(foreign)?;
    if i64::try_from(manifest.config_version).is_err() {
        return Err(broken("its configuration version is too large"));
    }
    // Both are shown to people, and anybody can make such a file.
    if [&manifest.made_by, &manifest.id].into_iter().any(|name| name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control)) {
        let text = format!("{META} names its maker, or itself, in more than {NAME_BYTES_MAX} bytes or with control characters");
        return Err(broken(text));
    }
    Ok(manifest)
}

fn read_state(source: &mut impl Read, sink: &mut dyn Sink) -> Result<Counts, SnapshotError> {
    let mut rows = Counts::default();
    let mut buffer = Vec::new();
    let mut last = None;
    while let Some(record) = record::decode(source, &mut buffer)? {
        let place = record.place();
        if last.is_some_and(|last| last >= place) {
            return Err(broken("a row that is out of order, or there twice"));
        }
        last = Some(place);
        *rows.of(&record.borrowed()) += 1;
        sink.record(record).map_err(SnapshotError::Sink)?;
        buffer.shrink_to(BUFFER_BYTES);
    }
    Ok(rows)
}

fn header(source: &mut impl Read, wanted: &str) -> Result<tar::Header, SnapshotError> {
    let header = tar::read_header(source)?;
    if header.name == wanted { Ok(header) } else { Err(broken(format!("{:?} is where {wanted} belongs", header.name))) }
}

/// A member that is short.
fn small(source: &mut impl Read, name: &str) -> Result<Vec<u8>, SnapshotError> {
    let header = header(source, name)?;
    if header.size > SMALL_MEMBER_BYTES_MAX {
        return Err(broken(format!("{name} has {} bytes; {SMALL_MEMBER_BYTES_MAX} are the most", header.size)));
    }
    let mut bytes = Vec::new();
    if source.take(header.size).read_to_end(&mut bytes)? as u64 != header.size {
        return Err(CUT.into());
    }
    tar::read_padding(source, header.size)?;
    Ok(bytes)
}

/// Sums what is read.
struct Summed<R> {
    source: R,
    hash: Context,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

const CUT: io::ErrorKind = io::ErrorKind::UnexpectedEof;

impl From<io::ErrorKind> for SnapshotError {
    fn from(kind: io::ErrorKind) -> Self {
        io::Error::from(kind).into()
    }
}

/// What the decoders say of bytes is the file's fault; anything else is the reader's.
impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => broken("it ends too early: the file or the transfer was cut off"),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => broken(error.to_string()),
            _ => Self::Read(error),
        }
    }
}

fn broken(what: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::Broken(format!("this is no whole snapshot of daypass: {what}"))
}

const BUFFER_BYTES: usize = 64 * 1024;
/// Of what a snapshot says of who made it.
const NAME_BYTES_MAX: usize = 256;
