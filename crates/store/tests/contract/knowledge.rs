//! Users, keys, the catalog, comments, the audit log.

use crate::database::{Database, START, is_deposed};
use assay_engine::ids::{JobId, Timestamp};
use assay_store::{
    AuditEvent, AuditFilter, Bug, BugFacts, BugFilter, BugId, CatalogChange, CatalogRow, Comment, CommentId,
    CommentTarget, EntryId, EntryKind, Group, GroupProperties, Identity, JobTemplate, Machine, ParentGroup,
    Product, SettingsMap, StoreError, StoredKey, TestSuite, Ticket, TicketKind, Tickets, UserRole,
};

fn at(seconds: i64) -> Timestamp {
    START.plus_seconds(seconds)
}

fn settings(pairs: &[(&str, &str)]) -> SettingsMap {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn is_duplicate<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Duplicate { .. }))
}

pub(crate) async fn users_and_their_keys(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let people = store.knowledge();
    assert_eq!(people.people().await.unwrap(), assay_store::People::default());
    let ann = people.add_user(epoch, "Ann ü'", UserRole::Operator, at(0)).await.unwrap();
    let bob = people.add_user(epoch, "bob", UserRole::Viewer, at(1)).await.unwrap();
    assert!(is_duplicate(&people.add_user(epoch, "bob", UserRole::Admin, at(2)).await));
    people.set_role(epoch, bob, UserRole::Admin).await.unwrap();
    let key = |name: &str, user, expires_at| StoredKey {
        key: name.to_owned(),
        user,
        sealed: "c2VhbGVk".to_owned(),
        created_at: at(3),
        expires_at,
        last_used_at: None,
    };
    people.add_key(epoch, &key("K1", ann, Some(at(9)))).await.unwrap();
    people.add_key(epoch, &key("K2", ann, None)).await.unwrap();
    people.add_key(epoch, &key("K3", bob, None)).await.unwrap();
    assert!(is_duplicate(&people.add_key(epoch, &key("K3", ann, None)).await), "a key is one user's");
    people.key_used(epoch, "K2", at(5)).await.unwrap();
    assert!(people.remove_key(epoch, "K1").await.unwrap());
    assert!(!people.remove_key(epoch, "K1").await.unwrap());
    let ticket = |hash: &str, kind, user, until| Ticket {
        hash: hash.to_owned(),
        kind,
        user,
        created_at: at(3),
        expires_at: at(until),
    };
    let (setup, session) = (TicketKind::Setup, TicketKind::Session);
    for (hash, kind, user, until) in
        [("a", setup, ann, 9), ("b", session, ann, 5), ("c", session, ann, 9), ("d", session, bob, 9)]
    {
        people.add_ticket(epoch, &ticket(hash, kind, user, until)).await.unwrap();
    }
    assert!(people.remove_ticket(epoch, "a").await.unwrap(), "the first who uses it");
    assert!(!people.remove_ticket(epoch, "a").await.unwrap(), "nobody else");
    people.remove_tickets(epoch, Tickets::ExpiredBy(at(5))).await.unwrap();
    assert_eq!(people.people().await.unwrap().tickets.len(), 2);
    people.remove_tickets(epoch, Tickets::Of(bob)).await.unwrap();

    let store = database.open().await;
    let known = store.knowledge().people().await.unwrap();
    let names: Vec<_> =
        known.users.iter().map(|user| (user.name.as_str(), user.role, user.created_at)).collect();
    assert_eq!(names, [("Ann ü'", UserRole::Operator, at(0)), ("bob", UserRole::Admin, at(1))]);
    assert_eq!(
        known.keys,
        [StoredKey { last_used_at: Some(at(5)), ..key("K2", ann, None) }, key("K3", bob, None)]
    );
    assert_eq!(known.tickets, [ticket("c", session, ann, 9)]);
    let identity = |subject: &str| Identity { issuer: "https://ü".to_owned(), subject: subject.to_owned() };
    store.knowledge().bind_user(epoch, ann, &identity("1")).await.unwrap();
    store.knowledge().bind_user(epoch, bob, &identity("2")).await.unwrap();
    for (user, subject) in [(bob, "1"), (ann, "3")] {
        assert!(is_duplicate(&store.knowledge().bind_user(epoch, user, &identity(subject)).await));
    }
    store.knowledge().remove_user(epoch, ann).await.unwrap();
    let carol = store.knowledge().add_user(epoch, "carol", UserRole::Viewer, at(9)).await.unwrap();
    assert!(carol > bob, "numbers are not used again");
    let known = store.knowledge().people().await.unwrap();
    assert_eq!(known.keys, [key("K3", bob, None)]);
    assert_eq!(known.tickets, [], "they go with their user");
    assert_eq!(known.identities, [(identity("2"), bob)]);

    store.acquire_leadership().await.unwrap();
    assert!(is_deposed(&store.knowledge().add_user(epoch, "late", UserRole::Admin, at(9)).await));
    assert!(is_deposed(&store.knowledge().remove_key(epoch, "K3").await));
}

