//! Reports by mail, as `[mail]` in `assay.toml` says.

use super::ports::Told;
use super::settings::{MailSettings, MailTls};
use assay_engine::gate::config::ReportAction;
use assay_engine::gate::io::Report;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::response::Category;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The longest that one step of a conversation may take.
const DEADLINE: Duration = Duration::from_mins(1);

/// The way to the mail server. Clones are the same one, also after the settings were read again.
#[derive(Clone, Default)]
pub(crate) struct Post(Arc<RwLock<Option<MailSettings>>>);

impl Post {
    /// Puts settings in force.
    pub(crate) fn set(&self, settings: Option<MailSettings>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// True if there is a mail server.
    pub(crate) fn is_set(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Sends a report.
    pub(crate) async fn tell(&self, report: &Report) -> Told {
        match of_report(report) {
            Ok(mail) => self.send(&mail).await,
            Err(why) => Told::Never(why),
        }
    }

    /// Sends a mail. It cannot be looked for: one whose answer was lost is sent twice, with the same Message-ID.
    pub(crate) async fn send(&self, mail: &Mail) -> Told {
        let settings = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(settings) = settings else {
            return Told::Never("no mail server is configured; add [mail] to assay.toml".to_owned());
        };
        let message = match message(&settings, mail) {
            Ok(message) => message,
            Err(why) => return Told::Never(why),
        };
        let transport = match transport(&settings) {
            Ok(transport) => transport,
            Err(why) => return Told::Later(why),
        };
        match transport.send(message).await {
            Ok(_) => Told::Done(None),
            Err(error) if is_final(&error) => Told::Never(format!("the mail server refuses it: {error}")),
            Err(error) => Told::Later(format!("the mail server {}: {error}", settings.server)),
        }
    }
}

/// True if no later try can go better: it is refused for good, and not for want of a login, which people can correct.
fn is_final(error: &lettre::transport::smtp::Error) -> bool {
    error.is_permanent() && error.status().is_none_or(|code| code.category != Category::Unspecified3)
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mail {
    /// The same each time it is sent.
    pub(crate) id: String,
    /// Without it, what `[mail]` says.
    pub(crate) from: Option<String>,
    /// Addresses with commas between them.
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) text: String,
    /// The same for those who see pages.
    pub(crate) html: Option<String>,
    /// Where one says that one wants no more of them.
    pub(crate) unsubscribe: Option<String>,
    /// Who corrects addresses, and where.
    pub(crate) written: &'static str,
}

fn of_report(report: &Report) -> Result<Mail, String> {
    let ReportAction::Mail { from, to, subject, .. } = &report.action else {
        return Err("only mails can be told by mail".to_owned());
    };
    let standard = || format!("{} {}: {}", report.project, report.about, report.pipeline);
    let (item, number) = report.id;
    Ok(Mail {
        id: format!("{item}.{number}"),
        from: from.clone(),
        to: to.clone(),
        subject: subject.clone().unwrap_or_else(standard),
        text: report.message.clone(),
        written: "the pipeline's report",
        ..Mail::default()
    })
}

/// `List-Unsubscribe`
#[derive(Clone)]
struct Unsubscribe(String);

impl Header for Unsubscribe {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), format!("<{}>", self.0))
    }
}

/// `List-Unsubscribe-Post`: programs may end it without showing a page (RFC 8058).
#[derive(Clone)]
struct OneClick;

impl Header for OneClick {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe-Post")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "List-Unsubscribe=One-Click".to_owned())
    }
}

fn message(settings: &MailSettings, mail: &Mail) -> Result<Message, String> {
    let from = mail.from.as_ref().unwrap_or(&settings.from);
    let wrong = |what: &str, text: &str, why: &dyn std::fmt::Display| {
        format!("the mail's {what} {text:?} is no address: {why}; correct it in {}", mail.written)
    };
    let sender: Mailbox = from.parse().map_err(|why| wrong("from", from, &why))?;
    let recipients: Mailboxes = mail.to.parse().map_err(|why| wrong("to", &mail.to, &why))?;
    let mut message = Message::builder()
        .message_id(Some(format!("<assay.{}@{}>", mail.id, sender.email.domain())))
        .from(sender)
        .subject(mail.subject.replace(['\r', '\n'], " "));
    if let Some(unsubscribe) = &mail.unsubscribe {
        message = message.header(Unsubscribe(unsubscribe.clone())).header(OneClick);
    }
    for recipient in recipients {
        message = message.to(recipient);
    }
    // The end of the mail is the end of its last line.
    let text = mail.text.trim_end_matches('\n').to_owned();
    let message = match &mail.html {
        Some(html) => message.multipart(MultiPart::alternative_plain_html(text, html.clone())),
        None => message.header(ContentType::TEXT_PLAIN).body(text),
    };
    message.map_err(|why| format!("the mail cannot be made: {why}"))
}

