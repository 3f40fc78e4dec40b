//! git's smart protocol: `receive-pack` is spoken here, because a push for review is no ordinary one; `upload-pack` is
//! the git binary.

use super::core::Core;
use super::push::{Command, Outcome};
use super::repos::ZERO;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What this `receive-pack` can do.
const CAPABILITIES: &str = "report-status delete-refs side-band-64k quiet ofs-delta atomic push-options object-format=sha1 agent=fake-gerrit";
/// Packs with fewer objects are unpacked: many small packs make git slow.
const UNPACK_LIMIT: u32 = 100;
/// The most that fits into a packet with its side-band byte.
const BAND: usize = 65_515;

/// A line of git's protocol.
pub(crate) fn packet(bytes: &[u8]) -> Vec<u8> {
    let mut line = format!("{:04x}", bytes.len() + 4).into_bytes();
    line.extend_from_slice(bytes);
    line
}

/// Reads a line; `None` for a flush.
async fn read_packet(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    let length = std::str::from_utf8(&head).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
    match length {
        Some(0) => Ok(None),
        Some(length) if length >= 4 => {
            let mut line = vec![0; length - 4];
            from.read_exact(&mut line).await?;
            Ok(Some(line))
        }
        _ => Err(std::io::Error::other("a packet of the git protocol has a bad length")),
    }
}

/// What a client wants to push.
#[derive(Debug, Default)]
struct Wish {
    commands: Vec<Command>,
    options: Vec<String>,
    side_band: bool,
    report: bool,
    atomic: bool,
}

async fn read_wish(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Wish> {
    let mut wish = Wish::default();
    let mut wants_options = false;
    while let Some(line) = read_packet(from).await? {
        let text = String::from_utf8_lossy(&line);
        let (text, capabilities) = text.split_once('\0').unwrap_or((&text, ""));
        for capability in capabilities.split(' ') {
            match capability.trim() {
                "side-band-64k" => wish.side_band = true,
                "report-status" => wish.report = true,
                "atomic" => wish.atomic = true,
                "push-options" => wants_options = true,
                _ => {}
            }
        }
        let mut words = text.trim_end().splitn(3, ' ');
        if let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next())
            && old.len() == 40
            && new.len() == 40
        {
            wish.commands.push(Command { name: name.into(), old: old.into(), new: new.into() });
        }
    }
    while wants_options {
        match read_packet(from).await? {
            Some(line) => wish.options.push(String::from_utf8_lossy(&line).trim_end().to_owned()),
            None => wants_options = false,
        }
    }
    Ok(wish)
}

impl Core {
    /// What `receive-pack` says first.
    pub(crate) async fn advertise_receive(&self, project: &str) -> std::io::Result<Vec<u8>> {
        let refs = self.repos.refs(project).await.map_err(std::io::Error::other)?;
        let shown: Vec<_> = refs.iter().filter(|(name, _)| !name.starts_with("refs/changes/")).collect();
        let mut out = Vec::new();
        if shown.is_empty() {
            out.extend(packet(format!("{ZERO} capabilities^{{}}\0{CAPABILITIES}\n").as_bytes()));
        }
        for (at, (name, id)) in shown.iter().enumerate() {
            let capabilities = if at == 0 { format!("\0{CAPABILITIES}") } else { String::new() };
            out.extend(packet(format!("{id} {name}{capabilities}\n").as_bytes()));
        }
        // Commits of changes need not be sent again.
        for (_, id) in refs.iter().filter(|(name, _)| name.starts_with("refs/changes/")) {
            out.extend(packet(format!("{id} .have\n").as_bytes()));
        }
        out.extend(b"0000");
        Ok(out)
    }

