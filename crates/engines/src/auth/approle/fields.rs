//! `role/<name>/<field>`: the fields of a role one by one, as older tools set them.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use serde_json::{Map, Value, json};

use super::AppRole;
use super::role::{Role, RoleParams, null_if_empty};
use super::roles::{self, NameParams};
use crate::auth::token_fields::{TokenParams, With};

/// One field with a path of its own.
#[derive(Clone, Copy)]
struct Field {
    /// Its path.
    pattern: &'static str,
    /// Its name in answers.
    name: &'static str,
    summary: &'static str,
    /// Leaves of the request only this field; `None` when the request does not name it.
    pick: fn(&With<RoleParams>) -> Option<With<RoleParams>>,
    /// The request that sets the default again.
    reset: fn() -> With<RoleParams>,
    /// Its value.
    show: fn(&Role) -> Value,
}

pub(super) fn endpoints() -> Vec<Endpoint<AppRole>> {
    let mut endpoints: Vec<_> = FIELDS.iter().map(|field| endpoint(*field)).collect();
    endpoints.push(
        Endpoint::at(["role/{role_name}/local-secret-ids"])
            .summary("Read whether secret ids belong to this cluster alone.")
            .on(Operation::Read, |_, cx, params| read(cx, params, "local_secret_ids", |role| json!(role.local_secret_ids))),
    );
    endpoints
}

fn endpoint(field: Field) -> Endpoint<AppRole> {
    Endpoint::at([field.pattern])
        .summary(field.summary)
        .on(Operation::Read, move |_, cx, params| read(cx, params, field.name, field.show))
        .on(Operation::Update, move |approle, cx, params| write(approle, cx, params, field))
        .on(Operation::Delete, move |approle, cx, params| reset(approle, cx, params, field))
}

async fn read(cx: Cx, params: NameParams, name: &'static str, show: fn(&Role) -> Value) -> Result<Reply> {
    let found = roles::find(&cx, &params.role_name).await?.ok_or_else(Error::not_found)?;
    let mut data = Map::from_iter([(name.to_owned(), show(&found.role))]);
    match name {
        "token_policies" if found.role.older_policies => drop(data.insert("policies".to_owned(), json!(found.role.token.policies))),
        "token_period" if found.role.older_period => drop(data.insert("period".to_owned(), json!(found.role.token.period))),
        _ => {}
    }
    let reply = Reply::data(data);
    Ok(if name == "bound_cidr_list" { reply.warn(OLDER_LIST) } else { reply })
}

/// Fails with `NoSuchPath` for a missing role, as Vault does.
async fn write(approle: Arc<AppRole>, cx: Cx, params: With<RoleParams>, field: Field) -> Result<()> {
    let picked = (field.pick)(&params).ok_or_else(|| Error::bad_request(format!("missing {}", field.name)))?;
    roles::change(&approle, &cx, &params.own.role_name, Error::no_such_path, |role| role.apply(&picked)).await
}

async fn reset(approle: Arc<AppRole>, cx: Cx, params: NameParams, field: Field) -> Result<()> {
    let defaults = (field.reset)();
    roles::change(&approle, &cx, &params.role_name, Error::no_such_path, |role| role.apply(&defaults)).await
}

/// A request that names only own fields.
fn own(own: RoleParams) -> With<RoleParams> {
    With { own, token: TokenParams::default() }
}

/// A request that names only token fields.
fn token(token: TokenParams) -> With<RoleParams> {
    With { own: RoleParams::default(), token }
}

const OLDER_LIST: &str = "The \"bound_cidr_list\" field is deprecated and will be removed. Please use \"secret_id_bound_cidrs\" instead.";

