//! Task runs: those that are shipped, on packages that are built here, good and bad ones; and a task of a repository
//! through the server, with Koji's folders on a web server.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_fakes::koji::FakeKoji;
use assay_tests::{Ended, Place, Started, Up, asking, repository, signature};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A package of a library and a program, with what a test wants to be different.
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    /// The library's source; without one there is no library.
    library: &'a str,
    /// Lines of the preamble, and scriptlets.
    preamble: &'a str,
    scriptlets: &'a str,
}

const PLAIN: Package<'_> =
    Package { name: "hello", version: "1.0", library: "", preamble: "", scriptlets: "" };

impl Package<'_> {
    /// Builds it with rpmbuild and answers the folder of its packages, the source package among them.
    async fn build(&self, place: &Place) -> Utf8PathBuf {
        let Self { name, version, library, preamble, scriptlets } = self;
        let top = place.join(&format!("build-{name}-{version}"));
        let tree = top.join(format!("{name}-{version}"));
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("lib.c"), library).unwrap();
        fs::write(tree.join("README"), "It says hello.\n").unwrap();
        tar(place, &top, &format!("{name}-{version}.tar.gz"), &format!("{name}-{version}")).await;
        let (compile, install, file) = if library.is_empty() {
            ("true".to_owned(), "true".to_owned(), "BuildArch: noarch".to_owned())
        } else {
            (
                format!("gcc -g -O2 -shared -fPIC -Wl,-soname,lib{name}.so.1 -o lib{name}.so.1 lib.c"),
                format!("install -D -m755 lib{name}.so.1 %{{buildroot}}/usr/lib64/lib{name}.so.1"),
                String::new(),
            )
        };
        let library_file =
            if library.is_empty() { String::new() } else { format!("/usr/lib64/lib{name}.so.1") };
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: Says something to people\nLicense: MIT\nURL: https://example.org/\n\
             Source0: {name}-{version}.tar.gz\n{file}\n{preamble}\n%description\nIt says something friendly to everybody who asks.\n\
             %prep\n%setup -q\n%build\n{compile}\n%install\ninstall -D -m644 README %{{buildroot}}/usr/share/{name}/README\n{install}\n\
             {scriptlets}\n%files\n/usr/share/{name}\n{library_file}\n\
             %changelog\n* Sat Nov 21 2026 Alice <alice@example.org> - {version}-1\n- Made\n"
        );
        rpmbuild(place, &top, name, &spec).await
    }
}

async fn tar(place: &Place, dir: &Utf8Path, archive: &str, what: &str) {
    let mut command = place.command("tar");
    command.current_dir(dir).args(["-czf", archive, what]);
    place.run_command(command).await.expect(0);
}

async fn rpmbuild(place: &Place, top: &Utf8Path, name: &str, spec: &str) -> Utf8PathBuf {
    fs::create_dir_all(top).unwrap();
    let (file, out) = (top.join(format!("{name}.spec")), top.join("out"));
    fs::write(&file, spec).unwrap();
    let mut command = place.command("rpmbuild");
    for (key, value) in [
        ("_topdir", top),
        ("_sourcedir", top),
        ("_rpmdir", &out),
        ("_srcrpmdir", &out),
        ("_rpmfilename", Utf8Path::new("%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm")),
        ("_build_id_links", Utf8Path::new("none")),
        ("_dbpath", &top.join("db")),
    ] {
        command.args(["--define", &format!("{key} {value}")]);
    }
    command.arg("-ba").arg(&file);
    place.run_command(command).await.expect(0);
    out
}

/// A system that packages can be installed into: a shell and what it is linked with.
async fn base(place: &Place) -> Utf8PathBuf {
    let spec = "Name: base\nVersion: 1\nRelease: 1\nSummary: A shell\nLicense: MIT\nAutoReqProv: no\nProvides: /bin/sh\n%description\nA shell.\n\
        %install\nmkdir -p %{buildroot}/usr/bin %{buildroot}/usr/lib\ncp -L /bin/sh %{buildroot}/usr/bin/sh\n\
        for file in $(ldd /bin/sh | grep -o '/[^ ]*'); do install -D $file %{buildroot}/usr/lib/base$file; done\n\
        cp -r %{buildroot}/usr/lib/base/. %{buildroot}/; rm -r %{buildroot}/usr/lib/base; ln -s usr/bin %{buildroot}/bin\n\
        (cd %{buildroot}; find . -type f -o -type l | sed 's/^.//') > files\n%files -f files\n";
    rpmbuild(place, &place.join("build-base"), "base", spec).await
}

/// A repository of the packages in these folders.
async fn repository_of(place: &Place, name: &str, folders: &[&Utf8Path]) -> Utf8PathBuf {
    let dir = place.join(name);
    fs::create_dir(&dir).unwrap();
    for folder in folders {
        for entry in folder.read_dir_utf8().unwrap().flatten() {
            if !entry.file_name().ends_with(".src.rpm") {
                fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
            }
        }
    }
    let mut command = place.command("createrepo_c");
    command.args(["--quiet", dir.as_str()]);
    place.run_command(command).await.expect(0);
    dir
}

