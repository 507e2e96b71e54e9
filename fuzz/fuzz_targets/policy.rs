//! Any text is a policy or a list of mistakes, and what a policy does not name it does not permit.
#![no_main]

use daypass_policy::{Acl, Identity, Operation, Policy, Question};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|text: &str| {
    match Policy::parse("fuzzed", text) {
        Ok(policy) => {
            let acl = Acl::compile(&[Arc::new(policy)], &Identity::default());
            assert!(!acl.is_root(), "a policy of a user became root");
            for path in ["sys/mounts", "secret/data/a", "a", "", "a/b/c/d", text.get(..40).unwrap_or("x")] {
                let verdict = acl.judge(&Question::new(path, Operation::Read));
                let capabilities = acl.capabilities(path);
                assert!(!capabilities.is_empty());
                if verdict.allowed {
                    assert!(capabilities.contains(&"read"), "read of {path:?} was allowed with {capabilities:?}");
                }
                let _ = verdict.to_string();
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