    /// Reads a push and does it; returns the answer.
    pub(crate) async fn receive_pack(
        &self,
        user: &str,
        project: &str,
        from: &mut (impl AsyncRead + Unpin + Send),
    ) -> std::io::Result<Vec<u8>> {
        let wish = match read_wish(from).await {
            Ok(wish) => wish,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if wish.commands.is_empty() {
            return Ok(Vec::new());
        }
        let unpacked = if wish.commands.iter().any(|command| command.new != ZERO) {
            self.unpack(project, from).await
        } else {
            Ok(())
        };
        let (status, outcome) = match unpacked {
            Ok(()) => {
                let (commands, options) = (&wish.commands, &wish.options);
                ("ok".to_owned(), self.receive(user, project, commands, options, wish.atomic).await)
            }
            Err(error) => {
                let results =
                    wish.commands.iter().map(|one| (one.name.clone(), Err("unpacker error".into())));
                (error.to_string(), Outcome { results: results.collect(), text: String::new() })
            }
        };
        Ok(answer(&wish, &status, &outcome))
    }

    /// Takes a pack into the repository and reads not a byte more than it has to.
    async fn unpack(&self, project: &str, from: &mut (impl AsyncRead + Unpin + Send)) -> std::io::Result<()> {
        let mut head = [0; 12];
        from.read_exact(&mut head).await?;
        let count = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let mut git = self.repos.command(project);
        if count < UNPACK_LIMIT {
            git.args(["unpack-objects", "-q"]);
        } else {
            git.args(["index-pack", "--stdin", "--fix-thin"]);
        }
        let mut child = git.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let (Some(mut input), Some(mut errors)) = (child.stdin.take(), child.stderr.take()) else {
            return Err(std::io::Error::other("git has no standard input"));
        };
        let feed = async move {
            // The client waits with its end open; git knows when the pack is whole and closes its side.
            if input.write_all(&head).await.is_ok() {
                let _ = tokio::io::copy(from, &mut input).await;
            }
            drop(input);
            std::future::pending::<()>().await;
        };
        let mut text = String::new();
        let end = async { tokio::join!(child.wait(), errors.read_to_string(&mut text)).0 };
        let status = tokio::select! {
            status = end => status?,
            () = feed => unreachable!("it is pending for ever"),
        };
        if status.success() { Ok(()) } else { Err(std::io::Error::other(text.trim().replace('\n', "; "))) }
    }
}

fn answer(wish: &Wish, status: &str, outcome: &Outcome) -> Vec<u8> {
    let mut report = packet(format!("unpack {status}\n").as_bytes());
    for (name, result) in &outcome.results {
        let line = match result {
            Ok(()) => format!("ok {name}\n"),
            Err(why) => format!("ng {name} {}\n", why.replace('\n', " ")),
        };
        report.extend(packet(line.as_bytes()));
    }
    report.extend(b"0000");
    if !wish.side_band {
        return if wish.report { report } else { Vec::new() };
    }
    let mut out = Vec::new();
    let mut band = |number: u8, bytes: &[u8]| {
        for part in bytes.chunks(BAND) {
            let mut line = vec![number];
            line.extend_from_slice(part);
            out.extend(packet(&line));
        }
    };
    band(2, outcome.text.as_bytes());
    if wish.report {
        band(1, &report);
    }
    out.extend(b"0000");
    out
}

/// Runs `git upload-pack` between a client's two streams; the exit status.
pub(crate) async fn upload_pack(
    core: &Core,
    project: &str,
    args: &[&str],
    version: Option<&str>,
    mut from: impl AsyncRead + Unpin + Send,
    mut to: impl AsyncWrite + Unpin + Send,
) -> std::io::Result<i32> {
    let mut git = core.repos.command(project);
    git.arg("upload-pack").args(args).arg(core.repos.path(project));
    git.envs(version.map(|version| ("GIT_PROTOCOL", version)));
    let mut child = git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::Error::other("git has no standard input"));
    };
    let feed = async move {
        let _ = tokio::io::copy(&mut from, &mut input).await;
        drop(input);
        std::future::pending::<()>().await;
    };
    let drain = async {
        let _ = tokio::io::copy(&mut output, &mut to).await;
        let _ = to.flush().await;
        child.wait().await
    };
    tokio::select! {
        status = drain => Ok(status?.code().unwrap_or(1)),
        () = feed => unreachable!("it is pending for ever"),
    }
}