/// Runs a task that is shipped, and insists on the exit code.
async fn shipped(place: &Place, task: &str, code: i32, arguments: &[&str]) -> Value {
    let task = repository().join("tasks").join(task);
    let arguments = [&["run", "--task", task.as_str(), "--arch", "x86_64", "--json"], arguments].concat();
    let ended: Ended = place.run(&arguments).await;
    if ended.code != Some(code) {
        let out = ended.json()["out"].as_str().unwrap_or_default().to_owned();
        let console = fs::read_to_string(format!("{out}/console.txt")).unwrap_or_default();
        panic!("exit code {:?}\n{}\n{}\n{console}", ended.code, ended.stdout, ended.stderr);
    }
    ended.json()
}

/// Outcome and note of the one result.
fn only(summary: &Value) -> (&str, &str) {
    let results = summary["results"].as_array().unwrap();
    assert_eq!(results.len(), 1, "{summary}");
    (results[0]["outcome"].as_str().unwrap(), results[0]["note"].as_str().unwrap())
}

#[tokio::test]
async fn rpmlint_tells_clean_packages_from_others() {
    let place = Place::new();
    let good = PLAIN.build(&place).await;
    let summary =
        shipped(&place, "rpmlint", 0, &["--item", "hello-1.0-1", "--packages", good.as_str()]).await;
    let (outcome, note) = only(&summary);
    assert!(outcome == "PASSED" && note.starts_with("2 packages"), "{summary}");
    assert_eq!(summary["results"][0]["testcase"], "dist.rpmlint");
    let open_to_all = "chmod 666 %{buildroot}/usr/share/hello/README\n";
    let bad = Package { version: "2.0", scriptlets: open_to_all, ..PLAIN }.build(&place).await;
    let summary = shipped(&place, "rpmlint", 1, &["--item", "hello-2.0-1", "--packages", bad.as_str()]).await;
    let (outcome, note) = only(&summary);
    assert!(outcome == "FAILED" && note.contains("world-writable /usr/share/hello/README"), "{note}");
    let log = summary["results"][0]["artifact"].as_str().unwrap();
    assert_eq!(log, "artifacts/rpmlint-hello-2.0-1.txt");
}

/// How libraries are named and laid out is each distribution's own business.
#[tokio::test]
async fn rpmlint_takes_a_library_as_fedora_packages_it() {
    let place = Place::new();
    let devel = "mkdir -p %{buildroot}/usr/include\necho 'int good(void);' >%{buildroot}/usr/include/good.h\n\
        ln -s liblibgood.so.1 %{buildroot}/usr/lib64/liblibgood.so\n\
        %package devel\nSummary: Headers of a library\nRequires: libgood = 1.0-1\n\
        %description devel\nWhat is needed to build programs that use the library.\n\
        %files devel\n/usr/lib64/liblibgood.so\n/usr/include/good.h\n";
    let good = Package {
        name: "libgood",
        library: "#include <stdio.h>\nint good(void);\nint good(void) { return puts(\"good\"); }\n",
        // With the links to its build ID, which RPM makes by itself.
        preamble: "%define debug_package %{nil}\n%global _build_id_links compat",
        scriptlets: devel,
        ..PLAIN
    };
    let good = good.build(&place).await;
    let summary =
        shipped(&place, "rpmlint", 0, &["--item", "libgood-1.0-1", "--packages", good.as_str()]).await;
    assert_eq!(only(&summary).0, "PASSED", "{summary}");
}

#[tokio::test]
async fn depcheck_finds_what_cannot_be_installed_and_what_is_broken_by_it() {
    let place = Place::new();
    let library =
        Package { name: "lib", library: "int f(void){return 1;}", preamble: "AutoReq: no", ..PLAIN };
    let user = Package { name: "user", preamble: "Requires: liblib.so.1()(64bit)", ..PLAIN };
    let broken = Package { name: "broken", preamble: "Requires: never-there", ..PLAIN };
    let (library, user, broken) =
        (library.build(&place).await, user.build(&place).await, broken.build(&place).await);
    let world = repository_of(&place, "world", &[&library, &user, &broken]).await;
    let world = format!("world={world}");
    let check = async |code: i32, item: &str, packages: &Utf8Path| {
        let arguments = ["--item", item, "--packages", packages.as_str(), "--repository", world.as_str()];
        shipped(&place, "depcheck", code, &arguments).await
    };
    // That something else is broken already is no fault of a new one.
    let good =
        Package { name: "new", preamble: "Requires: user = 1.0\nRequires: /usr/share/lib/README", ..PLAIN };
    assert_eq!(only(&check(0, "new-1.0-1", &good.build(&place).await).await).0, "PASSED");
    let needs = Package { name: "needy", preamble: "Requires: user >= 2", ..PLAIN }.build(&place).await;
    let summary = check(1, "needy-1.0-1", &needs).await;
    let (outcome, note) = only(&summary);
    assert!(outcome == "FAILED" && note.contains("nothing provides user >= 2 needed by needy"), "{note}");
    let conflicts =
        Package { name: "foe", preamble: "Requires: user\nConflicts: lib", ..PLAIN }.build(&place).await;
    let summary = check(1, "foe-1.0-1", &conflicts).await;
    assert!(only(&summary).1.contains("conflict"), "{summary}");
    let without = Package { name: "lib", version: "2.0", ..PLAIN }.build(&place).await;
    let summary = check(1, "lib-2.0-1", &without).await;
    let (outcome, note) = only(&summary);
    assert!(
        outcome == "FAILED" && note.contains("nothing provides liblib.so.1()(64bit) needed by user"),
        "{note}"
    );
}

