//! How browsers are let in: a token that is good for one sign-in, and then a cookie. The store knows only hashes of both.

use super::{People, Person, check_name};
use crate::fault::Fault;
use assay_engine::ids::Timestamp;
use assay_store::{Ticket, TicketKind, Tickets, User, UserRole};
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};

/// The name of the cookie.
const COOKIE: &str = "assay_session";
/// A browser stays signed in for so long.
const SESSION_SECONDS: i64 = 14 * 86_400;

/// Something secret that was just made; it is never shown again.
#[derive(Debug)]
pub(crate) struct NewTicket {
    pub(crate) secret: String,
    pub(crate) user: User,
    pub(crate) expires_at: Timestamp,
}

impl NewTicket {
    /// The header that gives it to a browser as a cookie, over HTTPS only if that is how it came.
    pub(crate) fn cookie(&self, https: bool) -> String {
        let secure = if https { "; Secure" } else { "" };
        format!("{COOKIE}={}; Path=/; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Lax{secure}", self.secret)
    }
}

/// The header that makes a browser forget its cookie.
pub(crate) fn no_cookie() -> String {
    format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
}

/// The session's cookie that a request brings.
pub(crate) fn cookie_of(headers: &HeaderMap) -> Option<&str> {
    cookie_named(COOKIE, headers)
}

/// The value of a cookie that a request brings.
pub(crate) fn cookie_named<'h>(wanted: &str, headers: &'h HeaderMap) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

impl People {
    /// A token with which somebody signs in once; the user is made if there is none of that name.
    pub(crate) async fn invite(
        &self,
        name: &str,
        role: Option<UserRole>,
        seconds: i64,
    ) -> Result<NewTicket, Fault> {
        check_name(name)?;
        let user = self.user_for_key(name, role).await?;
        self.add_ticket(user, TicketKind::Setup, seconds).await
    }

    /// Takes a token for a session.
    pub(crate) async fn redeem(&self, token: &str) -> Result<NewTicket, Fault> {
        let refuse = || {
            Fault::new(
                StatusCode::FORBIDDEN,
                "This is no setup token, or it has been used, or it has expired.",
                "Ask for a new one: `assay key setup-token NAME` on the server.",
            )
        };
        let hash = hash(token.trim());
        // Nobody else can use it from here on.
        let ticket = self.write(|known| known.tickets.remove(&hash)).ok_or_else(refuse)?;
        let first = self.store.knowledge().remove_ticket(self.epoch, &hash).await?;
        if ticket.kind != TicketKind::Setup || !first || ticket.expires_at <= self.clock.now() {
            return Err(refuse());
        }
        let user = self.read(|known| known.users.get(&ticket.user).cloned()).ok_or_else(refuse)?;
        self.begin_session(user).await
    }

    /// Signs a user in.
    pub(crate) async fn begin_session(&self, user: User) -> Result<NewTicket, Fault> {
        let now = self.clock.now();
        self.write(|known| known.tickets.retain(|_, ticket| ticket.expires_at > now));
        self.store.knowledge().remove_tickets(self.epoch, Tickets::ExpiredBy(now)).await?;
        self.add_ticket(user, TicketKind::Session, SESSION_SECONDS).await
    }

    async fn add_ticket(&self, user: User, kind: TicketKind, seconds: i64) -> Result<NewTicket, Fault> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| super::no_chance())?;
        let secret = hex::encode(bytes);
        let now = self.clock.now();
        let expires_at = now.plus_seconds(seconds);
        let ticket = Ticket { hash: hash(&secret), kind, user: user.id, created_at: now, expires_at };
        self.store.knowledge().add_ticket(self.epoch, &ticket).await?;
        self.write(|known| known.tickets.insert(ticket.hash.clone(), ticket));
        Ok(NewTicket { secret, user, expires_at })
    }

    /// Who a cookie says that it is.
    pub(crate) fn session(&self, cookie: &str) -> Option<Person> {
        let (hash, now) = (hash(cookie), self.clock.now());
        self.read(|known| {
            let ticket = known.tickets.get(&hash)?;
            let alive = ticket.kind == TicketKind::Session && ticket.expires_at > now;
            let user = known.users.get(&ticket.user).filter(|_| alive)?;
            Some(Person { name: user.name.clone(), role: user.role })
        })
    }

    /// Signs one browser out.
    pub(crate) async fn end_session(&self, cookie: &str) -> Result<(), Fault> {
        let hash = hash(cookie);
        self.write(|known| known.tickets.remove(&hash));
        self.store.knowledge().remove_ticket(self.epoch, &hash).await?;
        Ok(())
    }

    /// Signs a user out everywhere; false if there is none of that name.
    pub(crate) async fn end_sessions(&self, name: &str) -> Result<bool, Fault> {
        let Some(user) = self.user(name) else { return Ok(false) };
        self.write(|known| known.tickets.retain(|_, ticket| ticket.user != user.id));
        self.store.knowledge().remove_tickets(self.epoch, Tickets::Of(user.id)).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let cookie = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            cookie_of(&headers).map(str::to_owned)
        };
        assert_eq!(cookie(&["a=b; assay_session=x1;c=d"]).as_deref(), Some("x1"));
        assert_eq!(cookie(&["a=b", "assay_session=x1"]).as_deref(), Some("x1"));
        for none in [&["a=assay_session=x1"][..], &["xassay_session=x1"], &["assay_session"], &[]] {
            assert_eq!(cookie(none), None, "{none:?}");
        }
    }
}
