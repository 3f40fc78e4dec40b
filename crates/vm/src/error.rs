//! What can go wrong with a machine, each in a sentence with its remedy.

use std::time::Duration;

use camino::Utf8PathBuf;

use crate::keys::UnknownKey;
use crate::qmp::QmpError;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The job's settings or the test's calls.
    Usage,
    /// The host: retrying elsewhere or later may help.
    Infrastructure,
}

/// A machine that did not start, ended, or refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// No such program.
    #[error(
        "QEMU was not found: there is no program {binary:?}. Install it (on Debian and Ubuntu: \
         apt-get install qemu-system-x86 qemu-utils) or name another one in the variable QEMU."
    )]
    QemuMissing {
        /// Name or path that was looked for.
        binary: String,
    },
    /// Older than 7.2.
    #[error(
        "{binary} is QEMU {version}; 7.2 or later is needed. Upgrade it or name another one in the variable QEMU."
    )]
    QemuTooOld {
        /// Its path.
        binary: Utf8PathBuf,
        /// Its version.
        version: String,
    },
    /// Neither bubblewrap nor setpriv can tie QEMU to this process.
    #[error(
        "nothing would end QEMU if the worker died: {why} There is no setpriv either. Install bubblewrap and \
         permit it user namespaces, or install util-linux, which brings setpriv."
    )]
    Unguarded {
        /// Why bubblewrap is not used, a sentence.
        why: String,
    },
    /// It ended before it could be talked to.
    #[error("QEMU ended at start ({status}). It said:\n{stderr}\n{remedy}")]
    DiedAtStart {
        /// Exit status in words.
        status: String,
        /// Its last lines.
        stderr: String,
        /// What to look at.
        remedy: String,
        /// Whether the job's own settings went into the command line unchecked.
        blamed: Vec<String>,
    },
    /// It ended although nobody asked.
    #[error("QEMU ended in the middle of the run ({status}). {}", last_words(stderr))]
    Died {
        /// Exit status in words.
        status: String,
        /// Its last lines; may be empty.
        stderr: String,
    },
    /// It is there but does not answer.
    #[error(
        "QEMU hangs: it did not answer {command} within {} ms, and was ended. The host may be overloaded \
         or out of memory; see its load, and the accelerator in the machine's facts.",
        after.as_millis()
    )]
    Hangs {
        /// The QMP command or the step of the start.
        command: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The RFB connection broke while QEMU lives.
    #[error("the screen of the machine was lost: {why}")]
    ScreenLost {
        /// Why.
        why: String,
    },
    /// No room for the disk's changes.
    #[error(
        "the disk is full: {path} could not be written. Free space there or move the worker's data directory."
    )]
    DiskFull {
        /// The file or its directory.
        path: Utf8PathBuf,
    },
    /// `qemu-img` failed for another reason.
    #[error("the disk image {image} cannot be used: {why}. Check the file with qemu-img info.")]
    Disk {
        /// The image given by the job.
        image: Utf8PathBuf,
        /// The words of qemu-img.
        why: String,
    },
    /// An operation of the operating system.
    #[error("{what}: {why}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        why: String,
    },
    /// QEMU answered a command with an error.
    #[error("QEMU refuses {command}: {description}")]
    Refused {
        /// The QMP command.
        command: String,
        /// QEMU's words.
        description: String,
    },
    /// No such key.
    #[error(transparent)]
    Key(#[from] UnknownKey),
    /// The machine has ended before this call.
    #[error("the machine has ended")]
    Ended,
}

impl MachineError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Disk { .. } | Self::Refused { .. } | Self::Key(_) => Class::Usage,
            Self::DiedAtStart { blamed, .. } if !blamed.is_empty() => Class::Usage,
            _ => Class::Infrastructure,
        }
    }

    pub(crate) fn io(what: impl Into<String>, error: impl ToString) -> Self {
        Self::Io { what: what.into(), why: error.to_string() }
    }
}

impl From<QmpError> for MachineError {
    fn from(error: QmpError) -> Self {
        match error {
            QmpError::Refused { command, description, .. } => Self::Refused { command, description },
            QmpError::Deadline { command, after } => Self::Hangs { command, after },
            QmpError::Closed(_) => Self::Ended,
        }
    }
}

fn last_words(stderr: &str) -> String {
    if stderr.is_empty() {
        "It said nothing; was it killed from outside, or by the kernel for want of memory (see dmesg)?"
            .to_owned()
    } else {
        format!("It said:\n{stderr}")
    }
}