/// What goes to a tag together: each build is told what it breaks, and nothing of what another one does.
#[tokio::test]
async fn depcheck_tells_several_builds_apart() {
    let place = Place::new();
    let library =
        Package { name: "lib", library: "int f(void){return 1;}", preamble: "AutoReq: no", ..PLAIN };
    let user = Package { name: "user", preamble: "Requires: liblib.so.1()(64bit)", ..PLAIN };
    let old = Package { name: "old", ..PLAIN };
    let needs_old = Package { name: "needsold", preamble: "Requires: old", ..PLAIN };
    let mut folders = Vec::new();
    for package in [library, user, old, needs_old] {
        folders.push(package.build(&place).await);
    }
    let folders: Vec<&Utf8Path> = folders.iter().map(Utf8PathBuf::as_path).collect();
    let world = format!("world={}", repository_of(&place, "world", &folders).await);
    // One loses what others need, one takes another's place without what it was for, one cannot be installed, one is good.
    let subpackage = "%package -n python3-new\nSummary: Another name\n%description -n python3-new\nIt has another name than its build.\n\
        %files -n python3-new\n";
    let new = [
        Package { name: "lib", version: "2.0", ..PLAIN },
        Package { name: "thief", preamble: "Obsoletes: old", ..PLAIN },
        Package { name: "needy", preamble: "Requires: user >= 2", ..PLAIN },
        Package { name: "new", scriptlets: subpackage, ..PLAIN },
    ];
    let together = place.join("together");
    fs::create_dir(&together).unwrap();
    for package in &new {
        for entry in package.build(&place).await.read_dir_utf8().unwrap().flatten() {
            fs::copy(entry.path(), together.join(entry.file_name())).unwrap();
        }
    }
    let check = async |item: &[&str]| {
        let arguments = ["--packages", together.as_str(), "--repository", world.as_str()];
        let summary = shipped(&place, "depcheck", 1, &[item, &arguments].concat()).await;
        let results = summary["results"].as_array().unwrap().clone();
        let line = |one: &Value| {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            assert_eq!(one["data"]["type"], json!(["koji_build"]), "{one}");
            let item = one["data"]["item"][0].as_str().unwrap().to_owned();
            (item, text("outcome"), text("note"))
        };
        results.iter().map(line).collect::<Vec<_>>()
    };
    let named =
        ["--build", "lib-2.0-1", "--build", "thief-1.0-1", "--build", "needy-1.0-1", "--build", "new-1.0-1"];
    let tag = ["--item", "f44-updates", "--type", "koji_tag"];
    let wanted = [
        ("lib-2.0-1", "FAILED", "nothing provides liblib.so.1()(64bit) needed by user"),
        ("needy-1.0-1", "FAILED", "nothing provides user >= 2 needed by needy"),
        ("new-1.0-1", "PASSED", "everything that is needed is there"),
        ("thief-1.0-1", "FAILED", "nothing provides old needed by needsold"),
    ];
    // Named or not: what is in the folder says of which build it is. One of them is not blamed for the others.
    for item in [&[&tag[..], &named[..]].concat()[..], &tag, &["--item", "new-1.0-1"]] {
        let found = check(item).await;
        assert_eq!(found.len(), wanted.len(), "{item:?}: {found:?}");
        for ((build, outcome, note), (wanted, verdict, why)) in found.iter().zip(wanted) {
            assert!(build == wanted && outcome == verdict && note.contains(why), "{item:?}: {found:?}");
            assert!(!note.contains(';'), "{item:?}: only its own: {found:?}");
        }
    }
}