fn entries() -> Vec<CatalogRow> {
    let properties = GroupProperties {
        default_priority: Some(40),
        keep_logs_in_days: Some(3),
        ..GroupProperties::default()
    };
    vec![
        CatalogRow::Machine(Machine {
            id: 1,
            name: "64bit".to_owned(),
            backend: "qemu".to_owned(),
            settings: settings(&[("QEMURAM", "2048"), ("X", "'; DROP TABLE catalog; --")]),
        }),
        CatalogRow::TestSuite(TestSuite { id: 1, name: "64bit".to_owned(), ..TestSuite::default() }),
        CatalogRow::Product(Product {
            id: 1,
            distri: "fedora".to_owned(),
            version: "*".to_owned(),
            arch: "x86_64".to_owned(),
            flavor: "Everything-boot-iso".to_owned(),
            settings: settings(&[("ÜBER", "grün")]),
            ..Product::default()
        }),
        CatalogRow::JobTemplate(JobTemplate {
            id: 7,
            group: 1,
            product: 1,
            machine: 1,
            test_suite: None,
            name: "a".to_owned(),
            prio: Some(30),
            ..JobTemplate::default()
        }),
        CatalogRow::Group(Group {
            id: 1,
            parent: Some(1),
            name: "g".to_owned(),
            properties,
            ..Group::default()
        }),
        CatalogRow::ParentGroup(ParentGroup { id: 1, name: "p".to_owned(), ..ParentGroup::default() }),
    ]
}

pub(crate) async fn the_catalog(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let know = store.knowledge();
    let (rows, last) = know.catalog().await.unwrap();
    assert_eq!(rows, []);
    assert!(EntryKind::ALL.iter().all(|kind| last[kind] == 0));
    let mut want = entries();
    let put: Vec<_> = want.iter().cloned().map(CatalogChange::put).collect();
    know.change_catalog(epoch, &put).await.unwrap();

    let mut changes = vec![
        CatalogChange::put(CatalogRow::TestSuite(TestSuite {
            id: 2,
            name: "another".to_owned(),
            ..TestSuite::default()
        })),
        CatalogChange::put(CatalogRow::Machine(Machine {
            id: 2,
            name: "64bit".to_owned(),
            ..Machine::default()
        })),
    ];
    assert!(is_duplicate(&know.change_catalog(epoch, &changes).await), "two machines of one name");
    changes.pop();
    know.change_catalog(epoch, &changes).await.unwrap();
    let group = |id, parent| {
        CatalogChange::put(CatalogRow::Group(Group { id, parent, name: "g".to_owned(), ..Group::default() }))
    };
    know.change_catalog(epoch, &[group(2, None)]).await.unwrap();
    assert!(is_duplicate(&know.change_catalog(epoch, &[group(3, None)]).await));
    let gone = [
        EntryId { kind: EntryKind::TestSuite, id: 2 },
        EntryId { kind: EntryKind::Group, id: 2 },
        EntryId { kind: EntryKind::Group, id: 99 },
    ]
    .map(CatalogChange::Remove);
    know.change_catalog(epoch, &gone).await.unwrap();

    let store = database.open().await;
    let (mut rows, last) = store.knowledge().catalog().await.unwrap();
    rows.sort_by_key(CatalogRow::id);
    want.sort_by_key(CatalogRow::id);
    assert_eq!(rows, want);
    assert_eq!(
        (last[&EntryKind::TestSuite], last[&EntryKind::Group], last[&EntryKind::JobTemplate]),
        (2, 2, 7)
    );
    store.acquire_leadership().await.unwrap();
    assert!(is_deposed(&store.knowledge().change_catalog(epoch, &gone).await));
}

