//! Work on the store of a server that does not run, by that server's configuration. The store's lock keeps a server that does run out of it.

use std::path::{Path, PathBuf};

use daypass_base::causes;
use daypass_storage::Backend as _;
use daypass_storage::sqlite::{SqliteBackend, SqliteOptions};

use super::super::Failure;
use crate::config::{self, Config, Storage};

/// The configuration of the server, and where its store is.
pub(super) fn place(paths: &[PathBuf]) -> Result<(Config, PathBuf), Failure> {
    let (config, _warnings) = config::load(paths).map_err(|errors| Failure::usage(errors.to_string()))?;
    match &config.storage {
        Some(Storage::Sqlite { path }) => {
            let path = path.clone();
            Ok((config, path))
        }
        _ => Err(Failure::usage("The configuration names no storage \"sqlite\": there is no file to work on")),
    }
}

/// Opens the store, works on it, and closes it. `what` says what failed then, with its causes: here nobody else logs them.
pub(super) fn work<T>(path: &Path, what: &str, work: impl AsyncFnOnce(&SqliteBackend) -> daypass_sdk::Result<T>) -> Result<T, Failure> {
    let opened = |source: &dyn std::fmt::Display| Failure::server(format!("The store {} cannot be opened: {source}", path.display()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| Failure::server(error.to_string()))?;
    runtime.block_on(async {
        let store = SqliteBackend::open(path, SqliteOptions::default()).map_err(|error| opened(&error))?;
        let done = work(&store).await;
        store.close().await;
        done.map_err(|error| Failure::server(format!("{what}: {}", causes(&error))))
    })
}
