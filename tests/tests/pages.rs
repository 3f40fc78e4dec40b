//! The pages in a real Chromium. Screenshots go to `target/screenshots/` for people to look at.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../crates/server/tests/server/common/gated.rs"]
mod gated;

use assay_proto::clock::{Clock as _, SystemClock};
use assay_tests::looks::{fits, light_and_dark, mark, no_complaints, not_reloaded};
use assay_tests::webdriver::{Browser, keys};
use assay_tests::{Place, Suite, Up};
use fs_err as fs;
use reqwest::Method;
use serde_json::json;

/// Says "Hi" on the serial line: mov dx,0x3f8; mov al,'H'; out dx,al; mov al,'i'; out dx,al; mov al,10; out dx,al; cli; hlt
const SAYS_HI: &[u8] = &[0xba, 0xf8, 0x03, 0xb0, b'H', 0xee, 0xb0, b'i', 0xee, 0xb0, b'\n', 0xee, 0xfa, 0xf4];

#[tokio::test]
async fn the_list_shows_what_runs_waits_and_ended_and_changes_by_itself() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 900).await;
    browser.open(&up.url).await;
    assert!(browser.text("#empty").await.contains("assay job post"), "an empty list says how to begin");
    browser.screenshot("list-empty").await;
    mark(&browser).await;

    let failed = up.post(&[("BACKEND", "dummy"), ("DUMMY_RESULT", "failed"), ("DISTRI", "demo")]).await;
    up.wait(failed).await;
    let go = place.join("go");
    let running =
        up.post(&[("BACKEND", "dummy"), ("DUMMY_WAIT_FILE", go.as_str()), ("DISTRI", "demo")]).await;
    let long = "a-very-long-name-of-a-test-that-somebody-has-generated-from-a-matrix-of-everything";
    let waiting = up.post(&[("WORKER_CLASS", "qemu_s390x"), ("DISTRI", "demo"), ("TEST", long)]).await;
    browser.until(&format!("document.querySelector('#running #job-{running}')")).await;
    browser.until(&format!("document.querySelector('#scheduled #job-{waiting}')")).await;
    let row = browser.text(&format!("#finished #job-{failed}")).await;
    assert!(row.contains("failed") && row.to_lowercase().contains("dummy failure"), "{row}");
    let row = browser.text(&format!("#scheduled #job-{waiting}")).await;
    assert!(row.to_lowercase().contains("no online worker offers class qemu_s390x"), "{row}");
    assert!(browser.text("#workers").await.contains("dummy, qemu_x86_64"), "names stay as they are");
    fits(&browser, "list").await;
    light_and_dark(&browser, "list").await;

    fs::write(&go, "").unwrap();
    browser.until(&format!("document.querySelector('#finished #job-{running}')")).await;
    assert_eq!(browser.eval("document.querySelector('#running')").await, json!(null));
    not_reloaded(&browser).await;

    // By keyboard: search, and light or dark.
    browser.press(&["/"]).await;
    assert_eq!(browser.eval("document.activeElement.id").await, "q");
    browser.press(&["m", "a", "t", "r", "i", "x", keys::ENTER]).await;
    browser.until("location.search.includes('q=matrix')").await;
    browser.until("document.querySelectorAll('#jobs tr[id]').length === 1").await;
    browser.press(&["t"]).await;
    assert_eq!(browser.eval("document.documentElement.dataset.theme").await, "dark");
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}

