//! Seeds: what an authenticator app and this server share, one for each person and method.
//!
//! A seed is a sealed row below the identity store. It leaves the server once, in the answer that makes it. The newest step of which a
//! passcode was taken is a row beside it, put under a condition: of two requests with the same passcode one is refused, on whichever nodes
//! they run and whatever was restarted in between.

use daypass_base::{Seconds, Secret};
use daypass_sdk::{CommitFailure, Error, Result, into_the_sealed_store};
use daypass_storage::{Batch, Condition, Key};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::attempts::Refused;
use super::method::MethodRow;
use super::picture;
use super::totp::{Shape, Verdict};
use crate::identity::change::Change;
use crate::identity::rows::{all_seeds_prefix, seed_key, seed_use_key, seeds_prefix};
use crate::identity::{Identities, bounds};
use crate::rows::unchanged;

/// A seed as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SeedRow {
    /// Names its use: a seed that takes the place of another shares nothing with it.
    id: String,
    method: String,
    /// In base32, as apps take it.
    #[serde(serialize_with = "into_the_sealed_store")]
    seed: Secret<String>,
    shape: Shape,
}

/// Of which step a passcode was taken last.
#[derive(Serialize, Deserialize)]
struct UseRow {
    step: u64,
}

/// What asking for a seed leads to.
pub(crate) enum Generated {
    /// The entity has one; the method's name.
    Already(String),
    /// A new one, as apps take it: a URL, and a picture of it in base64.
    New(Secret<String>, Option<Secret<String>>),
}

impl Identities {
    /// Makes the seed of an entity, unless it has one. Errors: `BadRequest` when there is no such method or entity.
    pub(crate) async fn generate_seed(&self, method_id: &str, entity_id: &str) -> Result<Generated> {
        let mut change = self.change().await?;
        let method = self.existing_method(method_id).await?;
        let entity = self.entity_or_derived(entity_id).await?.ok_or_else(|| Error::bad_request("invalid entity ID"))?;
        let key = seed_key(&entity.id, &method.id);
        if self.rows.get(&key).await?.0.is_some() {
            return Ok(Generated::Already(method.name));
        }
        let mut bytes = Zeroizing::new(vec![0; usize::from(method.key_size)]);
        self.entropy.fill(&mut bytes);
        let row = SeedRow {
            id: crate::ids::uuid(&*self.entropy),
            method: method.id.clone(),
            seed: Secret::new(data_encoding::BASE32_NOPAD.encode(&bytes)),
            shape: method.shape,
        };
        let url = url(&method, &entity.id, &row);
        let picture = match method.qr_size {
            0 => None,
            // Exposed to be drawn.
            size => Some(Secret::new(data_encoding::BASE64.encode(&picture::png(url.expose(), size.into())?))),
        };
        change.put(key, &row)?;
        change.commit().await?;
        Ok(Generated::New(url, picture))
    }

    /// Takes an entity's seed away; none is no error. Errors: `BadRequest` when there is no such method or entity.
    pub(crate) async fn destroy_seed(&self, method_id: &str, entity_id: &str) -> Result<()> {
        let mut change = self.change().await?;
        let method = self.existing_method(method_id).await?;
        let entity = self.entity_or_derived(entity_id).await?.ok_or_else(|| Error::bad_request("invalid entity ID"))?;
        if let Some(row) = self.read::<SeedRow>(&seed_key(&entity.id, &method.id)).await? {
            drop_seed(&mut change, &entity.id, &row);
            change.commit().await?;
        }
        Ok(())
    }

    async fn existing_method(&self, id: &str) -> Result<MethodRow> {
        if id.is_empty() {
            return Err(Error::bad_request("missing method ID"));
        }
        self.mfa_method(id).await?.ok_or_else(|| Error::bad_request("no MFA method has the id given as method_id"))
    }

