//! A machine's settings: openQA's variables, read into types. Every problem is found in one go.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};

use crate::switch::Mac;

/// A variable that the machine understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds without it; empty for nothing.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

const fn variable(name: &'static str, default: &'static str, doc: &'static str) -> Variable {
    Variable { name, default, doc }
}

/// The QEMU program that is used if no other one is named.
pub(crate) const DEFAULT_QEMU: &str = "qemu-system-x86_64";

/// All variables that the machine understands. Paths are relative to the job's directory.
pub const VARIABLES: &[Variable] = &[
    variable("ISO", "", "Path of an image for the CD drive; never written to."),
    variable(
        "HDD_1",
        "",
        "Path of a disk image, qcow2 or raw; never written to: changes go to an overlay that ends with the machine.",
    ),
    variable("ISO_1", "", "Path of an image for a second CD drive; ISO_2 and ISO_3 likewise."),
    variable("HDD_2", "", "Path of the image of a second disk, as HDD_1; likewise up to HDD_9."),
    variable(
        "NUMDISKS",
        "",
        "Number of disks; those without an HDD_n are blank. Without it there are those that have one.",
    ),
    variable("HDDSIZEGB", "10", "Size of blank disks in GiB; HDDSIZEGB_n for the disk with that number."),
    variable("UEFI", "0", "1: UEFI firmware in place of a BIOS: OVMF, if none is named."),
    variable(
        "UEFI_SECURE_BOOT",
        "0",
        "1, with UEFI: Secure Boot, enforced with Microsoft's keys, if UEFI_PFLASH_VARS names no others. QEMUMACHINE is q35 then, \
         with smm=on.",
    ),
    variable("UEFI_PFLASH_CODE", "", "Path of the firmware's code for UEFI; without it the host's OVMF."),
    variable(
        "UEFI_PFLASH_VARS",
        "",
        "Path of the firmware's variables; never written to: the machine has a copy. Without it those of OVMF.",
    ),
    variable("KERNEL", "", "Path of a Linux kernel to start directly."),
    variable("INITRD", "", "Path of the initial RAM disk for KERNEL."),
    variable("APPEND", "", "Kernel command line for KERNEL."),
    variable("QEMURAM", "1024", "Memory in MiB; a G behind the number counts GiB."),
    variable("QEMUCPUS", "1", "Number of processors."),
    variable("XRES", "1024", "Width of the screen in pixels that the monitor prefers."),
    variable("YRES", "768", "Height of the screen in pixels that the monitor prefers."),
    variable(
        "BOOTFROM",
        "",
        "What to start from: c or disk, d or cdrom, n or network. Without it the disk, then the CD.",
    ),
    variable(
        "NICTYPE",
        "user",
        "Network: user, QEMU's own network, cut off from the host and the world; tap (or vde): networks of the \
         job's cluster, by a switch inside the workers.",
    ),
    variable(
        "NETWORKS",
        "fixed",
        "With NICTYPE=tap: names of the cluster's networks, separated by commas; one card for each.",
    ),
    variable(
        "NICVLAN",
        "",
        "With NICTYPE=tap, in place of NETWORKS: numbers from 1 to 4094, separated by commas; the card is in the cluster's \
         network vlanN. Jobs of the cluster with the same number reach each other.",
    ),
    variable(
        "NICMAC",
        "",
        "Hardware addresses of the cards, separated by commas; without it 52:54:00:12:34:56 for NICTYPE=user, else \
         addresses that are different within the cluster.",
    ),
    variable(
        "NICMODEL",
        "virtio-net-pci",
        "Network card, a QEMU device (virtio-net, e1000, ...); none for no card.",
    ),
    variable(
        "QEMU_VIDEO_DEVICE",
        "VGA",
        "Graphics card, a QEMU device (VGA, virtio-vga, qxl-vga, bochs-display, cirrus-vga).",
    ),
    variable("QEMUVGA", "", "The older way to name the graphics card: std, virtio, qxl or cirrus."),
    variable(
        "QEMU_NO_TABLET",
        "0",
        "1: no USB tablet; the pointer is then a relative PS/2 mouse and cannot be placed.",
    ),
    variable("QEMU", DEFAULT_QEMU, "Name or path of the QEMU program, 7.2 or later."),
    variable("QEMUMACHINE", "pc", "QEMU's machine type, with its options."),
    variable(
        "QEMUCPU",
        "",
        "QEMU's processor model; without it the host's under KVM, QEMU's fullest under TCG.",
    ),
    variable("QEMU_NO_KVM", "0", "1: emulate the processor even if KVM works."),
    variable(
        "QEMU_APPEND",
        "",
        "More arguments for QEMU, separated by spaces; the first one's leading dash may be left out.",
    ),
];