/// Posts a run of GRUB whose last look fails.
async fn failing_grub(place: &Place, up: &Up<'_>) -> i64 {
    let suite = place.suite("s").grub_tests().module(
        "25-missing",
        "fatal = False",
        "t.record_info(\"a note\", \"with some words\\nin two lines\")
        t.assert_screen(\"grub-menu\", timeout = 1)",
    );
    let suite = suite.vars(&[("_SECRET_KEY", "opensesame42"), ("DISTRI", "grub"), ("VERSION", "2")]);
    let job = up.post(&[("CASEDIR", suite.dir()), ("DISTRI", "grub"), ("VERSION", "2")]).await;
    assert_eq!(up.wait(job).await.result, "failed");
    job
}

#[tokio::test]
async fn the_page_of_a_job_shows_every_step() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let job = failing_grub(&place, &up).await;
    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 900).await;
    browser.open(&format!("{}/jobs/{job}", up.url)).await;
    for module in ["boot", "commands", "25-missing", "halt"] {
        assert!(browser.text("#steps").await.contains(module), "{module}");
    }
    // Every thumbnail arrives, and shows where the needle's areas are.
    browser
        .eval("document.querySelectorAll('img[loading=lazy]').forEach(image => { image.loading = 'eager'; })")
        .await;
    browser
        .until("[...document.querySelectorAll('a.step img')].every(image => image.naturalWidth === 720)")
        .await;
    let pictures = browser.eval("document.querySelectorAll('a.step img').length").await;
    assert!(pictures.as_u64().unwrap() >= 5, "{pictures}");
    let found = browser.eval("document.querySelectorAll('a.step svg rect.ok').length").await;
    assert!(found.as_u64().unwrap() >= 7, "{found} areas found");
    let missed = browser.eval("document.querySelectorAll('a.step svg rect.miss').length").await;
    assert!(missed.as_u64().unwrap() >= 1, "{missed} areas missed");
    let note = browser
        .eval("[...document.querySelectorAll('a.step .words')].map(e => e.innerText).join(' | ')")
        .await;
    assert!(note.as_str().unwrap().contains("a note"), "{note}");
    let overlay = browser.eval("(() => { const i = document.querySelector('a.step .shot img').getBoundingClientRect(), s = document.querySelector('a.step .shot svg').getBoundingClientRect(); return Math.abs(i.width - s.width) + Math.abs(i.height - s.height) + Math.abs(i.left - s.left) + Math.abs(i.top - s.top); })()").await;
    assert!(overlay.as_f64().unwrap() < 2.0, "the areas lie beside the picture by {overlay} pixels");
    for (selector, text) in [
        ("#head", "failed"),
        ("#head", "no needle with the tags \"grub-menu\" matched within 1 s"),
        ("#log", "module halt ends: Passed"),
        ("#serial", "Nothing was written"),
        ("#settings", "CASEDIR"),
        ("#environment", "tcg"),
        ("#reproduce", "assay run "),
    ] {
        let shown = browser.text(selector).await;
        assert!(shown.contains(text), "{selector}: {text} is not in {shown}");
    }
    let cut =
        "[...document.querySelectorAll('a.step small')].filter(e => e.scrollWidth > e.clientWidth).length";
    for width in [360, 1400] {
        browser.resize(width, 900).await;
        assert_eq!(browser.eval(cut).await, 0, "captions are cut off at {width} pixels");
    }
    fits(&browser, "job").await;
    light_and_dark(&browser, "job").await;
    by_keyboard(&browser).await;
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}

/// The way through the steps without a mouse.
async fn by_keyboard(browser: &Browser) {
    let focused = "document.activeElement.closest('li')?.id ?? null";
    browser.press(&["j"]).await;
    let first = browser.eval(focused).await;
    assert!(first.as_str().unwrap().contains("boot"), "{first}");
    browser.press(&[keys::RIGHT]).await;
    let second = browser.eval(focused).await;
    assert_ne!(first, second);
    browser.press(&[keys::ENTER]).await;
    browser.until("document.querySelector('dialog.viewer[open] img')?.naturalWidth === 720").await;
    browser.screenshot("step").await;
    browser.press(&[keys::LEFT]).await;
    let at_first = format!("decodeURIComponent(location.hash.slice(1)) === {first}");
    browser.until(&at_first).await;
    browser.press(&[keys::ESCAPE]).await;
    browser.until("!document.querySelector('dialog[open]')").await;
    // The browser itself first gives the focus back to where it was; the page then moves it to the step last seen.
    browser.until(&format!("({focused}) === {first}")).await;

    browser.press(&["f"]).await;
    browser.until("document.querySelector('dialog.viewer[open] rect.miss')").await;
    let said = browser.text("dialog.viewer").await;
    assert!(said.contains("grub-menu") && said.contains("similarity"), "{said}");
    browser
        .until(
            "[...document.querySelectorAll('dialog.viewer img')].every(image => image.naturalWidth === 720)",
        )
        .await;
    browser.screenshot("step-failed").await;
    browser.press(&[keys::ESCAPE]).await;
    browser.until("!document.querySelector('dialog[open]')").await;
    browser.press(&["?"]).await;
    browser.until("document.querySelector('#help[open]')").await;
    browser.press(&[keys::ESCAPE]).await;
    browser.until("!document.querySelector('dialog[open]')").await;
    browser.press(&[keys::ESCAPE]).await;
    browser.until("location.pathname === '/tests'").await;
}

