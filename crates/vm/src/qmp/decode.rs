//! QMP messages out of bytes, without I/O.

use serde::Deserialize;
use serde_json::Value;

/// Longest line that is accepted, in bytes.
pub const MAX_LINE: usize = 16 << 20;

/// QEMU's version, from its greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// 7 in 7.2.22.
    pub major: u32,
    /// 2 in 7.2.22.
    pub minor: u32,
    /// 22 in 7.2.22.
    pub micro: u32,
    /// The distribution's package, may be empty.
    pub package: String,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)?;
        if self.package.is_empty() { Ok(()) } else { write!(f, " ({})", self.package) }
    }
}

/// Something that happened in QEMU.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// For instance `SHUTDOWN`.
    pub name: String,
    /// Its data, an object; empty where the event has none.
    pub data: Value,
}

/// One line from QEMU.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first line of a connection.
    Greeting(Version),
    /// A command's result.
    Return {
        /// The command's id; absent if QEMU could not read it.
        id: Option<u64>,
        /// Its result.
        value: Value,
    },
    /// A command's failure.
    Error {
        /// The command's id; absent if QEMU could not read it.
        id: Option<u64>,
        /// Class, for instance `GenericError`.
        class: String,
        /// Words for people.
        description: String,
    },
    /// Something happened.
    Event(Event),
}

/// The bytes are not QMP; the connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A line without end.
    #[error("QEMU sent a line of more than {MAX_LINE} bytes")]
    TooLong,
    /// Not JSON, or not a message of QMP.
    #[error("QEMU sent what is not QMP ({why}): {line}")]
    NotQmp {
        /// What is wrong with it.
        why: String,
        /// Its beginning.
        line: String,
    },
}

/// Cuts the stream into lines and reads them.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that hold no end of line.
    searched: usize,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    qmp: Option<Hello>,
    event: Option<String>,
    data: Option<Value>,
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Failure>,
    id: Option<Value>,
}

#[derive(Deserialize)]
struct Hello {
    version: HelloVersion,
}

#[derive(Deserialize)]
struct HelloVersion {
    qemu: Triple,
    #[serde(default)]
    package: String,
}

#[derive(Deserialize)]
struct Triple {
    major: u32,
    minor: u32,
    micro: u32,
}

#[derive(Deserialize)]
struct Failure {
    class: String,
    desc: String,
}

impl Decoder {
    /// Takes what arrived; returns the messages that are complete.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Message>, DecodeError> {
        self.buffer.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let mut start = 0;
        while let Some(length) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
            let end = self.searched + length;
            let line = self.buffer[start..end].trim_ascii();
            if !line.is_empty() {
                messages.push(parse(line)?);
            }
            start = end + 1;
            self.searched = start;
        }
        self.buffer.drain(..start);
        self.searched = self.buffer.len();
        if self.buffer.len() > MAX_LINE {
            return Err(DecodeError::TooLong);
        }
        Ok(messages)
    }
}

fn parse(line: &[u8]) -> Result<Message, DecodeError> {
    let wrong = |why: String| DecodeError::NotQmp {
        why,
        line: String::from_utf8_lossy(line).chars().take(120).collect(),
    };
    let line: Line = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
    let id = line.id.as_ref().and_then(Value::as_u64);
    if let Some(hello) = line.qmp {
        let Triple { major, minor, micro } = hello.version.qemu;
        return Ok(Message::Greeting(Version { major, minor, micro, package: hello.version.package }));
    }
    if let Some(name) = line.event {
        return Ok(Message::Event(Event {
            name,
            data: line.data.unwrap_or_else(|| Value::Object(serde_json::Map::default())),
        }));
    }
    if let Some(error) = line.error {
        return Ok(Message::Error { id, class: error.class, description: error.desc });
    }
    match line.value {
        Some(value) => Ok(Message::Return { id, value }),
        None => Err(wrong("it is neither greeting, event, return nor error".to_owned())),
    }
}