    /// Checks a passcode, and uses it up if it is good. The inner error is why it is refused, in Vault's words.
    pub(super) async fn check_passcode(&self, method: &MethodRow, entity_id: &str, passcode: &str) -> Result<Result<(), String>> {
        let key = seed_key(entity_id, &method.id);
        let missing = || Ok(Err(format!("MFA secret for method name {:?} not present in entity {entity_id:?}", method.name)));
        let Some((mut row, mut version)) = self.rows.get_json::<SeedRow>(&key).await? else { return missing() };
        // Counted before anything is compared: guesses that come together get no further than guesses one after the other.
        let most = method.max_validation_attempts;
        if let Err(refused) = self.mfa.attempts.count(entity_id, &method.id, most, Seconds(row.shape.period), self.clock.elapsed()) {
            return Ok(Err(match refused {
                Refused::Exhausted(Seconds(wait)) => format!(
                    "maximum TOTP validation attempts {} exceeded the allowed attempts {most}. Please try again in {wait} seconds",
                    u64::from(most) + 1
                ),
                Refused::Full => "too many people present wrong passcodes: try again later".to_owned(),
            }));
        }
        for _ in 0..CONFLICTS_MAX {
            let use_key = seed_use_key(&row.id);
            let used = self.rows.get_json::<UseRow>(&use_key).await?;
            let now = self.clock.now();
            // Exposed to be hashed with the time.
            let seed = data_encoding::BASE32_NOPAD.decode(row.seed.expose().as_bytes()).map(Zeroizing::new);
            let seed = seed.map_err(|error| Error::internal("a stored seed is not readable").because(error))?;
            let step = match row.shape.judge(&seed, passcode, now, used.as_ref().map(|(used, _)| used.step)) {
                Verdict::Wrong => return Ok(Err("failed to validate TOTP passcode".to_owned())),
                Verdict::Used => {
                    let gone = u64::try_from(now.seconds()).unwrap_or(0) % row.shape.period.max(1);
                    return Ok(Err(format!("code already used; new code is available in {} seconds", row.shape.period - gone)));
                }
                Verdict::Good(step) => step,
            };
            let mut batch = Batch::new().require(key.clone(), Condition::Version(version));
            batch.conditions.push(unchanged(use_key.clone(), used.map(|(_, version)| version)));
            match self.rows.commit(self.rows.put_json(batch, use_key, &UseRow { step })?).await {
                Ok(_) => {
                    self.mfa.attempts.succeeded(entity_id, &method.id);
                    return Ok(Ok(()));
                }
                // Somebody used it, or the seed is another: judged again by what is there now.
                Err(CommitFailure::Conflict(_)) => match self.rows.get_json(&key).await? {
                    Some(again) => (row, version) = again,
                    None => return missing(),
                },
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::failed("the passcode is checked by too many requests at once; try again"))
    }

    /// The seeds of an entity.
    pub(in crate::identity) async fn seeds_of(&self, entity_id: &str) -> Result<Vec<SeedRow>> {
        self.scan_all(&seeds_prefix(entity_id), SEEDS_MAX).await
    }

    /// Drops the seeds of an entity that is being deleted. Returns whether there were any.
    pub(in crate::identity) async fn drop_seeds(&self, change: &mut Change<'_>, entity_id: &str) -> Result<bool> {
        let seeds = self.seeds_of(entity_id).await?;
        for row in &seeds {
            drop_seed(change, entity_id, row);
        }
        Ok(!seeds.is_empty())
    }

    /// Gives the seeds of entities to the one that they become. Errors: `BadRequest` when two of them have seeds of one method: which of two
    /// apps counts is nothing to guess.
    pub(in crate::identity) async fn merge_seeds(&self, change: &mut Change<'_>, from: &[String], to: &str) -> Result<()> {
        let mut taken: Vec<String> = self.seeds_of(to).await?.into_iter().map(|row| row.method).collect();
        for id in from {
            for row in self.seeds_of(id).await? {
                if taken.contains(&row.method) {
                    return Err(Error::bad_request(format!(
                        "conflicting MFA config ID {:?} in entity ID {id:?}: destroy one of the two secrets first",
                        row.method
                    )));
                }
                change.put(seed_key(to, &row.method), &row)?;
                change.delete(seed_key(id, &row.method));
                taken.push(row.method);
            }
        }
        Ok(())
    }

    /// Of a method that is gone already, so that nobody makes more of them meanwhile.
    pub(super) async fn forget_seeds_of_method(&self, method: &str) -> Result<()> {
        let (prefix, mut after): (Key, Option<Vec<u8>>) = (all_seeds_prefix(), None);
        loop {
            let page = self.rows.scan(&prefix, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.bytes.to_vec());
            let mut batch = Batch::new();
            for (key, plain) in &page {
                let row: SeedRow = crate::rows::parse(key, &plain.value)?;
                if row.method == method {
                    batch = batch.delete(key.clone()).delete(seed_use_key(&row.id));
                }
            }
            if !batch.deletes.is_empty() {
                self.rows.commit(batch).await?;
            }
        }
    }
}

fn drop_seed(change: &mut Change<'_>, entity_id: &str, row: &SeedRow) {
    if bounds::is_id(entity_id) {
        change.delete(seed_key(entity_id, &row.method));
        change.delete(seed_use_key(&row.id));
    }
}

/// As authenticator apps read it.
fn url(method: &MethodRow, entity_id: &str, row: &SeedRow) -> Secret<String> {
    let (issuer, Shape { algorithm, digits, period, .. }) = (escaped(&method.issuer), row.shape);
    let (algorithm, seed) = (algorithm.name(), row.seed.expose());
    // Exposed to be shown to whoever the seed is made for.
    Secret::new(format!(
        "otpauth://totp/{issuer}:{entity_id}?algorithm={algorithm}&digits={digits}&issuer={issuer}&period={period}&secret={seed}"
    ))
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Of one entity: as many as there can be methods.
const SEEDS_MAX: usize = 100;
const CONFLICTS_MAX: usize = 10;
const PAGE: usize = 500;
