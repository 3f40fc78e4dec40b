//! The peer: os-autoinst's isotovideo as the distribution ships it, on the same test with the same needles.

use super::grub::{self, Action, SEQUENCE};
use super::scratch::Scratch;
use crate::tools;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use std::net::TcpListener;
use std::process::{Command, Stdio};

/// How isotovideo is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// As installed.
    Default,
    /// What its own variables and arguments offer: looks at 20 Hz, tries each new picture, types fast, no video.
    Tuned,
}

impl Setting {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Default => "isotovideo",
            Self::Tuned => "isotovideo, tuned",
        }
    }
}

/// Why there is no peer, or `None` if it starts.
pub(super) fn missing() -> Option<String> {
    let output = Command::new("isotovideo").arg("--version").stdin(Stdio::null()).output();
    match output {
        Err(_) => Some("isotovideo is not installed: apt-get install os-autoinst".into()),
        Ok(output) if output.status.success() => loads().err().map(|error| error.to_string()),
        Ok(output) => Some(incomplete(&String::from_utf8_lossy(&output.stderr))),
    }
}

/// Debian's package does not name all Perl modules that it needs; some are loaded only when a machine starts.
fn loads() -> Result<()> {
    if tools::works(Command::new("perl").args(["-I/usr/lib/os-autoinst", "-Mbackend::qemu", "-e1"])) {
        return Ok(());
    }
    let output = Command::new("perl").args(["-I/usr/lib/os-autoinst", "-Mbackend::qemu", "-e1"]).output()?;
    bail!("{}", incomplete(&String::from_utf8_lossy(&output.stderr)))
}

fn incomplete(said: &str) -> String {
    let first = said.lines().next().unwrap_or_default();
    let first = first.split(" (you may need").next().unwrap_or_default();
    format!(
        "isotovideo does not start ({first}): apt-get install libtime-moment-perl \
         libmojo-ioloop-readwriteprocess-perl libjson-validator-perl libcpanel-json-xs-perl \
         liblist-moreutils-perl libfile-chdir-perl libinline-python-perl libclass-accessor-perl"
    )
}

/// A pool directory with everything for one run.
pub(super) struct Pool {
    scratch: Scratch,
}

impl Pool {
    /// `append`: more arguments for QEMU.
    pub(super) fn new(example: &Utf8Path, setting: Setting, append: Option<&str>) -> Result<Self> {
        let pool = Self { scratch: Scratch::new()? };
        let case = pool.scratch.path("case");
        fs_err::create_dir_all(case.join("tests"))?;
        fs_err::create_dir_all(pool.dir())?;
        fs_err::write(case.join("main.pm"), MAIN)?;
        fs_err::write(case.join("tests/grub_test.pm"), test(setting))?;
        let needles = fs_err::canonicalize(example.join("needles"))?;
        let needles = Utf8PathBuf::try_from(needles)?;
        // Its needles must lie below its test directory.
        fs_err::os::unix::fs::symlink(&needles, case.join("needles"))?;
        let (vnc, port) = free_ports()?;
        let mut vars = json!({
            "CASEDIR": case, "PRODUCTDIR": case, "NEEDLES_DIR": case.join("needles"),
            "DISTRI": "grub", "ARCH": "x86_64", "BACKEND": "qemu", "WORKER_CLASS": "qemu_x86_64",
            "ISO": grub::ISO, "QEMURAM": grub::RAM_MIB, "NUMDISKS": "0", "NICTYPE": "user",
            "QEMU_NO_KVM": "1", "VNC": vnc.to_string(), "QEMUPORT": port.to_string(),
        });
        if let Some(append) = append {
            vars["QEMU_APPEND"] = append.into();
        }
        if setting == Setting::Tuned {
            vars["NOVIDEO"] = "1".into();
            vars["SCREENSHOTINTERVAL"] = "0.05".into();
            vars["VNC_TYPING_LIMIT"] = "100".into();
            vars["QEMU_DISABLE_SNAPSHOTS"] = "1".into();
        }
        fs_err::write(pool.dir().join("vars.json"), serde_json::to_vec(&vars)?)?;
        Ok(pool)
    }

    fn dir(&self) -> Utf8PathBuf {
        self.scratch.path("pool")
    }

    pub(super) fn log(&self) -> Utf8PathBuf {
        self.scratch.path("log.txt")
    }

    /// Its log goes to a file of ours: it starts its own anew when a run begins.
    pub(super) fn command(&self) -> Result<Command> {
        let log = fs_err::File::create(self.log())?.into_file();
        let mut command = Command::new("isotovideo");
        command.args(["--debug", "--color=no"]).current_dir(self.dir());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
        Ok(command)
    }

    /// Its exit code says only that the tests were run: the module's own result counts.
    pub(super) fn verify(&self) -> Result<()> {
        let file = self.dir().join("testresults/result-grub_test.json");
        let text = fs_err::read(&file)
            .with_context(|| format!("isotovideo left no result; its log: {}", self.last_words()))?;
        let result: serde_json::Value = serde_json::from_slice(&text)?;
        if result["result"] != "ok" {
            bail!("isotovideo's run ended with {}; its log: {}", result["result"], self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs_err::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

const MAIN: &str = "\
use Mojo::Base -strict;
use testapi;
use autotest;
use needle;
use distribution;
testapi::set_distribution(distribution->new());
autotest::loadtest('tests/grub_test.pm');
1;
";

/// The test as an author of openQA tests writes it.
fn test(setting: Setting) -> String {
    let call = |action: &Action| match (action, setting) {
        (Action::Wait(tag), Setting::Default) => format!("assert_screen('{tag}', 60)"),
        (Action::Wait(tag), Setting::Tuned) => format!("assert_screen('{tag}', timeout => 60, no_wait => 1)"),
        (Action::Key(key), _) => format!("send_key('{key}')"),
        (Action::Line(line), _) => format!("enter_cmd('{line}')"),
    };
    let body = SEQUENCE.iter().map(call).collect::<Vec<_>>().join(";\n    ");
    format!(
        "use Mojo::Base 'basetest', -signatures;\nuse testapi;\nsub run ($self) {{\n    {body};\n    assert_shutdown(20);\n}}\n\
         sub test_flags ($self) {{ return {{fatal => 1}} }}\n1;\n"
    )
}

/// A free VNC display, and a port that is free together with the next one.
fn free_ports() -> Result<(u16, u16)> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let vnc = (50..90).find(|display| free(5900 + display)).context("no VNC display is free")?;
    let port =
        (26_000..27_000).step_by(10).find(|port| free(*port) && free(port + 1)).context("no port is free")?;
    Ok((vnc, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_is_the_same_in_perl() {
        let plain = test(Setting::Default);
        assert!(plain.contains(
            "send_key('c');\n    assert_screen('grub-prompt', 60);\n    enter_cmd('echo hello from assay');"
        ));
        assert!(test(Setting::Tuned).contains("assert_screen('grub-menu', timeout => 60, no_wait => 1);"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let said = incomplete(
            "Can't locate Time/Moment.pm in @INC (you may need to install the Time::Moment module) (@INC ..",
        );
        assert!(
            said.starts_with(
                "isotovideo does not start (Can't locate Time/Moment.pm in @INC): apt-get install"
            ),
            "{said}"
        );
    }
}
