//! Facts in words for people: mails, chats, comments.

use super::build;
use crate::app::App;
use crate::fault::Fault;
use assay_engine::report::{Fact, JobFact};
use std::fmt::Write as _;

/// What people read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Words {
    /// One line.
    pub(crate) headline: String,
    /// Where more is to be seen.
    pub(crate) url: Option<String>,
    /// The whole, with the headline left out.
    pub(crate) text: String,
    /// The same as a page.
    pub(crate) html: Option<String>,
}

/// Text as HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

impl Words {
    /// For chats: one line with the address.
    pub(crate) fn line(&self) -> String {
        match &self.url {
            Some(url) => format!("{} {url}", self.headline),
            None => self.headline.clone(),
        }
    }

    /// The same as HTML.
    pub(crate) fn html_line(&self) -> String {
        match &self.url {
            Some(url) => format!("<a href=\"{}\">{}</a>", escaped(url), escaped(&self.headline)),
            None => escaped(&self.headline),
        }
    }
}

fn of_job(job: &JobFact, what: &str, url: &str) -> Words {
    let build = job.get("BUILD").map(|build| format!(" of {build}")).unwrap_or_default();
    let mut text = String::new();
    if let Some(reason) = &job.reason {
        let _ = writeln!(text, "{reason}");
    }
    if job.remaining > 0 {
        let _ = writeln!(text, "{} jobs of the build are still open.", job.remaining);
    }
    Words {
        headline: format!("{}{build} {what}", job.label()),
        url: Some(format!("{url}/jobs/{}", job.id)),
        text,
        html: None,
    }
}

/// A fact in a line, with what is known of it already.
pub(crate) fn short(fact: &Fact, url: &str) -> Words {
    let plain =
        |headline: String, url: Option<String>, text: String| Words { headline, url, text, html: None };
    match fact {
        Fact::JobCreate(job) => of_job(job, "is scheduled", url),
        Fact::JobStart(job) => of_job(job, "runs", url),
        Fact::JobDone(job) => {
            let outcome = job.outcome.map_or("ended", assay_engine::outcome::Outcome::openqa);
            of_job(job, &outcome.replace('_', " "), url)
        }
        Fact::JobRestart(job) => {
            let anew = job.cloned_as.unwrap_or_default();
            of_job(job, &format!("is started anew as job {anew}"), url)
        }
        Fact::JobCancel(job) => of_job(job, "was cancelled", url),
        Fact::CommentCreate(comment) | Fact::CommentUpdate(comment) | Fact::CommentDelete(comment) => {
            let what = match fact {
                Fact::CommentDelete(_) => "took back a comment on",
                Fact::CommentUpdate(_) => "changed a comment on",
                _ => "commented on",
            };
            let at = comment.job.map(|job| format!("{url}/jobs/{job}#comments"));
            let at = at.or_else(|| comment.group.map(|group| format!("{url}/group_overview/{group}")));
            plain(format!("{} {what} {}", comment.user, fact.about()), at, comment.text.clone())
        }
        Fact::ResultNew(result) => {
            let item = result.item.as_deref().unwrap_or("something");
            let page = || Some(item_url(url, result.item_type.as_deref()?, result.item.as_deref()?));
            let places = [result.item_type.as_deref(), result.scenario.as_deref()];
            plain(
                format!("{item}: {} {}", result.testcase, result.outcome),
                result.url.clone().or_else(page),
                places.into_iter().flatten().collect::<Vec<_>>().join(", "),
            )
        }
        Fact::WaiverNew(waiver) => {
            let what = if waiver.waived { "waives" } else { "takes back the waiver of" };
            let item = &waiver.subject_identifier;
            plain(
                format!("{} {what} {} for {item}", waiver.username, waiver.testcase),
                Some(item_url(url, &waiver.subject_type, item)),
                waiver.comment.clone(),
            )
        }
        Fact::DecisionUpdate(one) => {
            let word = if one.satisfied { "may go on" } else { "may not go on" };
            let mut text = format!("{}\n", one.summary);
            if let Some((_, before)) = &one.before {
                let _ = writeln!(text, "Before: {before}");
            }
            let item = &one.subject_identifier;
            plain(
                format!("{item} {word} ({} for {})", one.context, one.product_version),
                Some(item_url(url, &one.subject_type, item)),
                text,
            )
        }
        Fact::BuildDone(one) => plain(
            format!("Build {} of {} {} has ended", one.build, one.distri, one.version),
            Some(build::address(url, &one.build)),
            String::new(),
        ),
    }
}

