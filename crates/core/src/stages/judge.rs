//! Judge: policy decides. Nothing runs without the value that this module alone can make.

use daypass_base::{Limits, lenient};
use daypass_policy::Question;
use daypass_sdk::{Cx, Error, Kind, Operation, Result};
use serde_json::Value;

use crate::stages::door::Routed;
use crate::stages::identify::Identified;
use crate::stages::intent::Intended;
use crate::stages::parse::Parsed;

/// A request that policy allows.
pub(crate) struct Judged {
    pub(crate) operation: Operation,
    /// What the handler will get.
    pub(crate) cx: Option<Cx>,
    /// Names of the policies that allowed it.
    pub(crate) granting: Vec<String>,
    _proof: (),
}

/// Errors: `Denied`; or the trouble of the intent, for callers who may know; `BadRequest` for a list that is too long to be compared with anything.
pub(crate) fn judge(parsed: &Parsed, routed: &Routed, identified: &Identified, intended: Intended, limits: &Limits) -> Result<Judged> {
    let Intended { operation, trouble, cx, .. } = intended;
    let (lists, others) = match (&routed.live, &routed.found) {
        (Some(live), Some(found)) => live.judged_by(found, operation),
        _ => Default::default(),
    };
    if routed.support.public && parsed.operation != Operation::Help {
        check_lengths(parsed, &lists, limits)?;
        return trouble.map_or(Ok(Judged { operation, cx, granting: Vec::new(), _proof: () }), Err);
    }
    let Some(acl) = &identified.acl else { return Err(crate::stages::identify::denied()) };
    check_lengths(parsed, &lists, limits)?;
    let paths = others.as_strs();
    let question = Question {
        data: Some(&parsed.fields),
        wrap_ttl: parsed.wrap_ttl,
        sudo_path: routed.support.sudo,
        comma_lists: &lists,
        ..others.told(&paths, Question::new(&parsed.path, policy_operation(operation)))
    };
    let mut verdict = acl.judge(&question);
    if trouble.is_some() && operation == Operation::Update && !verdict.allowed {
        // Whether it would have been a create is not known: either right will do to hear of the trouble.
        verdict = acl.judge(&Question { operation: daypass_policy::Operation::Create, ..question });
    }
    if !verdict.allowed {
        return Err(refused());
    }
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    Ok(Judged { operation, cx, granting: verdict.granting().map(str::to_owned).collect(), _proof: () })
}

/// A text that is read as a list has no more elements than an array may have, whichever way it came.
fn check_lengths(parsed: &Parsed, lists: &[&str], limits: &Limits) -> Result<()> {
    for name in lists {
        let Some(Value::String(text)) = parsed.fields.get(*name) else { continue };
        let (count, most) = (lenient::count_elements(text), limits.json_array_elements);
        if count > most {
            return Err(Error::bad_request(format!("{name} has {count} elements with commas between them, over the limit of {most}")));
        }
    }
    Ok(())
}

/// Policy said no.
pub(crate) fn refused() -> Error {
    Error::new(Kind::Denied, "1 error occurred:\n\t* permission denied\n\n")
}

pub(crate) fn policy_operation(operation: Operation) -> daypass_policy::Operation {
    use daypass_policy::Operation as Asked;
    match operation {
        Operation::Create => Asked::Create,
        Operation::Delete => Asked::Delete,
        Operation::Header | Operation::Read => Asked::Read,
        Operation::Help => Asked::Help,
        Operation::List => Asked::List,
        Operation::Patch => Asked::Patch,
        Operation::Update => Asked::Update,
    }
}