#[tokio::test]
async fn abicheck_and_static_analysis_compare_with_the_build_before() {
    let place = Place::new();
    let build = async |version: &str, library: &str| {
        let out = Package {
            version,
            library,
            preamble: "AutoReq: no\n%define debug_package %{nil}\n%define __strip /bin/true",
            ..PLAIN
        };
        out.build(&place).await
    };
    let old = build("1.0", "int hello(int a) { return a; }\nint more(void) { return 1; }\n").await;
    let table = [
        ("1.1", "int more(void) { return 1; }\nint hello(int a) { return a; }\n", "PASSED", "PASSED"),
        (
            "1.2",
            "int hello(int a) { return a; }\nint more(void) { return 1; }\nint much(void) { return 2; }\n",
            "NEEDS_INSPECTION",
            "PASSED",
        ),
        ("2.0", "int hello(int a) { int x[2]; x[2] = a; return x[0]; }\n", "FAILED", "FAILED"),
    ];
    for (version, source, abi, analysis) in table {
        let new = build(version, source).await;
        let item = format!("hello-{version}-1");
        let arguments = [
            "--item",
            &item,
            "--packages",
            new.as_str(),
            "--baseline",
            "hello-1.0-1",
            "--baseline-packages",
            old.as_str(),
        ];
        for (task, wanted) in [("abicheck", abi), ("static-analysis", analysis)] {
            let summary = shipped(&place, task, i32::from(wanted != "PASSED"), &arguments).await;
            assert_eq!(only(&summary).0, wanted, "{task}: {summary}");
            if version == "2.0" && task == "static-analysis" {
                assert!(only(&summary).1.starts_with("1 new, 0 mended"), "{summary}");
            }
        }
    }
    // A defect that was there before is no new one, wherever it stands by now.
    let (before, after) = (
        build("3.0", "int f(int a) { int x[2]; x[2] = a; return x[0]; }\n").await,
        build("3.1", "int g(void) { return 0; }\nint f(int a) { int x[2]; x[2] = a; return x[0]; }\n").await,
    );
    let arguments = ["--item", "hello-3.1-1", "--packages", after.as_str()];
    let compared = ["--baseline-packages", before.as_str()];
    let summary = shipped(&place, "static-analysis", 0, &[&arguments[..], &compared].concat()).await;
    assert_eq!(only(&summary), ("PASSED", "0 new, 0 mended, 1 in all"));
    for task in ["static-analysis", "abicheck"] {
        assert_eq!(
            only(&shipped(&place, task, 0, &arguments).await).0,
            "INFO",
            "{task}: nothing to compare with"
        );
    }
}

#[tokio::test]
async fn installability_installs_upgrades_and_removes() {
    let place = Place::new();
    let base = base(&place).await;
    let world = format!("world={}", repository_of(&place, "world", &[&base]).await);
    let check = async |code: i32, package: &Package<'_>, more: &[&str]| {
        let packages = package.build(&place).await;
        let item = format!("{}-{}-1", package.name, package.version);
        let arguments = ["--item", &item, "--packages", packages.as_str(), "--repository", world.as_str()];
        shipped(&place, "installability", code, &[&arguments, more].concat()).await
    };
    let good = "%post\n[ -e /usr/share/hello/README ] && echo hi >/dev/null\n%preun\ntrue\n";
    let old = Package { scriptlets: good, ..PLAIN }.build(&place).await;
    let upgraded = ["--baseline-packages", old.as_str()];
    let summary = check(0, &Package { version: "2.0", scriptlets: good, ..PLAIN }, &upgraded).await;
    assert_eq!(only(&summary), ("PASSED", "1 packages installed, upgraded, and removed"), "{summary}");
    let table = [
        ("postfails", "", "%post\nexit 3\n", "install postfails: ", "scriptlet failed, exit status 3"),
        ("preunfails", "", "%preun\nexit 4\n", "remove preunfails: ", "scriptlet failed, exit status 4"),
        ("lacks", "Requires: never-there", "", "install lacks: ", "nothing provides never-there"),
    ];
    for (name, preamble, scriptlets, step, why) in table {
        let summary = check(1, &Package { name, preamble, scriptlets, ..PLAIN }, &[]).await;
        let (outcome, note) = only(&summary);
        assert!(outcome == "FAILED" && note.contains(step) && note.contains(why), "{name}: {note}");
    }
    let torn = "%pre\n[ $1 = 1 ] || exit 5\n";
    let summary = check(1, &Package { version: "3.0", scriptlets: torn, ..PLAIN }, &upgraded).await;
    assert!(only(&summary).1.contains("upgrade hello: "), "{summary}");
}

/// A Koji with releases and their updates.
async fn koji_hub() -> FakeKoji {
    let koji = FakeKoji::start().await.unwrap();
    for (tag, builds) in [
        ("f43", &["hello-1.0-1"][..]),
        ("f43-updates", &["hello-1.5-1"]),
        ("f44", &["hello-1.2-1"]),
        ("f44-updates", &[]),
        ("f45", &["hello-1.6-1"]),
        ("f45-updates", &[]),
        ("f45-updates-pending", &["hello-2.5-1"]),
    ] {
        koji.tag(tag, &[]);
        for nvr in builds {
            koji.build(nvr, 0, &["x86_64"]);
            koji.put(tag, nvr);
        }
    }
    koji
}

