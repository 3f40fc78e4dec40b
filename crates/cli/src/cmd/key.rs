//! `assay key …`: keys that people sign requests with, and the key that receipts are signed with.

use crate::client::{API, Client, encoded};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::gate::ReceiptKey;
use assay_proto::api::people::{
    ChangeUser, MadeKey, NewKey, NewSetupToken, SetupToken, UserList, conf_sections,
};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use serde_json::Value;
use std::io::{ErrorKind, Write as _};

/// Keys of the server.
#[derive(clap::Subcommand)]
pub(crate) enum Key {
    /// Make a key for somebody, for openQA's clients and for Assay's API. Its secret is shown once.
    #[command(
        after_help = "Examples:\n  assay key create --user ann --role operator\n  assay key create --user ci --role operator --expires 30d\n  \
                      assay key create --user ann                 another key for the same user\n  \
                      assay key create --user ci --role operator --client-conf ~/.config/openqa/client.conf"
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
    /// Print only the sections for client.conf.
    #[arg(short, long)]
    quiet: bool,
    /// Put the sections into this client.conf, in the place of those that it has for this server; the rest of it stays.
    #[arg(long, value_name = "FILE", conflicts_with = "quiet")]
    client_conf: Option<Utf8PathBuf>,
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
        // Before the key is made: its secret is shown once.
        let conf = self.client_conf.map(|file| Ok::<_, CliError>((read_conf(&file)?, file))).transpose()?;
        let new = NewKey { user, role: self.role, expires_days: self.expires.0 };
        let made: MadeKey = client.post(&format!("{API}/keys"), &new)?;
        let names = conf_sections(client.url());
        let section = |name: &&str| format!("[{name}]\nkey = {}\nsecret = {}\n", made.key.key, made.secret);
        let sections: String = names.iter().map(section).collect();
        if let Some((text, file)) = &conf {
            write_conf(file, &with_sections(text, &names, &sections)).map_err(|error| {
                // Nobody could ask for the secret again.
                ui::put(&sections);
                CliError::infrastructure(format!(
                    "{file} cannot be written: {error}; put the lines above into it"
                ))
            })?;
        }
        if common.json {
            ui::print_json(&made);
            return Ok(Code::Ok);
        }
        let until = made.key.expires.as_deref();
        let until = until.map_or_else(|| "never expires".to_owned(), |at| format!("expires {at}"));
        let what = format!("a key for {} ({}); it {until}", made.user, made.role);
        if let Some((_, file)) = &conf {
            println!("{file} has {what}");
            return Ok(Code::Ok);
        }
        if !self.quiet {
            println!("# This is {what}.");
            println!("# The secret is not shown again. For ~/.config/openqa/client.conf:");
        }
        ui::put(&sections);
        Ok(Code::Ok)
    }
}

/// What a client.conf has; nothing if there is none yet.
fn read_conf(file: &Utf8Path) -> Result<String, CliError> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| CliError::unreadable(file, &error)),
    }
}

/// The text with new sections at its end, and without the old ones of these names: openQA's clients put the values of a
/// section that is there twice together, and then sign with none of them.
fn with_sections(text: &str, names: &[&str], sections: &str) -> String {
    let (mut kept, mut between) = (Vec::new(), Vec::new());
    let mut is_old = false;
    for line in text.lines() {
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_old = names.contains(&name.trim());
            // A comment before a section is about that one.
            kept.append(&mut between);
        }
        if !is_old {
            kept.push(line);
        } else if bare.is_empty() || bare.starts_with(['#', ';']) {
            between.push(line);
        } else {
            between.clear();
        }
    }
    kept.append(&mut between);
    let kept = kept.join("\n");
    match kept.trim_end() {
        "" => sections.to_owned(),
        kept => format!("{kept}\n\n{sections}"),
    }
}

/// First whole and for nobody else, then visible.
fn write_conf(file: &Utf8Path, text: &str) -> std::io::Result<()> {
    // Where it is a link, what it leads to is replaced.
    let file = file.canonicalize_utf8().unwrap_or_else(|_| file.to_owned());
    if let Some(dir) = file.parent().filter(|dir| !dir.as_str().is_empty()) {
        fs::create_dir_all(dir)?;
    }
    let draft = Utf8PathBuf::from(format!("{file}.{}.new", std::process::id()));
    let written =
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft).and_then(|mut draft| {
            draft.write_all(text.as_bytes())?;
            draft.sync_all()
        });
    let placed = written.and_then(|()| fs::rename(&draft, &file));
    if placed.is_err() {
        let _ = fs::remove_file(&draft);
    }
    placed
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
    fn sections_of_a_server_are_replaced() {
        let names = ["h", "h:1"];
        let new = "[h]\nkey = new\n[h:1]\nkey = new\n";
        for (text, kept) in [
            ("", ""),
            ("[h]\nkey = old\nsecret = x\n", ""),
            ("[other]\nkey = a", "[other]\nkey = a\n\n"),
            (
                "# mine\n[ h ]\nkey = old\n# old\nsecret = x\n\n# theirs\n[other]\nkey = a\n# b\n[h:1]\nkey = old\n; end\n[h]\n",
                "# mine\n\n# theirs\n[other]\nkey = a\n# b\n; end\n\n",
            ),
            ("[h:2]\nkey = a\n[hh]\nkey = b\n", "[h:2]\nkey = a\n[hh]\nkey = b\n\n"),
        ] {
            let once = with_sections(text, &names, new);
            assert_eq!(once, format!("{kept}{new}"));
            assert_eq!(with_sections(&once, &names, new), once, "again");
        }
    }

    #[test]
    fn a_conf_is_written_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let (file, link) = (dir.join("openqa/client.conf"), dir.join("link.conf"));
        assert_eq!(read_conf(&file).unwrap(), "");
        write_conf(&file, "one").unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_conf(&link, "two").unwrap();
        assert_eq!(read_conf(&file).unwrap(), "two");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.join("openqa")).unwrap().count(), 1, "no draft is left");
    }

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
