//! The commands of the SSH interface.

use super::core::Core;
use super::faults::Trouble;
use super::model::json::Wanted;
use super::model::query::Query;
use super::model::{Inline, Numbers, Refusal, Review, SubmitType};
use super::push::label_value;
use super::ssh::Call;
use super::submit::Submitted;
use super::wire;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How a command ends.
enum End {
    Status(u32),
    /// The client hears nothing more.
    Cut,
}

/// Runs one command to its end.
pub(crate) async fn run(mut call: Call) {
    let words = split(&call.command);
    let point = format!("ssh:{}", name(&words));
    let lost = match call.core.faults.meet(&point).await {
        Some(Trouble::Fails) => {
            let _ =
                call.to.extended_data_bytes(1, "fatal: internal server error\n".as_bytes().to_vec()).await;
            return finish(&call, 1).await;
        }
        Some(Trouble::AnswerLost) => true,
        _ => false,
    };
    let end = match command(&mut call, &words, lost).await {
        Ok(end) => end,
        Err(error) => {
            let text = format!("fatal: {error:#}\n").into_bytes();
            let _ = call.to.extended_data_bytes(1, text).await;
            End::Status(1)
        }
    };
    match end {
        End::Status(status) if !lost => finish(&call, status).await,
        _ => call.cut.cancel(),
    }
}

async fn finish(call: &Call, status: u32) {
    let _ = call.to.exit_status(status).await;
    let _ = call.to.eof().await;
    let _ = call.to.close().await;
}

/// The command without its arguments, as faults name it.
fn name(words: &[String]) -> &str {
    match words {
        [first, second, ..] if first == "gerrit" || first == "git" => second,
        [first, ..] => first.strip_prefix("git-").unwrap_or(first),
        [] => "",
    }
}

/// Splits a command line as Gerrit does: quotes of both kinds, and backslashes outside single ones.
pub(crate) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next().unwrap_or('\\')),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

async fn command(call: &mut Call, words: &[String], lost: bool) -> anyhow::Result<End> {
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    match texts.as_slice() {
        ["gerrit", "stream-events", args @ ..] => stream_events(call, args).await,
        ["gerrit", "query", args @ ..] => query(call, args).await,
        ["gerrit", "review", args @ ..] => review(call, args).await,
        ["gerrit", "version", ..] => {
            let version = version(call.core.world.lock().await.numbers);
            say(call, &format!("gerrit version {version}\n")).await
        }
        ["gerrit", "ls-projects", ..] => {
            let names: Vec<String> = call.core.world.lock().await.projects.keys().cloned().collect();
            say(call, &(names.join("\n") + "\n")).await
        }
        ["gerrit", "create-project", args @ ..] => create_project(call, args).await,
        ["gerrit", "set-reviewers", args @ ..] => set_reviewers(call, args).await,
        ["gerrit", "set-topic", args @ ..] => set_topic(call, args).await,
        ["scp", args @ ..] => scp(call, args).await,
        ["git", "upload-pack", project] | ["git-upload-pack", project] => upload(call, project).await,
        ["git", "receive-pack", project] | ["git-receive-pack", project] => {
            receive(call, project, lost).await
        }
        _ => anyhow::bail!("{}: not found", call.command),
    }
}

/// What the server says it is.
pub(crate) fn version(numbers: Numbers) -> &'static str {
    match numbers {
        Numbers::Strings => "2.8.4",
        Numbers::Integers => "3.9.1",
    }
}

async fn say(call: &Call, text: &str) -> anyhow::Result<End> {
    call.to.data_bytes(text.as_bytes().to_vec()).await?;
    Ok(End::Status(0))
}

/// The values of options, given as `--name VALUE` or `--name=VALUE`.
struct Args<'a> {
    rest: std::slice::Iter<'a, &'a str>,
    value: Option<&'a str>,
}

impl<'a> Args<'a> {
    fn new(args: &'a [&'a str]) -> Self {
        Self { rest: args.iter(), value: None }
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = *self.rest.next()?;
        match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => {
                self.value = Some(value);
                Some(name)
            }
            _ => {
                self.value = None;
                Some(word)
            }
        }
    }

    fn value(&mut self, of: &str) -> anyhow::Result<&'a str> {
        match self.value.take().or_else(|| self.rest.next().copied()) {
            Some(value) => Ok(value),
            None => anyhow::bail!("option \"{of}\" takes an operand"),
        }
    }
}

