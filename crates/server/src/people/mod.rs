//! Who is known, and the keys they sign with. All of it is in memory too: every request of theirs is checked.

pub(crate) mod oidc;
mod seal;
pub(crate) mod session;

pub(crate) use seal::Seal;

use crate::auth::signature::{Refused, Signature};
use crate::fault::Fault;
use assay_engine::ids::Timestamp;
use assay_proto::clock::Clock;
use assay_store::{Epoch, Identity, Store, StoreError, StoredKey, Ticket, User, UserId, UserRole};
use axum::http::{StatusCode, Uri};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_util::task::TaskTracker;

/// How exactly the last use of a key is known.
const NOTED_EVERY_SECONDS: i64 = 60;

/// A key and who signs with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) role: UserRole,
}

struct HeldKey {
    stored: StoredKey,
    /// `None` if it cannot be opened: the key of the data directory is another one than it was sealed with.
    secret: Option<Vec<u8>>,
    last_used: AtomicI64,
}

impl HeldKey {
    fn alive(&self, now: Timestamp) -> Result<(), Refused> {
        match self.stored.expires_at {
            Some(expires) if expires <= now => Err(Refused::Expired),
            _ => Ok(()),
        }
    }
}

#[derive(Default)]
struct Known {
    users: BTreeMap<UserId, User>,
    keys: BTreeMap<String, Arc<HeldKey>>,
    /// By the hash of what their owners have.
    tickets: BTreeMap<String, Ticket>,
    identities: BTreeMap<Identity, UserId>,
}

impl Known {
    /// The oldest first.
    fn keys_of(&self, user: &User) -> Vec<StoredKey> {
        let keys = self.keys.values().filter(|held| held.stored.user == user.id);
        let mut keys: Vec<_> = keys
            .map(|held| {
                let last_used = held.last_used.load(Ordering::Relaxed);
                StoredKey {
                    last_used_at: (last_used > 0).then_some(Timestamp(last_used)),
                    ..held.stored.clone()
                }
            })
            .collect();
        keys.sort_by(|a, b| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
        keys
    }
}

/// A key that was just made; its secret is never shown again.
#[derive(Debug)]
pub(crate) struct NewKey {
    pub(crate) stored: StoredKey,
    pub(crate) secret: String,
    pub(crate) user: User,
}

/// Users and keys.
pub(crate) struct People {
    store: Arc<dyn Store>,
    epoch: Epoch,
    seal: Seal,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    known: RwLock<Known>,
}

impl People {
    /// Everybody that the store knows.
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        epoch: Epoch,
        seal: Seal,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Result<Self, StoreError> {
        let people = store.knowledge().people().await?;
        let mut known = Known::default();
        known.users.extend(people.users.into_iter().map(|user| (user.id, user)));
        known.tickets.extend(people.tickets.into_iter().map(|ticket| (ticket.hash.clone(), ticket)));
        known.identities.extend(people.identities);
        for stored in people.keys {
            let held = hold(&seal, stored);
            if held.secret.is_none() {
                tracing::warn!(
                    key = held.stored.key,
                    "keys/secrets is not the key that this API key was sealed with: it cannot be used; revoke it and make another"
                );
            }
            known.keys.insert(held.stored.key.clone(), Arc::new(held));
        }
        Ok(Self { store, epoch, seal, clock, tasks, known: RwLock::new(known) })
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who signed a request.
    pub(crate) fn signer(self: &Arc<Self>, signature: &Signature, uri: &Uri) -> Result<Person, Refused> {
        let (held, person) = self.held(&signature.key).ok_or(Refused::UnknownKey)?;
        let now = self.clock.now();
        held.alive(now)?;
        signature.check(uri, held.secret.as_deref().ok_or(Refused::UnknownKey)?, now)?;
        self.used(&held, now);
        Ok(person)
    }

    /// Who sent `user:key:secret`.
    pub(crate) fn bearer(self: &Arc<Self>, token: &str) -> Result<Person, Refused> {
        let mut parts = token.splitn(3, ':');
        let (Some(user), Some(key), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Refused::BadToken);
        };
        let (held, person) = self.held(key).ok_or(Refused::BadToken)?;
        let now = self.clock.now();
        let known = held.secret.as_deref().ok_or(Refused::BadToken)?;
        // Compared through an HMAC, so that the time says nothing about the secret.
        let compare = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, known);
        let same = ring::hmac::verify(&compare, b"", ring::hmac::sign(&key_of(secret), b"").as_ref()).is_ok();
        if !same || person.name != user {
            return Err(Refused::BadToken);
        }
        held.alive(now)?;
        self.used(&held, now);
        Ok(person)
    }

    fn held(&self, key: &str) -> Option<(Arc<HeldKey>, Person)> {
        self.read(|known| {
            let held = known.keys.get(key)?;
            let user = known.users.get(&held.stored.user)?;
            Some((held.clone(), Person { name: user.name.clone(), role: user.role }))
        })
    }

