//! A stored role, and every decision about it that needs no AWS: pure.

use daypass_base::Brief;
use daypass_base::duration::short_string;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Error, Result, Seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::arn::Pattern;
use crate::auth::token_fields::{TokenFields, TokenParams, older_name};

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    pub(super) role_id: String,
    pub(super) auth_type: String,
    pub(super) bound_iam_principal_arn: Vec<String>,
    /// What the ARNs without a star were when they were written.
    pub(super) principal_ids: Vec<PrincipalId>,
    pub(super) resolve_aws_unique_ids: bool,
    pub(super) inferred_entity_type: String,
    pub(super) inferred_aws_region: String,
    /// The constraints on instances, by the names of [`BOUNDS`].
    bounds: std::collections::BTreeMap<String, Vec<String>>,
    pub(super) role_tag: String,
    pub(super) allow_instance_migration: bool,
    pub(super) disallow_reauthentication: bool,
    pub(super) token: TokenFields,
    /// Which older names were used, and are shown again.
    older: OlderNames,
}

/// What a bound ARN was when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PrincipalId {
    pub(super) arn: String,
    pub(super) partition: String,
    pub(super) account: String,
    pub(super) id: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OlderNames {
    max_ttl: bool,
    period: bool,
    policies: bool,
    ttl: bool,
}

impl Default for Role {
    fn default() -> Self {
        Self {
            role_id: String::new(),
            auth_type: IAM.to_owned(),
            bound_iam_principal_arn: Vec::new(),
            principal_ids: Vec::new(),
            resolve_aws_unique_ids: true,
            inferred_entity_type: String::new(),
            inferred_aws_region: String::new(),
            bounds: std::collections::BTreeMap::new(),
            role_tag: String::new(),
            allow_instance_migration: false,
            disallow_reauthentication: false,
            token: TokenFields::default(),
            older: OlderNames::default(),
        }
    }
}

/// A role's own fields as a request names them; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RoleParams {
    /// Name of the role; case does not matter. Example: `ci`.
    pub(super) role: String,
    /// `iam`, or `ec2` for instances with their documents. It cannot be changed. Example: `iam`.
    auth_type: Option<String>,
    /// ARNs of users and roles that may log in. A star may stand at the end. Example: `arn:aws:iam::111111111111:role/jenkins`.
    bound_iam_principal_arn: Option<CommaList>,
    /// Bind to the unique ids that the ARNs have now, so that a role made anew under the same name does not fit. Example: `true`.
    resolve_aws_unique_ids: Option<bool>,
    /// `ec2_instance`: the session is named as the instance that it runs on, which EC2 is asked about. Example: `ec2_instance`.
    inferred_entity_type: Option<String>,
    /// Region of the inferred instance. Example: `eu-west-1`.
    inferred_aws_region: Option<String>,
    /// Machine images of instances that may log in. Example: `ami-0123456789abcdef0`.
    bound_ami_id: Option<CommaList>,
    /// Accounts of instances that may log in. Example: `111111111111`.
    bound_account_id: Option<CommaList>,
    /// Networks of instances that may log in. Example: `vpc-0123456789abcdef0`.
    bound_vpc_id: Option<CommaList>,
    /// Subnets of instances that may log in. Example: `subnet-0123456789abcdef0`.
    bound_subnet_id: Option<CommaList>,
    /// Roles of instances that may log in. Example: `arn:aws:iam::111111111111:role/builders`.
    bound_iam_role_arn: Option<CommaList>,
    /// Instance profiles of instances that may log in. Example: `arn:aws:iam::111111111111:instance-profile/builders`.
    bound_iam_instance_profile_arn: Option<CommaList>,
    /// Instances that may log in. Example: `i-0123456789abcdef0`.
    bound_ec2_instance_id: Option<CommaList>,
    /// Regions of instances that may log in; only with auth_type `ec2`. Example: `eu-west-1`.
    bound_region: Option<CommaList>,
    /// Key of the instance's tag that narrows the role; only with auth_type `ec2`. Example: `VaultRole`.
    role_tag: Option<String>,
    /// Let an instance log in again after it was moved; only with auth_type `ec2`. Example: `false`.
    allow_instance_migration: Option<bool>,
    /// Let each instance log in once; only with auth_type `ec2`. Example: `false`.
    disallow_reauthentication: Option<bool>,
    /// Older name of `token_policies`. Example: `deploy`.
    policies: Option<CommaList>,
    /// Older name of `token_ttl`. Example: `15m`.
    ttl: Option<Seconds>,
    /// Older name of `token_max_ttl`. Example: `1h`.
    max_ttl: Option<Seconds>,
    /// Older name of `token_period`. Example: `1h`.
    period: Option<Seconds>,
}