#[tokio::test]
async fn upgradepath_knows_the_order_of_releases() {
    let place = Place::new();
    let koji = koji_hub().await;
    let hub = format!("hub={}", koji.hub());
    let table = [
        ("hello-1.4-1", 1, "FAILED", "f43 has hello-1.5-1, which is newer"),
        ("hello-1.5.1-1", 0, "PASSED", "in order from f43 to f45"),
        ("hello-2.0-1", 0, "INFO", "hello-2.5-1 has to be pushed to f45 together with it"),
        ("hello-3.0~rc1-1", 1, "FAILED", "f45 has hello-1.6-1, which is older"),
        ("other-1-1", 0, "PASSED", "in order from f43 to f45"),
    ];
    let inputs = ["--input", &hub, "--input", "releases=f43 f44 f45", "--input", "tag=f44-updates"];
    for (item, code, outcome, note) in table {
        koji.build(item, 0, &["x86_64"]);
        let summary = shipped(&place, "upgradepath", code, &[&["--item", item], &inputs[..]].concat()).await;
        assert_eq!(only(&summary), (outcome, note), "{item}");
    }
    let misspelt =
        ["--item", "hello-1-1", "--input", &hub, "--input", "releases=f43 f46", "--input", "tag=f43"];
    for item in ["hello-1-1", "hello-1.0-1"] {
        let misspelt = [&["--item", item], &misspelt[2..]].concat();
        let summary = shipped(&place, "upgradepath", 2, &misspelt).await;
        assert!(summary["reason"].as_str().unwrap().contains("the task crashed"), "{summary}");
    }
    let summary = shipped(&place, "upgradepath", 2, &["--item", "hello-1-1", "--input", &hub]).await;
    assert!(
        summary["reason"].as_str().unwrap().contains("give the inputs releases, tag and hub"),
        "{summary}"
    );
}

/// A web server that lists folders, as Koji's does.
async fn web(place: &Place, dir: &Utf8Path) -> (Started, String) {
    let mut command = place.command("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", dir.as_str()]);
    let mut server = place.start_command(command);
    let line = server.line().await.unwrap();
    let port = line.split("port ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    (server, format!("http://127.0.0.1:{port}"))
}

const PROBE: &str = "#!/usr/bin/python3
import json, sys
given = json.load(sys.stdin)
names = sorted(one['path'].rsplit('/', 1)[1] for one in given['packages'])
results = [{'testcase': 'dist.probe', 'outcome': 'PASSED', 'note': ' '.join(names), 'scenario': 'one', 'artifact': 'log.txt'}]
if given['inputs'].get('thief'):
    results.append({'testcase': 'pkg.bash.unit', 'outcome': 'PASSED'})
open(given['artifacts'] + '/log.txt', 'w').write('looked')
json.dump({'results': results}, open(given['results'] + '/r.yaml', 'w'))
";

const RULES: &str = "rules:
  - name: probe
    when: {topic: assay.job.done, body.test: asks}
    item: {type: koji_build, id: c++-1.0-1, revision: '1'}
    run: {job: {BACKEND: task, TASK: probe, TEST: probe}}
";

