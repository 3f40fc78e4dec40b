//! `assay key …`: keys that people sign requests with, and the key that receipts are signed with.

use crate::client::{API, Client, encoded};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::gate::ReceiptKey;
use assay_proto::api::people::{
    ChangeUser, MadeKey, NewKey, NewSetupToken, SetupToken, UserList, conf_sections,
};
use serde_json::Value;

/// Keys of the server.
#[derive(clap::Subcommand)]
pub(crate) enum Key {
    /// Make a key for somebody, for openQA's clients and for Assay's API. Its secret is shown once.
    #[command(
        after_help = "Examples:\n  assay key create --user ann --role operator\n  assay key create --user ci --role operator --expires 30d\n  \
                      assay key create --user ann                 another key for the same user\n  \
                      assay key create --user ci --role operator --quiet >>~/.config/openqa/client.conf"
    )]
    Create(Create),
    /// List users and their keys; secrets are not shown.
    #[command(after_help = "Examples:\n  assay key list\n  assay key list --json")]
    List,
    /// Revoke a key: from now on it is refused.
    #[command(after_help = "Example:\n  assay key revoke 1234567890ABCDEF")]
    Revoke {
        /// The key, as `assay key list` shows it.
        key: String,
    },
    /// Make a token with which somebody signs in on the pages, once. It is shown once.
    #[command(
        after_help = "Examples:\n  assay key setup-token ann --role admin\n  assay key setup-token bob --expires-hours 2"
    )]
    SetupToken {
        /// Who; the user is made if there is none of that name.
        user: String,
        /// What a new user may do (default: operator).
        #[arg(long, value_parser = ["viewer", "operator", "admin"])]
        role: Option<String>,
        /// After so many hours it is refused.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=720))]
        expires_hours: u32,
    },
    /// Give somebody another role.
    #[command(after_help = "Examples:\n  assay key role ann operator\n  assay key role bob viewer --json")]
    Role {
        /// Who.
        user: String,
        /// What they may do from now on: viewer, operator (post, restart, cancel) or admin (everything).
        #[arg(value_parser = ["viewer", "operator", "admin"])]
        role: String,
    },
    /// Sign somebody out of all browsers, and take back setup tokens that were not used.
    #[command(after_help = "Example:\n  assay key sign-out ann")]
    SignOut {
        /// Who.
        user: String,
    },
    /// Print the public key of receipts as a line for a trust file.
    #[command(after_help = "Example:\n  assay key show >trust && assay verify . master --trust trust")]
    Show,
}

#[derive(clap::Args)]
pub(crate) struct Create {
    /// Whose key; the user is made if there is none of that name (default: the role's name).
    #[arg(long)]
    user: Option<String>,
    /// What a new user may do: viewer, operator (post, restart, cancel, comment) or admin (everything).
    #[arg(long, value_parser = ["viewer", "operator", "admin"])]
    role: Option<String>,
    /// After how long it is refused: 365d, 12w, or never.
    #[arg(long, default_value = "365d", value_parser = days)]
    expires: Days,
    /// Print only the section for client.conf.
    #[arg(short, long)]
    quiet: bool,
}

/// How long a key lives; none is without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Days(Option<u32>);

fn days(text: &str) -> Result<Days, String> {
    if text == "never" {
        return Ok(Days(None));
    }
    let times = |number: &str, by: u32| number.parse::<u32>().ok().and_then(|number| number.checked_mul(by));
    let found = match (text.strip_suffix('d'), text.strip_suffix('w')) {
        (Some(number), _) => times(number, 1),
        (_, Some(number)) => times(number, 7),
        _ => None,
    };
    found
        .filter(|days| *days > 0)
        .map(|days| Days(Some(days)))
        .ok_or_else(|| "write a number of days or weeks, such as 365d or 12w, or never".to_owned())
}

