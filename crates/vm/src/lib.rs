//! Virtual machines: QEMU started directly, its screen, keyboard, mouse, serial port and disks.
//!
//! [`MachineSpec`] is read from openQA's variables, [`Machine::start`] boots it. The parsers of what
//! QEMU sends ([`rfb::Client`], [`qmp::Decoder`]) do no I/O of their own: bytes in, events out.

pub mod accel;
mod cmdline;
mod disk;
mod error;
mod frames;
mod input;
pub mod keys;
mod machine;
mod pacer;
mod qcow2;
pub mod qmp;
pub mod rfb;
mod sandbox;
mod serial;
pub mod settings;
mod spawner;
pub mod switch;
mod vnc;

pub use accel::Accelerator;
pub use cmdline::Layout;
pub use disk::{VARS_FILE, disk_file};
pub use error::{Class, MachineError};
pub use frames::{Demand, Frame, FrameObserver, FrameSource, Rect};
pub use input::TypingPace;
pub use keys::{Key, UnknownKey};
pub use machine::{Ended, Facts, Machine, MachineOptions, Power, Shutdown};
pub use sandbox::Isolation;
pub use serial::{SerialChunk, SerialLog};
pub use settings::{DiskSpec, MachineSpec, SettingsProblem, SettingsProblems, VARIABLES, Variable};
