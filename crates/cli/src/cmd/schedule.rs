//! `assay compose …`, `assay update …`, and what is tested as updates are.

use crate::client::Client;
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_proto::api::events::{
    ReleaseLife, ScheduleCandidate, ScheduleCompose, ScheduleUpdate, Scheduled, ScheduledPost,
};
use std::collections::BTreeMap;

/// What is asked for.
#[derive(clap::Args)]
pub(crate) struct Choice {
    /// Once more, whatever was scheduled before.
    #[arg(short, long)]
    force: bool,
    /// Only these flavors, with commas between them.
    #[arg(long, value_delimiter = ',', value_name = "FLAVOR")]
    flavors: Vec<String>,
    /// Only these architectures, with commas between them.
    #[arg(short, long, value_delimiter = ',', value_name = "ARCH")]
    arches: Vec<String>,
    /// A setting of all posts besides; may be repeated. BUILD ends with -EXTRA then, and nothing of it is reported.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Only say what would be posted.
    #[arg(long)]
    dry_run: bool,
}

/// `KEY=VALUE` of each.
fn pairs(said: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let one = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(CliError::usage(format!(
            "--set {text:?}: expected KEY=VALUE, for example GRUBADD=inst.updates=URL"
        ))),
    };
    said.iter().map(one).collect()
}

/// Composes: what is tested of one.
#[derive(clap::Subcommand)]
pub(crate) enum Compose {
    /// Schedule the images of a compose; what was scheduled before is not scheduled again. Exit code 1: nothing of it is posted.
    #[command(
        after_help = "Examples:\n  assay compose schedule https://kojipkgs.fedoraproject.org/compose/rawhide/Fedora-Rawhide-20261121.n.0/compose\n  \
                      assay compose schedule file:///srv/compose --flavors Server-dvd-iso --arches x86_64 --dry-run\n  \
                      assay compose schedule file:///srv/compose --set GRUBADD=inst.updates=https://example.org/updates.img\n  \
                      assay compose schedule https://builds.coreos.fedoraproject.org/prod/streams/rawhide/builds/46.20261121.91.0/x86_64"
    )]
    Schedule {
        /// The directory above `metadata/`, or the one with `meta.json` of a build of CoreOS.
        #[arg(value_name = "URL")]
        location: String,
        #[command(flatten)]
        choice: Choice,
    },
    /// List the releases and where each is in its life.
    #[command(after_help = "Example:\n  assay compose releases")]
    Releases,
}

/// Updates: what is tested of one.
#[derive(clap::Subcommand)]
pub(crate) enum Update {
    /// Schedule the tests of an update. Exit code 1: nothing of it is posted.
    #[command(after_help = "Examples:\n  assay update schedule FEDORA-2026-0a1b2c3d4e\n  \
                      assay update schedule FEDORA-2026-0a1b2c3d4e F44 --build bash-5.3-1.fc44 --group core\n  \
                      assay update schedule FEDORA-2026-0a1b2c3d4e F44 --build freeipa-4.12-1.fc44 --force")]
    Schedule {
        /// The update.
        #[arg(value_name = "ID")]
        id: String,
        /// For example F44. Without it, or without builds, the update is looked up in Bodhi.
        #[arg(value_name = "RELEASE")]
        release: Option<String>,
        /// A build of it; may be repeated.
        #[arg(long = "build", value_name = "NVR")]
        builds: Vec<String>,
        /// A group of the critical path that it is in; may be repeated.
        #[arg(long = "group", value_name = "NAME")]
        groups: Vec<String>,
        /// It is on the critical path, and nobody knows in which group: all of them.
        #[arg(long, conflicts_with = "groups")]
        critpath: bool,
        #[command(flatten)]
        choice: Choice,
    },
}

/// What tasks of Koji have built, for example scratch builds: what is tested of it.
#[derive(clap::Subcommand)]
pub(crate) enum KojiTask {
    /// Schedule the tests of what tasks have built, together. Exit code 1: nothing of it is posted.
    #[command(after_help = "Examples:\n  assay koji-task schedule 130000001 F44\n  \
                      assay koji-task schedule 130000001,130000002 F44 --flavors updates-server --dry-run")]
    Schedule {
        /// The tasks, with commas between them.
        #[arg(required = true, value_delimiter = ',', num_args = 1, value_name = "TASK")]
        tasks: Vec<u64>,
        /// For which release, for example F44.
        #[arg(value_name = "RELEASE")]
        release: String,
        #[command(flatten)]
        choice: Choice,
    },
}

/// Tags of Koji, for example side tags: what is tested of one.
#[derive(clap::Subcommand)]
pub(crate) enum KojiTag {
    /// Schedule the tests of what is in a tag. Exit code 1: nothing of it is posted.
    #[command(after_help = "Example:\n  assay koji-tag schedule f44-build-side-12345 F44")]
    Schedule {
        /// The tag.
        #[arg(value_name = "TAG")]
        tag: String,
        /// For which release, for example F44.
        #[arg(value_name = "RELEASE")]
        release: String,
        #[command(flatten)]
        choice: Choice,
    },
}