/// Variables of openQA that change the machine and cannot be honoured yet: refused, not ignored.
const UNSUPPORTED: &[&str] =
    &["BIOS", "QEMUTPM", "RAIDLEVEL", "MULTIPATH", "PXEBOOT", "USBBOOT", "OFW", "VNC_TYPING_LIMIT"];

/// The most cards of one machine.
const MOST_NICS: usize = 8;

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// NICMODEL, a QEMU device.
    pub model: String,
    /// The network of the cluster that it is in; none for QEMU's own.
    pub network: Option<String>,
    /// NICMAC, if given.
    pub mac: Option<Mac>,
}

/// The parts of a list, without spaces around and without empty ones.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The variable.
    pub variable: String,
    /// Its value.
    pub value: String,
    /// What is wrong and what to do, a sentence.
    pub message: String,
}

impl fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}: {}", self.variable, self.value, self.message)
    }
}

/// All settings that cannot be used, one on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblems(pub Vec<SettingsProblem>);

impl fmt::Display for SettingsProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for SettingsProblems {}

/// What to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFrom {
    /// HDD_1.
    Disk,
    /// ISO.
    Cdrom,
    /// The network card.
    Network,
}

/// What a disk begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskSpec {
    /// This image, qcow2 or raw.
    Image(Utf8PathBuf),
    /// Nothing, so many GiB.
    Blank(u32),
}

/// UEFI firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// UEFI_PFLASH_CODE.
    pub code: Utf8PathBuf,
    /// UEFI_PFLASH_VARS, which the machine gets a copy of.
    pub vars: Utf8PathBuf,
    /// UEFI_SECURE_BOOT: the variables can be written by the firmware alone.
    pub secure: bool,
}

/// Where distributions keep OVMF: the code, and the variables that go with it.
const OVMF: [(&str, &str); 4] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];

/// The same with Secure Boot: code that runs in system management mode, and variables with Microsoft's keys.
const OVMF_SECURE: [(&str, &str); 4] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.secboot.4m.fd"),
];

/// The most disks of one machine.
const MOST_DISKS: u32 = 9;

/// A machine to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// QEMU.
    pub qemu: String,
    /// QEMUMACHINE.
    pub machine: String,
    /// QEMUCPU.
    pub cpu: Option<String>,
    /// QEMUCPUS.
    pub cpus: u32,
    /// QEMURAM, in MiB.
    pub ram_mib: u64,
    /// QEMU_NO_KVM.
    pub no_kvm: bool,
    /// ISO.
    pub iso: Option<Utf8PathBuf>,
    /// ISO_1 to ISO_3.
    pub more_isos: Vec<Utf8PathBuf>,
    /// HDD_1 to HDD_9, and blank ones of NUMDISKS, by their numbers.
    pub disks: BTreeMap<u32, DiskSpec>,
    /// UEFI.
    pub firmware: Option<Firmware>,
    /// KERNEL.
    pub kernel: Option<Utf8PathBuf>,
    /// INITRD.
    pub initrd: Option<Utf8PathBuf>,
    /// APPEND.
    pub append: Option<String>,
    /// BOOTFROM.
    pub boot_from: Option<BootFrom>,
    /// The network cards; none for NICMODEL=none.
    pub nics: Vec<Nic>,
    /// QEMU_VIDEO_DEVICE or QEMUVGA.
    pub video: String,
    /// XRES, in pixels.
    pub xres: u32,
    /// YRES, in pixels.
    pub yres: u32,
    /// Not QEMU_NO_TABLET.
    pub tablet: bool,
    /// QEMU_APPEND, cut into arguments.
    pub extra: Vec<String>,
    /// Given variables whose values reach QEMU unchecked; named when QEMU ends at start.
    pub unchecked: Vec<String>,
}

impl MachineSpec {
    /// The cards that are in a network of the cluster: their numbers and the networks' names.
    pub(crate) fn cluster_cards(&self) -> impl Iterator<Item = (usize, &str)> {
        self.nics.iter().enumerate().filter_map(|(card, nic)| Some((card, nic.network.as_deref()?)))
    }