impl Key {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::Create(create) => create.run(common, &client),
            Self::List => list(common, &client),
            Self::Revoke { key } => {
                let plain = key.chars().all(|c| c.is_ascii_alphanumeric());
                if !plain || key.is_empty() {
                    return Err(CliError::usage(format!("{key:?} is no key; `assay key list` shows them")));
                }
                let answer: Value = client.delete(&format!("{API}/keys/{key}"))?;
                if common.json {
                    ui::print_json(&answer);
                } else {
                    println!("key {key} is revoked");
                }
                Ok(Code::Ok)
            }
            Self::SetupToken { user, role, expires_hours } => {
                let new = NewSetupToken { user, role, expires_hours: Some(expires_hours) };
                let made: SetupToken = client.post(&format!("{API}/setup-tokens"), &new)?;
                if common.json {
                    ui::print_json(&made);
                } else {
                    let SetupToken { token, user, role, expires } = made;
                    println!(
                        "{user} ({role}) signs in at {}/login with this token, once, before {expires}:",
                        client.url()
                    );
                    println!("{token}");
                }
                Ok(Code::Ok)
            }
            Self::Role { user, role } => {
                let path = format!("{API}/users/{}", encoded(&user));
                let answer: Value = client.post(&path, &ChangeUser { role: role.clone() })?;
                if common.json {
                    ui::print_json(&answer);
                } else {
                    println!("{user} is {role}");
                }
                Ok(Code::Ok)
            }
            Self::SignOut { user } => {
                let path = format!("{API}/users/{}/sessions", encoded(&user));
                let answer: Value = client.delete(&path)?;
                if common.json {
                    ui::print_json(&answer);
                } else {
                    println!("{user} is signed out everywhere");
                }
                Ok(Code::Ok)
            }
            Self::Show => {
                let key: ReceiptKey = client.get(&format!("{API}/receipts/key"))?;
                if common.json {
                    ui::print_json(&key);
                } else {
                    println!("{}", key.trust);
                }
                Ok(Code::Ok)
            }
        }
    }
}

impl Create {
    fn run(self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let user = self.user.or_else(|| self.role.clone()).unwrap_or_else(|| "operator".to_owned());
        let new = NewKey { user, role: self.role, expires_days: self.expires.0 };
        let made: MadeKey = client.post(&format!("{API}/keys"), &new)?;
        if common.json {
            ui::print_json(&made);
            return Ok(Code::Ok);
        }
        if !self.quiet {
            let until = made
                .key
                .expires
                .as_deref()
                .map_or_else(|| "never expires".to_owned(), |at| format!("expires {at}"));
            println!("# A key for {} ({}); it {until}.", made.user, made.role);
            println!("# The secret is not shown again. For ~/.config/openqa/client.conf:");
        }
        for section in conf_sections(client.url()) {
            println!("[{section}]\nkey = {}\nsecret = {}", made.key.key, made.secret);
        }
        Ok(Code::Ok)
    }
}

fn list(common: &Common, client: &Client) -> Result<Code, CliError> {
    let list: UserList = client.get(&format!("{API}/users"))?;
    if common.json {
        ui::print_json(&list);
        return Ok(Code::Ok);
    }
    let mut rows = Vec::new();
    for user in list.users {
        if user.keys.is_empty() {
            rows.push(vec![user.name.clone(), user.role.clone(), "none".to_owned()]);
        }
        for key in user.keys {
            let expires = match (key.expired, key.expires) {
                (true, _) => "expired".to_owned(),
                (false, Some(at)) => at,
                (false, None) => "never".to_owned(),
            };
            let used = key.last_used.unwrap_or_else(|| "never".to_owned());
            rows.push(vec![user.name.clone(), user.role.clone(), key.key, expires, used]);
        }
    }
    println!("{}", ui::table(&["user", "role", "key", "expires", "last used"], rows));
    Ok(Code::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_of_keys() {
        assert_eq!(
            (days("365d"), days("2w"), days("never")),
            (Ok(Days(Some(365))), Ok(Days(Some(14))), Ok(Days(None)))
        );
        for text in ["", "d", "0d", "-1d", "1y", "365", "99999999999d", "999999999w"] {
            assert!(days(text).is_err(), "{text}");
        }
    }
}