/// Projects of COPR: what is tested of one.
#[derive(clap::Subcommand)]
pub(crate) enum Copr {
    /// Schedule the tests of a project. Exit code 1: nothing of it is posted.
    #[command(after_help = "Example:\n  assay copr schedule @python/python3.15 F44 --arches x86_64")]
    Schedule {
        /// Its owner and its name.
        #[arg(value_name = "OWNER/PROJECT")]
        project: String,
        /// For which release, for example F44.
        #[arg(value_name = "RELEASE")]
        release: String,
        #[command(flatten)]
        choice: Choice,
    },
}

impl KojiTask {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let Self::Schedule { tasks, release, choice } = self;
        let ids: Vec<String> = tasks.iter().map(ToString::to_string).collect();
        candidate(common, "koji_task", ids.join(" "), release, choice)
    }
}

impl KojiTag {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let Self::Schedule { tag, release, choice } = self;
        candidate(common, "koji_tag", tag, release, choice)
    }
}

impl Copr {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let Self::Schedule { project, release, choice } = self;
        candidate(common, "copr", project, release, choice)
    }
}

fn candidate(
    common: &Common,
    kind: &str,
    id: String,
    release: String,
    choice: Choice,
) -> Result<Code, CliError> {
    let Choice { force, flavors, arches, settings, dry_run } = choice;
    let (kind, settings) = (kind.to_owned(), pairs(&settings)?);
    let asked = ScheduleCandidate { kind, id, release, flavors, arches, force, settings, dry_run };
    let scheduled = Client::new(common)?.post("/api/assay/v1/schedule/candidate", &asked)?;
    Ok(show(common, &asked.flavors, scheduled))
}

impl Compose {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::Schedule { location, choice } => {
                let Choice { force, flavors, arches, settings, dry_run } = choice;
                let settings = pairs(&settings)?;
                let asked = ScheduleCompose { location, flavors, arches, force, settings, dry_run };
                let scheduled = client.post("/api/assay/v1/schedule/compose", &asked)?;
                Ok(show(common, &asked.flavors, scheduled))
            }
            Self::Releases => {
                let releases: Vec<ReleaseLife> = client.get("/api/assay/v1/schedule/releases")?;
                if common.json {
                    ui::print_json(&serde_json::json!({ "releases": releases }));
                } else {
                    let rows =
                        releases.into_iter().map(|release| vec![release.name, release.version, release.life]);
                    println!("{}", ui::table(&["release", "version", "life"], rows));
                }
                Ok(Code::Ok)
            }
        }
    }
}

impl Update {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let Self::Schedule { id, release, builds, groups, critpath, choice } = self;
        let Choice { force, flavors, arches, settings, dry_run } = choice;
        let settings = pairs(&settings)?;
        let groups = (critpath || !groups.is_empty()).then_some(groups);
        let asked = ScheduleUpdate { id, release, builds, groups, flavors, arches, force, settings, dry_run };
        let scheduled = Client::new(common)?.post("/api/assay/v1/schedule/update", &asked)?;
        Ok(show(common, &asked.flavors, scheduled))
    }
}

/// Nothing of it is posted, now or before.
fn is_refused(post: &ScheduledPost) -> bool {
    match &post.state {
        Some(state) => state == "refused",
        None => post.why.is_some(),
    }
}

fn show(common: &Common, flavors: &[String], scheduled: Scheduled) -> Code {
    // What is only said of a compose is no post.
    let mut products = scheduled.posts.iter().filter(|post| !post.settings.is_empty());
    let code = if products.all(is_refused) { Code::Negative } else { Code::Ok };
    if common.json {
        ui::print_json(&scheduled);
        return code;
    }
    let refused = scheduled.posts.iter().filter(|post| is_refused(post)).count();
    let refused = if refused > 0 { format!(", {refused} refused") } else { String::new() };
    println!("{}: {}{refused}", scheduled.item, ui::count(scheduled.posts.len(), "post"));
    let get = |post: &ScheduledPost, key: &str| post.settings.get(key).cloned().unwrap_or_default();
    for flavor in flavors {
        let is_it = |post: &ScheduledPost| {
            let own = get(post, "FLAVOR").to_lowercase();
            let said = flavor.to_lowercase();
            own == said || own.strip_prefix("updates-") == Some(said.as_str())
        };
        if !scheduled.posts.iter().any(is_it) {
            println!("nothing of it is wanted as {flavor}");
        }
    }
    if scheduled.posts.is_empty() {
        return code;
    }
    let rows = scheduled.posts.into_iter().map(|post| {
        let jobs: Vec<String> = post.jobs.iter().map(ToString::to_string).collect();
        let would = if is_refused(&post) { "would be refused" } else { "would be posted" };
        let state = post.state.clone().unwrap_or_else(|| would.to_owned());
        let known = if post.known { "known before, " } else { "" };
        let (flavor, arch, build) = (get(&post, "FLAVOR"), get(&post, "ARCH"), get(&post, "BUILD"));
        vec![
            if flavor.is_empty() { post.what } else { flavor },
            arch,
            build,
            format!("{known}{state}"),
            jobs.join(" "),
            post.why.unwrap_or_default(),
        ]
    });
    println!("{}", ui::table(&["flavor", "arch", "build", "state", "jobs", "why"], rows));
    code
}