impl Role {
    /// A role with the defaults.
    pub(super) fn new(role_id: String) -> Self {
        Self { role_id, ..Self::default() }
    }

    /// Takes what a request names and checks the whole. `is_new`: the type may still be chosen. Errors: `BadRequest`.
    pub(super) fn apply(&mut self, own: &RoleParams, token: TokenParams, is_new: Newness, max: Seconds) -> Result<()> {
        self.apply_type(own, is_new)?;
        if let Some(arns) = &own.bound_iam_principal_arn {
            self.bound_iam_principal_arn = checked_arns(&arns.0)?;
        }
        match own.resolve_aws_unique_ids {
            Some(false) if is_new == Newness::Known && self.resolve_aws_unique_ids => {
                return Err(Error::bad_request("changing resolve_aws_unique_ids from true to false is not allowed"));
            }
            Some(resolve) => self.resolve_aws_unique_ids = resolve,
            None => {}
        }
        let put = |field: &mut String, given: &Option<String>| given.iter().for_each(|given| field.clone_from(given));
        put(&mut self.inferred_entity_type, &own.inferred_entity_type);
        put(&mut self.inferred_aws_region, &own.inferred_aws_region);
        put(&mut self.role_tag, &own.role_tag);
        self.allow_instance_migration = own.allow_instance_migration.unwrap_or(self.allow_instance_migration);
        self.disallow_reauthentication = own.disallow_reauthentication.unwrap_or(self.disallow_reauthentication);
        for (name, given) in own.bounds() {
            if let Some(given) = given {
                if given.0.len() > LIST_MAX {
                    return Err(Error::bad_request(format!("{name} has {} entries; at most {LIST_MAX} are allowed", given.0.len())));
                }
                self.bounds.insert(name.to_owned(), given.0.clone());
            }
        }
        self.check()?;
        self.apply_token(own, token, max)
    }

    fn apply_type(&mut self, own: &RoleParams, is_new: Newness) -> Result<()> {
        let Some(wanted) = own.auth_type.as_deref().filter(|wanted| !wanted.is_empty()) else { return Ok(()) };
        if !matches!(wanted, IAM | EC2) {
            return Err(Error::bad_request(format!("unrecognized auth_type: {}", Brief(wanted))));
        }
        if is_new == Newness::Known && wanted != self.auth_type {
            return Err(Error::bad_request("changing auth_type on a role is not allowed"));
        }
        wanted.clone_into(&mut self.auth_type);
        Ok(())
    }

    fn apply_token(&mut self, own: &RoleParams, mut token: TokenParams, max: Seconds) -> Result<()> {
        token.token_policies = older_name(token.token_policies, own.policies.clone(), &mut self.older.policies);
        token.token_ttl = older_name(token.token_ttl, own.ttl, &mut self.older.ttl);
        token.token_max_ttl = older_name(token.token_max_ttl, own.max_ttl, &mut self.older.max_ttl);
        token.token_period = older_name(token.token_period, own.period, &mut self.older.period);
        self.token.apply(token)?;
        if self.token.period > max {
            return Err(Error::bad_request(format!(
                "period of {:?} is greater than the backend's maximum lease TTL of {:?}",
                short_string(self.token.period.duration()),
                short_string(max.duration())
            )));
        }
        Ok(())
    }

