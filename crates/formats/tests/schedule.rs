//! Fedora's schedule as it is shipped: exactly what is posted for composes and updates.

use assay_engine::compose::{
    Candidate, CandidateKind, Choice, Compose, Life, NoRelease, Release, Schedule, Update,
};
use assay_engine::rules::{Planned, PlannedEffect};
use assay_formats::schedule::load;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const FEDORA: &str = include_str!("../../../examples/fedora/schedule.yaml");
/// 2026-11-21: F43 to F45 are maintained, and F46 is not branched.
const TODAY: i64 = 20_778;
/// 2026-09-01: F45 is branched, and not released.
const BRANCHED: i64 = 20_697;
/// 2026-08-01: F45 is not branched; F46 is in the table already.
const BEFORE: i64 = 20_666;

const EVERYWHERE: &[&str] = &["x86_64", "aarch64", "ppc64le", "s390x"];

fn fedora() -> Schedule {
    let loaded = load("schedule.yaml", FEDORA);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    loaded.schedule.expect("no error")
}

fn compose(id: &str, label: Option<&str>, everything: &[&str], images: &[&str]) -> Compose {
    let mut parts = id.rsplitn(3, '-');
    let (date, version, short) = (parts.next(), parts.next(), parts.next());
    let kind = if date.is_some_and(|date| date.contains(".n.")) { "nightly" } else { "production" };
    let about = json!({"id": id, "type": kind, "label": label});
    let trees: BTreeMap<&str, String> =
        everything.iter().map(|arch| (*arch, format!("Everything/{arch}/os"))).collect();
    let info = json!({"payload": {
        "compose": about, "release": {"short": short, "version": version},
        "variants": {"Everything": {"paths": {"os_tree": trees}}, "Cloud": {"paths": {}}},
    }});
    let image = |text: &&str| {
        let [subvariant, kind, format, arch] =
            text.split(' ').collect::<Vec<_>>().try_into().expect("four words");
        let path = format!("{subvariant}/{arch}/{kind}.{format}");
        json!({"path": path, "subvariant": subvariant, "type": kind, "format": format, "arch": arch})
    };
    let images: Vec<Value> = images.iter().map(image).collect();
    let images = json!({"payload": {"compose": about, "images": {"Any": {"any": images}}}});
    Compose::read(&info, &images).expect("a compose")
}

fn settings(planned: &Planned) -> &BTreeMap<String, String> {
    match &planned.effect {
        PlannedEffect::Product { settings } => settings,
        other => panic!("{other:?}"),
    }
}

/// `FLAVOR ARCH` of each post, and what else is done.
fn posts(planned: &[Planned]) -> Vec<String> {
    let one = |planned: &Planned| match &planned.effect {
        PlannedEffect::Product { settings } => format!("{} {}", settings["FLAVOR"], settings["ARCH"]),
        other => other.summary(),
    };
    let mut all: Vec<String> = planned.iter().map(one).collect();
    all.sort();
    all
}

/// A compose in a directory is read where it lies; what has to be unpacked has to be fetched.
#[test]
fn a_compose_in_a_directory() {
    let images = ["Server dvd iso x86_64", "Minimal raw-xz raw.xz aarch64"];
    let compose = compose("Fedora-Rawhide-20261121.n.0", None, &[], &images);
    for (location, image, unpacked) in [
        ("file:///srv/c/", ("ISO", "/srv/c/Server/x86_64/dvd.iso"), "file:///srv/c"),
        ("https://x/c", ("ISO_URL", "https://x/c/Server/x86_64/dvd.iso"), "https://x/c"),
    ] {
        let planned = fedora().compose(&compose, location, &Choice::default(), TODAY);
        let of = |flavor: &str| {
            planned.iter().map(settings).find(|settings| settings["FLAVOR"] == flavor).expect("it is wanted")
        };
        let server = of("Server-dvd-iso");
        assert_eq!(server[image.0], image.1);
        assert_eq!(server.keys().filter(|key| key.starts_with("ISO")).count(), 1, "{server:?}");
        let minimal = of("Minimal-raw_xz-raw.xz");
        assert_eq!(minimal["HDD_2_DECOMPRESS_URL"], format!("{unpacked}/Minimal/aarch64/raw-xz.raw.xz"));
    }
}