fn transport(settings: &MailSettings) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    type Smtp = AsyncSmtpTransport<Tokio1Executor>;
    let server = settings.server.as_str();
    let no_tls = |error: lettre::transport::smtp::Error| format!("no TLS to {server}: {error}");
    let parameters = || {
        let mut parameters = TlsParameters::builder(server.to_owned());
        if let Some(file) = &settings.ca_file {
            let pem = fs_err::read(file).map_err(|error| format!("no certificates for mail: {error}"))?;
            parameters = parameters.add_root_certificate(Certificate::from_pem(&pem).map_err(no_tls)?);
        }
        parameters.build().map_err(no_tls)
    };
    let tls = match settings.tls {
        MailTls::None => Tls::None,
        MailTls::StartTls => Tls::Required(parameters()?),
        MailTls::Always => Tls::Wrapper(parameters()?),
    };
    let builder = Smtp::builder_dangerous(server).tls(tls);
    let builder = builder.port(settings.port).timeout(Some(DEADLINE));
    let Some((user, file)) = &settings.login else { return Ok(builder.build()) };
    let password = fs_err::read_to_string(file).map_err(|error| format!("no password for mail: {error}"))?;
    Ok(builder.credentials(Credentials::new(user.clone(), password.trim_end().to_owned())).build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::gate::change::Subject;
    use assay_engine::gate::ids::{ChangeId, ItemId, Patchset};
    use assay_fakes::smtp::SmtpSink;

    fn report(to: &str) -> Report {
        let change = ChangeId { source: "gerrit".into(), number: 7 };
        Report {
            id: (ItemId(3), 2),
            about: Subject::Change(Patchset { change, patchset: 1 }),
            project: "nova".into(),
            pipeline: "periodic".into(),
            action: ReportAction::Mail {
                source: "smtp".into(),
                from: None,
                to: to.to_owned(),
                subject: None,
            },
            message: "Build failed.\n.\n- unit http://ci/7 : FAILURE\n".to_owned(),
        }
    }

    #[tokio::test]
    async fn mails_are_delivered_or_it_is_said_why_not() {
        let sink = SmtpSink::start().await.unwrap();
        let post = Post::default();
        let unset = post.tell(&report("a@example.org")).await;
        assert!(matches!(&unset, Told::Never(why) if why.contains("add [mail]")), "{unset:?}");
        let settings = MailSettings {
            server: sink.address().ip().to_string(),
            port: sink.address().port(),
            tls: MailTls::None,
            from: "Assay <assay@example.org>".to_owned(),
            login: None,
            ca_file: None,
        };
        post.set(Some(settings.clone()));
        assert_eq!(post.tell(&report("a@example.org, B <b@example.org>")).await, Told::Done(None));
        let mails = sink.mails();
        assert_eq!((mails.len(), mails[0].from.as_str()), (1, "assay@example.org"));
        assert_eq!(mails[0].to, ["a@example.org", "b@example.org"]);
        let (head, body) = mails[0].text.split_once("\n\n").unwrap();
        for line in [
            "From: \"Assay\" <assay@example.org>",
            "Subject: nova 7,1: periodic",
            "Message-ID: <assay.3.2@example.org>",
        ] {
            assert!(
                head.replace("From: Assay", "From: \"Assay\"").contains(line),
                "{line} is not in\n{head}"
            );
        }
        assert_eq!(body, "Build failed.\n.\n- unit http://ci/7 : FAILURE\n", "a lone dot does not end it");

        sink.refuse_next("450 4.2.0 greylisted");
        assert!(
            matches!(post.tell(&report("a@example.org")).await, Told::Later(why) if why.contains("greylisted"))
        );
        sink.refuse_next("550 5.1.1 nobody");
        assert!(
            matches!(post.tell(&report("a@example.org")).await, Told::Never(why) if why.contains("nobody"))
        );
        sink.refuse_next("535 5.7.8 who are you");
        assert!(
            matches!(post.tell(&report("a@example.org")).await, Told::Later(why) if why.contains("who are"))
        );
        let torn = post.tell(&report("no address")).await;
        assert!(matches!(&torn, Told::Never(why) if why.contains("no address")), "{torn:?}");
        drop(sink);
        post.set(Some(MailSettings {
            login: Some(("u".to_owned(), "/nonexistent/password".into())),
            ..settings
        }));
        assert!(
            matches!(post.tell(&report("a@example.org")).await, Told::Later(why) if why.contains("/nonexistent"))
        );
    }
}