pub(crate) async fn comments_and_events(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let know = store.knowledge();
    let say = |target, text: &str| Comment {
        id: CommentId(0),
        target,
        author: "ann".to_owned(),
        text: text.to_owned(),
        created_at: at(1),
        updated_at: at(1),
    };
    let (seven, eight) = (CommentTarget::Job(JobId(7)), CommentTarget::Job(JobId(8)));
    let mut ids = Vec::new();
    for (target, text) in [
        (seven, "label:force_result:passed"),
        (CommentTarget::Group(7), "tag:1:important"),
        (eight, "<script>alert(1)</script> 🦀"),
        (seven, "boo#1"),
        (CommentTarget::ParentGroup(7), "hello"),
    ] {
        ids.push(know.add_comment(epoch, &say(target, text)).await.unwrap());
    }
    know.edit_comment(epoch, ids[3], "boo#2", at(2), &[]).await.unwrap();
    let texts = |comments: Vec<Comment>| comments.into_iter().map(|c| c.text).collect::<Vec<_>>();
    assert_eq!(texts(know.comments(seven).await.unwrap()), ["label:force_result:passed", "boo#2"]);
    assert_eq!(texts(know.comments(CommentTarget::Group(7)).await.unwrap()), ["tag:1:important"]);
    let both = know.comments_of_jobs(&[JobId(8), JobId(7), JobId(99)]).await.unwrap();
    assert_eq!(both.iter().map(|c| c.id).collect::<Vec<_>>(), [ids[0], ids[2], ids[3]]);
    let many: Vec<_> = (1..=1_200).map(JobId).collect();
    assert_eq!(know.comments_of_jobs(&many).await.unwrap(), both);
    let found = know.comment(ids[3]).await.unwrap().unwrap();
    assert_eq!((found.target, found.created_at, found.updated_at), (seven, at(1), at(2)));
    know.remove_comments(epoch, &ids[2..], &[]).await.unwrap();
    assert_eq!(know.comment(ids[3]).await.unwrap(), None);
    assert!(know.add_comment(epoch, &say(eight, "later")).await.unwrap() > ids[4]);

    let event = |number: usize, event: &str| {
        let data = "{\"id\": 1}".to_owned();
        let (at, user) = (at(number as i64), if number == 0 { "" } else { "ann" }.to_owned());
        AuditEvent { id: 0, at, user, event: event.to_owned(), data }
    };
    know.audit(epoch, &[event(0, "iso_create")]).await.unwrap();
    know.audit(epoch, &[event(1, "job_cancel"), event(2, "user_login")]).await.unwrap();
    let events = know.audit_events(&AuditFilter { limit: 2, ..AuditFilter::default() }).await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.event.as_str()).collect::<Vec<_>>(),
        ["user_login", "job_cancel"]
    );
    let events = know
        .audit_events(&AuditFilter { before: Some(events[1].id), limit: 9, ..AuditFilter::default() })
        .await
        .unwrap();
    assert_eq!((events.len(), events[0].user.as_str(), events[0].at), (1, "", at(0)));
    let text = |text: &str| Some(text.to_owned());
    for (user, event, words, want) in [
        (text("ann"), None, None, 2),
        (None, text("iso_create"), None, 1),
        (text("ann"), text("iso_create"), None, 0),
        (None, None, text("\"ID\": 1"), 3),
        (None, None, text("%"), 0),
    ] {
        let filter = AuditFilter { user, event, text: words, before: None, limit: 9 };
        assert_eq!(know.audit_events(&filter).await.unwrap().len(), want, "{filter:?}");
    }
    let many: Vec<_> = (3..80).map(|number| event(number, &format!("e{number}"))).collect();
    know.audit(epoch, &many).await.unwrap();
    let events = know.audit_events(&AuditFilter { limit: 99, ..AuditFilter::default() }).await.unwrap();
    let in_order = events.windows(2).all(|pair| pair[0].id == pair[1].id + 1 && pair[0].at > pair[1].at);
    assert!(in_order && events.len() == 80, "{events:?}");
}