#[test]
fn flavors_that_no_compose_has() {
    let schedule = fedora();
    let compose = compose(
        "Fedora-Rawhide-20261121.n.0",
        None,
        &[],
        &["Server dvd iso x86_64", "Cloud_Base vmdk vmdk x86_64"],
    );
    for (flavor, right) in [
        ("Server-dvd-iso", true),
        ("server-DVD-iso", true),
        ("Workstation-live_osbuild-iso", true),
        ("universal", true),
        ("Server-dvd", false),
        ("Cloud_Base-vmdk-vmdk", false),
    ] {
        let choice = Choice { flavors: vec![flavor.to_owned()], ..Choice::default() };
        assert_eq!(schedule.misspelt_of(&compose, &choice).is_none(), right, "{flavor}");
    }
}

#[test]
fn composes() {
    let schedule = fedora();
    let rawhide = [
        "Everything boot iso x86_64",
        "Everything boot iso aarch64",
        "Server dvd iso x86_64",
        "Server dvd iso s390x",
        "Silverblue dvd-ostree iso aarch64",
        "Minimal raw-xz raw.xz aarch64",
        "Cloud_Base qcow2 qcow2 ppc64le",
        "Cloud_Base vmdk vmdk x86_64",
        "KDE live iso aarch64",
        "Container_Toolbox docker oci.tar.xz x86_64",
    ];
    let extras = [
        "Workstation-upgrade aarch64",
        "Workstation-upgrade x86_64",
        "universal aarch64",
        "universal ppc64le",
        "universal x86_64",
    ];
    let with = |images: &[&str], more: &[&str]| {
        let mut all: Vec<String> = images.iter().chain(more).map(ToString::to_string).collect();
        all.sort();
        all
    };
    let of_rawhide = [
        "Everything-boot-iso x86_64",
        "Server-dvd-iso x86_64",
        "Silverblue-dvd_ostree-iso aarch64",
        "Minimal-raw_xz-raw.xz aarch64",
        "Cloud_Base-qcow2-qcow2 ppc64le",
    ];
    let candidate = "comment on fedora: tag:Fedora-45-20261013.0:important:candidate";
    for (compose, expected) in [
        (compose("Fedora-Rawhide-20261121.n.0", None, EVERYWHERE, &rawhide), with(&of_rawhide, &extras)),
        (
            compose("Fedora-45-20261013.0", Some("RC-1.2"), EVERYWHERE, &["Server dvd iso x86_64"]),
            with(&["Server-dvd-iso x86_64", candidate], &extras),
        ),
        // Images alone, with nothing to install from the net.
        (
            compose("Fedora-Cloud-44-20261121.0", None, &[], &["Cloud_Base qcow2 qcow2 x86_64"]),
            with(&["Cloud_Base-qcow2-qcow2 x86_64"], &[]),
        ),
        (
            compose("Fedora-IoT-44-20261121.0", None, &[], &["IoT dvd-ostree iso aarch64"]),
            with(&["IoT-dvd_ostree-iso aarch64"], &[]),
        ),
        (
            compose(
                "Fedora-ELN-20261121.n.0",
                None,
                EVERYWHERE,
                &["BaseOS boot iso x86_64", "BaseOS dvd iso s390x"],
            ),
            with(&["BaseOS-boot-iso x86_64"], &[]),
        ),
        // Nothing of it is wanted, and what goes with images does not come alone.
        (compose("Fedora-45-20261121.n.0", None, EVERYWHERE, &["Games live iso x86_64"]), Vec::new()),
        // No tree on this architecture.
        (
            compose("Fedora-45-20261121.n.0", None, &["aarch64"], &["Server boot iso x86_64"]),
            with(&["Server-boot-iso x86_64"], &["Workstation-upgrade aarch64", "universal aarch64"]),
        ),
    ] {
        let planned = schedule.compose(&compose, "https://x/c/", &Choice::default(), TODAY);
        assert_eq!(posts(&planned), expected, "{}", compose.id);
    }
}