#[tokio::test]
async fn everything_can_be_read_without_javascript() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let job = failing_grub(&place, &up).await;
    let browser = Browser::start(&place, false).await;
    browser.resize(1400, 900).await;
    browser.open(&up.url).await;
    assert_eq!(
        browser.eval("document.documentElement.classList.contains('js')").await,
        false,
        "no script ran"
    );
    let row = browser.text(&format!("#job-{job}")).await;
    assert!(row.contains("failed") && row.contains("grub"), "{row}");
    browser.click(&format!("#job-{job} a")).await;
    browser.until(&format!("location.pathname === '/jobs/{job}'")).await;
    browser
        .until("[...document.querySelectorAll('a.step img')].every(image => image.naturalWidth === 720)")
        .await;
    assert!(browser.text("#log").await.contains("module halt ends"));
    browser.screenshot("job-without-javascript").await;
    browser.click("#first-failure").await;
    browser.until("document.querySelector('.full rect.miss')").await;
    let said = browser.text("main").await;
    assert!(said.contains("grub-menu") && said.contains("similarity"), "{said}");
    browser.screenshot("step-without-javascript").await;
    browser.click("a[rel=prev]").await;
    browser.until("document.querySelector('.full .big-text')?.innerText.includes('in two lines')").await;
    browser.quit().await;
    up.stop().await;
}

#[tokio::test]
async fn a_running_machine_is_seen_live() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let suite: Suite = place.suite("s").grub().module(
        "live",
        "",
        "t.assert_screen(\"grub-menu\", timeout = 60)
        t.diag(\"now it waits\")
        t.wait_serial(\"never\", timeout = 100)",
    );
    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 900).await;
    // The page is there before the machine is.
    let job = up.post(&[("CASEDIR", suite.dir()), ("DISTRI", "grub")]).await;
    browser.open(&format!("{}/jobs/{job}", up.url)).await;
    browser.until("document.querySelector('#live-picture')?.naturalWidth === 720").await;
    browser.until("document.querySelector('#live-log')?.textContent.includes('now it waits')").await;
    browser.until("document.querySelectorAll('#steps a.step').length === 1").await;
    browser.until("document.querySelector('#steps a.step').checkVisibility()").await;
    // Something bright is on the picture: GRUB's menu, not the black before it.
    let brightest = "(() => { const i = document.querySelector('#live-picture'), c = document.createElement('canvas'); \
                     c.width = i.naturalWidth; c.height = i.naturalHeight; const x = c.getContext('2d'); x.drawImage(i, 0, 0); \
                     return x.getImageData(0, 0, c.width, c.height).data.reduce((most, one, at) => at % 4 === 0 ? Math.max(most, one) : most, 0); })()";
    browser.until(&format!("{brightest} > 100")).await;
    browser.screenshot("job-live").await;
    mark(&browser).await;
    let cancel = up.request(Method::POST, &format!("/api/assay/v1/jobs/{job}/cancel")).send().await.unwrap();
    assert!(cancel.status().is_success());
    browser.until("!document.querySelector('#live')").await;
    browser.until("document.querySelector('#head').innerText.includes('cancelled')").await;
    not_reloaded(&browser).await;
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}

