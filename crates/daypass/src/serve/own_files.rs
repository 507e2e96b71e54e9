//! The files that the server itself lives on, as its configuration names them: no log may be written to them, nor the pid file.

use std::path::{Path, PathBuf};

use daypass_core::{Harm, OwnFile, OwnFiles, OwnFolder};
use daypass_storage::sqlite;

use crate::cli::server::ServerArgs;
use crate::config::listener::{ClientCertificates, Listener};
use crate::config::{self, Config, Seal, Storage};

/// The server's own files, its log file and its pid file among them. Errors: two of them are one file, of which one would harm the other.
pub(super) fn named(args: &ServerArgs, config: &Config) -> Result<OwnFiles, String> {
    let store = match &config.storage {
        Some(Storage::Sqlite { path }) => sqlite::files_of(path).map(|path| OwnFile { path, what: "store", harm: Harm::Fatal }).collect(),
        Some(Storage::Memory) | None => Vec::new(),
    };
    let seal = match &config.seal {
        Seal::KeyFile { path } => Some(fatal(path, "seal key")),
        Seal::Shamir => None,
    };
    let tls = config.listeners.iter().flat_map(of_tls);
    let configured = config.files.iter().map(|path| fatal(path, "configuration"));
    // Also what is new in them would be read at the next start.
    let folders = args.config.iter().filter(|path| path.is_dir());
    let folders = folders.map(|path| OwnFolder { own: fatal(path, "configuration"), endings: config::ENDINGS }).collect();
    let mixed = |path: Option<&PathBuf>, what| path.map(|path| OwnFile { path: path.clone(), what, harm: Harm::Mixed });
    let log = mixed(args.log_file.as_ref().or(config.log.file.as_ref()), "log file");
    let pid = mixed(config.pid_file.as_ref(), "pid file");
    let written: Vec<OwnFile> = log.into_iter().chain(pid).collect();
    let all = store.into_iter().chain(seal).chain(tls).chain(configured).chain(written.iter().cloned()).collect();
    let files = OwnFiles::new(all).with_folders(folders);
    if let Some((one, other)) = files.clash() {
        return Err(format!(
            "The {} ({}) and the {} ({}) are the same file, and what is written to one would destroy the other: give each a file of its own",
            one.what,
            one.path.display(),
            other.what,
            other.path.display()
        ));
    }
    if let Some((file, folder)) = written.iter().find_map(|file| Some((file, files.folder_of(&file.path)?))) {
        return Err(format!(
            "The {} ({}) is in the directory of the configuration ({}), where files whose names end in .hcl or .json are configuration: give it \
             another place or name",
            file.what,
            file.path.display(),
            folder.own.path.display()
        ));
    }
    Ok(files)
}

fn of_tls(listener: &Listener) -> Vec<OwnFile> {
    let Some(tls) = &listener.tls else { return Vec::new() };
    let mut files = vec![fatal(&tls.key_file, "TLS key"), fatal(&tls.cert_file, "TLS certificate")];
    if let ClientCertificates::Checked(issuers) | ClientCertificates::Required(Some(issuers)) = &tls.client_certificates {
        files.push(fatal(issuers, "list of TLS authorities"));
    }
    files
}

fn fatal(path: &Path, what: &'static str) -> OwnFile {
    OwnFile { path: path.to_owned(), what, harm: Harm::Fatal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(config: &str) -> Result<OwnFiles, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.hcl");
        std::fs::write(&file, config.replace("{home}", folder.path().to_str().unwrap())).unwrap();
        let (config, _) = crate::config::load_with(&[file], |_| None).unwrap();
        super::named(&ServerArgs::default(), &config)
    }

    /// Story: with `-config=DIRECTORY` the directory was the server's own file, and the files in it were not: its pid was written over one of them.
    #[test]
    fn the_files_of_a_directory_of_configuration_are_the_servers_own() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let args = ServerArgs { config: vec![folder.path().to_owned()], ..ServerArgs::default() };
        let named_with = |pid: &str| {
            std::fs::write(at("a.hcl"), format!("pid_file = \"{}\"", at(pid).display())).unwrap();
            let (config, _) = config::load_with(&args.config, |_| None).unwrap();
            super::named(&args, &config)
        };
        let files = named_with("pid").unwrap();
        for (name, what) in
            [("a.hcl", Some("configuration")), ("new.json", Some("configuration")), ("pid", Some("pid file")), ("log", None)]
        {
            assert_eq!(files.at(&at(name)).map(|own| own.what), what, "{name}");
        }
        assert!(named_with("a.hcl").unwrap_err().contains("are the same file"));
        assert!(named_with("pid.json").unwrap_err().contains("is in the directory of the configuration"));
    }

    /// Story: the pid file, the log file and the server's own files were compared with nothing. A server wrote its number over the key of its TLS.
    #[test]
    fn what_is_written_has_files_of_its_own() {
        let tls = "listener \"tcp\" { tls_cert_file = \"{home}/tls.pem\" tls_key_file = \"{home}/tls.pem\" }\n";
        let rest =
            "storage \"sqlite\" { path = \"{home}/db\" }\nseal \"keyfile\" { path = \"{home}/seal.key\" }\nlog_file = \"{home}/log\"\n";
        for (pid_file, what) in
            [("tls.pem", "TLS key"), ("db-wal", "store"), ("seal.key", "seal key"), ("./log", "log file"), ("x/../db", "store")]
        {
            let error = named(&format!("{tls}{rest}pid_file = \"{{home}}/{pid_file}\"")).unwrap_err();
            assert!(error.contains(what) && error.contains("pid file") && error.contains("are the same file"), "{pid_file}: {error}");
        }
        assert!(named(&format!("{tls}{rest}pid_file = \"{{home}}/pid\"")).is_ok(), "a key and its certificate may stand in one file");
    }
}
