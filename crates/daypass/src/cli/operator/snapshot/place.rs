//! Where a snapshot goes to and comes from: a file, or what is none (a pipe, a device, standard output and input, which are also called `-`).
//!
//! A file gets its name only when what it holds is verified. What is no file is written to and never replaced; it is verified on its way, and
//! whoever reads there has it before anyone knows that it is whole: that is what the exit code is for.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use daypass_base::{Entropy, SystemEntropy};
use daypass_storage::CommitError;
use daypass_storage::snapshot::{Record, Sink, Whole, read};
use tokio::sync::mpsc;

use super::super::super::Failure;
use super::{Progress, at_file};
use crate::show;
use crate::staged::{Staged, private};

/// Where a snapshot goes to.
pub(super) enum Target {
    /// A file that is not there yet.
    File(Staged),
    /// Something that is no file.
    Stream(File),
}

impl Target {
    /// Opens it. A pipe that has a name waits for its reader.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error| at_file("Error creating the snapshot", path, &error);
        // Also by another name: a file behind standard output belongs to whoever has opened it.
        if is_dash(path) || is_same(path, io::stdout()) {
            // Who names the null device wants it.
            if show::is_closed() && path != Path::new(show::NULL) {
                return Err(failed(io::Error::other(show::CLOSED)).hint("name a file, or open standard output"));
            }
            return duplicate(io::stdout()).map(Self::Stream).map_err(failed);
        }
        match fs::metadata(path) {
            Ok(found) if !found.is_file() => OpenOptions::new().write(true).open(path).map(Self::Stream).map_err(failed),
            _ => Staged::beside(path).map(Self::File).map_err(failed),
        }
    }

    /// Another handle to write with.
    pub(super) fn handle(&self) -> io::Result<File> {
        match self {
            Self::File(staged) => staged.file().try_clone(),
            Self::Stream(stream) => stream.try_clone(),
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Gives a file its name.
    pub(super) fn keep(self) -> io::Result<()> {
        match self {
            Self::File(staged) => staged.keep(),
            Self::Stream(_) => Ok(()),
        }
    }
}

/// Writes a snapshot's pieces to their place, on to the disk where that is a file, and verifies them on the way. With their size. Blocks.
pub(super) fn pass_on(pieces: mpsc::Receiver<Bytes>, into: File, shown: &Path) -> Result<(Whole, u64), Failure> {
    let mut passing = Passing { pieces, piece: Bytes::new(), into, size: 0, failed: None };
    let whole = read(&mut passing, &mut Nothing);
    let written = match passing.failed {
        // What is no file has nothing to sync.
        None if passing.into.metadata().is_ok_and(|found| found.is_file()) => passing.into.sync_all(),
        None => Ok(()),
        Some(error) => Err(error),
    };
    written.map_err(|error| at_file("Error writing the snapshot", shown, &error))?;
    whole.map(|whole| (whole, passing.size)).map_err(|error| Failure::server(format!("{}: {error}", shown.display())))
}

/// Pieces that are written before they are read.
struct Passing {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    into: File,
    size: u64,
    failed: Option<io::Error>,
}

impl Read for Passing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            if let Err(error) = self.into.write_all(&piece) {
                self.failed = Some(error);
                return Err(io::Error::other("it cannot be written"));
            }
            self.size += piece.len() as u64;
            self.piece = piece;
        }
        let part = self.piece.split_to(buffer.len().min(self.piece.len()));
        (&*part).read(buffer)
    }
}

/// What is to be read as a snapshot.
pub(super) struct Source {
    file: File,
    /// Bytes; absent where nobody knows before the end.
    size: Option<u64>,
    /// What messages call it.
    path: PathBuf,
}

impl Source {
    /// Opens it, for reading it once.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error| at_file("Error opening the snapshot", path, &error);
        let mut file = if is_dash(path) { duplicate(io::stdin()) } else { File::open(path) }.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // Standard input may be a file of which something was read before.
        let whole = metadata.is_file() && file.stream_position().is_ok_and(|at| at == 0);
        Ok(Self { size: whole.then_some(metadata.len()), file, path: path.to_owned() })
    }

    /// For reading it as often as one likes. What is no file becomes one: without a name, so that it is gone with the process.
    pub(super) fn kept(mut self) -> Result<Self, Failure> {
        if self.size.is_some() {
            return Ok(self);
        }
        let folder = std::env::temp_dir();
        let failed = |error: &io::Error| at_file("Error keeping the snapshot until it is sent", &folder, error);
        let entropy: &dyn Entropy = &SystemEntropy;
        let name = folder.join(format!("daypass-{}.snap", entropy.base62(22)));
        let mut kept = private(&name, OpenOptions::new().read(true).write(true)).map_err(|error| failed(&error))?;
        fs::remove_file(&name).map_err(|error| failed(&error))?;
        let size = io::copy(&mut self.file, &mut kept)
            .map_err(|error| failed(&error).hint("TMPDIR names another directory; or put the snapshot into a file and name that"))?;
        Ok(Self { file: kept, size: Some(size), path: self.path })
    }

    /// Reads it to its end and compares its sums. With its size.
    pub(super) fn verified(&self) -> Result<(Whole, u64), Failure> {
        let mut counted = self.counted("verified")?;
        let whole = read(BufReader::new(&mut counted), &mut Nothing);
        counted.progress.end();
        let size = counted.progress.done;
        whole.map(|whole| (whole, size)).map_err(|error| Failure::server(format!("{}: {error}", self.path.display())))
    }

    /// From its beginning, with the reading shown.
    pub(super) fn counted(&self, what: &'static str) -> Result<Counted, Failure> {
        let source = self.handle()?;
        Ok(Counted { source, progress: Progress::new(what, self.size) })
    }

    /// From its beginning, for another reader.
    pub(super) fn handle(&self) -> Result<File, Failure> {
        let failed = |error| at_file("Error opening the snapshot", &self.path, &error);
        let mut file = self.file.try_clone().map_err(failed)?;
        if self.size.is_some() {
            file.rewind().map_err(failed)?;
        }
        Ok(file)
    }
}

/// A snapshot whose reading is shown.
pub(super) struct Counted {
    source: File,
    pub(super) progress: Progress,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.progress.add(read as u64);
        Ok(read)
    }
}

/// Rows that nobody wants: the reading is for the sums.
struct Nothing;

impl Sink for Nothing {
    fn record(&mut self, _: Record) -> Result<(), CommitError> {
        Ok(())
    }
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether a path leads to what is open here.
fn is_same(path: &Path, open: impl AsFd) -> bool {
    let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let open = duplicate(open).and_then(|file| file.metadata()).map(place);
    fs::metadata(path).map(place).is_ok_and(|found| open.is_ok_and(|open| open == found))
}

/// Not buffered: its errors come when it is written to.
fn duplicate(open: impl AsFd) -> io::Result<File> {
    open.as_fd().try_clone_to_owned().map(File::from)
}