#[tokio::test]
async fn serial_text_and_hostile_names_are_only_text() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let suite = place.suite("s").guest(SAYS_HI).module(
        "serial",
        "",
        "t.wait_serial(\"Hi\", timeout = 60)
        t.record_info(\"<img src=x onerror=alert(1)>\", \"</pre><script>window.hacked = 1</script>\")",
    );
    let hostile = "</td><script>window.hacked = 1</script>";
    let job = up.post(&[("CASEDIR", suite.dir()), ("NOTE", hostile)]).await;
    assert_eq!(up.wait(job).await.result, "passed");
    let browser = Browser::start(&place, true).await;
    browser.open(&format!("{}/jobs/{job}", up.url)).await;
    assert!(browser.text("#serial").await.contains("Hi"));
    assert!(browser.text("#settings").await.contains(hostile));
    assert!(browser.text("#steps").await.contains("<img src=x"));
    assert_eq!(browser.eval("window.hacked ?? null").await, json!(null));
    browser.open(&format!("{}/jobs/99", up.url)).await;
    browser.screenshot("not-found").await;
    assert!(browser.text("main").await.contains("99"));
    browser.quit().await;
    up.stop().await;
}

/// A server whose gate has so many changes in it, and no worker.
async fn gate(place: &Place, count: u64) -> Up<'_> {
    let scene = gated::Scene { count, worker: false, now: SystemClock.now() };
    let file = gated::prepare(&place.join("configuration"), &place.data(), &scene).await;
    Up::start_as(place, "server", &["--config", file.as_str()]).await
}

#[tokio::test]
async fn five_hundred_changes_in_the_gate() {
    let place = Place::new();
    let up = gate(&place, 500).await;
    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 900).await;
    browser.open(&format!("{}/gate", up.url)).await;
    // 500 and one in the gate, of which one left when it did not merge; eight in check.
    let items = browser.eval("document.querySelectorAll('li.item').length").await;
    assert!((508..=509).contains(&items.as_u64().unwrap()), "{items} items");
    assert!(browser.text("#pipelines").await.contains("carol holds it: release day"));
    let gaps = "[...document.querySelectorAll('.items .lanes svg')].slice(0, 20).filter(e => Math.abs(e.getBoundingClientRect().height - e.closest('li').getBoundingClientRect().height) > 1).length";
    assert_eq!(browser.eval(gaps).await, 0, "the lines between items have gaps");
    assert_eq!(browser.eval("document.querySelectorAll('#ql-gate-platform > .boundary').length").await, 1);

    // Live: what leaves disappears, and hardly anything else is touched.
    browser
        .eval(
            "(() => { window.touched = new Set(); new MutationObserver(all => all.forEach(one => { const item = \
             (one.target.nodeType === 1 ? one.target : one.target.parentElement)?.closest('li.item'); if (item) \
             touched.add(item.id); })).observe(document.querySelector('#pipelines'), { subtree: true, attributes: true }); })()",
        )
        .await;
    let link = "document.querySelector('#pipelines a[href=\"/change/gerrit/2400\"]')";
    assert_ne!(browser.eval(&format!("{link}?.href ?? null")).await, json!(null));
    let dequeue = up.request(Method::POST, "/api/assay/v1/gate/dequeue");
    let dequeued = dequeue.json(&json!({"pipeline": "gate", "change": "2400"})).send().await.unwrap();
    assert!(dequeued.status().is_success());
    browser.until(&format!("!{link}")).await;
    let replaced = browser.eval("[...window.touched].length").await;
    assert!(replaced.as_u64().unwrap() <= 5, "{replaced} items were touched");
    fits(&browser, "gate").await;
    light_and_dark(&browser, "gate").await;

    // By keyboard: search, and the way to a change and back.
    browser.resize(1400, 900).await;
    browser.press(&["/"]).await;
    browser.press(&["2", "3", "9", "9", keys::ENTER]).await;
    browser.until("location.search.includes('q=2399')").await;
    browser.until("document.querySelectorAll('li.item').length === 1").await;
    browser.click("li.item a.id").await;
    browser.until("location.pathname === '/change/gerrit/2399'").await;
    assert!(browser.text("#events").await.contains("let into gate (queue platform): carol enqueued it"));
    fits(&browser, "change").await;
    light_and_dark(&browser, "change").await;
    browser.press(&[keys::ESCAPE]).await;
    browser.until("location.pathname === '/gate'").await;
    browser.open(&format!("{}/jobs/unit/history", up.url)).await;
    fits(&browser, "job-history").await;
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}

