//! What those who run a server run into: key files that are exchanged, restored or not meant, and certificates that signed themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test may panic")]

mod served;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use served::{Ran, Server, three_of_five};

/// A server that opens itself with `seal.key`, initialised.
fn by_key_file() -> Server {
    let mut server = Server::fresh(|home| {
        let (key, db) = (home.join("seal.key"), home.join("db"));
        format!("storage \"sqlite\" {{ path = \"{}\" }}\nseal \"keyfile\" {{ path = \"{}\" }}", db.display(), key.display())
    });
    server.json("operator init", "")["root_token"].as_str().unwrap().clone_into(&mut server.token);
    server
}

fn key(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Exchanges the key file for a new one of this name.
fn exchange(server: &Server, name: &str) -> Ran {
    server
        .run(&format!("operator rekey -offline -config={} -key-file={}", server.at("config.hcl").display(), server.at(name).display()), "")
}

/// Story: a key file that got out could not be exchanged: `operator rekey` said that it is not applicable, and nothing else was there.
#[test]
fn a_key_file_that_got_out_is_exchanged_while_the_server_does_not_run() {
    let mut server = by_key_file();
    server.run("policy write kept -", "path \"a\" {}");
    exchange(&server, "new.key").refused(2, "in use by another process");
    assert!(!server.at("new.key").exists());
    server.die();
    let old = key(&server.at("seal.key"));
    let done = exchange(&server, "new.key");
    assert!(done.code == 0 && done.out.contains("alone.") && done.err.contains("destroy"), "{done:?}");
    assert_eq!(fs::metadata(server.at("new.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(key(&server.at("seal.key")) == old && key(&server.at("new.key")) != old, "the old file is the operator's to destroy");

    let said = server.refuses_to_start();
    assert!(said.contains("does not open this store") && said.contains("operator rekey -offline"), "{said}");
    // As after a kill behind the commit.
    let again = exchange(&server, "new.key");
    assert!(again.code == 0 && again.out.contains("already: no key was changed"), "{again:?}");
    let new = key(&server.at("new.key"));
    server.reconfigure("seal.key", "new.key");
    server.restart();
    assert!(server.run("policy list", "").out.contains("kept"));
    server.die();
    exchange(&server, "seal.key").refused(2, "exists already; it is never overwritten");
    assert_eq!((key(&server.at("seal.key")), key(&server.at("new.key"))), (old, new));
}

#[test]
fn only_a_key_file_is_exchanged_offline_and_only_where_there_is_a_store() {
    let (mut server, _) = three_of_five("sqlite");
    server.die();
    exchange(&server, "new.key").refused(1, "The configuration names no seal \"keyfile\"");
    let mut server = by_key_file();
    server.die();
    fs::rename(server.at("db"), server.at("elsewhere")).unwrap();
    exchange(&server, "new.key").refused(1, "There is no store at");
    assert!(!server.at("db").exists() && !server.at("new.key").exists());
}

/// Story: `restore -force` of another server's snapshot told of success and of nothing else. The server was sealed, and after somebody had opened it by hand it
/// did not start again, since its own key file was not the one of the snapshot.
#[test]
fn a_forced_restore_says_that_the_server_is_sealed_and_which_key_file_opens_it() {
    let (other, mut server) = (by_key_file(), by_key_file());
    let taken = server.at("taken.snap");
    assert_eq!(other.run(&format!("operator snapshot save {}", taken.display()), "").code, 0);
    let restored = server.run(&format!("operator snapshot restore -force {}", taken.display()), "");
    restored.refused(0, "The server is SEALED. It is opened by the key file of the snapshot's time");
    let sealed = server.run("status", "");
    assert!(sealed.code == 2 && sealed.out.contains("Opened By") && !sealed.out.contains("Shares"), "{sealed:?}");

    assert_eq!(server.run("operator unseal -", &key(&other.at("seal.key"))).code, 0);
    assert_eq!(server.run("status", "").code, 0);
    let log = server.log();
    assert!(log.contains("WILL NOT START AGAIN") && log.contains("does not open this store"), "{log}");
    server.die();
    assert!(server.refuses_to_start().contains("does not open this store"));
    // Offline the same is told at once.
    let offline = format!("operator snapshot restore -offline -config={} {}", server.at("config.hcl").display(), taken.display());
    server.run(&offline, "").refused(0, "The server will not start as it is configured: the key in");
    fs::copy(other.at("seal.key"), server.at("seal.key")).unwrap();
    let told = server.run(&offline, "");
    assert!(told.code == 0 && !told.err.contains("will not start"), "{told:?}");
    server.restart();
    server.token.clone_from(&other.token);
    let restored = server.run(&format!("operator snapshot restore {}", taken.display()), "");
    restored.refused(0, "The server is unsealed.");
}

/// Story: a key file named for a store that shares seal: "Unseal failed, invalid key", as if the file were broken.
#[test]
fn a_key_file_named_for_a_store_of_shares_is_what_is_wrong() {
    let (mut server, keys) = three_of_five("sqlite");
    server.die();
    fs::write(server.at("seal.key"), (0..32).collect::<Vec<u8>>()).unwrap();
    fs::set_permissions(server.at("seal.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let seal = format!("seal \"keyfile\" {{ path = {:?} }}\nstorage", server.at("seal.key"));
    server.reconfigure("storage", &seal);
    let said = server.refuses_to_start();
    assert!(said.contains("sealed by shares") && said.contains("is not offered"), "{said}");
    server.reconfigure(&seal, "storage");
    server.restart();
    assert!(server.unseals(&keys[..3]));
}

/// Story: the certificate that `openssl req -x509` makes, served and trusted by name: the command line refused it with `CaUsedAsEndEntity`.
#[test]
fn a_certificate_that_signed_itself_is_taken_where_it_was_named() {
    let server = Server::fresh(|home| {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(home.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(home.join("key.pem"), key.serialize_pem()).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        fs::write(home.join("other.pem"), params.self_signed(&other).unwrap().pem()).unwrap();
        let (certificate, key) = (home.join("cert.pem"), home.join("key.pem"));
        format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  address = \"127.0.0.1:0\"\n  tls_cert_file = {certificate:?}\n  tls_key_file = {key:?}\n}}"
        )
    });
    let address = server.said.lines().find(|line| line.contains("https (")).unwrap().split(['(', ')']).nth(1).unwrap();
    let address = format!("https://{address}");
    let asked = |trust: &str| server.run_at(&address, &format!("operator init -status {trust}"), "");
    let named = |file: &str| format!("-ca-cert={}", server.at(file).display());
    let ran = asked(&format!("{} -tls-server-name=localhost", named("cert.pem")));
    assert_eq!(ran.code, 2, "not initialised, and asked: {ran:?}");
    asked(&named("cert.pem")).refused(1, "certificate not valid for name \"127.0.0.1\"");
    asked(&format!("{} -tls-server-name=localhost", named("other.pem"))).refused(1, "CA:TRUE) that is not itself among those");
}

/// Story: with `VAULT_WRAP_TTL` set, as job definitions have it, verbs that look at their answer themselves were given a wrapping token instead, threw it
/// away and said that there is nothing: no devices, no policies, no capabilities.
#[test]
fn a_verb_that_reads_its_answer_itself_is_not_answered_by_a_wrapping_token() {
    let (server, _) = three_of_five("inmem");
    let done = |words: &str, stdin: &str| {
        let ran = server.run(&format!("{words} -wrap-ttl=60s"), stdin);
        assert_eq!(ran.code, 0, "{words}: {ran:?}");
        ran.out
    };
    for words in
        ["secrets enable -path=kv -version=2 kv", "secrets enable -path=aws aws", "audit enable file file_path=discard", "policy write p -"]
    {
        done(words, "path \"kv/*\" { capabilities = [\"read\"] }");
    }
    done("write aws/roles/deploy credential_type=assumed_role role_arns=arn:aws:iam::111111111111:role/ci/deploy", "");
    for (words, wanted) in [
        ("audit list", "file/"),
        ("secrets list", "kv/"),
        ("auth list", "token/"),
        ("auth help token/", "token"),
        ("policy list", "\np"),
        ("policy read p", "kv/*"),
        ("policy explain -operation=read kv/data/a", "root"),
        ("operator key-status", "Key Term"),
        ("operator revocation status", "paused"),
        ("token capabilities kv/data/a", "root"),
        ("version-history", "1.21.4"),
        ("path-help kv/", "version"),
        ("status", "Initialized"),
        ("aws policy-for -principal=arn:aws:iam::111111111111:role/server -terraform aws deploy", "path               = \"/ci/\""),
        ("secrets move aws lent", "Finished moving"),
    ] {
        assert!(format!("\n{}", done(words, "")).contains(wanted), "{words}: {}", done(words, ""));
    }
    // What a person asked for is wrapped as it was asked for, and no other verb takes part in it.
    for words in [
        "kv put kv/a x=1",
        "kv put kv/a x=2",
        "kv get kv/a",
        "kv metadata get kv/a",
        "kv rollback -version=1 kv/a",
        "read sys/mounts",
        "token lookup",
        "list sys/policies/acl",
    ] {
        assert!(done(words, "").contains("wrapping_token:"), "{words}");
    }
    assert_eq!(server.run("kv get -field=x kv/a", "").out.trim(), "1");
}
