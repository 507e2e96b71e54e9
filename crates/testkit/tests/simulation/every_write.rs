//! One script of everything that a server does, told again with each fault at each of its writes, and with a failure at each of its reads.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::Entropy;
use daypass_base::sim::SeededEntropy;
use daypass_storage::evil::{Calls, Fault, Step};

use crate::history::{History, Plan};
use crate::{aws, kv, logins, number, registers, scratch, sweeps, tokens, wraps};

/// Each kind of deed, in an order in which one has what the one before it made.
const SCRIPT: [Plan; 37] = [
    kv::put,
    kv::put,
    kv::delete,
    registers::set,
    registers::set,
    registers::look,
    scratch::any,
    scratch::any,
    scratch::any,
    scratch::any,
    scratch::any,
    tokens::make,
    tokens::make,
    tokens::keep,
    tokens::make,
    tokens::r#use,
    tokens::renew,
    aws::mint,
    aws::mint,
    aws::look,
    aws::renew,
    wraps::wrap,
    wraps::unwrap,
    wraps::wrap,
    logins::make,
    logins::log_in,
    logins::destroy,
    tokens::revoke,
    tokens::make,
    aws::mint,
    aws::revoke,
    aws::mint,
    sweeps::any,
    wraps::unwrap,
    scratch::any,
    kv::put,
    kv::read,
];

/// The chance that writes the script: with this one, each kind of deed is done, and everything is ended in one way or another.
const CHANCE: u64 = 9;

const FAULTS: [Fault; 6] =
    [Fault::Fail, Fault::LoseAnswer, Fault::CrashBefore, Fault::CrashAfter, Fault::Delay(Duration::from_secs(3)), Fault::Full];

/// Tells the script with this fault at this step of it. Gives the calls of the script alone.
fn run(line: Option<(Step, Fault)>) -> Calls {
    let mut history = History::new(1);
    let chance: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(CHANCE));
    let before = history.world.evil().calls();
    if let Some((step, fault)) = line {
        let step = match step {
            Step::Read(number) => Step::Read(before.reads + number),
            Step::Write(number) => Step::Write(before.writes + number),
            Step::Call(number) => Step::Call(before.all + number),
        };
        history.world.evil().at(step, fault);
    }
    crate::told(&format!("{line:?}"), &mut history, |history| {
        let mut done = Calls::default();
        for plan in SCRIPT {
            let full = history.world.evil().calls().struck;
            if let Some(deed) = (0..20).find_map(|_| plan(&mut history.model, &*chance)) {
                history.round(vec![deed]);
            }
            history.recover();
            if line.is_none() {
                let now = history.world.evil().calls();
                done = Calls { reads: now.reads - before.reads, writes: now.writes - before.writes, ..Calls::default() };
            }
            // A full disk has room again after some failures; what is planned for later stays planned.
            if matches!(line, Some((_, Fault::Full))) && full > 2 {
                history.heal();
            }
        }
        if line.is_none() {
            // A read that finds nothing is a read.
            let changes = |name: &String| !name.ends_with("Read") && name != "Look";
            let undone: Vec<_> = history.model.figures.iter().filter(|(name, figures)| figures[0] == 0 && changes(name)).collect();
            assert!(undone.is_empty(), "the script does not do {undone:?}");
        }
        history.end();
        done
    })
}

#[test]
fn a_fault_at_any_write_of_the_script_breaks_no_promise() {
    // One of so many lines here; all of them with DAYPASS_EVERY=1.
    let every = usize::try_from(number("DAYPASS_EVERY", 29)).unwrap();
    let calls = run(None);
    assert!(calls.writes > 40 && calls.reads > 100, "{calls:?}");
    let writes = (1..=calls.writes).flat_map(|number| FAULTS.map(|fault| (Step::Write(number), fault)));
    let reads = (1..=calls.reads).map(|number| (Step::Read(number), Fault::Fail));
    let lines: Vec<(Step, Fault)> = writes.chain(reads).collect();
    let mut told = 0;
    for line in lines.iter().step_by(every) {
        run(Some(*line));
        told += 1;
    }
    println!("{} writes and {} reads in the script; {told} of {} lines told", calls.writes, calls.reads, lines.len());
}