#[tokio::test]
async fn the_gate_can_be_read_without_javascript() {
    let place = Place::new();
    let up = gate(&place, 8).await;
    let browser = Browser::start(&place, false).await;
    browser.resize(1400, 900).await;
    browser.open(&format!("{}/gate?pipeline=gate", up.url)).await;
    let said = browser.text("#pipelines").await;
    assert!(said.contains("2001,2") && said.contains("job") && !said.contains("502001"), "{said}");
    browser.click("li.item a.id").await;
    browser.until("document.querySelector('#events')").await;
    browser.quit().await;
    up.stop().await;
}

/// A group with two builds of a suite and its child, for two architectures; the last build's child fails.
async fn builds(up: &Up<'_>) {
    let call = async |path: &str, body: serde_json::Value| {
        let answer = up.request(Method::POST, path).json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let parent = call("/api/v1/parent_groups", json!({"name": "Everything"})).await;
    call("/api/v1/job_groups", json!({"name": "Nightly", "parent_id": parent["id"]})).await;
    for (build, child) in [("20261120.n.0", "passed"), ("20261121.n.0", "failed")] {
        for arch in ["x86_64", "aarch64"] {
            let body = json!({
                "DISTRI": "demo", "VERSION": "43", "FLAVOR": "dvd", "ARCH": arch, "BUILD": build, "MACHINE": "64bit",
                "BACKEND": "dummy", "_GROUP_ID": "1", "TEST:1": "install", "TEST:2": "update",
                "DUMMY_RESULT:2": child, "_START_AFTER:2": "1",
            });
            let made = call("/api/v1/jobs", body).await;
            up.wait(made["ids"]["2"].as_i64().unwrap()).await;
        }
    }
}

#[tokio::test]
async fn a_team_reads_its_builds_and_starts_a_job_anew() {
    let place = Place::new();
    let up = Up::start(&place, &["--trust-loopback"]).await;
    builds(&up).await;
    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 900).await;
    browser.open(&up.url).await;
    let shown = browser.text("#group-1").await;
    assert!(shown.contains("Nightly") && shown.contains("43 · 20261121.n.0"), "{shown}");
    let newest = browser.text("#group-1 .builds li").await;
    assert!(
        newest.contains("20261121.n.0") && !newest.contains("all passed"),
        "the newest is first: {newest}"
    );
    fits(&browser, "dashboard").await;
    light_and_dark(&browser, "dashboard").await;
    browser.resize(1400, 900).await;

    // From a build to its matrix, to its failures, to one of them.
    browser.click("#group-1 .builds a.id").await;
    browser.until("document.querySelectorAll('#matrix a.cell').length === 4").await;
    assert_eq!(browser.eval("document.querySelectorAll('#matrix thead tr + tr th').length").await, 2);
    fits(&browser, "matrix").await;
    light_and_dark(&browser, "matrix").await;
    browser.resize(1400, 900).await;
    browser.click("#chips a.k-failed").await;
    browser.until("document.querySelectorAll('#matrix a.cell').length === 2").await;
    browser.click("#matrix a.cell").await;
    browser.until("document.querySelectorAll('#dependencies a.node').length === 2").await;
    assert!(browser.text("#previous").await.contains("20261120.n.0"), "the build before is shown");
    assert!(browser.text("#settings").await.contains("the request"), "settings say where they come from");

    // A comment is text, and a mark in the matrix.
    let text = "rhbz#42 label:flaky <script>window.hacked = 1</script>";
    browser.eval(&format!("document.querySelector('#text').value = {}", json!(text))).await;
    browser.click(".say button").await;
    browser.until("location.hash === '#comment-1'").await;
    assert!(browser.text("#comment-1").await.contains("<script>window.hacked"));
    assert_eq!(browser.eval("window.hacked ?? null").await, json!(null));
    fits(&browser, "job-of-a-build").await;
    light_and_dark(&browser, "job-of-a-build").await;
    browser.resize(1400, 900).await;

    // The plan is shown, changes with what is asked for, and is carried out.
    let job = browser.eval("location.pathname").await.as_str().unwrap().to_owned();
    browser
        .open(&format!(
            "{}{}",
            up.url,
            browser
                .eval("[...document.querySelectorAll('#dependencies a.node')].find(node => node.textContent.startsWith('install')).getAttribute('href')")
                .await
                .as_str()
                .unwrap()
        ))
        .await;
    browser.click("#restart-link").await;
    browser.until("document.querySelector('#plan')?.innerText.includes('2 jobs started anew')").await;
    browser.click("input[name=skip_children]").await;
    browser.until("location.search.includes('skip_children=1')").await;
    browser.until("document.querySelector('#plan')?.innerText.includes('1 job started anew')").await;
    assert!(browser.text("#command").await.contains("--skip-children"));
    browser.click("input[name=skip_children]").await;
    browser.until("document.querySelector('#plan')?.innerText.includes('2 jobs started anew')").await;
    fits(&browser, "restart").await;
    light_and_dark(&browser, "restart").await;
    browser.resize(1400, 900).await;
    browser.click("button.primary").await;
    browser.until("document.querySelector('#head dl')?.innerText.includes('Clone of')").await;
    browser.open(&format!("{}{job}", up.url)).await;
    assert!(browser.text("#head").await.contains("Cloned as"));
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}

