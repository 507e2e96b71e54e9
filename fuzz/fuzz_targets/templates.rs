//! Roles of the aws engine hold templates, patterns and cron lines; logins bring claims. Whatever they hold, a claim stays what it is: it
//! never adds a field to a policy, a segment to an ARN, or a match to a pattern.
#![no_main]

use daypass_engines::secrets::aws::fuzzing::{claim, cron, pattern, template};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    template(first, second);
    claim(second);
    pattern(first, second);
    cron(first);
});