pub(crate) async fn bugs_are_kept(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let know = store.knowledge();
    let names = ["boo#1", "boo#2", "boo#1"].map(str::to_owned);
    know.bugs_named(epoch, &names, at(1)).await.unwrap();
    know.bugs_named(epoch, &names[..1], at(5)).await.unwrap();
    know.bugs_named(epoch, &[], at(5)).await.unwrap();
    let all = || BugFilter { limit: 10, ..BugFilter::default() };
    let bugs = know.bugs(&all()).await.unwrap();
    assert_eq!(bugs.iter().map(|bug| bug.bugid.as_str()).collect::<Vec<_>>(), ["boo#1", "boo#2"]);
    assert_eq!((bugs[0].created_at, bugs[0].refreshed, bugs[0].existing), (at(1), false, true));

    let facts =
        BugFacts { title: Some("It <b>breaks</b>".to_owned()), open: Some(true), ..BugFacts::default() };
    let first = Bug { facts, refreshed: true, updated_at: at(10), ..bugs[0].clone() };
    know.change_bug(epoch, &first).await.unwrap();
    assert_eq!(know.bug(first.id).await.unwrap(), Some(first.clone()));
    let gone = Bug { existing: false, refreshed: true, updated_at: at(2), ..bugs[1].clone() };
    know.change_bug(epoch, &gone).await.unwrap();
    let new = Bug { id: BugId(0), bugid: "gh#a/b#3".to_owned(), created_at: at(20), ..bugs[1].clone() };
    let third = know.add_bug(epoch, &new).await.unwrap();
    assert!(third > gone.id);
    assert!(is_duplicate(&know.add_bug(epoch, &new).await));
    let ids = |bugs: Vec<Bug>| bugs.into_iter().map(|bug| bug.id).collect::<Vec<_>>();
    for (filter, want) in [
        (BugFilter { created_after: Some(at(5)), ..all() }, vec![third]),
        // Never asked about; and what exists once it is old enough. What the tracker does not know is not asked for again.
        (BugFilter { stale_at: Some(at(10)), ..all() }, vec![third]),
        (BugFilter { stale_at: Some(at(11)), ..all() }, vec![first.id, third]),
        (BugFilter { limit: 1, offset: 1, ..all() }, vec![gone.id]),
    ] {
        assert_eq!(ids(know.bugs(&filter).await.unwrap()), want, "{filter:?}");
    }
    assert!(know.remove_bug(epoch, first.id).await.unwrap());
    assert!(!know.remove_bug(epoch, first.id).await.unwrap());
    assert_eq!(know.bug(first.id).await.unwrap(), None);
    store.acquire_leadership().await.unwrap();
    assert!(is_deposed(&know.bugs_named(epoch, &names, at(1)).await));
}