    /// Whether instances are looked at, of which the role may ask something.
    fn sees_instances(&self) -> bool {
        self.auth_type == EC2 || self.infers_instances()
    }

    /// Whether sessions are named as the instances that they run on.
    pub(super) fn infers_instances(&self) -> bool {
        self.inferred_entity_type == INSTANCE
    }

    /// Whether it says anything about who may log in. One that does not cannot be written, and would let nobody in.
    pub(super) fn is_bound(&self) -> bool {
        !self.bound_iam_principal_arn.is_empty() || self.bounds.values().any(|values| !values.is_empty())
    }

    /// Whether the instance that a session runs on decides alone: it is looked at and bound, and no principal is. As in Vault.
    pub(super) fn leaves_it_to_the_instance(&self) -> bool {
        // Regions bind documents; an inferred instance is asked about in one region anyway.
        let bound = self.bounds.iter().any(|(name, values)| name != "bound_region" && !values.is_empty());
        self.bound_iam_principal_arn.is_empty() && self.infers_instances() && bound
    }

    /// What the role asks for by this name; empty for anything.
    pub(super) fn bound(&self, name: &str) -> &[String] {
        self.bounds.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn check(&self) -> Result<()> {
        let refuse = |text: String| Err(Error::bad_request(text));
        match (self.inferred_entity_type.as_str(), self.inferred_aws_region.as_str()) {
            ("" | INSTANCE, "") if self.inferred_entity_type.is_empty() => {}
            ("", _) => return refuse("specified inferred_aws_region but not inferred_entity_type".to_owned()),
            (INSTANCE, "") => return refuse("specified inferred_entity_type but not inferred_aws_region".to_owned()),
            (INSTANCE, _) if self.auth_type == IAM => {}
            (INSTANCE, _) => return refuse("specified inferred_entity_type when not using iam auth type".to_owned()),
            (other, _) => return refuse(format!("specified invalid inferred_entity_type: {}", Brief(other))),
        }
        for (name, values) in self.bounds.iter().filter(|(_, values)| !values.is_empty()) {
            if name == "bound_region" && self.auth_type != EC2 {
                return refuse("specified bound_region but not specifying ec2 auth_type".to_owned());
            }
            if values.iter().any(|value| value.len() > TEXT_MAX) {
                return refuse(format!("an entry of {name} is longer than {TEXT_MAX} bytes"));
            }
            if !self.sees_instances() {
                return refuse(format!("specified {name} but not specifying ec2 auth_type or inferring ec2_instance"));
            }
        }
        if self.auth_type == EC2 && !self.bound_iam_principal_arn.is_empty() {
            return refuse("specified bound_iam_principal_arn but not specifying iam auth_type".to_owned());
        }
        if !self.is_bound() {
            return refuse(UNBOUND.to_owned());
        }
        if self.auth_type != EC2 {
            if !self.role_tag.is_empty() {
                return refuse("tried to enable role_tag when not using ec2 auth method".to_owned());
            }
            if self.disallow_reauthentication {
                return refuse("specified disallow_reauthentication when not using ec2 auth type".to_owned());
            }
            if self.allow_instance_migration {
                return refuse("specified allow_instance_migration when not using ec2 auth type".to_owned());
            }
        }
        if self.disallow_reauthentication && self.allow_instance_migration {
            return refuse("cannot specify both disallow_reauthentication=true and allow_instance_migration=true".to_owned());
        }
        if self.role_tag.len() > 127 {
            return refuse("length of role tag exceeds the EC2 key limit of 127 characters".to_owned());
        }
        Ok(())
    }

    /// The bound ARNs whose unique ids are wanted.
    pub(super) fn to_resolve(&self) -> impl Iterator<Item = &String> {
        self.bound_iam_principal_arn.iter().filter(|arn| self.resolve_aws_unique_ids && Pattern::of(arn).is_none())
    }

    /// As a read shows it.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let mut out = Map::new();
        self.token.show(&mut out);
        for name in BOUNDS {
            let values = self.bounds.get(name).filter(|values| !values.is_empty());
            // Vault shows this one as null where it is empty, the others as an empty list.
            let none = if name == "bound_ec2_instance_id" { Value::Null } else { json!([]) };
            out.insert(name.to_owned(), values.map_or(none, |values| json!(values)));
        }
        let ids: Vec<&String> = self.principal_ids.iter().map(|known| &known.id).collect();
        let own = [
            ("auth_type", json!(self.auth_type)),
            ("bound_iam_principal_arn", json!(self.bound_iam_principal_arn)),
            ("bound_iam_principal_id", json!(ids)),
            ("resolve_aws_unique_ids", json!(self.resolve_aws_unique_ids)),
            ("inferred_entity_type", json!(self.inferred_entity_type)),
            ("inferred_aws_region", json!(self.inferred_aws_region)),
            ("role_id", json!(self.role_id)),
            ("role_tag", json!(self.role_tag)),
            ("allow_instance_migration", json!(self.allow_instance_migration)),
            ("disallow_reauthentication", json!(self.disallow_reauthentication)),
        ];
        let older = [
            ("max_ttl", self.older.max_ttl, json!(self.token.max_ttl)),
            ("period", self.older.period, json!(self.token.period)),
            ("policies", self.older.policies, json!(self.token.policies)),
            ("ttl", self.older.ttl, json!(self.token.ttl)),
        ];
        let older = older.into_iter().filter(|(_, used, _)| *used).map(|(name, _, value)| (name, value));
        out.extend(own.into_iter().chain(older).map(|(name, value)| (name.to_owned(), value)));
        out
    }
}

