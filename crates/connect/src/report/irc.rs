//! IRC: connect, join, say, and wait for the server to have heard it all.

use camino::Utf8PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// How long a conversation may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Bytes of a message, with room for what the server puts before it.
const LONGEST: usize = 400;

/// Where to say something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IrcOptions {
    /// The server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// Encrypted.
    pub tls: bool,
    /// Certificates to trust in place of the system's.
    pub ca_file: Option<Utf8PathBuf>,
    /// Our name there.
    pub nick: String,
    /// The server's password.
    pub password: Option<String>,
    /// The channel, with its `#`; or somebody's name.
    pub channel: String,
}

/// Lines that IRC can carry: no line ends, not too long.
pub fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split(['\r', '\n', '\0']).map(str::trim).filter(|line| !line.is_empty()) {
        let mut rest = line;
        while rest.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
            let end = rest[..end].rfind(' ').filter(|at| *at > 0).unwrap_or(end);
            lines.push(rest[..end].trim().to_owned());
            rest = rest[end..].trim_start();
        }
        if !rest.is_empty() {
            lines.push(rest.to_owned());
        }
    }
    lines
}

/// Says lines in a channel; `Ok` when the server has taken all of them.
pub async fn say(options: &IrcOptions, said: &[String]) -> Result<(), String> {
    let conversation = async {
        let address = (options.server.as_str(), options.port);
        let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        if options.tls {
            let tls = crate::http::tls_config(true, options.ca_file.as_deref())?;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
            let name = rustls::pki_types::ServerName::try_from(options.server.clone())
                .map_err(|error| error.to_string())?;
            let socket = connector.connect(name, socket).await.map_err(|error| error.to_string())?;
            converse(options, socket, said).await
        } else {
            converse(options, socket, said).await
        }
    };
    let late = |_| Err(format!("no end of the conversation within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, conversation).await.unwrap_or_else(late)
}

/// What the server says next; its pings are answered.
async fn hear(
    lines: &mut (impl AsyncBufRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
) -> Result<(String, String), String> {
    loop {
        let mut line = Vec::new();
        let read = lines.read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the server hung up".to_owned());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let rest = line
            .strip_prefix(':')
            .and_then(|rest| rest.split_once(' '))
            .map_or(line.as_str(), |(_, rest)| rest);
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if word == "PING" {
            put(write, &format!("PONG {rest}")).await?;
            continue;
        }
        return Ok((word.to_owned(), rest.to_owned()));
    }
}

async fn put(write: &mut (impl AsyncWrite + Unpin), line: &str) -> Result<(), String> {
    let line = format!("{line}\r\n");
    write.write_all(line.as_bytes()).await.map_err(|error| error.to_string())
}

async fn converse(
    options: &IrcOptions,
    socket: impl AsyncRead + AsyncWrite,
    said: &[String],
) -> Result<(), String> {
    let (read, mut write) = tokio::io::split(socket);
    let (mut lines, write) = (BufReader::new(read), &mut write);
    if let Some(password) = &options.password {
        put(write, &format!("PASS {password}")).await?;
    }
    let mut nick = options.nick.clone();
    put(write, &format!("NICK {nick}")).await?;
    put(write, &format!("USER {} 0 * :Assay", options.nick)).await?;
    loop {
        match hear(&mut lines, write).await? {
            (word, _) if word == "001" => break,
            // The name is taken, perhaps by the connection before this one.
            (word, _) if word == "433" && nick.len() < options.nick.len() + 4 => {
                nick.push('_');
                put(write, &format!("NICK {nick}")).await?;
            }
            (word, rest) if word == "ERROR" || word.starts_with('4') || word.starts_with('5') => {
                return Err(format!("the server says {word} {rest}"));
            }
            _ => {}
        }
    }
    let joins = options.channel.starts_with(['#', '&', '+', '!']);
    if joins {
        put(write, &format!("JOIN {}", options.channel)).await?;
        loop {
            match hear(&mut lines, write).await? {
                (word, _) if word == "366" => break,
                (word, rest) if word == "ERROR" || (word.starts_with('4') && word != "422") => {
                    return Err(format!("the server says {word} {rest}"));
                }
                _ => {}
            }
        }
    }
    // Each is confirmed before the next one: servers slow down or cut off whoever talks too fast.
    for (number, line) in said.iter().enumerate() {
        put(write, &format!("PRIVMSG {} :{line}", options.channel)).await?;
        put(write, &format!("PING :assay{number}")).await?;
        loop {
            match hear(&mut lines, write).await? {
                (word, rest) if word == "PONG" && rest.ends_with(&format!("assay{number}")) => break,
                (word, rest) if word == "ERROR" || matches!(word.as_str(), "401" | "403" | "404" | "411") => {
                    return Err(format!("the server says {word} {rest}"));
                }
                _ => {}
            }
        }
    }
    put(write, "QUIT :told").await?;
    // The end of the conversation is the server's to say; what was said is there already.
    while hear(&mut lines, write).await.is_ok() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_blanks() {
        assert_eq!(lines("a\r\nb\0QUIT\n\n  \n"), ["a", "b", "QUIT"]);
        let long = "word ".repeat(200);
        let cut = lines(&long);
        assert!(
            cut.len() == 3 && cut.iter().all(|line| line.len() <= LONGEST && line.ends_with("word")),
            "{cut:?}"
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_a_command(text in "\\PC{0,900}|[ \r\n\0a]{0,50}") {
            for line in lines(&text) {
                proptest::prop_assert!(!line.is_empty() && line.len() <= LONGEST && !line.contains(['\r', '\n', '\0']));
            }
        }
    }
}
