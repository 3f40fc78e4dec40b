//! QEMU's command line. Pure: everything that is looked up comes in as an argument.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use crate::accel::Accelerator;
use crate::settings::{BootFrom, MachineSpec};
use crate::switch::Mac;

/// What was decided outside: where things are. Socket paths are relative to QEMU's working directory,
/// as the path of a socket may have 107 bytes only.
#[derive(Clone, Debug)]
pub struct Layout {
    /// How the processor runs.
    pub accelerator: Accelerator,
    /// What the guest writes to, by the disk's number: qcow2.
    pub disks: BTreeMap<u32, Utf8PathBuf>,
    /// The machine's own copy of the firmware's variables.
    pub vars: Option<Utf8PathBuf>,
    /// Different for every machine of a cluster; its cards' addresses are made of it.
    pub number: u16,
}

pub(crate) const QMP_SOCKET: &str = "qmp.sock";
pub(crate) const VNC_SOCKET: &str = "vnc.sock";
pub(crate) const SERIAL_SOCKET: &str = "serial0.sock";
pub(crate) const CD_DEVICE: &str = "cd0";

/// Where the frames of a card in a network of the cluster go through.
pub(crate) fn network_socket(card: usize) -> String {
    format!("net{card}.sock")
}

/// Graphics cards that take the preferred resolution as properties.
const WITH_EDID: &[&str] =
    &["VGA", "secondary-vga", "bochs-display", "virtio-vga", "virtio-vga-gl", "virtio-gpu-pci", "qxl-vga"];

impl MachineSpec {
    /// The arguments for QEMU, without the program itself.
    pub fn arguments(&self, layout: &Layout) -> Vec<String> {
        let mut args = Args(Vec::new());
        args.flag("-no-user-config").flag("-nodefaults").flag("-no-shutdown").flag("-S");
        // Named threads: the pacer of the keyboard looks at those of the processors.
        args.option("-name", "assay,debug-threads=on");
        args.option("-machine", &self.machine);
        match layout.accelerator {
            Accelerator::Kvm => args.option("-accel", "kvm"),
            Accelerator::Tcg => args.option("-accel", "tcg"),
        };
        args.option(
            "-cpu",
            self.cpu.as_deref().unwrap_or(match layout.accelerator {
                Accelerator::Kvm => "host",
                // Everything but five-level paging, which costs a walk of the page tables per miss.
                Accelerator::Tcg => "max,la57=off",
            }),
        );
        args.option("-smp", &self.cpus.to_string());
        args.option("-m", &format!("{}M", self.ram_mib));
        args.option("-rtc", "base=utc");
        args.option("-boot", "strict=on");
        args.control();
        self.screen_and_input(&mut args);
        self.firmware(layout, &mut args);
        self.disks(layout, &mut args);
        self.network(layout, &mut args);
        args.option("-object", "rng-random,id=rng0,filename=/dev/urandom");
        args.option("-device", "virtio-rng-pci,rng=rng0");
        for (name, value) in [("-kernel", &self.kernel), ("-initrd", &self.initrd)] {
            if let Some(path) = value {
                args.option(name, path.as_str());
            }
        }
        if let Some(line) = &self.append {
            args.option("-append", line);
        }
        args.0.extend(self.extra.iter().cloned());
        args.0
    }

    fn screen_and_input(&self, args: &mut Args) {
        let resolution = if WITH_EDID.contains(&self.video.as_str()) {
            format!(",edid=on,xres={},yres={}", self.xres, self.yres)
        } else {
            String::new()
        };
        args.option("-device", &format!("{},id=video0{resolution}", self.video));
        args.option("-display", "none");
        // Bound to the card: otherwise Ctrl-Alt-1 to 9 would switch consoles of QEMU itself. Its own pause
        // between keys keeps them apart in the guest's time even if it reads several at once.
        args.option(
            "-vnc",
            &format!("unix:{VNC_SOCKET},display=video0,share=force-shared,lock-key-sync=off,key-delay-ms=2"),
        );
        if self.tablet {
            args.option("-device", "qemu-xhci,id=usb").option("-device", "usb-tablet,bus=usb.0");
        }
    }

