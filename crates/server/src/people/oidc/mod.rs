//! Sign-in by OpenID Connect: everything before a session begins.

mod attempts;
mod client;
mod error;
pub(crate) mod settings;
#[cfg(test)]
mod tests;

pub(crate) use error::OidcError;
pub(crate) use settings::ProviderSettings;

use super::People;
use crate::fault::Fault;
use assay_proto::clock::Clock;
use assay_store::{Identity, StoreError, User, UserRole};
use attempts::{Attempt, Attempts};
use client::{Provider, Request, Said, plain};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// How long a provider may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest name that a provider may give somebody; with the provider's it is still a user's name.
const LONGEST_NAME: usize = 80;

/// Somebody whom a provider knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) provider: String,
    /// What people call the provider.
    pub(crate) title: String,
    /// What the provider never gives to somebody else.
    pub(crate) identity: Identity,
    /// What they are called here when they come for the first time: nobody of another provider can be.
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    pub(crate) role: UserRole,
}

/// A sign-in that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Where the browser is sent.
    pub(crate) address: String,
    /// What the browser keeps as a cookie, and has to bring back.
    pub(crate) browser: String,
    /// For so long.
    pub(crate) seconds: i64,
}

/// What a browser brings back from the provider.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub(crate) struct Returned {
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) code: String,
    /// In place of a code.
    pub(crate) error: Option<String>,
}

#[derive(Default)]
struct Configured {
    base_url: String,
    providers: BTreeMap<String, Arc<Provider>>,
}

/// All providers, and the sign-ins that have begun.
pub(crate) struct Providers {
    clock: Arc<dyn Clock>,
    deadline: Duration,
    configured: RwLock<Configured>,
    attempts: Mutex<Attempts>,
}

impl Providers {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, deadline: DEADLINE, configured: RwLock::default(), attempts: Mutex::default() }
    }

    /// These from now on; browsers reach this server at `base_url`.
    pub(crate) fn set(&self, settings: BTreeMap<String, ProviderSettings>, base_url: &str) {
        let mut configured = self.configured.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut configured.providers);
        base_url.trim_end_matches('/').clone_into(&mut configured.base_url);
        for (name, settings) in settings {
            let same = before.remove(&name).filter(|provider| provider.settings == settings);
            let provider = same.unwrap_or_else(|| Arc::new(Provider::new(settings)));
            configured.providers.insert(name, provider);
        }
    }

    /// Names, and what people call them.
    pub(crate) fn list(&self) -> Vec<(String, String)> {
        let configured = self.configured.read().unwrap_or_else(PoisonError::into_inner);
        let named = configured.providers.iter().map(|(name, one)| (name.clone(), one.settings.title.clone()));
        named.collect()
    }

    /// Browsers reach this server by HTTPS.
    pub(crate) fn is_https(&self) -> bool {
        self.configured.read().unwrap_or_else(PoisonError::into_inner).base_url.starts_with("https://")
    }

    /// A provider, and where it sends browsers back to.
    fn provider(&self, name: &str) -> Result<(Arc<Provider>, String), OidcError> {
        let configured = self.configured.read().unwrap_or_else(PoisonError::into_inner);
        let provider = configured.providers.get(name);
        let provider = provider.ok_or_else(|| OidcError::UnknownProvider(plain(name)))?;
        Ok((provider.clone(), format!("{}/login/oidc/{name}/callback", configured.base_url)))
    }

    /// Begins a sign-in that goes on to `next`.
    pub(crate) async fn begin(&self, name: &str, next: &str) -> Result<Begun, OidcError> {
        let (provider, redirect) = self.provider(name)?;
        let Request { address, state, nonce, verifier } =
            provider.begin(self.clock.as_ref(), self.deadline, &redirect).await?;
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| OidcError::NoChance)?;
        let browser = hex::encode(bytes);
        let now = self.clock.now();
        let attempt = Attempt {
            provider: name.to_owned(),
            browser: browser.clone(),
            nonce,
            verifier,
            next: next.to_owned(),
            expires_at: now.plus_seconds(attempts::SECONDS),
        };
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).begin(state, attempt, now);
        Ok(Begun { address, browser, seconds: attempts::SECONDS })
    }

    /// Who came back from the provider, and where they go next.
    pub(crate) async fn finish(
        &self,
        name: &str,
        returned: Returned,
        browser: Option<&str>,
    ) -> Result<(Known, String), OidcError> {
        let (provider, redirect) = self.provider(name)?;
        let Attempt { nonce, verifier, next, .. } = {
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            attempts.take(name, &returned.state, browser, self.clock.now())?
        };
        if let Some(why) = returned.error {
            return Err(OidcError::Declined { provider: provider.settings.title.clone(), why: plain(&why) });
        }
        let proofs = (nonce, verifier);
        let said = provider.finish(&self.clock, self.deadline, &redirect, returned.code, proofs).await?;
        Ok((known(name, &provider.settings, said)?, next))
    }
}

