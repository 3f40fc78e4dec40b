//! The workspace and the programs that chores run.

use anyhow::{Context, Result, bail};
use camino::Utf8PathBuf;
use std::process::{Command, Stdio};

/// The root of the workspace.
pub(crate) fn root() -> Result<Utf8PathBuf> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").context("start this as `cargo xtask`")?;
    let manifest = Utf8PathBuf::from(manifest);
    manifest.parent().map(ToOwned::to_owned).context("xtask has no parent directory")
}

/// The cargo that started us.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// What a program prints on stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let what = format!("{command:?}");
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("{what} did not start"))?;
    if !output.status.success() {
        bail!("{what} ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{what} did not print UTF-8"))
}

/// Runs a program to its end; its output is shown.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let what = format!("{command:?}");
    let status = command.status().with_context(|| format!("{what} did not start"))?;
    if !status.success() {
        bail!("{what} ended with {status}");
    }
    Ok(())
}

/// True if the program starts and ends well.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The files that git knows or would add, relative to the root, as far as they exist.
pub(crate) fn git_files() -> Result<Vec<Utf8PathBuf>> {
    let root = root()?;
    let mut git = Command::new("git");
    git.current_dir(&root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let mut files: Vec<_> = output(&mut git)?.split_terminator('\0').map(Utf8PathBuf::from).collect();
    files.retain(|file| root.join(file).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}
