//! What goes wrong, from the outside: one clear sentence with its remedy, the right exit code, nothing left running.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_records::step::ModuleResult;
use assay_tests::{Place, RunRecord, Signal, Started, Suite, Up, eventually, repository, signal};
use fs_err as fs;
use serde_json::Value;
use std::process::Stdio;

/// cli; hlt
const NOTHING: &[u8] = &[0xfa, 0xf4];

/// mov dx,0x3f8; mov al,'A'; l: out dx,al; jmp l
const FLOOD: &[u8] = &[0xba, 0xf8, 0x03, 0xb0, b'A', 0xee, 0xeb, 0xfd];

/// Sets 800x600 and fills the top rows with 0x5a; at each key the same in 1024x768 and back:
/// xor ax,ax; mov ss,ax; mov sp,0x7c00; mov bx,0x115; again: push bx; mov ax,0x4f02; int 0x10;
/// mov ax,0xa000; mov es,ax; mov al,0x5a; xor di,di; mov cx,0x9000; cld; rep stosb; xor ax,ax; int 0x16;
/// pop bx; xor bx,0xd; jmp again
const TWO_SIZES: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xbb, 0x15, 0x01, 0x53, 0xb8, 0x02, 0x4f, 0xcd, 0x10, 0xb8,
    0x00, 0xa0, 0x8e, 0xc0, 0xb0, 0x5a, 0x31, 0xff, 0xb9, 0x00, 0x90, 0xfc, 0xf3, 0xaa, 0x31, 0xc0, 0xcd,
    0x16, 0x5b, 0x83, 0xf3, 0x0d, 0xeb, 0xe1,
];

/// A module that waits for what never comes.
const WAITS: &str = "t.wait_serial(\"never\", timeout = 100)";

/// Runs a suite that cannot end well; answers the summary.
async fn run(place: &Place, suite: &Suite, settings: &[&str], code: i32) -> Value {
    let out = place.join("out");
    let arguments = [&["run", suite.dir(), "--json", "--out", out.as_str()], settings].concat();
    let ended = place.run(&arguments).await;
    let summary = ended.expect(code).json();
    assert_eq!(ended.stderr, "", "the sentence is said once");
    place.nothing_left().await;
    summary
}

fn reason(summary: &Value) -> &str {
    summary["reason"].as_str().unwrap()
}

/// Runs the suite with settings that are refused before a machine starts.
async fn refused(settings: &[&str], code: i32, wanted: &str) {
    let place = Place::new();
    let suite = place.suite("s").guest(NOTHING).module("a", "", "t.record_info(\"ran\", \"\")");
    let settings: Vec<String> =
        settings.iter().map(|one| one.replace("PLACE", place.path().as_str())).collect();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let summary = run(&place, &suite, &settings, code).await;
    assert_eq!(summary["outcome"], "incomplete");
    assert_eq!(summary["modules"], serde_json::json!([]), "nothing ran");
    assert_eq!(reason(&summary), wanted.replace("PLACE", place.path().as_str()));
}

/// Starts a run and waits until its module waits in turn.
async fn running(place: &Place, suite: &Suite, settings: &[&str]) -> Started {
    let out = place.join("out");
    let arguments = [&["run", suite.dir(), "--json", "--out", out.as_str()], settings].concat();
    let started = place.start(&arguments);
    let journal = out.join("journal.jsonl");
    let waits = || fs::read_to_string(&journal).ok().filter(|text| text.contains("wait_serial"));
    eventually("a run that waits", waits).await;
    started
}