    /// Reads the variables of [`VARIABLES`]; others are none of the machine's business. Relative paths
    /// start at `base`. Files are looked at: they must be there, readable and not empty.
    pub fn from_settings(
        settings: &BTreeMap<String, String>,
        base: &Utf8Path,
    ) -> Result<Self, SettingsProblems> {
        let mut read = Reader { settings, base, problems: Vec::new() };
        for name in UNSUPPORTED {
            if read.given(name).is_some_and(|v| v != "0") {
                read.problem(name, "this machine cannot do that yet; remove the variable.");
            }
        }
        let spec = Self {
            qemu: read.text("QEMU"),
            machine: read.machine(),
            cpu: read.given("QEMUCPU").map(str::to_owned),
            cpus: read.number("QEMUCPUS", 1, 255, "processors"),
            ram_mib: read.ram(),
            no_kvm: read.flag("QEMU_NO_KVM"),
            iso: read.file("ISO"),
            more_isos: ["ISO_1", "ISO_2", "ISO_3"].into_iter().filter_map(|name| read.file(name)).collect(),
            disks: read.disks(),
            firmware: read.firmware(),
            kernel: read.file("KERNEL"),
            initrd: read.file("INITRD"),
            append: read.given("APPEND").map(str::to_owned),
            boot_from: read.boot_from(),
            nics: read.nics(),
            video: read.video(),
            xres: read.number("XRES", 320, 8192, "pixels"),
            yres: read.number("YRES", 200, 4096, "pixels"),
            tablet: !read.flag("QEMU_NO_TABLET"),
            extra: read.extra(),
            unchecked: ["QEMUMACHINE", "QEMUCPU", "QEMUVGA", "QEMU_VIDEO_DEVICE", "NICMODEL", "QEMU_APPEND"]
                .into_iter()
                .filter_map(|name| Some(format!("{name}={}", read.given(name)?)))
                .collect(),
        };
        read.relations(&spec);
        if read.problems.is_empty() { Ok(spec) } else { Err(SettingsProblems(read.problems)) }
    }
}

struct Reader<'a> {
    settings: &'a BTreeMap<String, String>,
    base: &'a Utf8Path,
    problems: Vec<SettingsProblem>,
}