async fn stream_events(call: &mut Call, args: &[&str]) -> anyhow::Result<End> {
    let mut kinds: Option<BTreeSet<String>> = None;
    let mut args = Args::new(args);
    while let Some(word) = args.next() {
        match word {
            "-s" | "--subscribe" => {
                kinds.get_or_insert_default().insert(args.value(word)?.to_owned());
            }
            _ => anyhow::bail!("\"{word}\" is not a valid option"),
        }
    }
    {
        let world = call.core.world.lock().await;
        if !world.in_group(&call.user, &world.rights.stream_events) {
            anyhow::bail!("stream events not permitted");
        }
    }
    let mut events = call.core.hub.open(kinds);
    loop {
        tokio::select! {
            line = events.recv() => match line {
                Some(line) => call.to.data_bytes(line.into_bytes()).await?,
                None => return Ok(End::Cut),
            },
            message = call.from.wait() => if message.is_none() {
                drop(events);
                call.core.hub.sweep();
                return Ok(End::Status(0));
            },
        }
    }
}

async fn query(call: &mut Call, args: &[&str]) -> anyhow::Result<End> {
    let mut wanted = Wanted::default();
    let (mut skip, mut limit, mut json_wanted) = (0, None, false);
    let mut terms = Vec::new();
    let mut args = Args::new(args);
    while let Some(word) = args.next() {
        match word {
            "--format" => json_wanted = args.value(word)?.eq_ignore_ascii_case("json"),
            "--all-approvals" => (wanted.all_approvals, wanted.patch_sets) = (true, true),
            "--all-reviewers" => wanted.all_reviewers = true,
            "--comments" => wanted.comments = true,
            "--commit-message" => wanted.commit_message = true,
            "--current-patch-set" => wanted.current_patch_set = true,
            "--dependencies" => wanted.dependencies = true,
            "--files" => wanted.files = true,
            "--patch-sets" => wanted.patch_sets = true,
            "--submit-records" => wanted.submit_records = true,
            "--start" | "-S" => skip = args.value(word)?.parse()?,
            "--limit" | "-n" => limit = Some(args.value(word)?.parse()?),
            "--no-limit" | "--" => {}
            _ if word.starts_with("--") => anyhow::bail!("\"{word}\" is not a valid option"),
            _ => terms.push(quoted(word)),
        }
    }
    anyhow::ensure!(json_wanted, "this server answers in JSON only: add --format json");
    let query = match Query::parse(&terms.join(" ")) {
        Ok(query) => query,
        Err(error) => {
            let line = json!({ "type": "error", "message": error.to_string() });
            return say(call, &format!("{line}\n")).await;
        }
    };
    let world = call.core.world.lock().await;
    let page = query.run(&world, Some(&call.user), skip, limit, call.core.now());
    let mut text = String::new();
    for number in &page.numbers {
        if let Some(change) = world.changes.get(number) {
            let _ = writeln!(text, "{}", world.row(change, wanted));
        }
    }
    drop(world);
    let stats = json!({
        "type": "stats",
        "rowCount": page.numbers.len(),
        "runTimeMilliseconds": 1,
        "moreChanges": page.more,
    });
    let _ = writeln!(text, "{stats}");
    say(call, &text).await
}

/// A word that the command line held together stays together in the query.
fn quoted(word: &str) -> String {
    match word.split_once(':') {
        Some((field, value))
            if value.contains(' ') && !value.starts_with(['"', '{']) && !word.contains('(') =>
        {
            // `a:b c:d` in one pair of quotes are two terms.
            if value.contains(':') { word.to_owned() } else { format!("{field}:{{{value}}}") }
        }
        _ => word.to_owned(),
    }
}

/// What is done beside voting; there is one at most.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Submit,
    Abandon,
    Restore,
}

/// What `gerrit review` is told.
#[derive(Default)]
struct Told {
    review: Review,
    project: Option<String>,
    act: Option<Act>,
    json: bool,
    names: Vec<String>,
}

async fn told(call: &Call, args: &[&str]) -> anyhow::Result<Told> {
    let mut told = Told { review: Review { strict: true, ..Review::default() }, ..Told::default() };
    let labels: Vec<String> =
        call.core.world.lock().await.labels.iter().map(|label| label.name.clone()).collect();
    let mut args = Args::new(args);
    while let Some(word) = args.next() {
        match word {
            "--project" | "-p" => told.project = Some(args.value(word)?.to_owned()),
            "--message" | "-m" => args.value(word)?.clone_into(&mut told.review.message),
            "--tag" | "-t" => told.review.tag = Some(args.value(word)?.to_owned()),
            "--label" | "-l" => {
                let value = args.value(word)?;
                let vote = label_value(value);
                told.review.labels.push(vote.ok_or_else(|| anyhow::anyhow!("\"{value}\" is no vote"))?);
            }
            "--notify" | "-n" | "--branch" | "-b" => {
                args.value(word)?;
            }
            "--submit" | "-s" | "--abandon" | "--restore" => {
                let act = match word {
                    "--abandon" => Act::Abandon,
                    "--restore" => Act::Restore,
                    _ => Act::Submit,
                };
                if told.act.replace(act).is_some_and(|before| before != act) {
                    anyhow::bail!("submit, abandon and restore cannot be used together");
                }
            }
            "--json" | "-j" => told.json = true,
            "--force-message" | "-f" | "--strict-labels" | "--publish" => {}
            "--rebase" | "--move" | "--delete" => anyhow::bail!("{word} is not supported here"),
            _ if word.starts_with("--") => {
                let label = labels.iter().find(|label| label.eq_ignore_ascii_case(&word[2..]));
                let label = label.ok_or_else(|| anyhow::anyhow!("\"{word}\" is not a valid option"))?;
                let value = args.value(word)?;
                let number = value
                    .parse()
                    .map_err(|_| anyhow::anyhow!("\"{value}\" is not a valid value for \"{word}\""))?;
                told.review.labels.push((label.clone(), number));
            }
            _ => told.names.push(word.to_owned()),
        }
    }
    Ok(told)
}

