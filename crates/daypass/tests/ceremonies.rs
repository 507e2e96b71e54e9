//! Ceremonies with unseal keys and rights explained, typed at the real command line against a real server of three keys out of five.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test may panic")]

mod served;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::process::Command;

use serde_json::Value;

use served::{Ran, Server, texts, three_of_five};

#[test]
fn three_people_make_a_root_token_without_a_secret_in_an_argument() {
    let (mut server, keys) = three_of_five("inmem");
    server.run("operator generate-root -nonce=x -", &keys[0]).refused(1, "No root generation is in progress");
    let otp = server.run("operator generate-root -generate-otp", "").out.trim().to_owned();
    assert_eq!(otp.len(), 28);
    let started = server.json("operator generate-root -init -otp=-", &otp);
    let nonce = started["nonce"].as_str().unwrap();
    server.run("operator generate-root -init", "").refused(2, "root generation already in progress");
    server.run("operator generate-root -", &keys[0]).refused(1, "Missing nonce value: specify it via the -nonce flag");
    server.run("operator generate-root -nonce=other -", &keys[0]).refused(2, "incorrect nonce supplied");
    server.run("operator generate-root", "").refused(1, "hint: give it on stdin: daypass operator generate-root -nonce=");
    server.give("operator generate-root", nonce, &keys[..2]);
    let shown = server.run("operator generate-root -status", "");
    assert_eq!(shown.out, format!("Nonce         {nonce}\nStarted       true\nProgress      2/3\nComplete      false\nOTP Length    28\n"));
    let done = server.give("operator generate-root", nonce, &keys[2..3]);
    assert_eq!(done["complete"], true);
    let encoded = done["encoded_token"].as_str().unwrap();
    server.run(&format!("operator generate-root -decode={encoded} -otp=-"), "short").refused(1, "it belongs to another attempt");
    server.run(&format!("operator generate-root -decode={encoded}"), "").refused(1, "Missing otp: use -otp to supply it");
    server.token = server.run(&format!("operator generate-root -decode={encoded} -otp=-"), &otp).out.trim().to_owned();
    assert!(server.json("token lookup", "")["data"]["policies"] == serde_json::json!(["root"]));
}

#[test]
fn a_one_time_password_made_by_the_server_is_shown_once_and_an_attempt_can_be_given_up() {
    let (server, _) = three_of_five("inmem");
    let started = server.run("operator generate-root -init", "");
    assert!(started.code == 0 && started.out.contains("\nOTP           ") && started.err.starts_with("A One-Time-Password"), "{started:?}");
    assert!(!server.run("operator generate-root -status", "").out.contains("OTP  "));
    let ended = server.run("operator generate-root -cancel", "");
    assert_eq!((ended.code, ended.out.as_str()), (0, "Success! Root token generation canceled (if it was started)\n"));
    assert_eq!(server.json("operator generate-root -status", "")["started"], false);
    server.run("operator generate-root -init -cancel", "").refused(1, "Only one of -init, -cancel");
    server.run("operator generate-root -status key", "").refused(1, "a key goes with none of");
    server.run("operator generate-root -otp=x", "").refused(1, "-otp goes with -init");
    server.run("operator generate-root -decode=- -otp=-", "").refused(1, "only one of -decode and -otp");
}

#[test]
fn after_a_rekey_and_a_restart_only_the_new_keys_open_the_server() {
    let (mut server, old) = three_of_five("sqlite");
    server.run("operator rekey -nonce=x -", &old[0]).refused(1, "No rekey is in progress");
    server.run("operator rekey -key-shares=3", "").refused(1, "-key-shares, -key-threshold, -pgp-keys and -backup go with -init");
    server.run("operator rekey -init -key-shares=1 -key-threshold=2", "").refused(2, "threshold greater than the total shares");
    let started = server.run("operator rekey -init -key-shares=4 -key-threshold=2", "");
    assert!(started.code == 0 && started.out.contains("Rekey Progress           0/3\nNew Shares               4\n"), "{started:?}");
    server.run("operator rekey -init", "").refused(2, "rekey already in progress");
    let nonce = server.json("operator rekey -status", "")["nonce"].as_str().unwrap().to_owned();
    server.run("operator rekey -", &old[0]).refused(1, "Missing nonce value");
    let new = texts(&server.give("operator rekey", &nonce, &old[1..4])["keys_base64"]);
    assert_eq!(new.len(), 4);
    server.run("write cubbyhole/kept a=1", "");
    server.restart();
    assert!(!server.unseals(&old[..3]), "the old keys still unseal");
    assert!(server.unseals(&new[2..]));
    assert_eq!(server.run("read -field=a cubbyhole/kept", "").out, "1");
}

