//! Test directories, made for one test.

use crate::binary::repository;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde_json::{Value, json};

/// The image that GRUB's needles belong to.
const GRUB_ISO: &str = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";

/// A test directory.
pub struct Suite {
    dir: Utf8PathBuf,
    settings: Value,
}

impl Suite {
    pub(crate) fn new(dir: &Utf8Path) -> Self {
        for part in ["tests", "needles"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        // The accelerator's probe takes seconds, and its own tests are in assay-vm.
        let settings = json!({ "DISTRI": "e2e", "TEST": "suite", "QEMURAM": "64", "QEMU_NO_KVM": "1" });
        Self { dir: dir.to_owned(), settings }.vars(&[])
    }

    /// Where it is.
    pub fn dir(&self) -> &str {
        self.dir.as_str()
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> Utf8PathBuf {
        self.dir.join(name)
    }

    /// Adds settings to `vars.json`.
    #[must_use]
    pub fn vars(mut self, settings: &[(&str, &str)]) -> Self {
        for (name, value) in settings {
            self.settings[*name] = json!(value);
        }
        fs::write(self.join("vars.json"), serde_json::to_vec_pretty(&self.settings).unwrap()).unwrap();
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Adds a Starlark module: its declaration's arguments beside the name, and the body of `run`.
    #[must_use]
    pub fn module(self, name: &str, flags: &str, body: &str) -> Self {
        let flags = if flags.is_empty() { String::new() } else { format!(", {flags}") };
        let lines: Vec<String> =
            body.lines().map(|line| format!("    {}", line.trim_start_matches("        "))).collect();
        let lines = lines.join("\n");
        let text = format!("test(name = \"{name}\"{flags})\n\ndef run(t: Machine):\n{lines}\n");
        self.file(&format!("tests/{name}.star"), text)
    }

    /// Starts GRUB's rescue CD; its needles and `lib/` come from `examples/grub`.
    #[must_use]
    pub fn grub(self) -> Self {
        let example = repository().join("examples/grub");
        for part in ["needles", "lib"] {
            fs::create_dir_all(self.join(part)).unwrap();
            for entry in fs::read_dir(example.join(part)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), self.dir.join(part).join(entry.file_name().to_str().unwrap()))
                    .unwrap();
            }
        }
        self.vars(&[("ISO", GRUB_ISO), ("QEMURAM", "128")])
    }

    /// All of `examples/grub`.
    #[must_use]
    pub fn grub_tests(self) -> Self {
        for entry in fs::read_dir(repository().join("examples/grub/tests")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), self.dir.join("tests").join(entry.file_name().to_str().unwrap())).unwrap();
        }
        self.grub()
    }

    /// Starts from a disk whose boot sector is this code.
    #[must_use]
    pub fn guest(self, code: &[u8]) -> Self {
        self.file("guest.img", boot_sector(code)).vars(&[("HDD_1", "guest.img")])
    }

    /// Changes a needle's JSON.
    #[must_use]
    pub fn needle(self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let path = self.join(&format!("needles/{name}.json"));
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        fs::write(path, serde_json::to_vec(&json).unwrap()).unwrap();
        self
    }
}

/// A disk image that begins with this code.
pub fn boot_sector(code: &[u8]) -> Vec<u8> {
    let mut disk = code.to_vec();
    disk.resize(510, 0);
    disk.extend_from_slice(&[0x55, 0xaa]);
    // Firmware wants at least one cylinder.
    disk.resize(2 << 20, 0);
    disk
}