async fn review(call: &mut Call, args: &[&str]) -> anyhow::Result<End> {
    let mut told = told(call, args).await?;
    if told.json {
        let mut text = String::new();
        call.from.make_reader().read_to_string(&mut text).await?;
        told.review = review_input(&serde_json::from_str(&text)?);
    }
    anyhow::ensure!(!told.names.is_empty(), "argument \"{{COMMIT | CHANGE,PATCHSET}}\" is required");
    let (mut failed, mut cut) = (false, false);
    for name in &told.names {
        match review_one(&call.core, &call.user, &told, name).await {
            Ok(submitted) => cut |= submitted == Submitted::AnswerLost,
            Err(refusal) => {
                failed = true;
                let text = format!("error: {refusal}\n\n").into_bytes();
                call.to.extended_data_bytes(1, text).await?;
            }
        }
    }
    if failed {
        call.to
            .extended_data_bytes(
                1,
                "fatal: one or more reviews failed; review output above\n".as_bytes().to_vec(),
            )
            .await?;
    }
    Ok(if cut { End::Cut } else { End::Status(u32::from(failed)) })
}

async fn review_one(core: &Core, user: &str, told: &Told, name: &str) -> Result<Submitted, Refusal> {
    let (number, patchset) = core.world.lock().await.find_patchset(told.project.as_deref(), name)?;
    if let Some(project) = &told.project
        && core.world.lock().await.change(number)?.project != *project
    {
        return Err(Refusal::BadRequest(format!("change {number} is not in project {project}")));
    }
    let message = told.review.message.as_str();
    if told.act == Some(Act::Abandon) {
        core.abandon(user, number, message).await?;
        return Ok(Submitted::Told);
    }
    if told.act == Some(Act::Restore) {
        core.restore(user, number, message).await?;
    }
    let says = !told.review.labels.is_empty() || !told.review.inline.is_empty();
    if says || !message.is_empty() && told.act != Some(Act::Restore) {
        core.review(user, number, patchset, &told.review).await?;
    }
    match told.act {
        Some(Act::Submit) => core.submit(user, number, patchset).await,
        _ => Ok(Submitted::Told),
    }
}

/// Reads Gerrit's `ReviewInput`.
pub(crate) fn review_input(input: &Value) -> Review {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = input["labels"].as_object().into_iter().flatten().filter_map(|(label, value)| {
        let number = value.as_i64().or_else(|| value.as_str()?.trim_start_matches('+').parse().ok())?;
        Some((label.clone(), i8::try_from(number).ok()?))
    });
    let files = ["comments", "robot_comments"].iter().filter_map(|name| input[*name].as_object()).flatten();
    let inline = files.flat_map(|(file, list)| {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().map(|one| Inline {
            file: file.clone(),
            line: one["line"].as_u64().or(one["range"]["end_line"].as_u64()).unwrap_or(0),
            message: text(&one["message"]),
        })
    });
    Review {
        message: text(&input["message"]),
        labels: labels.collect(),
        strict: input["strict_labels"].as_bool().unwrap_or(false),
        tag: input["tag"].as_str().map(str::to_owned),
        inline: inline.collect(),
    }
}

async fn create_project(call: &mut Call, args: &[&str]) -> anyhow::Result<End> {
    let mut names = Vec::new();
    let (mut kind, mut head) = (SubmitType::MergeIfNecessary, "master".to_owned());
    let mut args = Args::new(args);
    while let Some(word) = args.next() {
        match word {
            "--submit-type" | "-t" => {
                let value = args.value(word)?;
                kind = SubmitType::parse(value)
                    .ok_or_else(|| anyhow::anyhow!("\"{value}\" is not a submit type"))?;
            }
            "--branch" | "-b" => args.value(word)?.clone_into(&mut head),
            "--empty-commit" => {}
            "--description" | "-d" | "--parent" | "-p" | "--owner" | "-o" => {
                args.value(word)?;
            }
            _ if word.starts_with('-') => anyhow::bail!("\"{word}\" is not a valid option"),
            _ => names.push(word),
        }
    }
    let [name] = names.as_slice() else { anyhow::bail!("one name of a project is wanted") };
    call.core.create_project(Some(&call.user), name, kind, &head).await?;
    Ok(End::Status(0))
}