#[tokio::test]
async fn broken_needles_are_named_with_their_places() {
    let place = Place::new();
    let suite = place.suite("s").grub().module("menu", "", "t.assert_screen(\"grub-menu\", timeout = 60)");
    let needle = |name: &str| fs::read(suite.join("needles").join(name)).unwrap();
    let (json, png) = (needle("grub-echo.json"), needle("grub-echo.png"));
    let suite = suite
        .file("needles/cut.json", &json[..60])
        .file("needles/cut.png", &png)
        .file("needles/cutpng.json", &json)
        .file("needles/cutpng.png", &png[..600])
        .file("needles/fake.json", &json)
        .file("needles/fake.png", "GIF89a")
        .file("needles/bare.json", &json);
    let check = place.run(&["test", "check", suite.dir()]).await;
    check.expect(2);
    for line in [
        "needles/bare.json: error: needle bare has no picture; put the screenshot at bare.png, or remove the needle",
        "needles/cut.json:6:4: error: EOF while parsing a value; the file is cut off, copy or write it again",
        "needles/cutpng.png: error: cutpng.png: the PNG is cut off; copy or write it again",
        "needles/fake.png: error: fake.png: ",
        "1 module, 6 needles: 4 errors, 5 warnings",
    ] {
        check.says(line);
    }
    let findings = place.run(&["test", "check", suite.dir(), "--json"]).await.expect(2).json();
    let errors = findings["findings"].as_array().unwrap().iter().filter(|one| one["severity"] == "error");
    let places: Vec<_> =
        errors.map(|one| (one["file"].as_str().unwrap(), one["line"].as_u64().unwrap())).collect();
    let wanted = [("bare.json", 0), ("cut.json", 6), ("cutpng.png", 0), ("fake.png", 0)];
    assert_eq!(
        places,
        wanted
            .map(|(file, line)| (["needles/", file].concat(), line))
            .each_ref()
            .map(|(file, line)| (file.as_str(), *line))
    );

    // The run does not need them, so it goes on and says so in the log.
    let summary = run(&place, &suite, &[], 0).await;
    assert_eq!(summary["outcome"], "passed");
    let log = RunRecord::read(&place.join("out")).log();
    for text in ["needles/bare.json: error: needle bare has no picture", "needles/cut.json:6:4: error"] {
        assert!(log.contains(text), "{text} is not in {log}");
    }
}

#[tokio::test]
async fn a_needle_that_is_needed_and_broken_is_named() {
    let place = Place::new();
    let suite = place.suite("s").grub().module("menu", "", "t.assert_screen(\"grub-menu\", timeout = 60)");
    fs::remove_file(suite.join("needles/grub-menu.png")).unwrap();
    let summary = run(&place, &suite, &[], 1).await;
    let said = reason(&summary);
    assert!(said.contains("no needle carries the tags \"grub-menu\" (1 needles are broken"), "{said}");
    assert!(said.contains("assay test check") && !said.contains('\n'), "{said}");
}

#[tokio::test]
async fn a_misspelt_call_is_found_before_a_machine_starts() {
    let place = Place::new();
    let suite =
        place.suite("s").guest(NOTHING).module("a", "", "t.diag(\"fine\")\n        t.asert_screen(\"x\")");
    let sentence =
        "tests/a.star:5:7: error: the machine has no call `asert_screen`; did you mean `assert_screen`?";
    place.run(&["test", "check", suite.dir()]).await.expect(2).says(sentence);
    let summary = run(&place, &suite, &[], 2).await;
    assert_eq!(reason(&summary), format!("tests died: {sentence}"));
}

#[tokio::test]
async fn python_that_cannot_be_loaded_is_found_before_a_machine_starts() {
    let place = Place::new();
    let text = "from assay import Machine, test\nimport nowhere\n\n@test()\ndef run(t: Machine) -> None:\n    pass\n";
    let suite = place.suite("s").guest(NOTHING).file("tests/a.py", text);
    let summary = run(&place, &suite, &[], 2).await;
    let said = reason(&summary);
    assert!(
        said.starts_with("tests died: tests/a.py:2") && said.contains("No module named 'nowhere'"),
        "{said}"
    );
}

#[tokio::test]
async fn an_endless_loop_is_ended_by_the_modules_timeout() {
    let place = Place::new();
    let suite = place
        .suite("s")
        .guest(NOTHING)
        .module(
            "a",
            "timeout = \"2s\", fatal = False",
            "n = 0\n        for i in range(2000000000):\n            n += i",
        )
        .module("b", "", "t.record_info(\"ran\", \"\")");
    let summary = run(&place, &suite, &[], 1).await;
    assert_eq!(reason(&summary), "a: run of module a took longer than 2 s");
    assert_eq!(summary["modules"][1]["result"], "passed", "the run goes on");
}