#[tokio::test]
async fn a_task_of_a_repository_runs_at_its_commit_and_posts_under_its_own_names() {
    let place = Place::new();
    let (repo, koji) = (place.join("checks"), place.join("koji"));
    let probe = repo.join("probe");
    fs::create_dir_all(&probe).unwrap();
    let header = "name: probe\ntestcase: dist.probe\ntakes: [koji_build]\nrun: ./probe.py\ninput: {packages: [binary, source]}\n";
    fs::write(probe.join("task.yaml"), header).unwrap();
    fs::write(probe.join("probe.py"), PROBE).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(probe.join("probe.py"), mode).unwrap();
    committed(&place, &repo).await;
    let commit = place.git(&repo, &["rev-parse", "HEAD"]).await;
    for file in [
        "x86_64/c++-1.0-1.x86_64.rpm",
        "noarch/c++-doc-1.0-1.noarch.rpm",
        "src/c++-1.0-1.src.rpm",
        "s390x/c++-1.0-1.s390x.rpm",
    ] {
        let path = koji.join("packages/c++/1.0/1").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    let (server, topurl) = web(&place, &koji).await;
    let koji_hub = koji_hub().await;
    let hub_url = koji_hub.hub();
    let config = place.join("assay.toml");
    fs::write(
        &config,
        format!(
            "[tasks]\nkoji-topurl = \"{topurl}\"\nkoji-hub = \"{hub_url}\"\n[tasks.repository.probe]\nurl = \"file://{repo}\"\npath = \"probe\"\nref = \"main\"\n\
             [[tasks.namespace]]\nprefix = \"dist\"\nrepositories = [\"file://{}/*\"]\n\
             [events]\nrules = \"rules.yaml\"\n[source.jobs]\ndriver = \"jobs\"\n",
            place.path()
        ),
    )
    .unwrap();
    fs::write(place.join("rules.yaml"), RULES).unwrap();
    let up = Up::start(&place, &["--config", config.as_str()]).await;
    let item = [("BACKEND", "task"), ("TASK", "probe"), ("ITEM", "c++-1.0-1"), ("ITEM_TYPE", "koji_build")];
    let job = up.post(&item).await;
    let ended = up.wait(job).await;
    assert_eq!((ended.result.as_str(), ended.reason.as_deref()), ("passed", None));
    let settings = up.get(&format!("jobs/{job}")).await["settings"].clone();
    for (key, value) in
        [("TASK_COMMIT", commit.as_str()), ("TASK_NAMESPACES", "dist"), ("WORKER_CLASS", "shell")]
    {
        assert_eq!(settings[key]["value"], value, "{key}");
    }
    let found = posted(&up, "dist.probe", 1).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["outcome"], "PASSED");
    assert_eq!(found[0]["note"], "c++-1.0-1.src.rpm c++-1.0-1.x86_64.rpm c++-doc-1.0-1.noarch.rpm");
    assert_eq!(
        (&found[0]["data"]["item"], &found[0]["data"]["scenario"]),
        (&json!(["c++-1.0-1"]), &json!(["one"]))
    );
    let log = found[0]["ref_url"].as_str().unwrap().strip_prefix(&up.url).unwrap().to_owned();
    assert_eq!(up.request(Method::GET, &log).send().await.unwrap().text().await.unwrap(), "looked");

    // A rule runs it, too.
    up.post(&[("TEST", "asks"), ("BACKEND", "dummy")]).await;
    let found = posted(&up, "dist.probe", 2).await;
    assert_eq!(found[0]["data"]["item"], json!(["c++-1.0-1"]));

    // What the branch becomes later is not what an older job ran.
    fs::write(probe.join("probe.py"), "#!/bin/sh\nexit 7\n").unwrap();
    place.git(&repo, &["commit", "--quiet", "-am", "broken"]).await;
    let pinned = [&item[..], &[("TASK_COMMIT", &commit), ("INPUT_THIEF", "1")]].concat();
    let ended = up.wait(up.post(&pinned).await).await;
    assert_eq!(ended.result, "incomplete");
    let reason = ended.reason.unwrap();
    assert!(
        reason.contains("the result pkg.bash.unit is refused") && reason.contains("are dist"),
        "{reason}"
    );
    // What it may say it has said, in the same transaction as what it may not.
    assert_eq!(posted(&up, "dist.probe", 3).await.len(), 3);
    assert_eq!(posted(&up, "pkg.bash.unit", 0).await, Vec::<Value>::new());

    // A task that crashes has done so under the name that its header gives it.
    let broken = place.git(&repo, &["rev-parse", "HEAD"]).await;
    let crashed = up.post(&[&item[1..], &[("TASK_COMMIT", &broken)]].concat()).await;
    assert_eq!(up.wait(crashed).await.result, "incomplete");
    let mut states = of_testcase(&up, "dist.probe").await;
    states.retain(|one| one["data"]["job"] == json!([crashed.to_string()]));
    let states: Vec<&str> = states.iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(states, ["CRASHED", "RUNNING", "QUEUED"]);

    let compared = [&item[..], &[("BASELINE_TAG", "f43"), ("ITEM", "hello-2.0-1")]].concat();
    let compared = up.post(&compared).await;
    assert_eq!(up.get(&format!("jobs/{compared}")).await["settings"]["BASELINE"]["value"], "hello-1.0-1");
    let elsewhere = up.wait(up.post(&[&item[..], &[("TASK_DIR", "/etc")]].concat()).await).await;
    assert!(elsewhere.reason.unwrap().contains("names a folder of the worker"));

    for (settings, status, said) in [
        (
            vec![("BACKEND", "task"), ("TASK", "prob")],
            StatusCode::BAD_REQUEST,
            "There is no task \\\"prob\\\".",
        ),
        (vec![("BACKEND", "task")], StatusCode::BAD_REQUEST, "needs TASK"),
        (
            [&item[..], &[("TESTCASE", "pkg.bash")]].concat(),
            StatusCode::BAD_REQUEST,
            "none of the names that",
        ),
        ([&item[..], &[("TASK_REF", "nobranch")]].concat(), StatusCode::BAD_REQUEST, "has no branch or tag"),
        ([&item[..], &[("BASELINE_TAG", "f99")]].concat(), StatusCode::BAD_REQUEST, "No such tagInfo: 'f99'"),
        (
            vec![("BACKEND", "task"), ("TASK", "file:///nonexistent/x")],
            StatusCode::SERVICE_UNAVAILABLE,
            "is not known",
        ),
    ] {
        let settings: serde_json::Map<_, _> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let body = json!({"settings": settings});
        let answer = up.request(Method::POST, "/api/assay/v1/jobs").json(&body).send().await.unwrap();
        let (found, text) = (answer.status(), answer.text().await.unwrap());
        assert!(found == status && text.contains(said), "{found} {text}");
    }
    drop((server, koji_hub));
    up.stop().await;
}

/// Makes a repository of a folder; the address.
async fn committed(place: &Place, dir: &Utf8Path) -> String {
    place.git(dir, &["init", "--quiet", "--initial-branch=main"]).await;
    place.git(dir, &["add", "."]).await;
    place.git(dir, &["commit", "--quiet", "-m", "tasks"]).await;
    format!("file://{dir}")
}