/// Who it is here.
fn known(provider: &str, settings: &ProviderSettings, said: Said) -> Result<Known, OidcError> {
    let title = || settings.title.clone();
    let claim = &settings.name_claim;
    let name = said.claims.get(claim).and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| OidcError::NoName { provider: title(), claim: claim.clone() })?;
    let unverified = claim == "email" && said.claims.get("email_verified") != Some(&Value::Bool(true));
    let usual = |c: char| c.is_alphanumeric() || "._+@-".contains(c);
    if unverified || name.len() > LONGEST_NAME || !name.chars().all(usual) {
        return Err(OidcError::BadName { provider: title(), name: plain(name) });
    }
    let groups: Vec<String> = match said.claims.get(&settings.groups_claim) {
        Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(group)) => vec![group.clone()],
        _ => Vec::new(),
    };
    let role = settings.role(&groups);
    // What is behind the last @ is always the provider.
    let name = format!("{name}@{provider}");
    let identity = Identity { issuer: settings.issuer.clone(), subject: said.subject };
    Ok(Known { provider: provider.to_owned(), title: title(), identity, name, groups, role })
}

impl People {
    /// The user whom a provider knows, with the role that they have today. Who it is follows from the issuer and the
    /// subject: whoever else comes with the same name is refused.
    pub(crate) async fn user_of_provider(&self, known: &Known) -> Result<User, Fault> {
        let bound = self.read(|all| all.users.get(all.identities.get(&known.identity)?).cloned());
        let user = match bound {
            Some(user) => user,
            None => self.user_met_first(known).await?,
        };
        if user.role == known.role {
            return Ok(user);
        }
        let changed = self.set_role(&user.name, known.role).await?;
        changed.ok_or_else(|| Fault::later("The user was removed just now.", 1))
    }

    /// The user of that name, from now on bound to the one whom the provider means; made if there is none.
    async fn user_met_first(&self, known: &Known) -> Result<User, Fault> {
        let user = if let Some(user) = self.user(&known.name) {
            user
        } else {
            let now = self.clock.now();
            let id = self.store.knowledge().add_user(self.epoch, &known.name, known.role, now).await;
            let id = id.map_err(elsewhere)?;
            let user = User { id, name: known.name.clone(), role: known.role, created_at: now };
            self.write(|all| all.users.insert(id, user.clone()));
            user
        };
        if self.read(|all| all.identities.values().any(|bound| *bound == user.id)) {
            return Err(OidcError::OtherPerson { user: user.name, title: known.title.clone() }.into());
        }
        self.store.knowledge().bind_user(self.epoch, user.id, &known.identity).await.map_err(elsewhere)?;
        self.write(|all| all.identities.insert(known.identity.clone(), user.id));
        tracing::info!(
            user = user.name,
            subject = known.identity.subject,
            "bound to who they are at their provider"
        );
        Ok(user)
    }
}

/// Another browser of theirs was faster; it tells the rest in a moment.
fn elsewhere(error: StoreError) -> Fault {
    match error {
        StoreError::Duplicate { .. } => Fault::later("The same person signs in somewhere else right now.", 1),
        error => error.into(),
    }
}