    /// Notes it now and then, beside the request.
    fn used(self: &Arc<Self>, held: &HeldKey, now: Timestamp) {
        let before = held.last_used.load(Ordering::Relaxed);
        if now.0 - before < NOTED_EVERY_SECONDS * 1_000_000 {
            return;
        }
        if held.last_used.compare_exchange(before, now.0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let (people, key) = (self.clone(), held.stored.key.clone());
        self.tasks.spawn(async move {
            if let Err(error) = people.store.knowledge().key_used(people.epoch, &key, now).await {
                tracing::warn!(%error, "the use of a key was not noted");
            }
        });
    }

    /// All users by name, each with their keys.
    pub(crate) fn list(&self) -> Vec<(User, Vec<StoredKey>)> {
        self.read(|known| {
            let with_keys = |user: &User| (user.clone(), known.keys_of(user));
            let mut users: Vec<_> = known.users.values().map(with_keys).collect();
            users.sort_by(|a, b| a.0.name.cmp(&b.0.name));
            users
        })
    }

    /// The keys of the user of that name; `None` if there is none.
    pub(crate) fn keys_of(&self, name: &str) -> Option<Vec<StoredKey>> {
        self.read(|known| known.users.values().find(|user| user.name == name).map(|user| known.keys_of(user)))
    }

    pub(crate) fn user(&self, name: &str) -> Option<User> {
        self.read(|known| known.users.values().find(|user| user.name == name).cloned())
    }

    /// The user of that name, made if there is none. One who is there keeps the role unless `role` is another: that is
    /// refused, so that a key never raises somebody by accident.
    async fn user_for_key(&self, name: &str, role: Option<UserRole>) -> Result<User, Fault> {
        if let Some(user) = self.user(name) {
            return match role {
                Some(role) if role != user.role => Err(Fault::new(
                    StatusCode::CONFLICT,
                    format!("User {name} is {}, not {}.", user.role.word(), role.word()),
                    "Leave the role out, name another user, or change the user's role first.",
                )),
                _ => Ok(user),
            };
        }
        let role = role.unwrap_or(UserRole::Operator);
        let now = self.clock.now();
        let id = self.store.knowledge().add_user(self.epoch, name, role, now).await?;
        let user = User { id, name: name.to_owned(), role, created_at: now };
        self.write(|known| known.users.insert(id, user.clone()));
        Ok(user)
    }

    /// A new key for a user.
    pub(crate) async fn add_key(
        &self,
        name: &str,
        role: Option<UserRole>,
        expires_at: Option<Timestamp>,
    ) -> Result<NewKey, Fault> {
        check_name(name)?;
        let user = self.user_for_key(name, role).await?;
        let (key, secret) = (random().ok_or_else(no_chance)?, random().ok_or_else(no_chance)?);
        let sealed = self.seal.close(&key, secret.as_bytes()).ok_or_else(no_chance)?;
        let stored = StoredKey {
            key,
            user: user.id,
            sealed,
            created_at: self.clock.now(),
            expires_at,
            last_used_at: None,
        };
        self.store.knowledge().add_key(self.epoch, &stored).await?;
        let held = hold(&self.seal, stored.clone());
        self.write(|known| known.keys.insert(stored.key.clone(), Arc::new(held)));
        Ok(NewKey { stored, secret, user })
    }

    /// Whose key it is.
    pub(crate) fn owner(&self, key: &str) -> Option<String> {
        self.held(key).map(|(_, person)| person.name)
    }

    /// Revokes a key; false if there is none.
    pub(crate) async fn remove_key(&self, key: &str) -> Result<bool, Fault> {
        // Refused from now on, even if the database does not answer.
        let held = self.write(|known| known.keys.remove(key)).is_some();
        let stored = self.store.knowledge().remove_key(self.epoch, key).await?;
        Ok(held || stored)
    }

    /// Another role for a user; none if there is no such user.
    pub(crate) async fn set_role(&self, name: &str, role: UserRole) -> Result<Option<User>, Fault> {
        let Some(user) = self.user(name) else { return Ok(None) };
        self.store.knowledge().set_role(self.epoch, user.id, role).await?;
        let changed = User { role, ..user };
        self.write(|known| known.users.insert(changed.id, changed.clone()));
        Ok(Some(changed))
    }

    /// Forgets a user with all keys; false if there is none.
    pub(crate) async fn remove_user(&self, name: &str) -> Result<bool, Fault> {
        let Some(user) = self.user(name) else { return Ok(false) };
        self.write(|known| {
            known.users.remove(&user.id);
            known.keys.retain(|_, held| held.stored.user != user.id);
            known.tickets.retain(|_, ticket| ticket.user != user.id);
            known.identities.retain(|_, bound| *bound != user.id);
        });
        self.store.knowledge().remove_user(self.epoch, user.id).await?;
        Ok(true)
    }
}

fn check_name(name: &str) -> Result<(), Fault> {
    if name.is_empty() || name.len() > 100 || name.chars().any(|c| c.is_control() || c == ':') {
        let why = format!("{name:?} is no user's name.");
        return Err(Fault::bad(why, "Use 1 to 100 characters without a colon."));
    }
    Ok(())
}

fn no_chance() -> Fault {
    let error = "No random numbers could be had.";
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error, "Look at the system's log.")
}

fn key_of(secret: &str) -> ring::hmac::Key {
    ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes())
}

fn hold(seal: &Seal, stored: StoredKey) -> HeldKey {
    let secret = seal.open(&stored.key, &stored.sealed);
    let last_used = AtomicI64::new(stored.last_used_at.map_or(0, |at| at.0));
    HeldKey { stored, secret, last_used }
}

/// 16 hexadecimal digits in capitals, as openQA's keys and secrets are.
fn random() -> Option<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    Some(hex::encode_upper(bytes))
}
