//! QEMU's human monitor over a Unix socket: keys and screendumps.

use super::clock;
use super::grub::Picture;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// The answer to a command; a machine that says nothing for so long is lost.
const ANSWER: Duration = Duration::from_secs(10);
const PROMPT: &[u8] = b"(qemu) ";

/// A monitor, as soon as QEMU has connected to our socket.
pub(super) struct Monitor {
    stream: UnixStream,
    picture: Utf8PathBuf,
}

impl Monitor {
    /// Waits for QEMU to connect; `alive` says whether it still may. Pictures pass through the file `picture`.
    pub(super) fn accept(
        listener: &UnixListener,
        picture: &Utf8Path,
        mut alive: impl FnMut() -> bool,
    ) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock && alive() => {
                    clock::sleep(Duration::from_micros(500));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    bail!("QEMU ended before it connected")
                }
                Err(error) => return Err(error.into()),
            }
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut monitor = Self { stream, picture: picture.to_owned() };
        monitor.read_prompt()?;
        Ok(monitor)
    }

    /// Sends a command and waits until it is done; false when the machine has gone.
    fn command(&mut self, command: &str) -> Result<bool> {
        match self.stream.write_all(format!("{command}\n").as_bytes()) {
            Ok(()) => self.read_prompt(),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The prompt comes when the command before it is done.
    fn read_prompt(&mut self) -> Result<bool> {
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        while !said.ends_with(PROMPT) {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => said.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error).context("QEMU's monitor does not answer"),
            }
        }
        Ok(true)
    }

    /// The screen now; `None` when the machine has gone.
    pub(super) fn screendump(&mut self) -> Result<Option<Picture>> {
        if !self.command(&format!("screendump {}", self.picture))? {
            return Ok(None);
        }
        let bytes = fs_err::read(&self.picture)?;
        Ok(Some(Picture::from_ppm(&bytes).with_context(|| format!("{} is no whole picture", self.picture))?))
    }

    /// Queues a key: QEMU holds it for `hold` milliseconds and rests as long before the next.
    pub(super) fn key(&mut self, key: &str, hold: u32) -> Result<bool> {
        self.command(&format!("sendkey {key} {hold}"))
    }
}

/// The names of sendkey for what the test types.
pub(super) fn key_name(character: char) -> Result<String> {
    Ok(match character {
        ' ' => "spc".into(),
        'a'..='z' | '0'..='9' => character.into(),
        _ => bail!("the minimal driver has no key for {character:?}"),
    })
}
