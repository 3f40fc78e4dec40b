//! Assets end to end: real machines read and publish disks through the real server and worker.

use assay_tests::{Place, Signal, Suite, Up, boot_sector};
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Reads the disk's second sector, puts an `M` there, and says on the serial port whether there was one before.
const MARK: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c,
    0xfb, // cli; segments 0; sp 7c00; sti
    0x88, 0x16, 0x00, 0x7e, // mov [7e00], dl
    0xb8, 0x01, 0x02, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0x8a, 0x16, 0x00, 0x7e, 0xbb, 0x00, 0x80, 0xcd,
    0x13, // read
    0x80, 0x3e, 0x00, 0x80, 0x4d, 0x74, 0x1b, // cmp byte [8000], 'M'; je before
    0xc6, 0x06, 0x00, 0x80, 0x4d, // mov byte [8000], 'M'
    0xb8, 0x01, 0x03, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0x8a, 0x16, 0x00, 0x7e, 0xbb, 0x00, 0x80, 0xcd,
    0x13, // write
    0xbe, 0x61, 0x7c, 0xeb, 0x03, // mov si, fresh; jmp say
    0xbe, 0x71, 0x7c, // before: mov si, marked
    0xac, 0x84, 0xc0, 0x74, 0x12, 0x88, 0xc4, // say: lodsb; test al, al; jz end; mov ah, al
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, // wait for the port
    0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xeb, 0xe9, // out; jmp say
    0xf4, 0xeb, 0xfd, // end: hlt
];
const FRESH: &[u8] = b"disk is FRESH\r\n\0";
const MARKED: &[u8] = b"disk was MARKED before\r\n\0";

fn disk() -> Vec<u8> {
    boot_sector(&[MARK, FRESH, MARKED].concat())
}

/// Waits for a line of the disk's.
fn expecting(place: &Place, name: &str, line: &str) -> Suite {
    place.suite(name).module("boot", "", &format!("t.wait_serial(\"{line}\", timeout = 60)"))
}