#[test]
fn the_settings_of_posts() {
    let schedule = fedora();
    let images = [
        "Server dvd iso x86_64",
        "Container_Toolbox docker oci.tar.xz x86_64",
        "Minimal raw-xz raw.xz aarch64",
    ];
    let compose = compose("Fedora-45-20261013.0", Some("RC-1.2"), EVERYWHERE, &images);
    let planned = schedule.compose(&compose, "https://x/c/", &Choice::default(), TODAY);
    let of = |flavor: &str, arch: &str| {
        let all = planned.iter().filter(|one| matches!(one.effect, PlannedEffect::Product { .. }));
        let mut found = all.map(settings).filter(|one| (&*one["FLAVOR"], &*one["ARCH"]) == (flavor, arch));
        json!(found.next().expect("a post"))
    };
    let base = json!({
        "_OBSOLETE": "1", "_ONLY_OBSOLETE_SAME_BUILD": "1", "DISTRI": "fedora", "VERSION": "45", "BUILD": "Fedora-45-20261013.0",
        "LOCATION": "https://x/c", "LABEL": "RC-1.2", "QEMU_HOST_IP": "172.16.2.2", "NICTYPE_USER_OPTIONS": "net=172.16.2.0/24",
        "CURRREL": "45", "PREVREL": "44", "RAWREL": "46", "UP1REL": "44", "UP2REL": "43",
        "ITEM_TYPE": "compose", "ITEM": "Fedora-45-20261013.0",
    });
    let with = |more: Value| {
        let mut all = base.clone();
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    assert_eq!(
        of("Server-dvd-iso", "x86_64"),
        with(
            json!({"FLAVOR": "Server-dvd-iso", "ARCH": "x86_64", "SUBVARIANT": "Server", "IMAGETYPE": "dvd",
            "ISO_URL": "https://x/c/Server/x86_64/dvd.iso", "TOOLBOX_IMAGE": "https://x/c/Container_Toolbox/x86_64/docker.oci.tar.xz"})
        )
    );
    assert_eq!(
        of("Minimal-raw_xz-raw.xz", "aarch64"),
        with(
            json!({"FLAVOR": "Minimal-raw_xz-raw.xz", "ARCH": "aarch64", "SUBVARIANT": "Minimal", "IMAGETYPE": "raw-xz",
            "HDD_2_DECOMPRESS_URL": "https://x/c/Minimal/aarch64/raw-xz.raw.xz"})
        )
    );
    assert_eq!(
        of("universal", "ppc64le"),
        with(
            json!({"FLAVOR": "universal", "ARCH": "ppc64le", "SUBVARIANT": "Server", "IMAGETYPE": "upgrade"})
        )
    );
    // Settings of somebody's own: another build, that is not reported; and nothing is said of it.
    let extra = [("GRUBADD".to_owned(), "inst.updates=https://x/u.img".to_owned())];
    let choice =
        Choice { extra: extra.into(), flavors: vec!["server-DVD-iso".to_owned()], ..Choice::default() };
    let mine = schedule.compose(&compose, "https://x/c", &choice, TODAY);
    assert_eq!(posts(&mine), ["Server-dvd-iso x86_64"]);
    let settings = settings(&mine[0]);
    assert_eq!(
        (&*settings["BUILD"], &*settings["GRUBADD"]),
        ("Fedora-45-20261013.0-EXTRA", "inst.updates=https://x/u.img")
    );
    assert!(planned.iter().all(|one| one.key != mine[0].key), "it is not known before");
    // Who asks for what goes with images alone gets it.
    let choice = Choice {
        flavors: vec!["Universal".to_owned()],
        arches: vec!["x86_64".to_owned()],
        ..Choice::default()
    };
    assert_eq!(
        posts(&schedule.compose(&compose, "https://x/c", &choice, TODAY)),
        ["comment on fedora: tag:Fedora-45-20261013.0:important:candidate", "universal x86_64"]
    );
}

#[test]
fn eln_and_coreos() {
    let schedule = fedora();
    let eln = compose("Fedora-ELN-20261121.n.0", None, EVERYWHERE, &["BaseOS boot iso x86_64"]);
    let planned = schedule.compose(&eln, "https://x/c", &Choice::default(), TODAY);
    let found = settings(&planned[0]);
    assert_eq!((&*found["QEMUCPU"], found.get("UP1REL"), &*found["RAWREL"]), ("Haswell", None, "46"));
    let meta = json!({"buildid": "46.20261121.91.0", "coreos-assembler.basearch": "x86_64",
        "images": {"live-iso": {"path": "fedora-coreos-live.x86_64.iso"}, "qemu": {"path": "q"}}});
    let build = Compose::read_coreos(&meta).expect("a build");
    let planned = schedule.compose(&build, "https://b/x86_64", &Choice::default(), TODAY);
    assert_eq!(posts(&planned), ["CoreOS-colive-iso x86_64"]);
    for (key, value) in [
        ("BUILD", "Fedora-CoreOS-46.20261121.91.0"),
        ("VERSION", "46"),
        ("SUBVARIANT", "CoreOS"),
        ("IMAGETYPE", "colive"),
        ("ISO_URL", "https://b/x86_64/fedora-coreos-live.x86_64.iso"),
        ("UP1REL", "45"),
        ("ITEM_TYPE", "fcosbuild"),
        ("ITEM", "46.20261121.91.0"),
        ("ITEM_REVISION", "x86_64"),
    ] {
        assert_eq!(settings(&planned[0])[key], value, "{key}");
    }
    assert!(Compose::read_coreos(&json!({"buildid": "1"})).is_err());
}

#[test]
fn releases_of_a_day() {
    let schedule = fedora();
    let of = |version: &str, day: i64| {
        let compose =
            compose(&format!("Fedora-{version}-20261121.n.0"), None, EVERYWHERE, &["Server dvd iso x86_64"]);
        let planned = schedule.compose(&compose, "https://x/c", &Choice::default(), day);
        let found = settings(&planned[0]);
        ["CURRREL", "PREVREL", "RAWREL", "UP1REL", "UP2REL"]
            .map(|key| found.get(key).map_or("", String::as_str).to_owned())
    };
    for (version, day, expected) in [
        ("Rawhide", TODAY, ["45", "44", "46", "45", "44"]),
        ("46", TODAY, ["45", "44", "46", "45", "44"]),
        ("45", TODAY, ["45", "44", "46", "44", "43"]),
        ("43", TODAY, ["45", "44", "46", "42", ""]),
        ("ELN", TODAY, ["45", "44", "46", "", ""]),
        ("45", BRANCHED, ["44", "43", "46", "44", "43"]),
        ("Rawhide", BRANCHED, ["44", "43", "46", "45", "44"]),
        ("Rawhide", BEFORE, ["44", "43", "45", "44", "43"]),
    ] {
        assert_eq!(of(version, day), expected, "{version} on {day}");
    }
    let lives: Vec<Life> = schedule.releases.iter().map(|release| release.life(TODAY)).collect();
    assert_eq!(lives, [Life::Ended, Life::Current, Life::Current, Life::Current, Life::Rawhide]);
}

fn update(release: &str, builds: &[&str], groups: Option<&[&str]>) -> Update {
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    Update {
        id: "FEDORA-1".to_owned(),
        release: release.to_owned(),
        builds: texts(builds),
        groups: groups.map(texts),
        automatic: None,
    }
}

#[test]
fn updates() {
    let schedule = fedora();
    let all = "container everything-boot-iso kde kde-live-iso server server-upgrade silverblue-dvd_ostree-iso workstation \
               workstation-live-iso workstation-upgrade";
    let of_oldest = all.replace(" server-upgrade", "").replace(" workstation-upgrade", "");
    let plain = ["x-1-1"];
    for (update, expected) in [
        (update("F44", &plain, None), ""),
        (update("F44", &plain, Some(&["critical-path-kde"])), "kde kde-live-iso"),
        (
            update("F44", &plain, Some(&["critical-path-server", "critical-path-apps"])),
            "kde server server-upgrade workstation",
        ),
        (update("F44", &plain, Some(&["critical-path-build"])), ""),
        (update("F44", &plain, Some(&["nobody-knows"])), ""),
        (update("F44", &plain, Some(&["core"])), all),
        (update("F44", &plain, Some(&[])), all),
        (update("F44", &["pki-core-11-1.fc44"], None), "server server-upgrade"),
        (update("F44", &["authselect-1-1.fc44"], None), all),
        (
            update("F44", &["podman-5-1", "ghostscript-1-1"], Some(&["critical-path-kde"])),
            "container kde kde-live-iso workstation",
        ),
        // Nobody upgrades to the oldest one that is maintained.
        (update("F43", &plain, Some(&["core"])), &*of_oldest),
        (update("F46", &plain, Some(&["core"])), all),
    ] {
        let planned = schedule.update(&update, &Choice::default(), TODAY);
        let expected: Vec<String> = expected
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| format!("updates-{word} x86_64"))
            .collect();
        assert_eq!(posts(&planned), expected, "{update:?}");
    }
    let kernels: Vec<String> = (0..41).map(|number| format!("kernel-tools-{number:03}-1.fc46")).collect();
    let many = Update { builds: kernels.clone(), ..update("F46", &[], Some(&["critical-path-server"])) };
    let planned = schedule.update(&many, &Choice::default(), TODAY);
    let found = json!(settings(&planned[0]));
    let expected = json!({
        "DISTRI": "fedora", "VERSION": "46", "ARCH": "x86_64", "FLAVOR": "updates-server", "BUILD": "Update-FEDORA-1",
        "ADVISORY": "FEDORA-1", "ADVISORY_OR_TASK": "FEDORA-1", "UPDATE_OR_TAG_REPO": "nfs://172.16.2.110:/mnt/update_repo",
        "ADVISORY_NVRS_1": kernels[..20].join(" "), "ADVISORY_NVRS_2": kernels[20..40].join(" "), "ADVISORY_NVRS_3": kernels[40],
        "START_AFTER_TEST": "", "BUILDROOT_REPO": "f46-build", "_OBSOLETE": "1", "_ONLY_OBSOLETE_SAME_BUILD": "1",
        "QEMU_HOST_IP": "172.16.2.2", "NICTYPE_USER_OPTIONS": "net=172.16.2.0/24",
        "CURRREL": "45", "PREVREL": "44", "RAWREL": "46", "UP1REL": "45", "UP2REL": "44",
        "ITEM_TYPE": "bodhi_update", "ITEM": "FEDORA-1", "ITEM_REVISION": kernels.join(" "),
    });
    assert_eq!(found, expected);
    // Who names a flavor wants it, with or without its beginning, whatever the update is made of.
    for said in ["kde", "updates-KDE"] {
        let choice = Choice { flavors: vec![said.to_owned()], ..Choice::default() };
        assert_eq!(
            posts(&schedule.update(&update("F44", &plain, None), &choice, TODAY)),
            ["updates-kde x86_64"]
        );
        assert_eq!(schedule.misspelt(&choice), None);
    }
    let choice = Choice { flavors: vec!["kde".to_owned(), "kda".to_owned()], ..Choice::default() };
    assert_eq!(schedule.misspelt(&choice), Some("kda"));
}

