//! Auth methods: what turns a proof of identity into a token. The methods prove; the core makes the token, counts failed logins and
//! locks out ([`daypass_sdk::Engine::login_alias`], [`daypass_sdk::Error::wrong_credentials`]).

pub mod approle;
pub mod aws;
pub mod cert;
mod cidr;
mod crowded;
pub mod github;
mod glob;
mod jose;
pub mod jwt;
pub mod kubernetes;
mod mount_key;
mod token_fields;
pub mod userpass;