    fn disks(&self, layout: &Layout, args: &mut Args) {
        let (disk, cd) = match self.boot_from {
            None | Some(BootFrom::Disk) => (0, 1),
            Some(BootFrom::Cdrom) => (1, 0),
            Some(BootFrom::Network) => (1, 2),
        };
        for (number, overlay) in &layout.disks {
            let (file, id) = (escape(overlay.as_str()), number - 1);
            // The overlay ends with the machine: nothing is gained by waiting for the host's disk.
            args.option(
                "-drive",
                &format!("if=none,id=hd{id},format=qcow2,cache=unsafe,discard=unmap,file={file}"),
            );
            // Only the first is started from.
            let boot = if *number == 1 { format!(",bootindex={disk}") } else { String::new() };
            args.option("-device", &format!("virtio-blk-pci,drive=hd{id}{boot},serial={number}"));
        }
        if let Some(iso) = &self.iso {
            let file = escape(iso.as_str());
            args.option("-drive", &format!("if=none,id=iso,media=cdrom,readonly=on,format=raw,file={file}"));
            args.option("-device", &format!("ide-cd,id={CD_DEVICE},drive=iso,bootindex={cd}"));
        }
        for (number, iso) in (1..).zip(&self.more_isos) {
            let file = escape(iso.as_str());
            args.option(
                "-drive",
                &format!("if=none,id=iso{number},media=cdrom,readonly=on,format=raw,file={file}"),
            );
            args.option("-device", &format!("ide-cd,id=cd{number},drive=iso{number}"));
        }
    }

    fn firmware(&self, layout: &Layout, args: &mut Args) {
        let (Some(firmware), Some(vars)) = (&self.firmware, &layout.vars) else { return };
        if firmware.secure {
            // Only the firmware, in system management mode, writes variables; with that it cannot suspend to memory.
            args.option("-global", "driver=cfi.pflash01,property=secure,value=on");
            args.option("-global", "ICH9-LPC.disable_s3=1");
        }
        let code = format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escape(firmware.code.as_str()));
        args.option("-drive", &code);
        args.option("-drive", &format!("if=pflash,unit=1,format=raw,file={}", escape(vars.as_str())));
    }

    fn network(&self, layout: &Layout, args: &mut Args) {
        for (number, nic) in self.nics.iter().enumerate() {
            let netdev = match &nic.network {
                // Restricted: an address by DHCP, and nothing beyond.
                None => format!("user,id=net{number},restrict=on"),
                Some(_) => format!(
                    "stream,id=net{number},server=off,addr.type=unix,addr.path={}",
                    network_socket(number)
                ),
            };
            args.option("-netdev", &netdev);
            let boot = match self.boot_from {
                Some(BootFrom::Network) if number == 0 => ",bootindex=0",
                // No network boot program, which would cost its start.
                _ => ",romfile=",
            };
            let mac = nic.mac.unwrap_or(match &nic.network {
                None => Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
                Some(_) => Mac(mac_of(layout.number, number)),
            });
            args.option("-device", &format!("{},netdev=net{number},mac={mac}{boot}", nic.model));
        }
    }
}

/// The address of a card in a network of its cluster: 52:54:00 is QEMU's own range.
fn mac_of(machine: u16, card: usize) -> [u8; 6] {
    let [high, low] = machine.to_be_bytes();
    [0x52, 0x54, 0, high, low, u8::try_from(card).unwrap_or(u8::MAX)]
}

struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: &str) -> &mut Self {
        self.0.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// QEMU connects to sockets that listen already, so nobody waits for them to appear.
    fn control(&mut self) {
        self.option("-chardev", &format!("socket,id=qmp,path={QMP_SOCKET},server=off"));
        self.option("-mon", "chardev=qmp,mode=control");
        self.option("-chardev", &format!("socket,id=serial0,path={SERIAL_SOCKET},server=off"));
        self.option("-device", "isa-serial,chardev=serial0");
    }
}

