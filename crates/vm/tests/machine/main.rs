//! Real machines under QEMU's emulation. Debian's packages qemu-system-x86, qemu-utils, bubblewrap,
//! grub-rescue-pc and ovmf are needed.

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
#[cfg(test)]
mod uefi;
