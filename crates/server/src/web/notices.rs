//! `/notices`: what somebody wants to hear of, for themselves to change.

use super::frame::Frame;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use crate::reporting::people::may;
use askama::Template;
use assay_engine::report::people::{Digest, NoticeRule, Notices, Quiet};
use assay_engine::report::{FactKind, Wants};
use axum::Router;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use std::collections::BTreeMap;
use std::sync::Arc;

const DIGESTS: [(Digest, &str, &str); 3] = [
    (Digest::Off, "off", "at once, each by itself"),
    (Digest::Hourly, "hourly", "together, every hour"),
    (Digest::Daily, "daily", "together, at 7 o'clock"),
];

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/notices", get(page).post(change)).route("/notices/rule", post(change_rule))
}

/// A rule as its form shows it.
struct RuleForm {
    /// Empty for a new one.
    name: String,
    events: Vec<(&'static str, bool)>,
    /// Patterns that are no single event, such as `job.*`.
    patterns: String,
    /// `KEY: PATTERN PATTERN`, a line each.
    matching: String,
    digests: Vec<(&'static str, &'static str, bool)>,
    rule: NoticeRule,
}

#[derive(Template)]
#[template(path = "notices.html")]
struct NoticesPage {
    frame: Frame,
    name: String,
    mail: String,
    matrix: String,
    from: String,
    to: String,
    ahead: String,
    mail_works: bool,
    matrix_works: bool,
    feed: String,
    rules: Vec<RuleForm>,
    saved: Option<String>,
    refused: Option<Fault>,
}

/// Whose it is: the viewer's own, or, for admins, anybody's.
fn whose(sender: &Sender, params: &Params) -> Result<String, Fault> {
    let name = params.given("name").unwrap_or(&sender.name).to_owned();
    sender.must_be_known()?;
    may(sender, &name)?;
    Ok(name)
}

async fn page(State(app): State<Arc<App>>, Extension(sender): Extension<Sender>, params: Params) -> Response {
    if sender.must_be_known().is_err() {
        return Redirect::to("/login?next=/notices").into_response();
    }
    let built = whose(&sender, &params).map(|name| {
        let notices = app.reporting.people().get(&name).cloned().unwrap_or_default();
        build(&app, &name, &notices, params.given("saved").map(str::to_owned), None)
    });
    super::page(&app, built)
}

fn build(
    app: &App,
    name: &str,
    notices: &Notices,
    saved: Option<String>,
    refused: Option<Fault>,
) -> NoticesPage {
    let about = app.notices_of(name);
    let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let quiet = notices.quiet;
    NoticesPage {
        frame: Frame::new(app.clock.now()),
        name: name.to_owned(),
        mail: notices.mail.clone().unwrap_or_default(),
        matrix: notices.matrix.clone().unwrap_or_default(),
        from: quiet.map(|quiet| time(quiet.from)).unwrap_or_default(),
        to: quiet.map(|quiet| time(quiet.to)).unwrap_or_default(),
        ahead: quiet.map(|quiet| offset(quiet.ahead)).unwrap_or_default(),
        mail_works: about.mail_works,
        matrix_works: about.matrix_works,
        feed: about.feed,
        rules: notices.rules.iter().cloned().map(Some).chain([None]).map(form).collect(),
        saved,
        refused,
    }
}

fn form(rule: Option<NoticeRule>) -> RuleForm {
    let rule = rule.unwrap_or_else(|| NoticeRule {
        name: String::new(),
        wants: Wants::default(),
        on_change: true,
        digest: Digest::Off,
        own: false,
        by_mail: true,
        by_matrix: false,
        enabled: true,
    });
    let named = |word: &str| rule.wants.events.iter().any(|event| event == word);
    let words = FactKind::ALL.map(FactKind::word);
    let patterns: Vec<&str> =
        rule.wants.events.iter().map(String::as_str).filter(|event| !words.contains(event)).collect();
    let line = |(key, patterns): (&String, &Vec<String>)| format!("{key}: {}", patterns.join(" "));
    RuleForm {
        events: words.iter().map(|word| (*word, named(word))).collect(),
        patterns: patterns.join(" "),
        matching: rule.wants.matching.iter().map(line).collect::<Vec<_>>().join("\n"),
        digests: DIGESTS.map(|(digest, word, says)| (word, says, digest == rule.digest)).to_vec(),
        name: rule.name.clone(),
        rule,
    }
}

/// `+01:00`
fn offset(minutes: i16) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.unsigned_abs() / 60, minutes.unsigned_abs() % 60)
}

/// The reverse of [`offset`].
fn minutes_ahead(text: &str) -> Option<i16> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    Some(sign * i16::try_from(time_of_day(rest)?).ok()?)
}

/// Minutes after midnight of `22:00`.
fn time_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let digits = |part: &str, most: u16| {
        let plain = (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u16>().ok().filter(|number| plain && *number <= most)
    };
    Some(digits(hours, 23)? * 60 + digits(minutes, 59)?)
}