#[test]
fn releases_of_updates() {
    let schedule = fedora();
    let refused = |release: &str| schedule.refuses_release(release, TODAY);
    assert_eq!((refused("F43"), refused("F46")), (None, None));
    assert_eq!(refused("F42"), Some(NoRelease::Ended { name: "F42".to_owned() }));
    for other in ["ELN", "EPEL-10.2", "F44F", "F44C", "44"] {
        assert!(matches!(refused(other), Some(NoRelease::Unknown { .. })), "{other}");
    }
    // What is said of the update, then of its release, then what follows from its life.
    let said = |release: Option<bool>, update_says: Option<bool>, name: &str| {
        let mut schedule = fedora();
        for one in &mut schedule.releases {
            *one = Release { automatic: release, ..one.clone() };
        }
        let update =
            Update { automatic: update_says, ..update(name, &["x-1-1"], Some(&["critical-path-kde"])) };
        settings(&schedule.update(&update, &Choice::default(), TODAY)[0]).get("BUILDROOT_REPO").cloned()
    };
    for (release, update, name, expected) in [
        (None, None, "F46", Some("f46-build")),
        (None, None, "F45", None),
        (Some(true), None, "F45", Some("f45-build")),
        (Some(true), Some(false), "F45", None),
        (Some(false), None, "F46", None),
        (None, Some(true), "F44", Some("f44-build")),
    ] {
        assert_eq!(said(release, update, name).as_deref(), expected, "{release:?} {update:?} {name}");
    }
}

