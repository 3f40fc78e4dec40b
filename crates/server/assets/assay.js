// Assay's one script. Every page is complete without it; it adds: theme, live changes, keyboard, the step viewer.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
  if (stored) root.dataset.theme = stored;

  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  // ---- theme: what the system says, until the reader says otherwise
  function turnTheme() {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* private window: for this page only */ }
  }

  // ---- the menu of further pages closes when the reader goes elsewhere
  for (const gone of ["click", "focusin"]) {
    document.addEventListener(gone, (event) => {
      const menu = $(".others[open]");
      if (menu && !menu.contains(event.target)) menu.open = false;
    });
  }

  // ---- times: "3 min ago" goes on counting
  function span(seconds) {
    if (seconds < 60) return `${Math.floor(seconds)} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
    if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
    return `${Math.floor(seconds / 86400)} days`;
  }
  const coarse = (seconds) =>
    seconds < 5 ? "just now" : seconds < 60 ? `${Math.floor(seconds)} s ago` : seconds < 3600 ? `${Math.floor(seconds / 60)} min ago`
      : seconds < 172800 ? `${Math.floor(seconds / 3600)} h ago` : `${Math.floor(seconds / 86400)} days ago`;
  const about = (seconds) =>
    seconds < 60 ? "a moment" : seconds < 3600 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  let skew = 0; // server's clock minus ours, seconds
  function tick() {
    const now = Date.now() / 1000 + skew;
    for (const time of $$("time[data-form]")) {
      const age = Math.max(0, now - Date.parse(time.dateTime) / 1000);
      const left = Date.parse(time.dateTime) / 1000 - now;
      const text = time.dataset.form === "span" ? span(age) : time.dataset.form === "left" ? about(left) : coarse(age);
      if (time.textContent !== text) time.textContent = text;
    }
    for (const bar of $$("progress[data-since]")) bar.value = Math.min(bar.max, now - Date.parse(bar.dataset.since) / 1000);
  }

  // ---- live: fetch the page again and change only what differs, so that nothing jumps
  function morph(old, next) {
    if (old.isEqualNode(next)) return;
    if (old.nodeType === 3 && next.nodeType === 3) { old.data = next.data; return; }
    if (old.nodeType !== 1 || old.nodeName !== next.nodeName) { old.replaceWith(next.cloneNode(true)); return; }
    if (old.hasAttribute("data-keep")) return;
    // Its first steps unfold a module; after that it is the reader's.
    if (old.hasAttribute("data-bare") && !next.hasAttribute("data-bare")) old.open = true;
    for (const { name } of [...old.attributes]) {
      if (!next.hasAttribute(name) && name !== "open" && name !== "data-ready") old.removeAttribute(name);
    }
    for (const { name, value } of [...next.attributes]) {
      if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const byId = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    let at = old.firstChild;
    for (const want of [...next.childNodes]) {
      const keyed = want.id ? byId.get(want.id) : null;
      if (keyed) {
        if (keyed === at) at = at.nextSibling; else old.insertBefore(keyed, at);
        morph(keyed, want);
      } else if (at && !at.id && !want.id && at.nodeType === want.nodeType) {
        const following = at.nextSibling;
        morph(at, want);
        at = following;
      } else {
        old.insertBefore(want.cloneNode(true), at);
      }
    }
    while (at) { const following = at.nextSibling; at.remove(); at = following; }
  }

  let fetching = false, again = false, lastFetch = 0;
  async function refresh() {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      // Pages that cost more are fetched less often.
      const wait = lastFetch + Math.max(400, ...$$("[data-pace]").map((part) => Number(part.dataset.pace))) - performance.now();
      if (wait > 0) await new Promise((done) => setTimeout(done, wait));
      lastFetch = performance.now();
      const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" } });
      if (answer.ok) {
        const next = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const region of $$("[data-live]", next)) {
          const old = document.getElementById(region.id);
          if (old) morph(old, region);
        }
        document.title = next.title;
        prepare();
        tick();
      }
    } catch { /* the event stream says when the server is back */ }
    fetching = false;
    if (again) { again = false; refresh(); }
  }

  // ---- the gate's board: the server sends the pieces that have changed, and the order of those that moved
  const pieceOf = (html) => { const box = document.createElement("template"); box.innerHTML = html; return box.content.firstElementChild; };
  function apply({ parts, lists }) {
    const fresh = new Map();
    for (const [id, html] of Object.entries(parts)) {
      const old = document.getElementById(id), next = pieceOf(html);
      if (!next) continue;
      if (old) morph(old, next); else fresh.set(id, next);
    }
    for (const { id, keys } of lists) {
      const list = document.getElementById(id);
      if (!list) continue;
      let at = list.firstElementChild;
      for (const key of keys) {
        const child = at?.id === key ? at : document.getElementById(key) ?? fresh.get(key);
        if (!child) continue;
        if (child === at) at = at.nextElementSibling; else list.insertBefore(child, at);
      }
      while (at) { const following = at.nextElementSibling; at.remove(); at = following; }
      // A queue's head is a piece of its own, and comes with its first list.
    }
    tick();
  }
  function listenBoard() {
    const board = $("[data-board]");
    if (!board || events || document.hidden) return;
    events = new EventSource(`${board.dataset.board}&version=${encodeURIComponent(board.dataset.version)}`);
    events.onmessage = (event) => { apply(JSON.parse(event.data)); board.dataset.version = event.lastEventId; };
    events.addEventListener("stale", refresh);
    events.onopen = () => notice("");
    events.onerror = () => {
      notice("The server is away; this page goes on when it is back.");
      // The address has the version in it, so a new one is needed, not the browser's own next try.
      events?.close();
      events = null;
      setTimeout(listenBoard, 1500);
    };
  }

  let events = null;
  function listen() {
    listenBoard();
    const path = document.body.dataset.events;
    if (!path || events || document.hidden) return;
    events = new EventSource(path);
    // Without a count in the address, after a pause, nobody says what changed before this listens.
    let broken = !path.includes("since=");
    events.onopen = () => {
      notice("");
      document.body.dataset.events = path.replace(/\bsince=\d+&?/, "").replace(/[?&]$/, "");
      if (broken) { broken = false; refresh(); }
    };
    events.onmessage = () => refresh();
    events.onerror = () => { broken = true; notice("The server is away; this page goes on when it is back."); };
  }
  function notice(text) {
    let note = $(".offline");
    if (!text) { note?.remove(); return; }
    if (!note) { note = document.createElement("p"); note.className = "offline"; note.setAttribute("role", "status"); document.body.append(note); }
    note.textContent = text;
  }
  // A hidden page gives its connections back: browsers allow six to one server.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { events?.close(); events = null; } else { listen(); if (!document.body.dataset.events) refresh(); }
    for (const picture of $$("img[data-stream]")) picture.src = document.hidden ? "" : picture.dataset.stream;
  });

  // ---- logs that grow
  async function follow(pre) {
    if (pre.dataset.following) return;
    pre.dataset.following = "yes";
    pre.scrollTop = pre.scrollHeight;
    try {
      const answer = await fetch(pre.dataset.follow);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const pinned = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 30;
        pre.append(value.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").replaceAll("\r", ""));
        if (pre.textContent.length > 300000) pre.textContent = pre.textContent.slice(-200000);
        if (pinned) pre.scrollTop = pre.scrollHeight;
      }
    } catch { delete pre.dataset.following; }
  }

  // ---- the step viewer
  const viewer = document.createElement("dialog");
  viewer.className = "viewer";
  viewer.setAttribute("aria-label", "Step");
  let shown = null;
  async function show(href, hash) {
    const answer = await fetch(href, { headers: { Accept: "text/html" } });
    if (!answer.ok) { location.href = href; return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const full = $(".full", page);
    if (!full) { location.href = href; return; }
    const close = document.createElement("button");
    close.type = "button";
    close.className = "close";
    close.textContent = "close";
    $(".turn", full).append(close);
    viewer.replaceChildren(full);
    shown = href;
    if (!viewer.open) viewer.showModal();
    viewer.scrollTop = 0;
    if (hash) history.replaceState(null, "", `${location.pathname}${location.search}#${hash}`);
    prepare(viewer);
  }
  viewer.addEventListener("close", () => {
    const id = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname + location.search);
    shown = null;
    document.getElementById(id)?.querySelector("a")?.focus();
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  function open(link) { show(link.href, link.closest("[id]").id); }
  function turn(by) {
    const steps = $$("a.step");
    if (viewer.open) {
      const now = decodeURIComponent(location.hash.slice(1));
      const at = steps.findIndex((step) => step.closest("[id]").id === now);
      const next = steps[at + by];
      if (next) open(next);
    } else if (steps.length) {
      const at = steps.indexOf(document.activeElement);
      const next = steps[at < 0 ? 0 : Math.max(0, Math.min(steps.length - 1, at + by))];
      const fold = next.closest("details");
      if (fold) fold.open = true;
      next.focus();
    } else {
      $(by > 0 ? ".turn a[rel=next]" : ".turn a[rel=prev]")?.click();
    }
  }
  function fromHash() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (!id.startsWith("step/")) { if (viewer.open) viewer.close(); return; }
    const link = document.getElementById(id)?.querySelector("a.step");
    if (link && shown !== link.href) open(link);
  }
  addEventListener("hashchange", fromHash);

  // ---- clicks and keys
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const at = (selector) => event.target.closest(selector);
    if (at("#theme")) turnTheme();
    else if (at("#keys")) help();
    else if (at(".copy")) copy(at(".copy"));
    else if (at("dialog .close")) at("dialog").close();
    else if (at("a.step")) { event.preventDefault(); open(at("a.step")); }
    else if (at("#first-failure")) {
      const step = $$("a.step").find((step) => step.href === at("#first-failure").href);
      if (step) { event.preventDefault(); open(step); }
    }
    else if (viewer.open && at("dialog a.candidate")) { event.preventDefault(); show(at("a.candidate").href); }
    else if (viewer.open && at("dialog a[rel=next]")) { event.preventDefault(); turn(1); }
    else if (viewer.open && at("dialog a[rel=prev]")) { event.preventDefault(); turn(-1); }
  });
  async function copy(button) {
    const text = button.closest(".command").querySelector("code").textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "copied"; } catch { button.textContent = "select it"; }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }
  function help() { $("#help")?.showModal(); }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const key = event.key;
    if (key === "?") help();
    else if (key === "/") { const search = $("input[type=search]"); if (search) { event.preventDefault(); search.focus(); } }
    else if (key === "ArrowRight" || key === "j") turn(1);
    else if (key === "ArrowLeft" || key === "k") turn(-1);
    else if (key === "f") $("#first-failure")?.click();
    else if (key === "t") turnTheme();
    else if (key === "Escape" && !$("dialog[open]") && $(".crumbs a.up")) $(".crumbs a.up").click();
    else return;
    if (key !== "/") event.preventDefault();
  });

  // ---- what new content needs
  function prepare(within = document) {
    $$("pre[data-follow]", within).forEach(follow);
    for (const end of $$("#console pre, #log pre, #serial pre", within)) {
      if (end.dataset.ready) continue;
      end.dataset.ready = "yes";
      end.scrollTop = end.scrollHeight;
    }
    for (const slide of $$(".slide", within)) {
      if (slide.dataset.ready) continue;
      slide.dataset.ready = "yes";
      const pictures = slide.parentElement.querySelector(".pictures");
      const range = $("input", slide);
      const beside = $(".beside", slide);
      const move = () => pictures.style.setProperty("--cut", `${100 - range.value}%`);
      beside.addEventListener("click", () => {
        range.disabled = pictures.classList.contains("sliding");
        pictures.classList.toggle("sliding", !range.disabled);
        beside.setAttribute("aria-pressed", String(range.disabled));
      });
      pictures.classList.add("sliding");
      range.addEventListener("input", move);
      move();
    }
  }
  // ---- templates: checked as one types
  function editor() {
    const form = $("form#templates"), text = $("#yaml"), numbers = $("#numbers");
    if (!form) return;
    const count = () => {
      const lines = text.value.split("\n").length;
      if (numbers.childElementCount !== 0 || numbers.dataset.lines !== String(lines)) {
        numbers.dataset.lines = lines;
        numbers.textContent = Array.from({ length: lines }, (_, line) => line + 1).join("\n");
      }
      numbers.scrollTop = text.scrollTop;
    };
    let timer, asked = 0;
    async function check() {
      const mine = ++asked;
      const body = new URLSearchParams({ template: text.value });
      const answer = await fetch(form.dataset.check, { method: "POST", body }).catch(() => null);
      if (mine !== asked) return;
      const said = answer?.ok ? await answer.json() : { findings: [], templates: null };
      $("#findings ol").replaceChildren(...said.findings.map((finding) => {
        const item = document.createElement("li"), link = document.createElement("a");
        item.className = finding.severity === "error" ? "k-failed" : "k-softfailed";
        link.href = "#yaml";
        link.dataset.line = finding.line;
        link.textContent = `line ${finding.line}`;
        item.append(link, ` ${finding.message}${finding.nearest ? `; did you mean ${finding.nearest}?` : ""}`);
        return item;
      }));
      $("#save").disabled = said.templates === null;
      $("#verdict").textContent = !answer?.ok ? "It could not be checked." : said.templates === null ? ""
        : `It makes ${said.templates} template${said.templates === 1 ? "" : "s"}.`;
    }
    text.addEventListener("input", () => { count(); if (form.dataset.check) { clearTimeout(timer); timer = setTimeout(check, 250); } });
    text.addEventListener("scroll", count);
    $("#findings").addEventListener("click", (event) => {
      const line = Number(event.target.closest("a[data-line]")?.dataset.line);
      if (!line) return;
      event.preventDefault();
      const before = text.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
      text.focus();
      text.setSelectionRange(before, before + (text.value.split("\n")[line - 1] ?? "").length);
      text.scrollTop = Math.max(0, (line - 6) * parseFloat(getComputedStyle(text).lineHeight));
    });
    count();
  }
  // ---- properties of a group: checked as one types
  function properties() {
    const form = $("form#properties[data-check]");
    if (!form) return;
    const verdict = $("#verdict"), inputs = $$("input, select", form);
    let timer, asked = 0;
    function say(refused, fields) {
      verdict.hidden = !refused;
      verdict.textContent = refused ?? "";
      $("#save").disabled = Boolean(refused);
      for (const input of inputs) {
        if (fields.includes(input.name)) input.setAttribute("aria-invalid", "true"); else input.removeAttribute("aria-invalid");
      }
    }
    async function check() {
      const mine = ++asked;
      // What is no number at all the browser keeps to itself.
      const bad = inputs.find((input) => input.validity.badInput);
      if (bad) { say(bad.validationMessage, [bad.name]); return; }
      const body = new URLSearchParams(new FormData(form));
      const answer = await fetch(form.dataset.check, { method: "POST", body }).catch(() => null);
      if (mine !== asked) return;
      // What cannot be checked is checked when it is saved.
      const said = answer?.ok ? await answer.json() : { refused: null, fields: [] };
      say(said.refused, said.fields);
    }
    form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(check, 250); });
  }
  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(viewer);
    skew = Number(document.body.dataset.now) / 1000 - Date.now() / 1000;
    for (const select of $$(".filters select, .filters input[type=checkbox]")) select.addEventListener("change", () => select.form.requestSubmit());
    for (const box of $$("form[data-plan] input")) box.addEventListener("change", () => box.form.requestSubmit($(".plan", box.form)));
    editor();
    properties();
    prepare();
    tick();
    setInterval(tick, 1000);
    listen();
    fromHash();
  });
})();
