//! `operator rekey -offline`: a new key file for the store of a server that does not run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daypass_base::SystemEntropy;
use daypass_core::FileRekey;

use super::super::super::{Failure, Outcome};
use super::super::offline;
use crate::config::Seal;
use crate::show;

/// Makes the file, and seals the store under its key.
pub(super) fn run(config: &[PathBuf], new: &Path) -> Outcome {
    let (config, store) = offline::place(config)?;
    let Seal::KeyFile { path: old } = &config.seal else {
        return Err(Failure::usage(
            "The configuration names no seal \"keyfile\": keys that people hold are exchanged while the server runs",
        )
        .hint("daypass operator rekey -init"));
    };
    // Opening would make an empty one.
    if !store.exists() {
        return Err(Failure::usage(format!("There is no store at {}", store.display())));
    }
    let done = offline::work(&store, "Error exchanging the key file", async |store| {
        daypass_core::rekey_by_file(store, old, new, Arc::new(SystemEntropy)).await
    })?;
    show::out(&match done {
        FileRekey::Now => format!("Success! The store {} opens with the key in {} alone.", store.display(), new.display()),
        FileRekey::Before => {
            format!("The store {} opens with the key in {} alone already: no key was changed.", store.display(), new.display())
        }
    });
    if done == FileRekey::Before && std::fs::canonicalize(old).ok() == std::fs::canonicalize(new).ok() {
        show::note("It is the one that the configuration names: to exchange it, name a file that does not exist yet.");
        return Ok(0);
    }
    show::note(&format!(
        "Name it in the configuration, seal \"keyfile\" {{ path = \"{}\" }}, keep a copy of it away from the\n\
         store, start the server, and only then destroy {}.\n\
         hint: a copy of the store from before opens with the old file as it did: \"daypass operator rotate\" starts a new data key for what\n\
         is stored from now on",
        new.display(),
        old.display()
    ));
    Ok(0)
}