const FIELDS: &[Field] = &[
    Field {
        pattern: "role/{role_name}/bind-secret-id",
        name: "bind_secret_id",
        summary: "Whether logins need a secret id.",
        pick: |sent| sent.own.bind_secret_id.map(|value| own(RoleParams { bind_secret_id: Some(value), ..RoleParams::default() })),
        reset: || own(RoleParams { bind_secret_id: Some(true), ..RoleParams::default() }),
        show: |role| json!(role.bind_secret_id),
    },
    Field {
        pattern: "role/{role_name}/bound-cidr-list",
        name: "bound_cidr_list",
        summary: "Older name of secret-id-bound-cidrs.",
        pick: |sent| {
            sent.own.bound_cidr_list.clone().map(|value| own(RoleParams { bound_cidr_list: Some(value), ..RoleParams::default() }))
        },
        reset: || own(RoleParams { bound_cidr_list: Some(daypass_base::lenient::CommaList::default()), ..RoleParams::default() }),
        // What is set under the older name is kept under the newer one, and shown there.
        show: |_| Value::Null,
    },
    Field {
        pattern: "role/{role_name}/period",
        name: "token_period",
        summary: "Lifetime that each renewal of a periodic token sets.",
        pick: |sent| {
            let both = (sent.token.token_period, sent.own.period);
            (both.0.is_some() || both.1.is_some()).then(|| With {
                own: RoleParams { period: both.1, ..RoleParams::default() },
                token: TokenParams { token_period: both.0, ..TokenParams::default() },
            })
        },
        reset: || token(TokenParams { token_period: Some(daypass_sdk::Seconds::ZERO), ..TokenParams::default() }),
        show: |role| json!(role.token.period),
    },
    Field {
        pattern: "role/{role_name}/policies",
        name: "token_policies",
        summary: "Policies of the tokens.",
        pick: |sent| {
            let both = (sent.token.token_policies.clone(), sent.own.policies.clone());
            (both.0.is_some() || both.1.is_some()).then(|| With {
                own: RoleParams { policies: both.1, ..RoleParams::default() },
                token: TokenParams { token_policies: both.0, ..TokenParams::default() },
            })
        },
        reset: || token(TokenParams { token_policies: Some(daypass_base::lenient::CommaList::default()), ..TokenParams::default() }),
        show: |role| json!(role.token.policies),
    },
    Field {
        pattern: "role/{role_name}/secret-id-bound-cidrs",
        name: "secret_id_bound_cidrs",
        summary: "Networks that may log in.",
        pick: |sent| {
            let value = sent.own.secret_id_bound_cidrs.clone();
            value.map(|value| own(RoleParams { secret_id_bound_cidrs: Some(value), ..RoleParams::default() }))
        },
        reset: || own(RoleParams { secret_id_bound_cidrs: Some(daypass_base::lenient::CommaList::default()), ..RoleParams::default() }),
        show: |role| null_if_empty(&role.secret_id_bound_cidrs),
    },
    Field {
        pattern: "role/{role_name}/secret-id-num-uses",
        name: "secret_id_num_uses",
        summary: "Logins that a secret id is good for.",
        pick: |sent| sent.own.secret_id_num_uses.map(|value| own(RoleParams { secret_id_num_uses: Some(value), ..RoleParams::default() })),
        reset: || own(RoleParams { secret_id_num_uses: Some(0), ..RoleParams::default() }),
        show: |role| json!(role.secret_id_num_uses),
    },
    Field {
        pattern: "role/{role_name}/secret-id-ttl",
        name: "secret_id_ttl",
        summary: "How long a secret id can be used.",
        pick: |sent| sent.own.secret_id_ttl.map(|value| own(RoleParams { secret_id_ttl: Some(value), ..RoleParams::default() })),
        reset: || own(RoleParams { secret_id_ttl: Some(daypass_sdk::Seconds::ZERO), ..RoleParams::default() }),
        show: |role| json!(role.secret_id_ttl),
    },
    Field {
        pattern: "role/{role_name}/token-bound-cidrs",
        name: "token_bound_cidrs",
        summary: "Networks that may use the tokens.",
        pick: |sent| {
            let value = sent.token.token_bound_cidrs.clone();
            value.map(|value| token(TokenParams { token_bound_cidrs: Some(value), ..TokenParams::default() }))
        },
        reset: || token(TokenParams { token_bound_cidrs: Some(daypass_base::lenient::CommaList::default()), ..TokenParams::default() }),
        show: |role| json!(role.token.bound_cidrs),
    },
    Field {
        pattern: "role/{role_name}/token-max-ttl",
        name: "token_max_ttl",
        summary: "How long renewals can keep a token alive.",
        pick: |sent| sent.token.token_max_ttl.map(|value| token(TokenParams { token_max_ttl: Some(value), ..TokenParams::default() })),
        reset: || token(TokenParams { token_max_ttl: Some(daypass_sdk::Seconds::ZERO), ..TokenParams::default() }),
        show: |role| json!(role.token.max_ttl),
    },
    Field {
        pattern: "role/{role_name}/token-num-uses",
        name: "token_num_uses",
        summary: "Requests that a token is good for.",
        pick: |sent| sent.token.token_num_uses.map(|value| token(TokenParams { token_num_uses: Some(value), ..TokenParams::default() })),
        reset: || token(TokenParams { token_num_uses: Some(0), ..TokenParams::default() }),
        show: |role| json!(role.token.num_uses),
    },
    Field {
        pattern: "role/{role_name}/token-ttl",
        name: "token_ttl",
        summary: "Lifetime of a new token.",
        pick: |sent| sent.token.token_ttl.map(|value| token(TokenParams { token_ttl: Some(value), ..TokenParams::default() })),
        reset: || token(TokenParams { token_ttl: Some(daypass_sdk::Seconds::ZERO), ..TokenParams::default() }),
        show: |role| json!(role.token.ttl),
    },
];