impl<'a> Reader<'a> {
    /// The value, if it is given and not blank.
    fn given(&self, name: &str) -> Option<&'a str> {
        self.settings.get(name).map(|v| v.trim()).filter(|v| !v.is_empty())
    }

    fn problem(&mut self, name: &str, message: impl Into<String>) {
        let value = self.settings.get(name).cloned().unwrap_or_default();
        self.problems.push(SettingsProblem { variable: name.to_owned(), value, message: message.into() });
    }

    fn text(&self, name: &str) -> String {
        self.given(name).unwrap_or(default_of(name)).to_owned()
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.given(name) {
            None | Some("0") => false,
            Some("1") => true,
            Some(_) => {
                self.problem(name, "expected 1 for yes or 0 for no.");
                false
            }
        }
    }

    fn number<N: FromStr + PartialOrd + fmt::Display + Default>(
        &mut self,
        name: &str,
        least: N,
        most: N,
        unit: &str,
    ) -> N {
        match self.text(name).parse::<N>() {
            Ok(n) if n >= least && n <= most => n,
            _ => {
                let example = match default_of(name) {
                    "" => least.to_string(),
                    usual => usual.to_owned(),
                };
                self.problem(
                    name,
                    format!(
                        "expected a whole number of {unit} from {least} to {most}, for instance {example}."
                    ),
                );
                N::default()
            }
        }
    }

    fn ram(&mut self) -> u64 {
        const TIB: u64 = 1 << 20;
        let text = self.text("QEMURAM");
        let (digits, factor) = match text.to_ascii_uppercase().strip_suffix('G') {
            Some(gib) => (gib.to_owned(), 1024),
            None => (text.strip_suffix(['M', 'm']).unwrap_or(&text).to_owned(), 1),
        };
        let mib = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
        mib.filter(|mib| (16..=TIB).contains(mib)).unwrap_or_else(|| {
            self.problem("QEMURAM", "expected the memory in MiB, from 16 on, for instance 1024 or 2G.");
            0
        })
    }

    fn file(&mut self, name: &str) -> Option<Utf8PathBuf> {
        let path = self.base.join(self.given(name)?);
        let remedy = "Give the path of an existing image, absolute or relative to the job's directory.";
        let checked = fs_err::File::open(&path).and_then(|f| f.metadata());
        let fault = match checked {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                format!("there is no file {path}. {remedy}")
            }
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                format!("{path} may not be read by this user. Change its permissions (chmod +r).")
            }
            Err(e) => format!("it cannot be opened: {e}. {remedy}"),
            Ok(m) if m.is_dir() => format!("{path} is a directory. {remedy}"),
            Ok(m) if m.is_file() && m.len() == 0 => {
                format!("{path} is empty: 0 bytes. Fetch the image again; a download may have broken off.")
            }
            Ok(_) => match path.canonicalize_utf8() {
                Ok(path) => return Some(path),
                Err(e) => format!("it cannot be opened: {e}. {remedy}"),
            },
        };
        self.problem(name, fault);
        None
    }

    fn disks(&mut self) -> BTreeMap<u32, DiskSpec> {
        let before = self.problems.len();
        let count = self.given("NUMDISKS").map(|_| self.number("NUMDISKS", 0, MOST_DISKS, "disks"));
        let count = count.filter(|_| self.problems.len() == before);
        let mut disks = BTreeMap::new();
        for number in 1..=MOST_DISKS {
            let name = format!("HDD_{number}");
            let is_one = count.is_none_or(|count| number <= count);
            if self.given(&name).is_some() {
                if !is_one {
                    self.problem(&name, "NUMDISKS is smaller; raise or remove it, or remove this disk.");
                }
                disks.extend(self.file(&name).map(|image| (number, DiskSpec::Image(image))));
            } else if is_one && count.is_some() {
                let own = format!("HDDSIZEGB_{number}");
                let name = if self.given(&own).is_some() { own.as_str() } else { "HDDSIZEGB" };
                disks.insert(number, DiskSpec::Blank(self.number(name, 1, 65_536, "GiB")));
            }
        }
        disks
    }

    /// QEMUMACHINE; with Secure Boot one that has system management mode.
    fn machine(&mut self) -> String {
        let given = self.text("QEMUMACHINE");
        if self.given("UEFI_SECURE_BOOT").is_none_or(|value| value == "0") {
            return given;
        }
        let machine = if self.given("QEMUMACHINE").is_some() { given } else { "q35".to_owned() };
        let (kind, options) = machine.split_once(',').unwrap_or((&machine, ""));
        if !kind.contains("q35") || options.split(',').any(|option| option == "smm=off") {
            self.problem("QEMUMACHINE", "Secure Boot needs q35 with smm=on; set q35, or leave it out.");
        }
        let told = options.split(',').any(|option| option.starts_with("smm="));
        if told { machine } else { format!("{machine},smm=on") }
    }

    fn firmware(&mut self) -> Option<Firmware> {
        let named = [self.file("UEFI_PFLASH_CODE"), self.file("UEFI_PFLASH_VARS")];
        let wrong = self.problems.iter().any(|problem| problem.variable.starts_with("UEFI_PFLASH"));
        if !self.flag("UEFI") {
            let secure = self.given("UEFI_SECURE_BOOT").is_some_and(|value| value != "0");
            let names = ["UEFI_PFLASH_CODE", "UEFI_PFLASH_VARS", "UEFI_SECURE_BOOT"];
            for (name, given) in names.into_iter().zip([named[0].is_some(), named[1].is_some(), secure]) {
                if given {
                    self.problem(name, "it has no effect without UEFI; set UEFI=1 or remove it.");
                }
            }
            return None;
        }
        let secure = self.flag("UEFI_SECURE_BOOT");
        let found = if secure { OVMF_SECURE } else { OVMF }
            .into_iter()
            .find(|(code, vars)| [code, vars].iter().all(|path| Utf8Path::new(path).is_file()));
        let [code, vars] = named;
        let code = code.or_else(|| found.map(|(code, _)| code.into()));
        let vars = vars.or_else(|| found.map(|(_, vars)| vars.into()));
        if let (Some(code), Some(vars)) = (code, vars) {
            return Some(Firmware { code, vars, secure });
        }
        if !wrong {
            self.problem(
                "UEFI",
                "there is no firmware; install ovmf (Debian) or edk2-ovmf (Fedora), or name it with \
                 UEFI_PFLASH_CODE and UEFI_PFLASH_VARS.",
            );
        }
        None
    }

    fn boot_from(&mut self) -> Option<BootFrom> {
        match self.given("BOOTFROM")? {
            "c" | "disk" => Some(BootFrom::Disk),
            "d" | "cdrom" => Some(BootFrom::Cdrom),
            "n" | "network" => Some(BootFrom::Network),
            _ => {
                self.problem("BOOTFROM", "expected c (disk), d (cdrom) or n (network).");
                None
            }
        }
    }

    fn nics(&mut self) -> Vec<Nic> {
        let networks: Vec<Option<String>> = match self.text("NICTYPE").as_str() {
            "user" => {
                if self.given("NICVLAN").is_some() {
                    self.problem("NICVLAN", "it has no effect without NICTYPE=tap; set that or remove it.");
                }
                vec![None]
            }
            "tap" | "vde" => match self.given("NICVLAN") {
                Some(numbers) => self.vlans(numbers).into_iter().map(Some).collect(),
                None => words(&self.text("NETWORKS")).map(|name| Some(name.to_owned())).collect(),
            },
            _ => {
                self.problem(
                    "NICTYPE",
                    "expected user, or tap or vde for the networks of the job's cluster.",
                );
                return Vec::new();
            }
        };
        if networks.len() > MOST_NICS && self.given("NICVLAN").is_some() {
            self.problem("NICVLAN", "expected one to eight numbers, separated by commas.");
        } else if networks.is_empty() || networks.len() > MOST_NICS {
            self.problem("NETWORKS", "expected one to eight names, separated by commas.");
        }
        let given = self.text("NICMAC");
        let macs: Vec<Option<Mac>> = words(&given).map(|word| word.parse().ok()).collect();
        if macs.iter().any(Option::is_none) || macs.len() > networks.len() {
            self.problem(
                "NICMAC",
                "expected an address like 52:54:00:12:34:56 for each card, separated by commas.",
            );
        }
        let model = self.text("NICMODEL");
        // openQA's name for it leaves the bus out.
        let model = if model == "virtio-net" { "virtio-net-pci".to_owned() } else { model };
        if model == "none" {
            return Vec::new();
        }
        let card = |(number, network): (usize, Option<String>)| {
            let mac = macs.get(number).copied().flatten();
            Nic { model: model.clone(), network, mac }
        };
        networks.into_iter().enumerate().map(card).collect()
    }

    /// The names of the cluster's networks with these numbers.
    fn vlans(&mut self, numbers: &str) -> Vec<String> {
        let number = |word: &str| word.parse::<u16>().ok().filter(|number| (1..=4094).contains(number));
        let found: Option<Vec<String>> =
            words(numbers).map(|word| Some(format!("vlan{}", number(word)?))).collect();
        found.filter(|found| !found.is_empty()).unwrap_or_else(|| {
            self.problem(
                "NICVLAN",
                "expected numbers from 1 to 4094, separated by commas, for instance 1,2.",
            );
            vec!["vlan1".to_owned()]
        })
    }

    fn video(&mut self) -> String {
        match (self.given("QEMU_VIDEO_DEVICE"), self.given("QEMUVGA")) {
            (Some(device), _) => device.to_owned(),
            (None, None) => default_of("QEMU_VIDEO_DEVICE").to_owned(),
            (None, Some("std")) => "VGA".to_owned(),
            (None, Some(card @ ("virtio" | "qxl" | "cirrus"))) => format!("{card}-vga"),
            (None, Some(_)) => {
                self.problem(
                    "QEMUVGA",
                    "expected std, virtio, qxl or cirrus; name other devices in QEMU_VIDEO_DEVICE.",
                );
                String::new()
            }
        }
    }

    fn extra(&self) -> Vec<String> {
        let mut words: Vec<String> =
            self.given("QEMU_APPEND").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        if let Some(first) = words.first_mut().filter(|w| !w.starts_with('-')) {
            first.insert(0, '-');
        }
        words
    }

    /// Settings that only make sense together.
    fn relations(&mut self, spec: &MachineSpec) {
        let given = |name: &str| self.given(name).is_some();
        let without_kernel = !given("KERNEL");
        let no_disk =
            spec.boot_from == Some(BootFrom::Disk) && !spec.disks.contains_key(&1) && !given("HDD_1");
        let no_cd = spec.boot_from == Some(BootFrom::Cdrom) && !given("ISO");
        let no_card = spec.boot_from == Some(BootFrom::Network) && spec.nics.is_empty();
        for name in ["INITRD", "APPEND"] {
            if without_kernel && self.given(name).is_some() {
                self.problem(name, "it has no effect without KERNEL; set KERNEL or remove it.");
            }
        }
        for (wrong, need) in [(no_disk, "HDD_1"), (no_cd, "ISO"), (no_card, "a NICMODEL other than none")] {
            if wrong {
                self.problem("BOOTFROM", format!("there is nothing to start from; set {need}."));
            }
        }
    }
}

