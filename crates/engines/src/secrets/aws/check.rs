//! `check/<role>`: walks from the server's own identity to what the role's credential may do, names the hop that fails, and the statement that
//! would mend it.
//!
//! A real session of 900 seconds is made, and thrown away. The permissions of a role are simulated where IAM lets the server look: in its own
//! account. Session policies and lifetimes are those of a mint, by its own code.

mod session;

use std::sync::Arc;

use daypass_aws::{AssumeRole, AwsError, Call, Credential, Identity, Question, Target};
use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Json, Operation, Result, Seconds};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::secrets::at_aws::deadline;
use crate::secrets::federation::{self, Federation};

use super::Aws;
use super::attribution::Attribution;
use super::creds::Lifetime;
use super::documents::{self, Trust};
use super::loaded::{self, Loaded};
use super::names;
use crate::secrets::arn;

/// AWS's shortest session: what is tried is over soon.
const TRIAL: Seconds = Seconds(900);

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at(["check/{name@}"])
            .summary("Walk the chain from the server's own identity to what a role may do, and name the hop that fails.")
            .help(HELP)
            .on(Operation::Update, check),
    ]
}

/// What to check.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
struct Params {
    /// Name of the role. Example: `ecr-staging`.
    name: String,
    /// IAM role, when the role allows more than one. Example: `arn:aws:iam::111111111111:role/ecr-staging`.
    #[serde(default)]
    role_arn: String,
    /// Actions that the credential shall be allowed; the set for a push to ECR when left out. Example: `s3:PutObject`.
    #[serde(default)]
    actions: CommaList,
    /// ARN of what the actions are done on. Example: `arn:aws:ecr:eu-west-1:111111111111:repository/app`.
    #[serde(default)]
    resource: String,
}

/// The walk so far.
#[derive(Default)]
struct Walk {
    steps: Vec<Value>,
    failed: bool,
}

impl Walk {
    fn passed(&mut self, step: &str, detail: impl Into<String>) {
        self.steps.push(json!({ "step": step, "ok": true, "detail": detail.into() }));
    }

    fn failed(&mut self, step: &str, detail: impl Into<String>, mend: Value) {
        self.failed = true;
        self.steps.push(json!({ "step": step, "ok": false, "detail": detail.into(), "mend": mend }));
    }

    fn skipped(&mut self, step: &str, why: impl Into<String>) {
        self.steps.push(json!({ "step": step, "ok": null, "detail": why.into() }));
    }

    fn answer(self) -> Json<Value> {
        Json(json!({ "ok": !self.failed, "steps": self.steps }))
    }
}