fn quiet(params: &Params) -> Result<Option<Quiet>, Fault> {
    let wrong = |what: &str, text: &str| {
        Fault::bad(
            format!("{text:?} is no {what}."),
            "Write hours and minutes, for example 22:00, and +01:00.",
        )
    };
    let (Some(from), Some(to)) = (params.given("from"), params.given("to")) else {
        return match params.given("from").or(params.given("to")) {
            Some(_) => Err(Fault::bad("Quiet hours have a beginning and an end.", "Fill in both, or none.")),
            None => Ok(None),
        };
    };
    let time = |text: &str| time_of_day(text).ok_or_else(|| wrong("time of the day", text));
    let ahead = params.given("ahead").unwrap_or("+00:00");
    let ahead = minutes_ahead(ahead).ok_or_else(|| wrong("distance to UTC", ahead))?;
    Ok(Some(Quiet { from: time(from)?, to: time(to)?, ahead }))
}

/// `POST /notices`: where, and when not.
async fn change(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Response {
    let changed = |mut notices: Notices| {
        let text = |key: &str| params.given(key).map(|text| text.trim().to_owned());
        (notices.mail, notices.matrix, notices.quiet) = (text("mail"), text("matrix"), quiet(&params)?);
        Ok((notices, "where".to_owned()))
    };
    kept(&app, &sender, &params, changed).await
}

/// `POST /notices/rule`: a rule as its form says, a new one, or none any more.
async fn change_rule(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    params: Params,
) -> Response {
    let changed = |mut notices: Notices| {
        let before = params.given("before").map(str::to_owned);
        let at = before.as_ref().and_then(|name| notices.rules.iter().position(|rule| rule.name == *name));
        if params.flag("remove") {
            at.map(|at| notices.rules.remove(at));
            return Ok((notices, "removed".to_owned()));
        }
        let rule = rule(&params)?;
        let name = rule.name.clone();
        match at {
            Some(at) => {
                // The page has no field for what a rule leaves out.
                let without = notices.rules[at].wants.without.clone();
                let rule = NoticeRule { wants: Wants { without, ..rule.wants }, ..rule };
                notices.rules.splice(at..=at, [rule]).for_each(drop);
            }
            None => notices.rules.push(rule),
        }
        Ok((notices, name))
    };
    kept(&app, &sender, &params, changed).await
}

fn rule(params: &Params) -> Result<NoticeRule, Fault> {
    let mut matching = BTreeMap::new();
    for line in
        params.get("matching").unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty())
    {
        let Some((key, patterns)) = line.split_once(':') else {
            return Err(Fault::bad(
                format!("{line:?} names nothing that could be like it."),
                "Write a line each, for example BUILD: Fedora-* Update-*",
            ));
        };
        let patterns: Vec<String> = patterns.split_whitespace().map(str::to_owned).collect();
        matching.insert(key.trim().to_owned(), patterns);
    }
    let patterns = params.get("patterns").unwrap_or_default().split_whitespace();
    let events = params.all("event").chain(patterns).map(str::to_owned).collect();
    let digest = params.get("digest").unwrap_or_default();
    let digest = DIGESTS.iter().find(|(_, word, _)| *word == digest).map_or(Digest::Off, |(one, ..)| *one);
    Ok(NoticeRule {
        name: params.get("rule").unwrap_or_default().trim().to_owned(),
        wants: Wants { events, matching, ..Wants::default() },
        on_change: params.flag("on_change"),
        digest,
        own: params.flag("own"),
        by_mail: params.flag("by_mail"),
        by_matrix: params.flag("by_matrix"),
        enabled: params.flag("enabled"),
    })
}

/// Keeps what a form has changed; what is wrong with it is said above what was filled in.
async fn kept(
    app: &Arc<App>,
    sender: &Sender,
    params: &Params,
    changed: impl FnOnce(Notices) -> Result<(Notices, String), Fault>,
) -> Response {
    let name = match whose(sender, params) {
        Ok(name) => name,
        Err(fault) => return super::page(app, Err::<NoticesPage, _>(fault)),
    };
    let before = app.reporting.people().get(&name).cloned().unwrap_or_default();
    let (notices, what) = match changed(before.clone()) {
        Ok(changed) => changed,
        Err(fault) => return again(app, &name, &before, fault),
    };
    match app.change_notices(sender, &name, notices.clone()).await {
        Ok(()) => {
            let part = super::frame::percent_encoded;
            let of = if name == sender.name { String::new() } else { format!("&name={}", part(&name)) };
            Redirect::to(&format!("/notices?saved={}{of}", part(&what))).into_response()
        }
        Err(fault) => again(app, &name, &notices, fault),
    }
}

fn again(app: &App, name: &str, notices: &Notices, fault: Fault) -> Response {
    let status = fault.status;
    let page = super::page(app, Ok(build(app, name, notices, None, Some(fault))));
    if status.is_client_error() { (StatusCode::BAD_REQUEST, page).into_response() } else { page }
}

#[cfg(test)]
mod tests {
    use super::{minutes_ahead, offset, time_of_day};

    #[test]
    fn times_of_the_day() {
        for (text, expected) in [
            ("22:00", Some(1320)),
            ("0:05", Some(5)),
            ("23:59", Some(1439)),
            ("24:00", None),
            ("1:60", None),
            ("+1:00", None),
            ("7", None),
            ("", None),
        ] {
            assert_eq!(time_of_day(text), expected, "{text}");
        }
        for minutes in [-840, -90, -30, 0, 60, 345, 840] {
            assert_eq!(minutes_ahead(&offset(minutes)), Some(minutes));
        }
        assert_eq!(
            (minutes_ahead("1:00"), minutes_ahead("--1:00"), minutes_ahead("UTC")),
            (Some(60), None, None)
        );
    }
}