async fn set_reviewers(call: &mut Call, args: &[&str]) -> anyhow::Result<End> {
    let (mut add, mut remove, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let mut args = Args::new(args);
    while let Some(word) = args.next() {
        match word {
            "--add" | "-a" => add.push(args.value(word)?),
            "--remove" | "-r" => remove.push(args.value(word)?),
            "--project" | "-p" => {
                args.value(word)?;
            }
            _ => names.push(word),
        }
    }
    let mut world = call.core.world.lock().await;
    let now = call.core.now();
    for name in names {
        let (number, _) = world.find_patchset(None, name)?;
        for who in &add {
            let event = world.add_reviewer(&call.user, number, who, now)?;
            call.core.publish(event);
        }
        for who in &remove {
            let event = world.remove_reviewer(&call.user, number, who, now)?;
            call.core.publish([event]);
        }
    }
    Ok(End::Status(0))
}

async fn set_topic(call: &mut Call, args: &[&str]) -> anyhow::Result<End> {
    let (mut topic, mut names) = ("", Vec::new());
    let mut args = Args::new(args);
    while let Some(word) = args.next() {
        match word {
            "--topic" | "-t" => topic = args.value(word)?,
            _ => names.push(word),
        }
    }
    let mut world = call.core.world.lock().await;
    for name in names {
        let (number, _) = world.find_patchset(None, name)?;
        let event = world.set_topic(&call.user, number, topic, call.core.now())?;
        call.core.publish(event);
    }
    Ok(End::Status(0))
}

/// Sends the one file that there is, by the protocol of scp before SFTP.
async fn scp(call: &mut Call, args: &[&str]) -> anyhow::Result<End> {
    let path = args.last().copied().unwrap_or_default();
    let times = args.iter().any(|word| word.starts_with('-') && word.contains('p'));
    let sends = args.iter().any(|word| word.starts_with('-') && word.contains('f'));
    let mut from = call.from.make_reader();
    let mut to = call.to.make_writer();
    let mut byte = [0];
    from.read_exact(&mut byte).await?;
    if !sends || path.trim_start_matches('/') != "hooks/commit-msg" {
        to.write_all(format!("\u{2}{path}: no such file or directory\n").as_bytes()).await?;
        return Ok(End::Status(1));
    }
    let hook = super::COMMIT_MSG_HOOK;
    if times {
        to.write_all(b"T0 0 0 0\n").await?;
        from.read_exact(&mut byte).await?;
    }
    to.write_all(format!("C0755 {} commit-msg\n", hook.len()).as_bytes()).await?;
    from.read_exact(&mut byte).await?;
    to.write_all(hook.as_bytes()).await?;
    to.write_all(&[0]).await?;
    from.read_exact(&mut byte).await?;
    Ok(End::Status(0))
}

/// The project that a git client names.
pub(crate) async fn project_of(core: &Core, name: &str) -> anyhow::Result<String> {
    let name = name.trim_matches('/');
    let bare = name.strip_suffix(".git").unwrap_or(name);
    let world = core.world.lock().await;
    let known = [bare, bare.strip_prefix("a/").unwrap_or(bare), bare.strip_prefix("p/").unwrap_or(bare)]
        .into_iter()
        .find(|name| world.projects.contains_key(*name));
    match known {
        Some(name) => Ok(name.to_owned()),
        None => anyhow::bail!("project {bare} not found"),
    }
}

async fn upload(call: &mut Call, project: &str) -> anyhow::Result<End> {
    let project = project_of(&call.core, project).await?;
    let (from, to) = (call.from.make_reader(), call.to.make_writer());
    let version = call.git_protocol.as_deref();
    let status = wire::upload_pack(&call.core, &project, &[], version, from, to).await?;
    Ok(End::Status(status.try_into().unwrap_or(1)))
}

async fn receive(call: &mut Call, project: &str, lost: bool) -> anyhow::Result<End> {
    let project = project_of(&call.core, project).await?;
    call.to.data_bytes(call.core.advertise_receive(&project).await?).await?;
    let mut from = call.from.make_reader();
    let answer = call.core.receive_pack(&call.user, &project, &mut from).await?;
    drop(from);
    if !lost {
        call.to.data_bytes(answer).await?;
    }
    Ok(End::Status(0))
}