/// Errors: `BadRequest` where the role has nothing to walk to; whatever fails at AWS is part of the answer.
async fn check(engine: Arc<Aws>, cx: Cx, params: Params) -> Result<Json<Value>> {
    let Loaded { role, target, config, .. } = loaded::assumed_role(&cx, &params.name).await?;
    engine.last.remember(&target);
    let attribution = Attribution::of(&cx, &params.name);
    let wanted = role.iam_role(&attribution, &params.name, &params.role_arn)?;
    let call = Call::usual(&target, deadline(&cx));
    let mut walk = Walk::default();
    let mend = match config.federation() {
        Some(federation) => match introduce(&cx, federation, &mut walk).await {
            Some(mend) => mend,
            None => return Ok(walk.answer()),
        },
        None => Value::Null,
    };
    let own = match engine.aws.get_caller_identity(call).await {
        Ok(own) => own,
        Err(error) => {
            walk.failed("server identity", error.sdk_text(), mend);
            return Ok(walk.answer());
        }
    };
    walk.passed("server identity", own.arn.as_str());
    let actions = documents::assume_actions(&role);
    let (ours, mut from, mut way) = (&role.ours, own.clone(), None);
    // A check has a name of its own. An operator's token proves nothing that a template of names may want.
    if let Err(error) = attribution.session_name(&ours.session_name) {
        walk.skipped("session name", format!("a mint with this token fails: {}", error.message));
    }
    let mut input = AssumeRole {
        tags: attribution.tags(&role.session_tags)?,
        transitive_tag_keys: ours.transitive_tag_keys.clone(),
        source_identity: attribution.source_identity(&ours.source_identity)?,
        policy: attribution.policy(&role.policy_document)?,
        policy_arns: role.policy_arns.clone(),
        ..AssumeRole::default()
    };
    if !session::groups(&engine, call, &mut walk, (&role, &own), &mut input).await {
        return Ok(walk.answer());
    }
    if !ours.via_role_arn.is_empty() {
        let actions = documents::hop_actions(&role);
        let hop = Hop { from: &from, to: &ours.via_role_arn, external_id: &ours.via_external_id, actions: &actions };
        // As a mint sets it: on the first role of the chain.
        let input = AssumeRole { source_identity: input.source_identity.clone(), ..AssumeRole::default() };
        let Some(session) = assume(&engine, &cx, call, &mut walk, hop, input).await else { return Ok(walk.answer()) };
        from.arn = session.arn.clone().unwrap_or_default();
        from.account = arn::iam_role(&ours.via_role_arn).map(|arn| arn.account.to_owned()).unwrap_or_default();
        way = Some(target.signed_by(&session));
    }
    let hop = Hop { from: &from, to: &wanted, external_id: &role.external_id, actions: &actions };
    let call = Call { target: way.as_ref().unwrap_or(call.target), ..call };
    let limits = input.clone();
    let Some(session) = assume(&engine, &cx, call, &mut walk, hop, input).await else { return Ok(walk.answer()) };
    prove(&engine, &cx, &target, &session, &mut walk).await;
    let call = Call::usual(&target, deadline(&cx));
    let of = session::Of { own: &own, role_arn: &wanted };
    session::lifetime(&engine, call, &mut walk, of, &Lifetime::of(&role, None, cx.mount.max_lease_ttl)).await;
    session::permissions(&engine, call, &mut walk, of, (&params, &limits)).await;
    Ok(walk.answer())
}

/// Says what the server shows to AWS, and gives what AWS has to know it by. `None` when it has nothing to show.
async fn introduce(cx: &Cx, federation: Federation<'_>, walk: &mut Walk) -> Option<Value> {
    let step = "identity token";
    let made = async {
        federation.try_out(cx).await?;
        cx.identity.claims().await
    };
    match made.await {
        Ok(claims) => {
            let said = format!("issuer {}\naudience {}\nsubject {}", claims.issuer, federation.audience, claims.subject);
            walk.passed(step, said);
            if let Some(caveat) = federation::caveat(&claims) {
                walk.skipped("issuer of identity tokens", caveat);
            }
            Some(json!({ "oidc_provider": federation.provider(&claims), "trust_policy": federation.trust(&claims) }))
        }
        Err(error) => {
            walk.failed(step, federation::told(error), Value::Null);
            None
        }
    }
}

/// One step from a principal to a role.
struct Hop<'a> {
    from: &'a Identity,
    to: &'a str,
    external_id: &'a str,
    actions: &'a [&'a str],
}

/// Assumes a role for real. `None` when that failed; the walk then says what would mend it.
async fn assume(engine: &Aws, cx: &Cx, call: Call<'_>, walk: &mut Walk, hop: Hop<'_>, input: AssumeRole) -> Option<Credential> {
    let step = format!("assume {}", hop.to);
    let input = AssumeRole {
        role_arn: hop.to.to_owned(),
        session_name: names::safe(&format!("daypass-check-{}", cx.clock.now().seconds())),
        duration: TRIAL,
        external_id: (!hop.external_id.is_empty()).then(|| hop.external_id.to_owned()),
        ..input
    };
    match engine.aws.assume_role(call, input).await {
        Ok(session) => {
            walk.passed(&step, session.arn.clone().unwrap_or_default());
            Some(session)
        }
        Err(error) => {
            diagnose(engine, call, walk, &hop, &step, &error).await;
            None
        }
    }
}