/// Story: whoever hung up two milliseconds after the last old key left a server that nobody could open again: the old keys failed, and the new
/// ones existed nowhere.
#[test]
fn a_client_that_hangs_up_on_the_last_key_of_a_rekey_leaves_the_old_keys_good() {
    let (mut server, old) = three_of_five("sqlite");
    let nonce = server.json("operator rekey -init -key-shares=1 -key-threshold=1", "")["nonce"].as_str().unwrap().to_owned();
    server.give("operator rekey", &nonce, &old[..2]);
    let body = serde_json::json!({ "key": old[2], "nonce": nonce }).to_string();
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    write!(stream, "PUT /v1/sys/rekey/update HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    drop(stream);
    // The old keys authorise an exchange once more, whether the lost one has happened yet or not.
    let told = loop {
        let told = server.run("status", "");
        if told.err.contains("the old ones still unseal") {
            break told;
        }
        assert_eq!(told.code, 0, "{told:?}");
    };
    assert!(told.err.contains("hint: exchange them again with the old ones"), "{told:?}");
    server.restart();
    assert!(server.unseals(&old[..3]), "the old keys open the server");
    let nonce = server.json("operator rekey -init -key-shares=1 -key-threshold=1", "")["nonce"].as_str().unwrap().to_owned();
    let new = texts(&server.give("operator rekey", &nonce, &old[..3])["keys_base64"]);
    server.run("operator seal", "");
    assert!(!server.unseals(&old[..3]));
    assert!(server.unseals(&new));
}

#[test]
fn a_verified_rekey_counts_once_the_new_keys_were_handed_in() {
    let (server, old) = three_of_five("inmem");
    let started = server.json("operator rekey -init -verify -key-shares=1 -key-threshold=1", "");
    let nonce = started["nonce"].as_str().unwrap();
    server.give("operator rekey", nonce, &old[..2]);
    let last = server.run(&format!("operator rekey -nonce={nonce} -"), &old[2]);
    assert!(last.code == 0 && last.out.starts_with("Key 1: ") && last.out.contains("They are not active until"), "{last:?}");
    let new = last.out.lines().next().unwrap().trim_start_matches("Key 1: ").to_owned();
    let check = server.json("operator rekey -verify -status", "")["nonce"].as_str().unwrap().to_owned();
    let done = server.run(&format!("operator rekey -verify -nonce={check} -"), &new);
    assert!(done.code == 0 && done.out.starts_with("Success! Rekey verification successful."), "{done:?}");
    server.run("operator seal", "");
    assert!(server.unseals(&[new]));
}

/// Story: a server was restarted gracefully within seconds of a rekey, and the old keys were back: nobody had waited for what became of the answer
/// with the new ones.
#[test]
fn a_restart_right_behind_a_rekey_does_not_bring_the_old_keys_back() {
    let (mut server, old) = three_of_five("sqlite");
    let nonce = server.json("operator rekey -init -key-shares=1 -key-threshold=1", "")["nonce"].as_str().unwrap().to_owned();
    let new = texts(&server.give("operator rekey", &nonce, &old[..3])["keys_base64"]);
    server.restart_gracefully();
    assert!(!server.run("status", "").err.contains("old"), "no warning");
    assert!(!server.unseals(&old[..3]));
    assert!(server.unseals(&new));
}

/// Story: the threads that connections run on ended as soon as nothing was accepted any more, and with them whatever still looked after an answer: a server
/// that was stopped right behind a rekey brought the old keys back, although its client had the new ones.
#[test]
fn a_stop_waits_for_what_becomes_of_an_answer_to_a_client_that_stays() {
    let (mut server, old) = three_of_five("sqlite");
    let nonce = server.json("operator rekey -init -key-shares=1 -key-threshold=1", "")["nonce"].as_str().unwrap().to_owned();
    server.give("operator rekey", &nonce, &old[..2]);
    let body = serde_json::json!({ "key": old[2], "nonce": nonce }).to_string();
    let mut stays = std::net::TcpStream::connect(server.address).unwrap();
    write!(stays, "PUT /v1/sys/rekey/update HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let (mut answer, mut piece) = (String::new(), [0; 4096]);
    while !answer.ends_with("}\n") && !answer.ends_with('}') {
        let read = stays.read(&mut piece).unwrap();
        answer.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    server.restart_gracefully();
    assert!(!server.unseals(&old[..3]));
    assert!(server.unseals(&texts(&answer["keys_base64"])));
}

/// Story: one listener with TLS, and the server called itself `https` on all of them; and a thousand silent clients used up the files that a shell
/// lets a program open, though many more were allowed.
#[test]
fn each_listener_has_its_own_scheme_and_the_open_files_are_for_all_of_them() {
    let mut server = Server::fresh(|home| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (home.join("cert.pem"), home.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let plain = "listener \"tcp\" {\n  address = \"127.0.0.1:0\"\n  tls_disable = true\n}";
        let tls =
            format!("listener \"tcp\" {{\n  address = \"127.0.0.1:0\"\n  tls_cert_file = {certificate:?}\n  tls_key_file = {key:?}\n}}");
        format!("storage \"inmem\" {{}}\n{plain}\n{tls}")
    });
    let listeners: Vec<&str> = server.said.lines().filter_map(|line| line.trim().strip_prefix("Listener ")).collect();
    let schemes: Vec<&str> = listeners.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(schemes, ["http", "https", "http"]);
    let address = |number: usize| listeners[number].split(['(', ')']).nth(1).unwrap();
    let made = server.json("operator init -key-shares=1 -key-threshold=1", "");
    made["root_token"].as_str().unwrap().clone_into(&mut server.token);
    assert!(server.unseals(&texts(&made["unseal_keys_b64"])));
    let config = server.json("read sys/config/state/sanitized", "");
    assert_eq!(config["data"]["api_addr"], format!("http://{}", address(0)));
    server.run_at(&format!("http://{}", address(1)), "status", "").refused(1, "hint: this server speaks TLS: change http:// to https://");

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let files: Vec<&str> = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    let (soft, hard): (u64, u64) = (files[3].parse().unwrap(), files[4].parse().unwrap());
    assert_eq!(soft, hard.min(65_536));
}

#[test]
fn new_keys_are_for_holders_of_pgp_keys_and_kept_until_they_are_removed() {
    let (server, old) = three_of_five("inmem");
    let file = |name: &str| format!("{}/../barrier/src/pgp/tests/{name}.asc", env!("CARGO_MANIFEST_DIR"));
    let (ada, bob) = (file("ada"), file("bob"));
    server.run(&format!("operator rekey -init -pgp-keys={ada}"), "").refused(1, "-pgp-keys names 1 keys for 5 shares");
    server.run("operator rekey -init -key-shares=1 -key-threshold=1 -pgp-keys=keybase:ada", "").refused(1, "not fetched from Keybase");
    server.run("operator rekey -init -key-shares=1 -key-threshold=1 -backup", "").refused(2, "without providing PGP keys for encryption");
    let revoked = format!("operator rekey -init -key-shares=1 -key-threshold=1 -pgp-keys={}", file("revoked"));
    server.run(&revoked, "").refused(2, "key 58d4289708486d9380f42777ad19a910b722d4a5 is revoked");
    server.run("operator rekey -backup-retrieve", "").refused(2, "no backed-up keys found");
    let started = server.run(&format!("operator rekey -init -key-shares=2 -key-threshold=2 -pgp-keys={ada},{bob} -backup"), "");
    let holders = "0416869cc51eb7777c9fc2cceeabcb0deed5eed3, 24422ca25194ed2b920fa0f945830cb7b69ebdba";
    assert!(started.code == 0 && started.out.contains(holders) && started.err.is_empty(), "{started:?}");
    let nonce = server.json("operator rekey -status", "")["nonce"].as_str().unwrap().to_owned();
    server.give("operator rekey", &nonce, &old[..2]);
    let done = server.run(&format!("operator rekey -nonce={nonce} -"), &old[2]);
    let first = "Key 1 fingerprint: 0416869cc51eb7777c9fc2cceeabcb0deed5eed3; value: ";
    assert!(done.out.starts_with(first) && done.out.contains("-backup-delete"), "{done:?}");
    let shown = done.out.lines().next().unwrap().trim_start_matches(first).to_owned();
    let kept = server.json("operator rekey -backup-retrieve", "");
    assert_eq!(kept["keys_base64"]["0416869cc51eb7777c9fc2cceeabcb0deed5eed3"], serde_json::json!([shown]));
    assert!(server.run("operator rekey -backup-retrieve", "").out.contains(&shown));
    assert_eq!(server.run("operator rekey -backup-delete", "").out, "Success! Delete backup keys (if they existed)\n");
    server.run("operator rekey -backup-retrieve", "").refused(2, "no backed-up keys found");
    let started = server.json(&format!("operator generate-root -init -pgp-key={bob}"), "");
    assert_eq!(started["pgp_fingerprint"], "24422ca25194ed2b920fa0f945830cb7b69ebdba");
    server.run(&format!("operator generate-root -pgp-key={bob}"), "").refused(1, "-pgp-key goes with -init");
}

#[test]
fn a_young_rekey_is_given_up_with_its_nonce() {
    let (server, _) = three_of_five("inmem");
    let nonce = server.json("operator rekey -init", "")["nonce"].as_str().unwrap().to_owned();
    server.run("operator rekey -cancel", "").refused(2, "hint: whoever started it knows its nonce");
    let ended = server.run(&format!("operator rekey -cancel -nonce={nonce}"), "");
    assert_eq!((ended.code, ended.out.as_str()), (0, "Success! Canceled rekeying (if it was started)\n"), "{}", ended.err);
    assert_eq!(server.json("operator rekey -status", "")["started"], false);
}

#[test]
fn a_store_is_saved_restored_and_restored_offline_and_never_opened_twice() {
    let (mut server, keys) = three_of_five("sqlite");
    let file = server.home.path().join("taken.snap");
    let file = file.to_str().unwrap();
    server.run("policy write kept -", "path \"a\" {}");
    let saved = server.run(&format!("operator snapshot save {file}"), "");
    assert!(saved.code == 0 && saved.err.contains("Saved") && saved.out.is_empty(), "{}", saved.err);
    let found = server.json(&format!("operator snapshot inspect {file}"), "");
    assert!(found["verified"] == true && found["config_rows"].as_u64().unwrap() > 4 && found["format"] == 2, "{found}");
    server.run("policy delete kept", "");
    server.run(&format!("operator raft snapshot restore {file}"), "").refused(0, "Revocation is paused");
    assert!(server.run("policy list", "").out.contains("kept"));
    server.run("status", "").refused(0, "Revocation is paused");
    assert_eq!(server.json("operator revocation status", "")["paused"], true);
    assert_eq!(server.run("operator revocation resume", "").code, 0);
    server.run("policy delete kept", "");
    // A server that runs keeps its store to itself.
    let offline = format!("operator snapshot restore -offline -config={} {file}", server.home.path().join("offline.hcl").display());
    let store = server.home.path().join("db");
    std::fs::write(server.home.path().join("offline.hcl"), format!("storage \"sqlite\" {{ path = {store:?} }}")).unwrap();
    server.run(&offline, "").refused(2, "in use by another process");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    server.run(&offline, "").refused(0, "Restored");
    server.restart();
    assert!(server.unseals(&keys[..3]));
    assert!(server.run("policy list", "").out.contains("kept"));
    assert_eq!(server.json("operator revocation status", "")["paused"], true);
    let half = std::fs::read(file).unwrap();
    std::fs::write(file, &half[..half.len() / 2]).unwrap();
    server.run(&format!("operator snapshot inspect {file}"), "").refused(2, "cut off");
    server.run(&format!("operator snapshot restore {file}"), "").refused(2, "cut off");
}

/// Story: `operator snapshot save /dev/stdout` renamed the snapshot over the device and ended well, and whoever read got nothing; so did a pipe and a
/// link. `restore` of a pipe verified it to its end and then sent nothing.
#[test]
fn a_snapshot_goes_into_pipes_and_through_links_and_comes_out_of_a_pipe() {
    let (server, _) = three_of_five("sqlite");
    server.run("policy write kept -", "path \"a\" {}");
    let saved = server.piped("operator snapshot save -", b"");
    let told = String::from_utf8(saved.stderr).unwrap();
    assert!(saved.status.code() == Some(0) && told.starts_with("Saved -: "), "{told}");

    let at = |name: &str| server.home.path().join(name);
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let saving = server.begin(&format!("operator snapshot save {}", at("pipe").display()));
    std::fs::write(at("piped.snap"), std::fs::read(at("pipe")).unwrap()).unwrap();
    let ran = Ran::of(saving.wait_with_output().unwrap());
    assert!(ran.code == 0 && std::fs::metadata(at("pipe")).unwrap().file_type().is_fifo(), "{ran:?}");
    assert_eq!(server.json(&format!("operator snapshot inspect {}", at("piped.snap").display()), "")["verified"], true);

    std::fs::create_dir(at("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere/taken.snap", at("link.snap")).unwrap();
    for _ in 0..2 {
        assert_eq!(server.run(&format!("operator snapshot save {}", at("link.snap").display()), "").code, 0);
    }
    assert!(std::fs::symlink_metadata(at("link.snap")).unwrap().is_symlink());
    let names: Vec<_> = std::fs::read_dir(at("elsewhere")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["taken.snap"]);

    let shown = server.piped("operator snapshot inspect -format=json -", &saved.stdout);
    assert_eq!(serde_json::from_slice::<Value>(&shown.stdout).unwrap()["file_bytes"], saved.stdout.len());
    server.run("policy delete kept", "");
    Ran::of(server.piped("operator snapshot restore -", &saved.stdout)).refused(0, "Revocation is paused");
    assert!(server.run("policy list", "").out.contains("kept"));
    Ran::of(server.piped("operator snapshot restore -", &saved.stdout[..900])).refused(2, "-: ");
    assert_eq!(std::fs::read_dir(at("tmp")).unwrap().count(), 0, "what was kept until it was sent is gone");
}

#[test]
fn a_rotation_shows_the_new_key() {
    let (server, _) = three_of_five("inmem");
    let ran = server.run("operator rotate", "");
    assert!(ran.code == 0 && ran.out.starts_with("Success! Rotated key\n\nKey Term            2\nInstall Time        "), "{ran:?}");
    assert_eq!(server.json("operator key-status", "")["term"], 2);
    assert!(server.run("operator key-status", "").out.contains(" UTC\nEncryption Count    "));
}

#[test]
fn a_server_that_a_key_file_unseals_says_that_nobody_holds_keys() {
    let mut server = Server::fresh(|home| {
        let (key, db) = (home.join("seal.key"), home.join("db"));
        std::fs::write(&key, (0..32).collect::<Vec<u8>>()).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        format!("storage \"sqlite\" {{ path = \"{}\" }}\nseal \"keyfile\" {{ path = \"{}\" }}", db.display(), key.display())
    });
    server.token = server.json("operator init", "")["root_token"].as_str().unwrap().to_owned();
    server.run("operator generate-root -init", "").refused(2, "nobody holds recovery keys that could authorise this");
    server.run("operator rekey -init", "").refused(2, "not applicable to seal type keyfile");
    assert_eq!(server.json("operator generate-root -status", "")["started"], false);
    server.run("operator generate-root -nonce=x -", "00").refused(1, "No root generation is in progress");
    server.run("operator generate-root -cancel", "");
    assert_eq!(server.run("operator rotate", "").code, 0);
    server.restart();
    assert_eq!(server.json("operator key-status", "")["term"], 2);
}

#[test]
fn rights_are_explained() {
    let (server, _) = three_of_five("inmem");
    let rules = "path \"secret/data/ci/*\" {\n  capabilities = [\"read\"]\n}\n";
    assert_eq!(server.run("policy write ci -", rules).code, 0);
    let ran = server.run("policy explain ci,gone secret/data/ci/app", "");
    let wanted = "allowed by \"secret/data/ci/*\" of policy ci: granted\n\nRequest         read secret/data/ci/app\nPolicies        ci, gone\nNot existing    gone\nRule            \"secret/data/ci/*\": the best pattern with wildcards\n                  ci, line 1: read\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, wanted), "{}", ran.err);
    let ran = server.run("policy explain -operation=update ci secret/data/ci/app ttl=1h", "");
    assert!(ran.code == 0 && ran.out.starts_with("denied by \"secret/data/ci/*\" of policy ci"), "{ran:?}");
    let token = server.json("token create -policy=ci", "")["auth"]["client_token"].as_str().unwrap().to_owned();
    let ran = server.run("policy explain - sys/mounts", &token);
    assert!(ran.code == 0 && ran.out.starts_with("denied") && ran.out.contains("ci, default"), "{ran:?}");
    assert!(server.run("policy explain secret/x", "").out.starts_with("allowed: the token is root\n"));
    assert_eq!(server.json("policy explain ci secret/data/ci/app", "")["allowed"], true);
    server.run("policy explain -operation=fly ci x", "").refused(2, "is none of create, read, update, patch, delete and list");
    server.run("policy explain", "").refused(1, "Not enough arguments (expected 1-2, got 0)");
    server.run("policy explain a b c", "").refused(1, "Too many arguments (expected 1-2, got 3)");
}