#[test]
fn candidates() {
    let schedule = fedora();
    for (kind, id, expected) in [
        (
            CandidateKind::KojiTask,
            "12 13",
            [
                ("BUILD", "Kojitask-12_13-NOREPORT"),
                ("KOJITASK", "12_13"),
                ("UPDATE_OR_TAG_REPO", "nfs://172.16.2.110:/mnt/update_repo"),
            ],
        ),
        (
            CandidateKind::KojiTag,
            "f44-build-side-1",
            [
                ("BUILD", "TAG_f44-build-side-1-NOREPORT"),
                ("TAG", "f44-build-side-1"),
                (
                    "UPDATE_OR_TAG_REPO",
                    "https://kojipkgs.fedoraproject.org/repos/f44-build-side-1/latest/x86_64",
                ),
            ],
        ),
        (
            CandidateKind::Copr,
            "@qa/nightly",
            [
                ("BUILD", "COPR_@qa/nightly-NOREPORT"),
                ("COPR", "@qa/nightly"),
                (
                    "UPDATE_OR_TAG_REPO",
                    "https://download.copr.fedorainfracloud.org/results/@qa/nightly/fedora-44-x86_64",
                ),
            ],
        ),
    ] {
        let candidate =
            Candidate { kind, id: id.to_owned(), revision: String::new(), release: "F44".to_owned() };
        let planned = schedule.candidate(&candidate, &Choice::default(), TODAY);
        assert_eq!(planned.len(), 10, "{kind:?}");
        let settings = settings(&planned[0]);
        for (key, value) in expected {
            assert_eq!(settings[key], value, "{kind:?} {key}");
        }
        assert_eq!((&*settings["UEFI_SECURE"], settings.get("ADVISORY")), ("", None));
        assert!(settings["UEFI_PFLASH_CODE"].starts_with("%INSECURE_"), "{settings:?}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let text = "extra:\n  - {flavor: a, when: {shor: F, not: {tree: E, x: 1}}}\ncomments:\n  - {group: a}\nreleases:\n  - {name: F1, version: 1, automatic-updates: perhaps}\nbeside:\n  X: {subvariant: a, kind: b}\n";
    let found = load("s.yaml", text);
    assert!(found.schedule.is_none());
    let all: Vec<String> = found.diagnostics.iter().map(ToString::to_string).collect();
    let all = all.join("\n");
    for expected in [
        "s.yaml:2:24: error: unknown key `shor` of which composes are meant; did you mean `short`?",
        "unknown key `x` of which composes are meant",
        "an entry of `comments` needs the key `text`",
        "`automatic-updates`: expected true or false",
        "unknown key `kind` of an image that is wanted",
    ] {
        assert!(all.contains(expected), "{expected} is not in\n{all}");
    }
}

fn json_of(depth: u32) -> BoxedStrategy<Value> {
    let keys = "(payload|compose|id|type|label|release|short|version|variants|paths|os_tree|images|path|subvariant|format|arch|\
                buildid|coreos-assembler.basearch|live-iso|x)";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[a-zA-Z0-9./-]{0,8}".prop_map(Value::from)
    ];
    leaf.prop_recursive(depth, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(keys, inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
    .boxed()
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(images:\n - |extra:\n - |releases:\n - )?[\\PC\n]{0,200}", cut in 0_usize..4000) {
        for text in [text.as_str(), FEDORA.get(..cut).unwrap_or(FEDORA)] {
            let loaded = load("s.yaml", text);
            prop_assert!(loaded.schedule.is_some() || !loaded.diagnostics.is_empty());
        }
    }

    #[test]
    fn any_metadata_are_read_or_refused(info in json_of(5), images in json_of(5), day in -100_000_i64..100_000) {
        let schedule = fedora();
        for compose in [Compose::read(&info, &images), Compose::read_coreos(&info)].into_iter().flatten() {
            let planned = schedule.compose(&compose, "https://x/c", &Choice::default(), day);
            let keys: std::collections::BTreeSet<&str> = planned.iter().map(|one| one.key.as_str()).collect();
            prop_assert!(keys.len() == planned.len() && keys.iter().all(|key| key.len() <= 401));
        }
    }
}