/// In QEMU's option lists a comma is written twice.
pub(crate) fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::*;

    fn spec(settings: &[(&str, &str)]) -> MachineSpec {
        let settings: BTreeMap<_, _> =
            settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        MachineSpec::from_settings(&settings, Utf8Path::new("/")).unwrap()
    }

    /// One option with its value on a line.
    fn shown(args: &[String]) -> String {
        args.join(" ").replace(" -", "\n-")
    }

    #[test]
    fn iso_under_tcg() {
        let mut spec = spec(&[]);
        spec.iso = Some("/images/a,b.iso".into());
        let layout =
            Layout { accelerator: Accelerator::Tcg, disks: BTreeMap::new(), vars: None, number: 258 };
        assert_eq!(
            shown(&spec.arguments(&layout)),
            "-no-user-config
-nodefaults
-no-shutdown
-S
-name assay,debug-threads=on
-machine pc
-accel tcg
-cpu max,la57=off
-smp 1
-m 1024M
-rtc base=utc
-boot strict=on
-chardev socket,id=qmp,path=qmp.sock,server=off
-mon chardev=qmp,mode=control
-chardev socket,id=serial0,path=serial0.sock,server=off
-device isa-serial,chardev=serial0
-device VGA,id=video0,edid=on,xres=1024,yres=768
-display none
-vnc unix:vnc.sock,display=video0,share=force-shared,lock-key-sync=off,key-delay-ms=2
-device qemu-xhci,id=usb
-device usb-tablet,bus=usb.0
-drive if=none,id=iso,media=cdrom,readonly=on,format=raw,file=/images/a,,b.iso
-device ide-cd,id=cd0,drive=iso,bootindex=1
-netdev user,id=net0,restrict=on
-device virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56,romfile=
-object rng-random,id=rng0,filename=/dev/urandom
-device virtio-rng-pci,rng=rng0"
        );
    }

    #[test]
    fn kernel_disk_and_choices_under_kvm() {
        let mut spec = spec(&[
            ("QEMUMACHINE", "q35"),
            ("QEMUCPUS", "2"),
            ("QEMUVGA", "cirrus"),
            ("QEMU_NO_TABLET", "1"),
            ("NICMODEL", "none"),
            ("QEMU_APPEND", "snapshot -usb"),
        ]);
        spec.kernel = Some("/boot/linux".into());
        spec.initrd = Some("/boot/initrd.gz".into());
        spec.append = Some("console=ttyS0 quiet".to_owned());
        spec.more_isos = vec!["/second.iso".into()];
        spec.firmware = Some(crate::settings::Firmware {
            code: "/code.fd".into(),
            vars: "/vars.fd".into(),
            secure: true,
        });
        let layout = Layout {
            accelerator: Accelerator::Kvm,
            disks: BTreeMap::from([(1, "/run/m/hdd_1.qcow2".into()), (3, "/run/m/hdd_3.qcow2".into())]),
            vars: Some("/run/m/uefi_vars.fd".into()),
            number: 258,
        };
        let shown = shown(&spec.arguments(&layout));
        for line in [
            "-machine q35\n-accel kvm\n-cpu host\n-smp 2",
            "-device cirrus-vga,id=video0\n-display none",
            "-device virtio-blk-pci,drive=hd0,bootindex=0,serial=1",
            "-device virtio-blk-pci,drive=hd2,serial=3",
            "-drive if=none,id=iso1,media=cdrom,readonly=on,format=raw,file=/second.iso\n-device ide-cd,id=cd1,drive=iso1",
            "-global driver=cfi.pflash01,property=secure,value=on\n-global ICH9-LPC.disable_s3=1\n\
             -drive if=pflash,unit=0,format=raw,readonly=on,file=/code.fd\n\
             -drive if=pflash,unit=1,format=raw,file=/run/m/uefi_vars.fd",
            "-kernel /boot/linux\n-initrd /boot/initrd.gz\n-append console=ttyS0 quiet\n-snapshot\n-usb",
        ] {
            assert!(shown.contains(line), "{line} in\n{shown}");
        }
        assert!(!shown.contains("tablet") && !shown.contains("netdev"), "{shown}");
    }

    #[test]
    fn a_card_in_each_network_of_the_cluster() {
        let spec =
            spec(&[("NICTYPE", "tap"), ("NETWORKS", "fixed, storage"), ("NICMAC", "52:54:00:00:00:07")]);
        let shown = shown(&spec.arguments(&Layout {
            accelerator: Accelerator::Tcg,
            disks: BTreeMap::new(),
            vars: None,
            number: 258,
        }));
        for line in [
            "-netdev stream,id=net0,server=off,addr.type=unix,addr.path=net0.sock
-device virtio-net-pci,netdev=net0,mac=52:54:00:00:00:07,romfile=",
            "-netdev stream,id=net1,server=off,addr.type=unix,addr.path=net1.sock
-device virtio-net-pci,netdev=net1,mac=52:54:00:01:02:01,romfile=",
        ] {
            assert!(shown.contains(line), "{line} in\n{shown}");
        }
    }

    #[test]
    fn boot_from_the_network_keeps_the_boot_program() {
        let shown = shown(&spec(&[("BOOTFROM", "n")]).arguments(&Layout {
            accelerator: Accelerator::Tcg,
            disks: BTreeMap::new(),
            vars: None,
            number: 258,
        }));
        assert!(shown.contains("mac=52:54:00:12:34:56,bootindex=0"), "{shown}");
    }
}