fn default_of(name: &str) -> &'static str {
    VARIABLES.iter().find(|v| v.name == name).map_or("", |v| v.default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)], base: &Utf8Path) -> Result<MachineSpec, Vec<String>> {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        MachineSpec::from_settings(&settings, base).map_err(|p| p.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults() {
        let spec = read(&[("TEST", "whatever")], Utf8Path::new("/")).unwrap();
        assert_eq!((spec.ram_mib, spec.cpus, spec.xres, spec.yres), (1024, 1, 1024, 768));
        assert_eq!(
            (spec.qemu.as_str(), spec.video.as_str(), spec.tablet),
            ("qemu-system-x86_64", "VGA", true)
        );
        assert_eq!(spec.unchecked, [""; 0]);
    }

    #[test]
    fn all_problems_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let base = Utf8Path::from_path(dir.path()).unwrap();
        fs_err::write(base.join("empty.iso"), "").unwrap();
        let problems = read(
            &[
                ("ISO", "empty.iso"),
                ("HDD_1", "."),
                ("KERNEL", "vmlinuz"),
                ("QEMURAM", "lots"),
                ("QEMUCPUS", "0"),
                ("XRES", "-3"),
                ("QEMU_NO_KVM", "yes"),
                ("BOOTFROM", "floppy"),
                ("NICTYPE", "bridge"),
                ("QEMUVGA", "ega"),
                ("BIOS", "x.bin"),
                ("NUMDISKS", "10"),
                ("UEFI_PFLASH_VARS", "empty.iso"),
            ],
            base,
        )
        .unwrap_err();
        assert_eq!(
            problems,
            [
                "BIOS=x.bin: this machine cannot do that yet; remove the variable.".to_owned(),
                "QEMUCPUS=0: expected a whole number of processors from 1 to 255, for instance 1.".to_owned(),
                "QEMURAM=lots: expected the memory in MiB, from 16 on, for instance 1024 or 2G.".to_owned(),
                "QEMU_NO_KVM=yes: expected 1 for yes or 0 for no.".to_owned(),
                format!(
                    "ISO=empty.iso: {base}/empty.iso is empty: 0 bytes. Fetch the image again; a download may have broken off."
                ),
                "NUMDISKS=10: expected a whole number of disks from 0 to 9, for instance 0.".to_owned(),
                format!(
                    "HDD_1=.: {base}/. is a directory. Give the path of an existing image, absolute or relative to the job's directory."
                ),
                format!(
                    "UEFI_PFLASH_VARS=empty.iso: {base}/empty.iso is empty: 0 bytes. Fetch the image again; a download may have broken off."
                ),
                format!(
                    "KERNEL=vmlinuz: there is no file {base}/vmlinuz. Give the path of an existing image, absolute or relative to the job's directory."
                ),
                "BOOTFROM=floppy: expected c (disk), d (cdrom) or n (network).".to_owned(),
                "NICTYPE=bridge: expected user, or tap or vde for the networks of the job's cluster."
                    .to_owned(),
                "QEMUVGA=ega: expected std, virtio, qxl or cirrus; name other devices in QEMU_VIDEO_DEVICE."
                    .to_owned(),
                "XRES=-3: expected a whole number of pixels from 320 to 8192, for instance 1024.".to_owned(),
            ]
        );
    }

    #[test]
    fn values_that_belong_together() {
        let root = Utf8Path::new("/");
        assert_eq!(
            read(&[("APPEND", "quiet"), ("BOOTFROM", "d")], root).unwrap_err(),
            [
                "APPEND=quiet: it has no effect without KERNEL; set KERNEL or remove it.",
                "BOOTFROM=d: there is nothing to start from; set ISO.",
            ]
        );
        let spec =
            read(&[("QEMURAM", "2G"), ("QEMU_APPEND", "device foo -bar"), ("QEMUVGA", "cirrus")], root)
                .unwrap();
        assert_eq!((spec.ram_mib, spec.video.as_str()), (2048, "cirrus-vga"));
        assert_eq!(spec.extra, ["-device", "foo", "-bar"]);
        assert_eq!(spec.unchecked, ["QEMUVGA=cirrus", "QEMU_APPEND=device foo -bar"]);
    }

    #[test]
    fn disks_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let base = Utf8Path::from_path(dir.path()).unwrap().canonicalize_utf8().unwrap();
        fs_err::write(base.join("a.img"), "x").unwrap();
        let image = || DiskSpec::Image(base.join("a.img"));
        let disks = |settings: &[(&str, &str)]| read(settings, &base).map(|spec| spec.disks);
        assert_eq!(disks(&[]).unwrap(), BTreeMap::new());
        assert_eq!(disks(&[("HDD_3", "a.img")]).unwrap(), BTreeMap::from([(3, image())]));
        assert_eq!(
            disks(&[("NUMDISKS", "3"), ("HDD_2", "a.img"), ("HDDSIZEGB", "20"), ("HDDSIZEGB_3", "5")])
                .unwrap(),
            BTreeMap::from([(1, DiskSpec::Blank(20)), (2, image()), (3, DiskSpec::Blank(5))])
        );
        let wrong = disks(&[("NUMDISKS", "1"), ("HDD_2", "a.img")]).unwrap_err();
        assert_eq!(wrong, ["HDD_2=a.img: NUMDISKS is smaller; raise or remove it, or remove this disk."]);
        let wrong = disks(&[("UEFI_PFLASH_VARS", "a.img")]).unwrap_err();
        assert_eq!(
            wrong,
            ["UEFI_PFLASH_VARS=a.img: it has no effect without UEFI; set UEFI=1 or remove it."]
        );
    }

    #[test]
    fn secure_boot_and_vlans() {
        let root = Utf8Path::new("/");
        let with =
            |more: &[(&str, &str)]| read(&[&[("UEFI", "1"), ("UEFI_SECURE_BOOT", "1")], more].concat(), root);
        for (given, wanted) in [
            ("", "q35,smm=on"),
            ("q35", "q35,smm=on"),
            ("pc-q35-7.2,usb=off", "pc-q35-7.2,usb=off,smm=on"),
            ("q35,smm=on", "q35,smm=on"),
        ] {
            let spec = with(&[("QEMUMACHINE", given)]).unwrap();
            assert_eq!((spec.machine.as_str(), spec.firmware.map(|one| one.secure)), (wanted, Some(true)));
        }
        for given in ["pc", "q35,smm=off"] {
            let wrong = with(&[("QEMUMACHINE", given)]).unwrap_err();
            let told =
                format!("QEMUMACHINE={given}: Secure Boot needs q35 with smm=on; set q35, or leave it out.");
            assert_eq!(wrong, [told]);
        }
        let alone = read(&[("UEFI_SECURE_BOOT", "1")], root).unwrap_err();
        assert_eq!(alone, ["UEFI_SECURE_BOOT=1: it has no effect without UEFI; set UEFI=1 or remove it."]);

        let networks = |settings: &[(&str, &str)]| {
            read(settings, root)
                .map(|spec| spec.nics.into_iter().filter_map(|nic| nic.network).collect::<Vec<_>>())
        };
        let named = networks(&[("NICTYPE", "tap"), ("NETWORKS", "other"), ("NICVLAN", "2, 4094")]);
        assert_eq!(named.unwrap(), ["vlan2", "vlan4094"]);
        for (kind, numbers, why) in [
            ("tap", "0", "expected numbers from 1 to 4094, separated by commas, for instance 1,2."),
            ("vde", "1,x", "expected numbers from 1 to 4094, separated by commas, for instance 1,2."),
            ("tap", ",", "expected numbers from 1 to 4094, separated by commas, for instance 1,2."),
            ("tap", "1,2,3,4,5,6,7,8,9", "expected one to eight numbers, separated by commas."),
            ("user", "1", "it has no effect without NICTYPE=tap; set that or remove it."),
        ] {
            let wrong = networks(&[("NICTYPE", kind), ("NICVLAN", numbers)]).unwrap_err();
            assert_eq!(wrong, [format!("NICVLAN={numbers}: {why}")]);
        }
    }
}
