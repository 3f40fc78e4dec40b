//! Real machines under QEMU's emulation. Debian's packages qemu-system-x86, qemu-utils, bubblewrap and
//! grub-rescue-pc are needed.

#[cfg(test)]
mod common;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod grub;
#[cfg(test)]
mod guests;
mod network;
#[cfg(test)]
mod process;