#[tokio::test]
async fn a_package_that_is_submitted_is_linted_once_by_the_rule_and_the_task_that_are_shipped() {
    let place = Place::new();
    let open_to_all = "chmod 666 %{buildroot}/usr/share/hello/README\n";
    let bad = Package { version: "2.0", scriptlets: open_to_all, ..PLAIN };
    for (version, package) in [("1.0", &PLAIN), ("2.0", &bad)] {
        let built = package.build(&place).await;
        for entry in built.read_dir_utf8().unwrap().flatten() {
            let arch = entry.file_name().rsplit('.').nth(1).unwrap().to_owned();
            let folder = place.join(&format!("koji/packages/hello/{version}/1/{arch}"));
            fs::create_dir_all(&folder).unwrap();
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let (server, topurl) = web(&place, &place.join("koji")).await;
    let checks = place.join("checks");
    let mut copy = place.command("cp");
    copy.args(["-r", repository().join("tasks").as_str(), checks.as_str()]);
    place.run_command(copy).await.expect(0);
    let url = committed(&place, &checks).await;
    let rules = repository().join("examples/rules");
    fs::write(place.join("secret"), "s3cret\n").unwrap();
    let config = place.join("assay.toml");
    let text = format!(
        "[tasks]\nkoji-topurl = \"{topurl}\"\n[tasks.repository.rpmlint]\nurl = \"{url}\"\npath = \"rpmlint\"\n\
         [[tasks.namespace]]\nprefix = \"dist\"\nrepositories = [\"{url}\"]\n[events]\nrules = \"{rules}\"\n\
         [source.bus]\ndriver = \"webhook\"\nsecret-file = \"secret\"\ntopic = \"org.fedoraproject.prod.bodhi.update.status\"\n\
         topic-header = \"x-topic\"\nid-header = \"x-github-delivery\"\n"
    );
    fs::write(&config, text).unwrap();
    let up = Up::start(&place, &["--config", config.as_str()]).await;
    // Those of the eight rules whose tasks this server does not know are named.
    let listed: Value =
        serde_json::from_str(&place.run(&["rule", "list", "--json"]).await.expect(0).stdout).unwrap();
    let findings = listed["findings"].to_string();
    assert!(
        findings.contains("rule depcheck: There is no task") && !findings.contains("rule rpmlint:"),
        "{findings}"
    );
    assert_eq!(listed["rules"][0]["runs"], json!(["task rpmlint"]));
    let example = fs::read_to_string(rules.join("messages/submitted-for-testing.json")).unwrap();
    let mut body = serde_json::from_str::<Value>(&example).unwrap()["body"].clone();
    for (number, nvr) in [(0, "hello-1.0-1"), (1, "hello-2.0-1")] {
        body["artifact"]["builds"][number]["nvr"] = json!(nvr);
    }
    let body = body.to_string();
    let send = async |delivery: &str| {
        let request = up.anonymous(Method::POST, "/api/assay/v1/hooks/bus").body(body.clone());
        let request = request
            .header("x-topic", "testing.koji-build-group.build.complete")
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", signature("s3cret", &body));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::ACCEPTED);
    };
    send("1").await;
    let found = posted(&up, "dist.rpmlint", 2).await;
    let outcome = |item: &str| {
        let one = found.iter().find(|one| one["data"]["item"] == json!([item])).unwrap();
        (one["outcome"].as_str().unwrap().to_owned(), one["note"].as_str().unwrap().to_owned())
    };
    assert_eq!(outcome("hello-1.0-1").0, "PASSED");
    let (failed, note) = outcome("hello-2.0-1");
    assert!(failed == "FAILED" && note.contains("world-writable /usr/share/hello/README"), "{note}");
    // The bus says it once more, in another message: it is about the same builds.
    send("2").await;
    asking("the second message is matched", async || {
        let events = up.get("inbox?limit=10").await["events"].as_array().unwrap().clone();
        (events.len() == 2 && events.iter().all(|event| event["state"] == "matched")).then_some(())
    })
    .await;
    let jobs = up.get("jobs?limit=10").await["jobs"].as_array().unwrap().clone();
    assert_eq!(jobs.len(), 2, "{jobs:#?}");
    assert!(jobs.iter().all(|job| job["settings"]["ASSAY_RULE"]["value"] == "rpmlint"));
    drop(server);
    up.stop().await;
}

const IN_MACHINE: &str = "#!/bin/sh
echo \"I am $(cat /proc/sys/kernel/ostype), with $(cat /proc/cmdline)\"
echo looked >/workspace/artifacts/log.txt
echo '{\"results\": [{\"outcome\": \"PASSED\", \"artifact\": \"log.txt\", \"note\": \"'$(cat packages.txt)'\"}]}' >/workspace/results/r.yaml
rm -rf /bin/cat /etc
";

/// A folder with a task that breaks its machine, and a guest that it may break.
fn machine_task(place: &Place) -> (Utf8PathBuf, Utf8PathBuf) {
    let (task, guest) = (place.join("destroy/task"), place.join("guest"));
    fs::create_dir_all(&task).unwrap();
    let header = "name: destroy\ntestcase: scratch.destroy\ntakes: [koji_build]\nrun: ./run.sh\nneeds: [destructive]\n\
                  timeout: 5m\nresources: {memory: 256 MiB}\n";
    fs::write(task.join("task.yaml"), header).unwrap();
    fs::write(task.join("packages.txt"), "all there").unwrap();
    fs::write(task.join("run.sh"), IN_MACHINE).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(task.join("run.sh"), mode).unwrap();
    let script = repository().join("examples/cluster/make-guest");
    let made = std::process::Command::new(script).arg(&guest).status().unwrap();
    assert!(made.success(), "the guest cannot be made; see the list of packages in ./test");
    (task, guest)
}

#[tokio::test]
async fn a_task_that_breaks_its_machine_has_one_of_its_own() {
    let place = Place::new();
    let (task, guest) = machine_task(&place);
    let variables = [("KERNEL", guest.join("linux")), ("INITRD", guest.join("initrd"))];
    // By hand, without a server.
    let out = place.join("out");
    let append = "APPEND=console=ttyS0 quiet task";
    let machine: Vec<String> = variables.iter().map(|(key, file)| format!("{key}={file}")).collect();
    let arguments = [
        "run",
        "--task",
        task.as_str(),
        "--item",
        "a-1-1",
        "--out",
        out.as_str(),
        "--json",
        "--machine",
        &machine[0],
        "--machine",
        &machine[1],
        "--machine",
        append,
    ];
    let summary = place.run(&arguments).await;
    let console = || fs::read_to_string(out.join("console.txt")).unwrap_or_default();
    assert_eq!(summary.code, Some(0), "{}\n{}\n{}", summary.stdout, summary.stderr, console());
    assert_eq!(only(&summary.json()), ("PASSED", "all there"));
    assert!(console().contains("I am Linux, with console=ttyS0 quiet task"), "{}", console());

    // On a server: without a machine it is refused, and says what to do; with one it runs.
    let url = committed(&place, &place.join("destroy")).await;
    let config = place.join("assay.toml");
    fs::write(
        &config,
        format!(
            "[tasks.repository.destroy]\nurl = \"{url}\"\npath = \"task\"\n[tasks.machine.guest]\nKERNEL = \"{}\"\n\
             INITRD = \"{}\"\nAPPEND = \"console=ttyS0 quiet task\"\n",
            variables[0].1, variables[1].1
        ),
    )
    .unwrap();
    let up = Up::start(&place, &["--config", config.as_str()]).await;
    let item = [("BACKEND", "task"), ("TASK", "destroy"), ("ITEM", "a-1-1"), ("ITEM_TYPE", "koji_build")];
    let refused = up.wait(up.post(&item).await).await.reason.unwrap();
    for part in
        ["needs a machine of its own", "[tasks.machine.NAME]", "assay worker --class shell,disposable --once"]
    {
        assert!(refused.contains(part), "{refused}");
    }
    let job = up.post(&[&item[..], &[("TASK_MACHINE", "guest")]].concat()).await;
    let settings = up.get(&format!("jobs/{job}")).await["settings"].clone();
    assert_eq!(settings["WORKER_CLASS"]["value"], "qemu_x86_64");
    let ended = up.wait(job).await;
    assert_eq!((ended.result.as_str(), ended.reason.as_deref()), ("passed", None));
    assert_eq!(posted(&up, "scratch.destroy", 1).await[0]["note"], "all there");
    let unknown = json!({"settings": {"BACKEND": "task", "TASK": "destroy", "TASK_MACHINE": "gest"}});
    let answer = up.request(Method::POST, "/api/assay/v1/jobs").json(&unknown).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(answer.text().await.unwrap().contains("There is no machine"));

    // A worker that is thrown away takes it, and ends.
    let worker = ["worker", "--class", "shell,disposable", "--once", "--name", "once:1", "--pool"];
    let pool = place.join("once");
    let mut worker = place.start(&[&worker[..], &[pool.as_str()]].concat());
    let disposable = [&item[..], &[("WORKER_CLASS", "shell,disposable"), ("TASK_PATH", "gone")]].concat();
    let first = up.post(&disposable).await;
    let ended = up.wait(first).await;
    assert!(ended.reason.unwrap().contains("there is no such folder"));
    let second = up.post(&disposable).await;
    assert_eq!(worker.exit().await, Some(0));
    assert_eq!(
        up.get(&format!("jobs/{second}")).await["state"],
        "scheduled",
        "it takes one job and no other"
    );
    up.stop().await;
}

/// What tasks found of a test case, once there is so much: it is stored after the job has ended. Each has a log.
async fn posted(up: &Up<'_>, testcase: &str, many: usize) -> Vec<Value> {
    asking("results of a task", async || {
        let mut found = of_testcase(up, testcase).await;
        found.retain(|one| one["ref_url"].as_str().is_some_and(|url| url.contains("/blobs/")));
        Some(found).filter(|found| found.len() >= many)
    })
    .await
}

/// All results of a test case, the newest first.
async fn of_testcase(up: &Up<'_>, testcase: &str) -> Vec<Value> {
    let path = format!("/api/v2.0/results?testcases={testcase}");
    let answer: Value = up.request(Method::GET, &path).send().await.unwrap().json().await.unwrap();
    answer["data"].as_array().unwrap().clone()
}