/// Files in the host's cache.
fn cached(up: &Up<'_>) -> usize {
    fs::read_dir(up.data().join("cache/assets/files")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_job_boots_the_disk_that_another_made() {
    let place = Place::new();
    let (first, then) =
        (expecting(&place, "first", "disk is FRESH"), expecting(&place, "then", "disk was MARKED before"));
    let up = Up::start(&place, &[]).await;
    up.upload("base.img", &disk()).await;
    // Posted together, by openQA's API: the second starts after the first and finds its private disk.
    let form = [
        ("TEST:make", "make"),
        ("CASEDIR:make", first.dir()),
        ("HDD_1:make", "base.img"),
        ("STORE_HDD_1:make", "made.qcow2"),
        ("PUBLISH_HDD_1:make", "public.qcow2"),
        ("TEST:boot", "boot"),
        ("CASEDIR:boot", then.dir()),
        ("HDD_1:boot", "made.qcow2"),
        ("_START_AFTER:boot", "make"),
    ];
    let form: Vec<_> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let request = up.request(Method::POST, "/api/v1/jobs");
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.join("&"));
    let posted: Value = request.send().await.unwrap().json().await.unwrap();
    let id = |suffix: &str| posted["ids"][suffix].as_i64().unwrap_or_else(|| panic!("{posted}"));
    let (make, boot) = (id("make"), id("boot"));
    for job in [make, boot] {
        let ended = up.wait(job).await;
        assert_eq!(ended.result, "passed", "{ended:#?}");
    }
    let used = up.get(&format!("jobs/{boot}/assets")).await;
    assert_eq!(used["assets"][0]["name"], format!("{make:08}-made.qcow2"), "{used}");
    assert_eq!(cached(&up), 2);
    // Anybody finds the public one; it is the same, and nothing is fetched twice.
    let again = up.post(&[("CASEDIR", then.dir()), ("HDD_1", "public.qcow2")]).await;
    assert_eq!(up.wait(again).await.result, "passed");
    assert!(up.stream(again, "autoinst-log.txt", None).await.contains("in the cache after"));
    assert_eq!(cached(&up), 2);
    // Nobody else finds the private one.
    let stranger = up.post(&[("CASEDIR", then.dir()), ("HDD_1", "made.qcow2")]).await;
    let ended = up.wait(stranger).await;
    assert_eq!(ended.result, "incomplete");
    let reason = ended.reason.unwrap();
    assert!(reason.starts_with("HDD_1=made.qcow2: the server has no asset hdd/made.qcow2"), "{reason}");
    // What failed publishes nothing, unless it has to.
    let settings = [
        ("CASEDIR", then.dir()),
        ("HDD_1", "base.img"),
        ("PUBLISH_HDD_1", "bad.qcow2"),
        ("FORCE_PUBLISH_HDD_1", "forced.qcow2"),
    ];
    let suite = expecting(&place, "fails", "nothing like that");
    fs::write(suite.join("tests/boot.star"), "test(name = \"boot\")\n\ndef run(t: Machine):\n    t.wait_serial(\"FRESH\", timeout = 60)\n    fail(\"on purpose\")\n").unwrap();
    let settings = settings.map(|(name, value)| (name, if name == "CASEDIR" { suite.dir() } else { value }));
    let failing = up.post(&settings).await;
    assert_eq!(up.wait(failing).await.result, "failed");
    let list = up.get("assets?q=qcow2").await;
    let mut names: Vec<_> =
        list["assets"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, [format!("{make:08}-made.qcow2").as_str(), "forced.qcow2", "public.qcow2"]);
    up.stop().await;
}

#[tokio::test]
async fn two_jobs_publish_one_name_while_the_server_comes_and_goes() {
    let place = Place::new();
    let (first, then) =
        (expecting(&place, "first", "disk is FRESH"), expecting(&place, "then", "disk was MARKED before"));
    let mut up = Up::start(&place, &["--slots", "2"]).await;
    let mut larger = disk();
    larger.resize(larger.len() + (1 << 20), 7);
    up.upload("small.img", &disk()).await;
    up.upload("large.img", &larger).await;
    let make = |disk| [("CASEDIR", first.dir()), ("HDD_1", disk), ("PUBLISH_HDD_1", "one.img")];
    let jobs = [up.post(&make("small.img")).await, up.post(&make("large.img")).await];
    up.follow(jobs[0], "autoinst-log.txt", "module boot begins").await;
    assert_eq!(up.end_by(Signal::KILL).await, None);
    let up = Up::start(&place, &["--slots", "2"]).await;
    for job in jobs {
        let ended = up.wait(job).await;
        assert_eq!((ended.result.as_str(), ended.attempts.len()), ("passed", 1), "{ended:#?}");
    }
    let detail = up.get("assets/hdd/one.img").await;
    let versions = detail["versions"].as_array().unwrap();
    let mut sizes: Vec<_> = versions.iter().map(|version| version["size"].as_u64().unwrap()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [disk().len() as u64, larger.len() as u64], "both are whole: {detail}");
    for version in versions {
        let path = format!("/api/assay/v1/assets/hdd/one.img/content?version={}", version["id"]);
        let bytes = up.anonymous(Method::GET, &path).send().await.unwrap().bytes().await.unwrap();
        assert_eq!((bytes.len() as u64, bytes[512]), (version["size"].as_u64().unwrap(), b'M'));
    }
    let boot = up.post(&[("CASEDIR", then.dir()), ("HDD_1", "one.img")]).await;
    assert_eq!(up.wait(boot).await.result, "passed");
    up.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_an_upload_and_loses_nothing() {
    let place = Place::new();
    let up = Up::start_on_small_disk(&place, 48 << 20).await;
    let uploads = "/api/assay/v1/assets/uploads";
    let bytes: Vec<u8> = (0..12_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let new = json!({"name": "big.raw", "size": bytes.len()});
    let begun: Value =
        up.request(Method::POST, uploads).json(&new).send().await.unwrap().json().await.unwrap();
    let path = format!("{uploads}/{}", begun["id"].as_str().unwrap());
    let send = async |from: usize, to: usize| {
        let request = up.request(Method::PATCH, &path).header("upload-offset", from);
        request.body(bytes[from..to].to_vec()).send().await.unwrap()
    };
    assert_eq!(send(0, 4 << 20).await.status(), StatusCode::OK);
    let ballast = up.data().join("ballast");
    fs::write(&ballast, vec![0; 36 << 20]).unwrap();
    let refused = send(4 << 20, 12 << 20).await;
    assert_eq!(refused.status(), StatusCode::INSUFFICIENT_STORAGE);
    let said: Value = refused.json().await.unwrap();
    assert!(said["error"].as_str().unwrap().starts_with("the disk is full: "), "{said}");
    // Another one does not even begin.
    let new = json!({"name": "huge.raw", "size": 40 << 20});
    let answer = up.request(Method::POST, uploads).json(&new).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::INSUFFICIENT_STORAGE);
    fs::remove_file(&ballast).unwrap();
    let state: Value = up.request(Method::GET, &path).send().await.unwrap().json().await.unwrap();
    let offset = state["offset"].as_u64().unwrap() as usize;
    assert!(offset >= 4 << 20, "{state}");
    assert_eq!(send(offset, 12 << 20).await.status(), StatusCode::OK);
    let done = up.request(Method::POST, &format!("{path}/complete")).send().await.unwrap();
    assert_eq!(done.status(), StatusCode::CREATED);
    let content = up.anonymous(Method::GET, "/api/assay/v1/assets/hdd/big.raw/content").send().await.unwrap();
    assert!(content.bytes().await.unwrap() == bytes, "every byte");
    up.stop().await;
}

#[tokio::test]
async fn what_the_firmware_keeps_is_an_asset_for_the_next() {
    let place = Place::new();
    let shell = "t.wait_serial(\"any other key to continue\", timeout = 120)\nt.send_key(\"esc\")\n\
                 t.wait_serial(\"Shell>\", timeout = 60)\n";
    let write = "t.type_string(\"set assay kept\\n\")\nt.wait_serial(\"Shell>\", timeout = 60)";
    let read = "t.type_string(\"set assay\\n\")\nt.wait_serial(\"kept\", timeout = 60)";
    let suite = |name: &str, then: &str| place.suite(name).module("boot", "", &format!("{shell}{then}"));
    let (writer, reader) = (suite("writer", write), suite("reader", read));
    let up = Up::start(&place, &[]).await;
    let uefi = [("UEFI", "1"), ("QEMURAM", "256"), ("NICMODEL", "none")];
    let job = |suite: &'_ Suite, more| {
        let own = [("CASEDIR".to_owned(), suite.dir().to_string()), more];
        uefi.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).chain(own).collect::<Vec<_>>()
    };
    let post = async |settings: Vec<(String, String)>| {
        let pairs: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        up.wait(up.post(&pairs).await).await
    };
    let wrote = post(job(&writer, ("PUBLISH_PFLASH_VARS".to_owned(), "kept.fd".to_owned()))).await;
    assert_eq!(wrote.result, "passed", "{wrote:#?}");
    let kept = up.get("assets/hdd/kept.fd").await;
    let size = fs::metadata("/usr/share/OVMF/OVMF_VARS_4M.fd").unwrap().len();
    assert_eq!(kept["versions"][0]["size"], size, "{kept}");
    let found = post(job(&reader, ("UEFI_PFLASH_VARS".to_owned(), "kept.fd".to_owned()))).await;
    assert_eq!(found.result, "passed", "{found:#?}");
    // Without a firmware there is nothing to publish, and the reason says so.
    let bios = place.suite("bios").module("boot", "", "pass");
    let bios = [("CASEDIR", bios.dir()), ("PUBLISH_PFLASH_VARS", "x.fd")];
    let ended = up.wait(up.post(&bios).await).await;
    let reason = ended.reason.unwrap_or_default();
    assert!(
        ended.result == "incomplete" && reason.contains("no firmware with variables; set UEFI=1"),
        "{reason}"
    );
    up.stop().await;
}