/// Where a point of the picture is in the window.
async fn on_canvas(browser: &Browser, x: i64, y: i64) -> (i64, i64) {
    let expression = format!(
        "(() => {{ const c = document.getElementById('canvas'), b = c.getBoundingClientRect(); \
         return [b.left + {x} / c.viewBox.baseVal.width * b.width, b.top + {y} / c.viewBox.baseVal.height * b.height]; }})()"
    );
    let at = browser.eval(&expression).await;
    let whole = |index: usize| format!("{:.0}", at[index].as_f64().unwrap()).parse().unwrap();
    (whole(0), whole(1))
}

const AREA: &str = "[...document.querySelectorAll('#areas tr:first-child input[type=number]')].slice(0, 4).map(input => Number(input.value))";

#[tokio::test]
async fn a_needle_is_drawn_tried_and_committed() {
    let place = Place::new();
    let up = Up::start(&place, &["--trust-loopback"]).await;
    let job = failing_grub(&place, &up).await;
    let suite = place.join("s");
    let git = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(arguments);
        command.current_dir(&suite);
        place.run_command(command).await.expect(0).stdout.clone()
    };
    git(&["init", "-q"]).await;
    git(&["add", "-A"]).await;
    git(&["commit", "-qm", "tests"]).await;

    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 1000).await;
    browser.open(&format!("{}/jobs/{job}", up.url)).await;
    let step = browser.eval("document.querySelector('a.step:has(svg rect.miss)').getAttribute('href')").await;
    browser.open(&format!("{}{}", up.url, step.as_str().unwrap())).await;
    browser.click("a[href$='/edit']").await;
    browser.until("document.querySelector('.canvas img')?.naturalWidth > 0").await;
    assert_eq!(browser.eval("document.getElementById('tags').value").await, "grub-menu");

    // An area is drawn; the screen it was drawn on matches it, and so is said of the scenario's other screens.
    let (from, to) = (on_canvas(&browser, 10, 10).await, on_canvas(&browser, 200, 60).await);
    browser.drag(from, to).await;
    browser.until("document.querySelectorAll('#preview li .good').length > 0").await;
    let drawn = browser.eval(AREA).await;
    let near = |index: usize, wanted: f64| (drawn[index].as_f64().unwrap() - wanted).abs() <= 3.0;
    assert!(near(0, 10.0) && near(1, 10.0) && near(2, 190.0) && near(3, 50.0), "{drawn}");
    fits(&browser, "needle").await;
    light_and_dark(&browser, "needle").await;
    browser.resize(1400, 1000).await;

    // It is moved by pointer, and by keys to the pixel.
    let (from, to) = (on_canvas(&browser, 100, 30).await, on_canvas(&browser, 120, 40).await);
    browser.drag(from, to).await;
    browser.until(&format!("{AREA}[0] > {} + 15", drawn[0])).await;
    let moved = browser.eval(AREA).await;
    browser.eval("document.querySelector('#canvas g').focus()").await;
    browser.press(&[keys::RIGHT, keys::RIGHT, keys::DOWN]).await;
    let (x, y) = (moved[0].as_i64().unwrap() + 2, moved[1].as_i64().unwrap() + 1);
    browser.until(&format!("{AREA}.join() === '{x},{y},{},{}'", moved[2], moved[3])).await;

    // The areas of a needle that nearly matched are taken over.
    browser.eval("(() => { const from = document.getElementById('from'); from.value = from.options[1].value; from.dispatchEvent(new Event('change')); })()").await;
    browser.until(&format!("{AREA}.join() !== '{x},{y},{},{}'", moved[2], moved[3])).await;
    browser.eval("(() => { const name = document.getElementById('name'); name.value = 'grub-new'; document.getElementById('message').value = 'a new look'; })()").await;
    browser.click("#editor button.primary").await;
    browser.until("document.getElementById('said').innerText.startsWith('Saved grub-new in commit')").await;
    let log = git(&["log", "-1", "--format=%s", "--name-only"]).await;
    let lines: Vec<_> = log.split_whitespace().collect();
    assert_eq!(lines, ["a", "new", "look", "needles/grub-new.json", "needles/grub-new.png"]);
    let needle: serde_json::Value =
        serde_json::from_slice(&fs::read(suite.join("needles/grub-new.json")).unwrap()).unwrap();
    assert_eq!(needle["tags"], json!(["grub-menu"]));
    // The same name again is refused unless one says so.
    browser.eval("document.getElementById('message').value = 'again'").await;
    browser.click("#editor button.primary").await;
    browser.until("document.getElementById('said').className === 'fails'").await;
    assert!(browser.text("#said").await.contains("There is a needle grub-new already"));
    let mut complaints = browser.complaints().await;
    complaints.retain(|said| !said.contains("409"));
    assert_eq!(complaints, [""; 0]);
    browser.quit().await;
    up.stop().await;
}