impl RoleParams {
    fn bounds(&self) -> [(&'static str, &Option<CommaList>); 8] {
        let given = [
            &self.bound_account_id,
            &self.bound_ami_id,
            &self.bound_ec2_instance_id,
            &self.bound_iam_instance_profile_arn,
            &self.bound_iam_role_arn,
            &self.bound_region,
            &self.bound_subnet_id,
            &self.bound_vpc_id,
        ];
        let mut given = given.into_iter();
        BOUNDS.map(|name| (name, given.next().unwrap_or(&None)))
    }
}

/// Whether a role was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newness {
    Known,
    New,
}

fn checked_arns(arns: &[String]) -> Result<Vec<String>> {
    let arns: Vec<String> = arns.iter().filter(|arn| !arn.is_empty()).cloned().collect();
    if arns.len() > LIST_MAX {
        return Err(Error::bad_request(format!("bound_iam_principal_arn has {} entries; at most {LIST_MAX} are allowed", arns.len())));
    }
    for arn in &arns {
        if arn.len() > TEXT_MAX {
            return Err(Error::bad_request(format!("an entry of bound_iam_principal_arn is longer than {TEXT_MAX} bytes")));
        }
        match Pattern::of(arn) {
            Some(pattern) => pattern.check().map_err(Error::bad_request)?,
            None if arn.contains('*') => {
                return Err(Error::bad_request(format!("bound_iam_principal_arn {:?} has a star that is not at its end", Brief(arn))));
            }
            None => {}
        }
    }
    Ok(arns)
}

/// Vault's text.
pub(super) const UNBOUND: &str = "at least one bound parameter should be specified on the role";
pub(super) const IAM: &str = "iam";
pub(super) const EC2: &str = "ec2";
pub(super) const INSTANCE: &str = "ec2_instance";
/// The constraints on instances.
const BOUNDS: [&str; 8] = [
    "bound_account_id",
    "bound_ami_id",
    "bound_ec2_instance_id",
    "bound_iam_instance_profile_arn",
    "bound_iam_role_arn",
    "bound_region",
    "bound_subnet_id",
    "bound_vpc_id",
];
/// Entries of one list; each bound ARN may cost an IAM call.
const LIST_MAX: usize = 100;
const TEXT_MAX: usize = 2048;
