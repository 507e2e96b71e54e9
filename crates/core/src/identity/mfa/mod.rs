//! Second factors of logins: the methods, which logins need them, the seeds of people, and the check of what they present.
//!
//! Whether a login needs a factor is asked in one place, the stage `stages/factor.rs`; what it makes of the answer is the only thing that a
//! token can be made of. Methods and enforcements are configuration: what is cached holds for one configuration version. A lookup that fails
//! fails the login.

pub(crate) mod attempts;
pub(crate) mod enforcement;
pub(crate) mod factors;
pub(crate) mod method;
mod picture;
pub(crate) mod seeds;
mod totp;
pub(crate) mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_sdk::{Error, Kind, Result};
use parking_lot::RwLock;
use serde_json::{Map, Value, json};

use self::attempts::Attempts;
use self::enforcement::{EnforcementRow, EnforcementWish, Trait};
use self::factors::Factors;
use self::method::{MethodRow, MethodWish};
use self::waiting::WaitingRoom;
use super::rows::{enforcement_key, method_key};
use super::{Identities, Standing, bounds};
use crate::mounts::MountRow;

/// What is in memory of second factors.
#[derive(Default)]
pub(crate) struct Mfa {
    rules: RwLock<Option<(u64, Arc<Rules>)>>,
    attempts: Attempts,
    pub(crate) waiting: WaitingRoom,
}

/// All methods and enforcements, as of one configuration version.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    methods: BTreeMap<String, MethodRow>,
    enforcements: Vec<EnforcementRow>,
}

impl Rules {
    /// The enforcements that a login has to satisfy. `entity_id` is empty for logins of nobody in particular.
    pub(crate) fn wanted(&self, mount: &MountRow, entity_id: &str, standing: &Standing) -> Vec<&EnforcementRow> {
        if self.enforcements.is_empty() {
            return Vec::new();
        }
        let merged = standing.entity.iter().flat_map(|entity| entity.merged.iter().map(String::as_str).chain([entity.id.as_str()]));
        let login = Trait {
            accessor: &mount.accessor,
            kind: &mount.kind,
            groups: standing.groups.iter().map(|group| group.id.as_str()).collect(),
            entities: merged.chain((!entity_id.is_empty()).then_some(entity_id)).collect(),
        };
        self.enforcements.iter().filter(|enforcement| enforcement.fits(&login)).collect()
    }

    /// What a client is told of the factors that are wanted of it.
    pub(crate) fn constraints(&self, wanted: &[&EnforcementRow]) -> Map<String, Value> {
        let one = |method: &MethodRow| json!({ "type": method::TYPE, "id": method.id, "uses_passcode": true, "name": method.name });
        let any = |row: &EnforcementRow| row.methods.iter().filter_map(|id| self.methods.get(id)).map(one).collect::<Vec<_>>();
        wanted.iter().map(|row| (row.name.clone(), json!({ "any": any(row) }))).collect()
    }
}

impl Identities {
    /// Methods and enforcements as of `config_version`, or newer ones.
    pub(crate) async fn mfa_rules(&self, config_version: u64) -> Result<Arc<Rules>> {
        if let Some((version, rules)) = &*self.mfa.rules.read()
            && *version >= config_version
        {
            return Ok(Arc::clone(rules));
        }
        let rules = Arc::new(self.read_mfa_rules().await?);
        let mut cached = self.mfa.rules.write();
        if cached.as_ref().is_none_or(|(version, _)| *version <= config_version) {
            *cached = Some((config_version, Arc::clone(&rules)));
        }
        Ok(rules)
    }

    async fn read_mfa_rules(&self) -> Result<Rules> {
        Ok(Rules { methods: self.mfa_methods().await?, enforcements: self.mfa_enforcements().await? })
    }

    /// Whether what a client presents satisfies these enforcements for an entity. A method is checked once, also when several want it, since
    /// its passcode is good once. Errors: `Denied` when it does not, in Vault's words.
    pub(crate) async fn verify_factors(&self, rules: &Rules, wanted: &[&EnforcementRow], entity_id: &str, factors: &Factors) -> Result<()> {
        let mut checked: BTreeMap<&str, Result<(), String>> = BTreeMap::new();
        for enforcement in wanted {
            let mut reasons = Vec::new();
            let mut satisfied = false;
            for id in &enforcement.methods {
                let known = rules.methods.get(id).and_then(|method| factors.passcode(method).map(|passcode| (method, passcode)));
                let Some((method, passcode)) = known else { continue };
                let outcome = match (checked.get(id.as_str()), passcode) {
                    (Some(outcome), _) => outcome.clone(),
                    (None, Ok(passcode)) => self.check_passcode(method, entity_id, passcode).await?,
                    (None, Err(why)) => Err(why.to_owned()),
                };
                checked.insert(id, outcome.clone());
                match outcome {
                    Ok(()) => satisfied = true,
                    Err(why) => reasons.push(why),
                }
                if satisfied {
                    break;
                }
            }
            if !satisfied {
                return Err(unsatisfied(enforcement, reasons));
            }
        }
        Ok(())
    }