#[tokio::test]
async fn an_iso_that_cannot_be_used() {
    let remedy = "Give the path of an existing image, absolute or relative to the job's directory.";
    let missing = format!("ISO=PLACE/no.iso: there is no file PLACE/no.iso. {remedy}");
    refused(&["ISO=PLACE/no.iso"], 2, &missing).await;
    refused(&["ISO=PLACE/run"], 2, &format!("ISO=PLACE/run: PLACE/run is a directory. {remedy}")).await;
    let place = Place::new();
    let suite =
        place.suite("s").file("empty.iso", "").module("a", "", "t.diag(\"x\")").vars(&[("ISO", "empty.iso")]);
    let summary = run(&place, &suite, &[], 2).await;
    let empty = "is empty: 0 bytes. Fetch the image again; a download may have broken off.";
    assert_eq!(reason(&summary), format!("ISO=empty.iso: {}/empty.iso {empty}", suite.dir()));
}

#[tokio::test]
async fn qemu_absent_or_dying_at_start() {
    let remedy = "Install it (on Debian and Ubuntu: apt-get install qemu-system-x86 qemu-utils) or name another one in \
                  the variable QEMU.";
    let absent = format!("QEMU was not found: there is no program \"/nonexistent\". {remedy}");
    refused(&["QEMU=/nonexistent"], 3, &absent).await;
    let died = "QEMU ended at start (exit code 1). It said:\nqemu-system-x86_64: -bogus: invalid option\n\
                See whether these settings are right: QEMU_APPEND=-bogus.";
    refused(&["QEMU_APPEND=-bogus"], 2, died).await;
}

#[tokio::test]
async fn qemu_too_old() {
    let place = Place::new();
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'QEMU emulator version 5.2.0 (Debian)'; exit; }\n\
                  echo 'qemu: -display none: no such thing' >&2\nexit 1\n";
    let suite = place.suite("s").guest(NOTHING).module("a", "", "t.diag(\"x\")").file("qemu", script);
    let qemu = suite.join("qemu");
    fs::set_permissions(&qemu, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let summary = run(&place, &suite, &[&format!("QEMU={qemu}")], 3).await;
    let remedy = "7.2 or later is needed. Upgrade it or name another one in the variable QEMU.";
    assert_eq!(reason(&summary), format!("{qemu} is QEMU 5.2.0; {remedy}"));
}

#[tokio::test]
async fn qemu_killed_in_the_middle() {
    let place = Place::new();
    let suite =
        place.suite("s").guest(NOTHING).module("a", "", WAITS).module("b", "always_run = True", WAITS);
    let started = running(&place, &suite, &[]).await;
    signal(place.qemu().await.pid, Signal::KILL);
    let summary = started.end().await.expect(3).json();
    place.nothing_left().await;
    let sentence = "backend died: QEMU ended in the middle of the run (killed by signal 9). It said nothing; was it \
                    killed from outside, or by the kernel for want of memory (see dmesg)?";
    assert_eq!((summary["outcome"].as_str(), reason(&summary)), (Some("incomplete"), sentence));
    let record = RunRecord::read(&place.join("out"));
    assert_eq!(record.modules(), [("a", ModuleResult::Cancelled), ("b", ModuleResult::Cancelled)]);
    assert!(record.steps().last().unwrap().screenshot.is_some(), "the last screen is kept");
}

#[tokio::test]
async fn qemu_hanging_is_noticed_and_ended() {
    let place = Place::new();
    let suite = place.suite("s").guest(NOTHING).module("a", "", WAITS);
    let started = running(&place, &suite, &[]).await;
    signal(place.qemu().await.pid, Signal::STOP);
    let summary = started.end().await.expect(3).json();
    place.nothing_left().await;
    let said = reason(&summary);
    let sentence = "backend died: QEMU hangs: it did not answer query-status within 20000 ms, and was ended.";
    assert!(said.starts_with(sentence), "{said}");
}