#[tokio::test]
async fn templates_are_checked_as_one_types() {
    let place = Place::new();
    let up = Up::start(&place, &["--trust-loopback"]).await;
    let product = json!({"distri": "d", "version": "1", "flavor": "f", "arch": "x86_64"});
    for (path, body) in [
        ("machines", json!({"name": "m", "backend": "dummy"})),
        ("test_suites", json!({"name": "boot"})),
        ("products", product),
        ("job_groups", json!({"name": "Nightly"})),
    ] {
        let answer = up.request(Method::POST, &format!("/api/v1/{path}")).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}");
    }
    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 900).await;
    browser.open(&format!("{}/admin/job_templates/1", up.url)).await;
    let write = async |text: &str| {
        let script = format!(
            "(() => {{ const y = document.querySelector('#yaml'); y.value = {}; y.dispatchEvent(new Event('input')); }})()",
            json!(text)
        );
        browser.eval(&script).await;
    };
    let good = "products:\n  d: {distri: d, version: '1', flavor: f}\nscenarios:\n  x86_64:\n    d:\n    - boot: {machine: m}\n";
    write(&good.replace("- boot", "- bot")).await;
    browser.until("document.querySelector('#findings li')?.innerText.includes('line 6')").await;
    assert!(browser.text("#findings").await.contains("did you mean boot?"));
    assert_eq!(browser.eval("document.querySelector('#save').disabled").await, true);
    browser.click("#findings a[data-line]").await;
    let chosen = browser
        .eval("(y => y.value.slice(y.selectionStart, y.selectionEnd))(document.querySelector('#yaml'))")
        .await;
    assert_eq!(chosen, "    - bot: {machine: m}");
    fits(&browser, "templates").await;
    light_and_dark(&browser, "templates").await;
    browser.resize(1400, 900).await;
    write(good).await;
    browser.until("document.querySelector('#verdict').innerText.includes('1 template')").await;
    browser.click("#save").await;
    browser.until("location.search === '?saved=1'").await;
    assert!(browser.text("#rows").await.contains("d 1 f x86_64"));
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}