    /// All methods, by id.
    pub(crate) async fn mfa_methods(&self) -> Result<BTreeMap<String, MethodRow>> {
        let rows: Vec<MethodRow> = self.scan_all(&method_key(""), METHODS_MAX).await?;
        Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
    }

    pub(crate) async fn mfa_method(&self, id: &str) -> Result<Option<MethodRow>> {
        if bounds::is_id(id) { self.read(&method_key(id)).await } else { Ok(None) }
    }

    /// Makes a method, or changes the one of this id, or of this name. Returns its id. Errors: `BadRequest`.
    pub(crate) async fn write_mfa_method(&self, id: Option<&str>, wish: MethodWish) -> Result<String> {
        let mut change = self.change().await?;
        let all = self.mfa_methods().await?;
        let namesake = all.values().find(|row| !row.name.is_empty() && wish.name.as_ref() == Some(&row.name));
        let mut row = match (id, namesake) {
            (Some(id), Some(other)) if other.id != id => {
                return Err(Error::bad_request(format!("method_name {:?} is the name of another method", other.name)));
            }
            (Some(id), _) => {
                let known = all.get(id).cloned();
                known.ok_or_else(|| Error::bad_request("no MFA method has this id; write to identity/mfa/method/totp to make one"))?
            }
            (None, Some(other)) => other.clone(),
            (None, None) if all.len() >= METHODS_MAX => {
                return Err(Error::bad_request(format!("there are {METHODS_MAX} MFA methods, which is the limit: delete one first")));
            }
            (None, None) => MethodRow::new(crate::ids::uuid(&*self.entropy)),
        };
        row.change(wish)?;
        change.put(method_key(&row.id), &row)?;
        change.commit().await?;
        Ok(row.id)
    }

    /// Deletes a method and the seeds that people have of it; one that does not exist is no error. Errors: `BadRequest` while an enforcement
    /// names it.
    pub(crate) async fn delete_mfa_method(&self, id: &str) -> Result<()> {
        if !bounds::is_id(id) {
            return Ok(());
        }
        let mut change = self.change().await?;
        if let Some(user) = self.mfa_enforcements().await?.iter().find(|row| row.methods.iter().any(|method| method == id)) {
            let (name, user) = (&user.name, &user.id);
            return Err(Error::bad_request(format!(
                "methodID is still used by an enforcement configuration with ID: {user} (its name is {name:?})"
            )));
        }
        change.delete(method_key(id));
        change.commit().await?;
        self.forget_seeds_of_method(id).await
    }

    /// All enforcements, by name.
    pub(crate) async fn mfa_enforcements(&self) -> Result<Vec<EnforcementRow>> {
        self.scan_all(&enforcement_key(""), ENFORCEMENTS_MAX).await
    }

    pub(crate) async fn mfa_enforcement(&self, name: &str) -> Result<Option<EnforcementRow>> {
        self.read(&enforcement_key(name)).await
    }

    /// Makes or changes an enforcement. Errors: `BadRequest`.
    pub(crate) async fn write_mfa_enforcement(&self, name: &str, wish: EnforcementWish) -> Result<()> {
        let mut change = self.change().await?;
        let all = self.mfa_enforcements().await?;
        let known = all.iter().find(|row| row.name == name).cloned();
        if known.is_none() && (all.len() >= ENFORCEMENTS_MAX || name.len() > NAME_BYTES_MAX) {
            return Err(Error::bad_request(format!(
                "there can be {ENFORCEMENTS_MAX} login enforcements with names of {NAME_BYTES_MAX} bytes: delete one first, or shorten the name"
            )));
        }
        let fresh = || EnforcementRow { id: crate::ids::uuid(&*self.entropy), name: name.to_owned(), ..EnforcementRow::default() };
        let mut row = known.unwrap_or_else(fresh);
        row.change(wish)?;
        let methods = self.mfa_methods().await?;
        if row.methods.iter().any(|id| !methods.contains_key(id)) {
            return Err(Error::bad_request("one of the provided method ids doesn't exist"));
        }
        for id in &row.groups {
            self.group(id).await?.ok_or_else(|| Error::bad_request("one of the provided group ids doesn't exist"))?;
        }
        for id in &row.entities {
            self.entity_or_derived(id).await?.ok_or_else(|| Error::bad_request("one of the provided entity ids doesn't exist"))?;
        }
        change.put(enforcement_key(name), &row)?;
        change.commit().await
    }

    pub(crate) async fn delete_mfa_enforcement(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        change.delete(enforcement_key(name));
        change.commit().await
    }
}

/// As Vault words it: clients show it, and read from it when it is worth trying again.
fn unsatisfied(enforcement: &EnforcementRow, mut reasons: Vec<String>) -> Error {
    reasons.push(format!("login MFA validation failed for methodID: [{}]", enforcement.methods.join(" ")));
    let count = if reasons.len() == 1 { "1 error".to_owned() } else { format!("{} errors", reasons.len()) };
    let list: String = reasons.iter().map(|reason| format!("\t* {reason}\n")).collect();
    Error::new(Kind::Denied, format!("failed to satisfy enforcement {}. error: {count} occurred:\n{list}\n", enforcement.name))
}

const METHODS_MAX: usize = 100;
const ENFORCEMENTS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 128;
