//! Shares made here are combined by Vault's own Go package, and shares made there are combined here.
//!
//! The package is `github.com/hashicorp/vault/shamir`, the one that Vault itself links, run by the small program in
//! `tests/oracle/shamir`. `DAYPASS_ORACLES` names a directory that holds it as `shamir-oracle`; otherwise it is built with Go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test helpers may fail loudly")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use data_encoding::HEXLOWER;
use daypass_barrier::shamir::{combine, split};
use daypass_barrier::{Seal, SealConfig, Share, Step, Unsealing, initialise};
use daypass_base::sim::SeededEntropy;
use daypass_base::{Entropy, Secret, Timestamp};

struct Oracle {
    child: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Self {
        let mut child = Command::new(binary()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the oracle starts");
        let (jobs, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, jobs, answers }
    }

    fn ask(&mut self, job: &str) -> String {
        writeln!(self.jobs, "{job}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    fn split(&mut self, secret: &[u8], parts: usize, threshold: usize) -> Vec<Share> {
        let answer = self.ask(&format!("split {parts} {threshold} {}", HEXLOWER.encode(secret)));
        answer.split(' ').map(|share| Secret::new(HEXLOWER.decode(share.as_bytes()).expect(&answer))).collect()
    }

    fn combine(&mut self, shares: &[Share]) -> Vec<u8> {
        let texts: Vec<String> = shares.iter().map(|share| HEXLOWER.encode(share.expose())).collect();
        let answer = self.ask(&format!("combine {}", texts.join(" ")));
        HEXLOWER.decode(answer.as_bytes()).expect(&answer)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn binary() -> PathBuf {
    if let Some(folder) = std::env::var_os("DAYPASS_ORACLES") {
        return PathBuf::from(folder).join("shamir-oracle");
    }
    // Each test builds to a name of its own, so that one never runs a file that another still writes; Go's cache makes the rest quick.
    let name = std::thread::current().name().unwrap_or("test").replace(':', "-");
    let binary = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("shamir-oracle-{name}"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracle/shamir");
    let built = Command::new("go").args(["build", "-o"]).arg(&binary).arg(".").current_dir(source).status();
    assert!(built.expect("go is installed, or DAYPASS_ORACLES is set").success(), "the oracle builds");
    binary
}

/// Secret length, parts, threshold.
const SIZES: [(usize, usize, usize); 16] = [
    (1, 2, 2),
    (2, 3, 2),
    (16, 3, 3),
    (32, 2, 2),
    (32, 3, 2),
    (32, 5, 3),
    (32, 5, 5),
    (32, 7, 4),
    (32, 10, 6),
    (32, 30, 15),
    (32, 100, 51),
    (32, 254, 2),
    (32, 255, 255),
    (33, 9, 8),
    (100, 4, 3),
    (1000, 3, 2),
];

#[test]
fn vault_combines_what_daypass_splits() {
    let mut oracle = Oracle::start();
    for round in 0..6 {
        for (length, parts, threshold) in SIZES {
            let entropy: &dyn Entropy = &SeededEntropy::new(round);
            let mut secret = vec![0; length];
            entropy.fill(&mut secret);
            let mut shares = split(&secret, parts, threshold, entropy).unwrap();
            let turn = usize::try_from(entropy.below(parts as u64)).unwrap();
            shares.rotate_left(turn);
            assert_eq!(oracle.combine(&shares[..threshold]), secret, "{length} bytes, {threshold} of {parts}");
        }
    }
}

#[test]
fn daypass_combines_what_vault_splits() {
    let mut oracle = Oracle::start();
    for round in 0..6 {
        for (length, parts, threshold) in SIZES {
            let entropy: &dyn Entropy = &SeededEntropy::new(round);
            let mut secret = vec![0; length];
            entropy.fill(&mut secret);
            let mut shares = oracle.split(&secret, parts, threshold);
            assert_eq!(shares.len(), parts);
            let turn = usize::try_from(entropy.below(parts as u64)).unwrap();
            shares.rotate_left(turn);
            assert_eq!(combine(&shares[..threshold]).unwrap().expose(), &secret, "{length} bytes, {threshold} of {parts}");
        }
    }
}

#[test]
fn both_refuse_with_the_same_words() {
    let mut oracle = Oracle::start();
    for (parts, threshold, secret) in [(2, 3, "aa"), (256, 3, "aa"), (3, 1, "aa")] {
        let ours = split(&HEXLOWER.decode(secret.as_bytes()).unwrap(), parts, threshold, &SeededEntropy::new(1)).unwrap_err();
        assert_eq!(oracle.ask(&format!("split {parts} {threshold} {secret}")), format!("error {ours}"));
    }
    for shares in [&["0102"][..], &["01", "02"], &["0102", "010203"], &["0102", "0302"], &["0102", "0304", "0502"]] {
        let ours: Vec<Share> = shares.iter().map(|share| Secret::new(HEXLOWER.decode(share.as_bytes()).unwrap())).collect();
        let ours = combine(&ours).unwrap_err();
        assert_eq!(oracle.ask(&format!("combine {}", shares.join(" "))), format!("error {ours}"));
    }
}

#[test]
fn unseal_keys_split_anew_by_vault_unseal_daypass() {
    let mut oracle = Oracle::start();
    let seal = Seal::Shamir(SealConfig::shamir(5, 3).unwrap());
    let new = initialise(&seal, std::sync::Arc::new(SeededEntropy::new(5)), Timestamp::default()).unwrap();
    let key = oracle.combine(&new.shares[2..]);
    assert_eq!(key.len(), 32);
    let mut unsealing = Unsealing::new(&new.config, new.sealed_root.clone());
    let mut last = None;
    for share in oracle.split(&key, 5, 3).into_iter().take(3) {
        last = Some(unsealing.submit(share, &SeededEntropy::new(6)).unwrap());
    }
    assert!(matches!(last, Some(Step::Ready(_))));
}