#[tokio::test]
async fn a_guest_that_floods_the_serial_line() {
    let place = Place::new();
    let suite = place.suite("s").guest(FLOOD).module(
        "flood",
        "",
        "for i in range(50):
            t.expect(t.wait_serial(\"A{500}\", timeout = 60) != None, \"the flood goes on\")
        t.expect(t.wait_serial(\"B\", timeout = 2) == None, \"only A\")
        t.save_screenshot()",
    );
    let summary = run(&place, &suite, &[], 0).await;
    assert_eq!(summary["outcome"], "passed");
    let serial = RunRecord::read(&place.join("out")).text("serial0.txt");
    assert!(serial.len() > 25_000, "{} bytes", serial.len());
    assert!(serial.trim_start_matches('A').trim_start().len() < 200, "only the flood and perhaps a note");
}

#[tokio::test]
async fn a_guest_that_changes_its_resolution() {
    let place = Place::new();
    let needle = |tag: &str, width: u32| {
        let area =
            format!("{{\"xpos\": 0, \"ypos\": 0, \"width\": {width}, \"height\": 8, \"type\": \"match\"}}");
        format!("{{\"area\": [{area}], \"properties\": [], \"tags\": [\"{tag}\"]}}")
    };
    let suite = place
        .suite("s")
        .guest(TWO_SIZES)
        .file("needles/small.json", needle("small", 800))
        .file("needles/small.png", gray(800, 600))
        .file("needles/large.json", needle("large", 1024))
        .file("needles/large.png", gray(1024, 768))
        .module(
            "sizes",
            "",
            "t.assert_screen(\"small\", timeout = 60)
        t.expect(not t.check_screen(\"large\"), \"it is not large yet\")
        for i in range(3):
            t.send_key(\"spc\")
            t.assert_screen(\"large\", timeout = 20)
            t.wait_screen_change(lambda: t.send_key(\"spc\"), timeout = 20)
            t.assert_screen(\"small\", timeout = 20)",
        );
    run(&place, &suite, &[], 0).await;
    let record = RunRecord::read(&place.join("out"));
    let shots: Vec<_> = record.steps().iter().filter_map(|step| step.screenshot.clone()).collect();
    assert_eq!((shots[0].width, shots[0].height), (800, 600));
    assert!(shots.iter().filter(|shot| (shot.width, shot.height) == (1024, 768)).count() >= 3, "{shots:?}");
}

/// A picture of one shade.
fn gray(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let pixels = vec![0x5a; (width * height * 3) as usize];
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

#[tokio::test]
async fn a_disk_that_is_full() {
    let place = Place::new();
    let suite = place.suite("s").grub_tests();
    let out = place.join("out");
    fs::create_dir(&out).unwrap();
    let mut command = place.command("bwrap");
    command.args(["--dev-bind", "/", "/", "--size", "65536", "--tmpfs", out.as_str(), "--"]);
    let run = place.assay(&["run", suite.dir(), "--json", "--out", out.as_str()]);
    command.arg(run.as_std().get_program()).args(run.as_std().get_args());
    let ended = place.run_command(command).await;
    let summary = ended.expect(3).json();
    place.nothing_left().await;
    let said = reason(&summary);
    assert!(said.starts_with("cannot write the attempt's record: "), "{said}");
    let remedy = "the disk is full; free some space or choose another place with --data or --out";
    assert!(said.contains("No space left on device") && said.ends_with(remedy), "{said}");
}

#[tokio::test]
async fn a_run_that_takes_longer_than_it_may() {
    let place = Place::new();
    let suite = place.suite("s").guest(NOTHING).module("a", "", WAITS);
    let summary = run(&place, &suite, &["MAX_JOB_TIME=2"], 1).await;
    assert_eq!(summary["outcome"], "timeout_exceeded");
    let sentence = "timeout: test execution exceeded MAX_JOB_TIME=2 s; raise it or shorten the test";
    assert_eq!(reason(&summary), sentence);
}

#[tokio::test]
async fn ctrl_c_ends_the_run_in_order() {
    for (sign, waits) in
        [(Signal::INT, WAITS), (Signal::TERM, "t.assert_still_screen(stilltime = 90, timeout = 100)")]
    {
        let place = Place::new();
        let body = format!("t.diag(\"wait_serial\")\n        {waits}");
        let suite = place.suite("s").guest(NOTHING).module("a", "", &body);
        let started = running(&place, &suite, &[]).await;
        signal(started.pid(), sign);
        let summary = started.end().await.expect(3).json();
        place.nothing_left().await;
        assert_eq!((summary["outcome"].as_str(), reason(&summary)), (Some("user_cancelled"), "interrupted"));
        let record = RunRecord::read(&place.join("out"));
        assert_eq!(record.modules(), [("a", ModuleResult::Cancelled)]);
        assert_eq!(serde_json::from_str::<Value>(&record.text("result.json")).unwrap(), summary);
    }
}

#[tokio::test]
async fn settings_that_are_none() {
    let remedy = "write NAME=VALUE with letters, digits and _ in the name, for example QEMURAM=2048";
    for word in ["QEMURAM", "QE MU=3", "=3"] {
        let place = Place::new();
        let suite = place.suite("s").guest(NOTHING).module("a", "", "t.diag(\"x\")");
        let ended = place.run(&["run", suite.dir(), word]).await;
        ended.expect(2);
        assert_eq!(ended.stderr, format!("assay: {word:?} is not a setting; {remedy}\n"));
    }
}

#[tokio::test]
async fn settings_that_mean_nothing() {
    let ram = "QEMURAM=lots: expected the memory in MiB, from 16 on, for instance 1024 or 2G.";
    refused(&["QEMURAM=lots"], 2, ram).await;
    let time = "MAX_JOB_TIME=\"long\" is not a number; give seconds, for example MAX_JOB_TIME=7200";
    refused(&["MAX_JOB_TIME=long"], 2, time).await;
    refused(
        &["BACKEND=cloud"],
        2,
        "BACKEND=\"cloud\" is unknown; this worker has qemu, shell, task and dummy",
    )
    .await;
}

#[tokio::test]
async fn directories_that_are_no_suites() {
    let place = Place::new();
    let nowhere = place.join("nowhere");
    let ended = place.run(&["run", nowhere.as_str()]).await;
    ended.expect(4);
    assert_eq!(ended.stderr, format!("assay: there is no directory {nowhere}\n"));
    fs::create_dir(&nowhere).unwrap();
    let summary = place.run(&["run", nowhere.as_str(), "--json"]).await.expect(2).json();
    let wanted = format!(
        "CASEDIR={nowhere} has no folder tests/; is the path right, and is it on this worker's host?"
    );
    assert_eq!(reason(&summary), wanted);
    fs::create_dir(nowhere.join("tests")).unwrap();
    let summary = place.run(&["run", nowhere.as_str(), "--json"]).await.expect(2).json();
    assert!(reason(&summary).contains("test"), "{summary}");
    place.nothing_left().await;
}

#[tokio::test]
async fn a_port_in_use() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = place.run(&["up", "--listen", &address]).await;
    ended.expect(2);
    let wanted = format!(
        "assay: cannot listen on {address}: Address already in use (os error 98); another program has \
                          the port: stop it, or use --listen 127.0.0.1:0 for a free one\n"
    );
    assert_eq!(ended.stderr, wanted);
    place.nothing_left().await;
}

#[tokio::test]
async fn a_data_directory_in_use() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let worker = up.worker().await;
    let ended = place.run(&["up", "--listen", "127.0.0.1:0"]).await;
    ended.expect(2);
    let wanted = format!(
        "assay: a server already runs on {} (process {}, {}); use that one, stop it, or give this one another directory \
         with --data\n",
        place.data(),
        up.pid(),
        up.url
    );
    assert_eq!(ended.stderr, wanted);
    assert_eq!(up.worker().await, worker, "the first one's worker is left alone");
    up.stop().await;
}

#[tokio::test]
async fn two_workers_with_one_name() {
    let place = Place::new();
    let up = Up::start_as(&place, "server", &[]).await;
    let first = place.start(&["worker", "--name", "rack:1", "--pool", "one"]);
    up.until_online().await;
    // It waits, because the first one's connection may be dead without the server knowing it yet; and says so.
    let second = place.start(&["worker", "--name", "rack:1", "--pool", "two"]);
    second.says("a worker named rack:1 is already connected from host ").await;
    second.says("stop that one, or give this one another name with --name").await;
    let pool = place.join("one");
    let same_pool = place.run(&["worker", "--name", "rack:2", "--pool", "one"]).await;
    same_pool.expect(2);
    let wanted = format!(
        "assay: a worker (pid {}) already uses {pool}; stop it first, or give this one another --pool\n",
        first.pid()
    );
    assert_eq!(same_pool.stderr, wanted);
    let job = up.post(&[("BACKEND", "dummy")]).await;
    assert_eq!(up.wait(job).await.result, "passed", "the first one still works");
    signal(first.pid(), Signal::TERM);
    first.end().await.expect(0);
    let job = up.post(&[("BACKEND", "dummy")]).await;
    assert_eq!(up.wait(job).await.result, "passed", "the second one takes its place");
    signal(second.pid(), Signal::TERM);
    second.end().await.expect(0);
    up.stop().await;
}

#[tokio::test]
async fn a_client_without_a_server() {
    let place = Place::new();
    let ended = place.run(&["job", "list"]).await;
    ended.expect(3);
    assert!(ended.stderr.starts_with("assay: no server has run on "), "{}", ended.stderr);
    ended.says("start one with `assay up`");
    let mut up = Up::start(&place, &[]).await;
    place.run(&["job", "show", "77"]).await.expect(4).says("77");
    place.run(&["job", "post", "TEST=x", "BACKEND=dummy", "WORKER_CLASS=,"]).await.expect(2);
    up.end_by(Signal::KILL).await;
    let ended = place.run(&["job", "list"]).await;
    ended.expect(3).says("does not answer").says("Start it with `assay up`");
}

/// As `| head` does it: the reader is gone before the end, or before the beginning.
#[tokio::test]
async fn a_closed_pipe_ends_the_output_only() {
    let place = Place::new();
    let scenario = repository().join("tests/scenarios/gate/failed-head.yaml");
    let layout = repository().join("crates/formats/tests/layouts/everything.yaml");
    let config = repository().join("examples/gate/config");
    for arguments in [
        &["gate", "play", scenario.as_str()][..],
        &["gate", "play", "--json", scenario.as_str()],
        &["gate", "simulate", "--seeds", "1"],
        &["import", "zuul", layout.as_str()],
        &["import", "zuul", "--json", layout.as_str()],
        &["config", "check", config.as_str()],
        &["test", "--help"],
    ] {
        for both in [false, true] {
            let mut command = place.assay(arguments);
            let mut started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            drop(started.stdout.take());
            if both {
                drop(started.stderr.take());
            }
            let ended = started.wait_with_output().await.unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {said}");
            assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        }
    }
}

#[tokio::test]
async fn what_is_no_file_is_a_mistake_of_the_command_line() {
    let place = Place::new();
    let here = place.path().as_str();
    for arguments in
        [&["import", "zuul", here][..], &["gate", "play", here], &["gate", "simulate", "--seeds", "0"]]
    {
        place.run(arguments).await.expect(2);
    }
    for arguments in [&["import", "zuul", "nowhere.yaml"], &["gate", "play", "nowhere.yaml"]] {
        place.run(arguments).await.expect(4);
    }
    let layout = "pipelines:\n  - name: check\n    manager: IndependentPipelineManager\n    \
                  trigger: {gerrit: [{event: patchset-created}]}\n\
                  projects:\n  - {name: a, check: [unit]}\n";
    fs::write(place.join("layout.yaml"), layout).unwrap();
    let told = place.run(&["import", "zuul", "layout.yaml"]).await;
    told.expect(0).says("1 pipeline, 1 project, 1 job\n");
    assert!(told.stderr.contains("warning: nothing says what to do for 1 job (unit)"), "{}", told.stderr);

    fs::create_dir(place.join("jobs")).unwrap();
    fs::write(place.join("jobs/a.yaml"), "jobs: {unit: {run: make}}\n").unwrap();
    let check = ["config", "check", "--layout", "layout.yaml", "jobs"];
    place.run(&check).await.expect(0).says("1 job: no errors, 0 warnings");
    place.run(&check[..4]).await.expect(0).says("1 warning;");
    place.run(&["config", "check", "--noop-joins", "jobs"]).await.expect(2);
    fs::write(place.join("jobs/a.yaml"), "jobs: {unit: {rum: make}}\n").unwrap();
    place.run(&check).await.expect(2).says("jobs/a.yaml:1:");
}
