//! One SSH connection to each source that git's own calls join, so that a fetch begins without a handshake. Where there
//! is none, because it broke or is not there yet, git makes its own as it always did.

use super::settings::Connection;
use camino::{Utf8Path, Utf8PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// Ends the connection also when the server is killed: its standard input is then at its end.
const KEEPER: &str =
    "exec 3<&0; \"$@\" </dev/null & held=$!; { cat <&3 >/dev/null; kill $held; } & wait $held";
/// The longest path of a socket that OpenSSH can make, with what it appends while it makes it.
const LONGEST: usize = 88;
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_mins(1);

/// The words of a call of ssh that are the same for every conversation with this source.
pub(crate) fn ssh(connection: &Connection, state: &Utf8Path) -> Vec<String> {
    let (hosts, strict) = match &connection.known_hosts {
        Some(file) => (file.clone(), "yes"),
        None => (state.join("git_known_hosts"), "accept-new"),
    };
    let options = [
        "IdentitiesOnly=yes".to_owned(),
        "BatchMode=yes".to_owned(),
        format!("UserKnownHostsFile={hosts}"),
        format!("StrictHostKeyChecking={strict}"),
        "ServerAliveInterval=20".to_owned(),
    ];
    let mut words = vec!["ssh".to_owned(), "-i".to_owned(), connection.key.to_string()];
    words.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
    words
}

/// Where the connection to a source is joined; none where repositories are elsewhere, or no socket can be there.
pub(crate) fn socket(connection: &Connection, state: &Utf8Path, source: &str) -> Option<Utf8PathBuf> {
    let path = state.join(format!("ssh-{source}"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let usable = path.as_str().len() <= LONGEST && path.as_str().bytes().all(plain) && !source.contains('/');
    (usable && connection.git.is_none()).then_some(path)
}

/// Holds the connection until the end; a broken one is made anew after a pause.
pub(crate) async fn keep(connection: Connection, state: Utf8PathBuf, source: String, end: CancellationToken) {
    let Some(socket) = socket(&connection, &state, &source) else { return };
    let mut pause = FIRST;
    loop {
        // One that an earlier server has left would be in the way.
        let _ = fs_err::remove_file(&socket);
        let begun = tokio::time::Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).args(ssh(&connection, &state));
        command.args(["-o", "ControlMaster=yes", "-o", &format!("ControlPath={socket}"), "-N", "-p"]);
        command.arg(connection.port.to_string()).arg(format!("{}@{}", connection.user, connection.host));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(mut child) => tokio::select! {
                () = end.cancelled() => {
                    drop(child.stdin.take());
                    let _ = child.wait().await;
                    let _ = fs_err::remove_file(&socket);
                    return;
                }
                // What is left of the group ends with its standard input, which is dropped with the child.
                status = async { let stdin = child.stdin.take(); let status = child.wait().await; drop(stdin); status } => {
                    tracing::debug!(source, ?status, "the connection for git is gone; it is made anew");
                }
            },
            Err(error) => tracing::debug!(source, %error, "no connection is kept for git"),
        }
        pause = if begun.elapsed() > MOST { FIRST } else { (pause * 2).min(MOST) };
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