fn item_url(url: &str, kind: &str, item: &str) -> String {
    use crate::web::frame::percent_encoded;
    format!("{url}/item?type={}&item={}", percent_encoded(kind), percent_encoded(item))
}

impl App {
    /// A fact in words; of a build, its whole report.
    pub(crate) async fn words(&self, fact: &Fact, url: &str) -> Result<Words, Fault> {
        let Fact::BuildDone(one) = fact else { return Ok(short(fact, url)) };
        let report = self.build_report(&build::Asked::of(one)).await?;
        if one.errors && !report.has_errors() {
            return Err(build::nothing("nothing failed, and nothing is missing"));
        }
        Ok(build::words(&report, url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::report::{CommentFact, DecisionFact, ResultFact};
    use serde_json::Value;

    #[test]
    fn lines_are_one_line_and_safe() {
        let comment = CommentFact {
            id: 1,
            job: Some(7),
            group: None,
            text: "x\ny".into(),
            user: "<script>".into(),
            created: 0,
            updated: 0,
        };
        let words = short(&Fact::CommentCreate(comment), "http://x");
        assert_eq!(words.line(), "<script> commented on job 7 http://x/jobs/7#comments");
        assert_eq!(
            words.html_line(),
            "<a href=\"http://x/jobs/7#comments\">&lt;script&gt; commented on job 7</a>"
        );
    }

    #[test]
    fn a_result_leads_to_its_item() {
        let result = |url: Option<&str>| {
            Fact::ResultNew(ResultFact {
                id: 7,
                testcase: "dist.rpmlint".into(),
                outcome: "FAILED".into(),
                item_type: Some("koji_build".into()),
                item: Some("c++-1-1".into()),
                scenario: None,
                own: false,
                withheld: None,
                url: url.map(str::to_owned),
            })
        };
        let words = short(&result(None), "http://x");
        assert_eq!(
            words.line(),
            "c++-1-1: dist.rpmlint FAILED http://x/item?type=koji_build&item=c%2B%2B-1-1"
        );
        assert_eq!(words.text, "koji_build");
        assert_eq!(short(&result(Some("http://y/log")), "http://x").url.as_deref(), Some("http://y/log"));
    }

    #[test]
    fn decisions_say_what_they_were_before() {
        let decision = |satisfied, before: Option<(bool, &str)>| {
            Fact::DecisionUpdate(DecisionFact {
                subject_type: "compose".into(),
                subject_identifier: "F 40".into(),
                product_version: "fedora-40".into(),
                context: "push".into(),
                satisfied,
                summary: "Of 1 required test, 1 test failed".into(),
                decision: Value::Null,
                before: before.map(|(satisfied, summary)| (satisfied, summary.into())),
                previous: Value::Null,
                subject: Value::Null,
                after: 0,
                at: 0,
            })
        };
        let words = short(&decision(false, Some((true, "No tests are required"))), "http://x");
        let address = "http://x/item?type=compose&item=F%2040";
        assert_eq!(words.line(), format!("F 40 may not go on (push for fedora-40) {address}"));
        assert_eq!(words.text, "Of 1 required test, 1 test failed\nBefore: No tests are required\n");
        let words = short(&decision(true, None), "http://x");
        assert_eq!(words.headline, "F 40 may go on (push for fedora-40)");
        assert_eq!(words.text, "Of 1 required test, 1 test failed\n");
    }
}