/// Finds out which side refuses, where IAM lets the server look.
async fn diagnose(engine: &Aws, call: Call<'_>, walk: &mut Walk, hop: &Hop<'_>, step: &str, error: &AwsError) {
    let principal = documents::principal_of(&hop.from.arn);
    let own_side = documents::may_assume(hop.actions, &[hop.to.to_owned()]);
    let their_side = documents::trusts(hop.actions, &principal, hop.external_id);
    let both = json!({ "identity_policy": own_side, "trust_policy": their_side });
    if error.kind != daypass_aws::ErrorKind::Denied {
        walk.failed(step, error.sdk_text(), Value::Null);
        return;
    }
    let question = Question {
        principal: principal.clone(),
        actions: hop.actions.iter().map(|action| (*action).to_owned()).collect(),
        resource: hop.to.to_owned(),
        boundary: None,
    };
    let may = match engine.aws.simulate(call, &question).await {
        Ok(decisions) => {
            let lacking: Vec<String> = decisions.into_iter().filter(|decision| !decision.allowed).map(|decision| decision.action).collect();
            if !lacking.is_empty() {
                let detail = format!("{principal} has no policy that allows {} on {}: {}", lacking.join(", "), hop.to, error.sdk_text());
                walk.failed(step, detail, json!({ "identity_policy": own_side }));
                return;
            }
            walk.passed(&format!("identity policy of {principal}"), format!("allows {}", hop.actions.join(", ")));
            true
        }
        Err(refused) => {
            walk.skipped(&format!("identity policy of {principal}"), format!("the server may not simulate it: {}", refused.sdk_text()));
            false
        }
    };
    let same_account = arn::iam_role(hop.to).is_ok_and(|arn| arn.account == hop.from.account);
    let name = hop.to.rsplit('/').next().unwrap_or_default();
    let role = if same_account { engine.aws.get_role(call, name).await.ok() } else { None };
    let (detail, mend) = match role.map(|role| documents::trust(&role.trust, &principal, &hop.from.account, "sts:AssumeRole")) {
        Some(Trust::Silent) => {
            (format!("the trust policy of {} names nobody that {principal} is", hop.to), json!({ "trust_policy": their_side }))
        }
        Some(Trust::Denies) => (format!("the trust policy of {} denies {principal}", hop.to), json!({ "trust_policy": their_side })),
        Some(Trust::LetsIn(keys)) if !keys.is_empty() => {
            let keys = keys.join(", ");
            (
                format!("the trust policy of {} lets {principal} in under conditions on {keys} that are not met", hop.to),
                json!({ "trust_policy": their_side }),
            )
        }
        Some(Trust::LetsIn(_)) => (
            format!("both sides allow it; look for a permissions boundary or an organisation's policy that denies {}", hop.to),
            Value::Null,
        ),
        Some(Trust::Unreadable) => (format!("the trust policy of {} cannot be read", hop.to), json!({ "trust_policy": their_side })),
        None if may => (
            format!("the trust policy of {} does not let {principal} in, as far as can be told from here", hop.to),
            json!({ "trust_policy": their_side }),
        ),
        None => (format!("either {principal} may not, or the trust policy of {} does not let it in", hop.to), both),
    };
    walk.failed(step, format!("{detail}: {}", error.sdk_text()), mend);
}

/// The session works: AWS says who it is.
async fn prove(engine: &Aws, cx: &Cx, target: &Target, session: &Credential, walk: &mut Walk) {
    let signed = target.signed_by(session);
    let call = Call::usual(&signed, deadline(cx));
    match engine.aws.get_caller_identity(call).await {
        Ok(identity) => walk.passed("the credential works", identity.arn),
        Err(error) => walk.failed("the credential works", error.sdk_text(), Value::Null),
    }
    engine.aws.forget(&signed);
}

const HELP: &str = "Each step says ok, or why not, with the statement that would mend it; null stands for what the server may not look at. The templates of
the role are filled with what the calling token's login proved. The server needs iam:SimulatePrincipalPolicy and iam:GetRole for the finer
answers; without them it says both sides of a refusal. lifetime is about mints that do not say a ttl.";
