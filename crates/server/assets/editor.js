// The needle editor: areas on the screen of a step, by pointer, by keys and as numbers; how the needle would match is asked
// of the server after each change.
"use strict";
(() => {
const form = document.getElementById("editor");
if (!form) return;
const SVG = "http://www.w3.org/2000/svg";
const KINDS = ["match", "exclude", "ocr"];
const byId = id => document.getElementById(id);
const canvas = byId("canvas"), table = byId("areas"), preview = byId("preview"), said = byId("said");
const width = Number(form.dataset.width), height = Number(form.dataset.height);
const api = `/api/assay/v1/jobs/${form.dataset.job}/needles`;
let areas = [], chosen = null, dirty = false, timer = 0, asked = 0;

const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element[key] = value;
  element.append(...children);
  return element;
};
const draw = (name, attributes) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
const clamp = (value, low, high) => Math.max(low, Math.min(high, Math.round(value) || 0));
/** Keeps an area on the picture and at least one pixel large. */
const settle = area => {
  area.width = clamp(area.width, 1, width);
  area.height = clamp(area.height, 1, height);
  area.xpos = clamp(area.xpos, 0, width - area.width);
  area.ypos = clamp(area.ypos, 0, height - area.height);
};
const click = area => {
  if (!area.click_point) return null;
  if (area.click_point === "center") return { x: area.width / 2, y: area.height / 2 };
  return { x: Number(area.click_point.xpos), y: Number(area.click_point.ypos) };
};

function changed() {
  dirty = true;
  render();
  clearTimeout(timer);
  timer = setTimeout(tryOn, 350);
}

function render() {
  const focused = document.activeElement;
  const kept = focused && focused.dataset ? focused.dataset.key : undefined;
  canvas.replaceChildren(...areas.map(shape));
  table.replaceChildren(...areas.map(row));
  if (kept) {
    const again = form.querySelector(`[data-key="${kept}"]`);
    if (again) again.focus();
  }
}

function shape(area, index) {
  const group = draw("g", {
    tabindex: 0, role: "button", class: area === chosen ? "area chosen" : "area", "data-key": `area-${index}`,
    "aria-label": `Area ${index + 1}, ${area.type}, ${area.width} by ${area.height} at ${area.xpos}, ${area.ypos}`,
  });
  const kind = { match: "ok", exclude: "exclude", ocr: "ocr" }[area.type];
  group.append(draw("rect", { class: kind, x: area.xpos, y: area.ypos, width: area.width, height: area.height }));
  const point = click(area);
  if (point) {
    const x = area.xpos + point.x, y = area.ypos + point.y;
    group.append(draw("path", { class: "click", d: `M${x - 9} ${y}h18M${x} ${y - 9}v18` }));
  }
  const handle = draw("circle", { class: "handle", cx: area.xpos + area.width, cy: area.ypos + area.height, r: 7 });
  group.append(handle);
  group.addEventListener("pointerdown", event => grab(event, area, event.target === handle ? "size" : "place"));
  group.addEventListener("focus", () => { chosen = area; });
  group.addEventListener("keydown", event => keys(event, area));
  return group;
}

function keys(event, area) {
  const by = event.shiftKey ? 10 : 1;
  const steps = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] };
  const kind = KINDS.find(word => word[0] === event.key);
  if (steps[event.key]) {
    const [x, y] = steps[event.key];
    if (event.ctrlKey) { area.width += x; area.height += y; } else { area.xpos += x; area.ypos += y; }
    settle(area);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    areas = areas.filter(other => other !== area);
  } else if (kind && !event.ctrlKey) {
    area.type = kind;
  } else if (event.key === "p") {
    area.click_point = area.click_point ? undefined : "center";
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
  changed();
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width * width, y: (event.clientY - box.top) / box.height * height };
}

/** Follows the pointer until it is let go. */
function grab(event, area, what) {
  if (event.button !== 0) return;
  event.preventDefault();
  event.stopPropagation();
  chosen = area;
  const from = place(event), before = { ...area };
  const move = moved => {
    const at = place(moved), x = at.x - from.x, y = at.y - from.y;
    if (what === "place") {
      area.xpos = before.xpos + x;
      area.ypos = before.ypos + y;
    } else {
      area.width = Math.max(1, before.width + x);
      area.height = Math.max(1, before.height + y);
      area.width = Math.min(area.width, width - before.xpos);
      area.height = Math.min(area.height, height - before.ypos);
    }
    settle(area);
    render();
  };
  const end = () => {
    removeEventListener("pointermove", move);
    removeEventListener("pointerup", end);
    removeEventListener("pointercancel", end);
    changed();
  };
  addEventListener("pointermove", move);
  addEventListener("pointerup", end);
  addEventListener("pointercancel", end);
}

canvas.addEventListener("pointerdown", event => {
  if (event.button !== 0) return;
  event.preventDefault();
  const from = place(event);
  const area = { xpos: from.x, ypos: from.y, width: 1, height: 1, type: "match" };
  let added = false;
  chosen = area;
  const move = moved => {
    const at = place(moved);
    if (!added && Math.abs(at.x - from.x) < 4 && Math.abs(at.y - from.y) < 4) return;
    if (!added) { areas.push(area); added = true; }
    const x = clamp(at.x, 0, width), y = clamp(at.y, 0, height);
    area.xpos = Math.min(from.x, x);
    area.ypos = Math.min(from.y, y);
    area.width = Math.abs(x - from.x);
    area.height = Math.abs(y - from.y);
    settle(area);
    render();
  };
  const end = () => {
    removeEventListener("pointermove", move);
    removeEventListener("pointerup", end);
    removeEventListener("pointercancel", end);
    if (added) changed();
  };
  addEventListener("pointermove", move);
  addEventListener("pointerup", end);
  addEventListener("pointercancel", end);
});

function row(area, index) {
  const cell = child => make("td", {}, child);
  const kind = make("select", { ariaLabel: `Kind of area ${index + 1}` });
  kind.dataset.key = `kind-${index}`;
  kind.append(...KINDS.map(word => make("option", { value: word, textContent: word, selected: word === area.type })));
  kind.addEventListener("change", () => { area.type = kind.value; changed(); });
  const number = (field, low, high, fallback) => {
    const input = make("input", { type: "number", min: low, max: high, value: area[field] ?? fallback, ariaLabel: `${field} of area ${index + 1}` });
    input.dataset.key = `${field}-${index}`;
    input.addEventListener("change", () => { area[field] = clamp(Number(input.value), low, high); settle(area); changed(); });
    return cell(input);
  };
  const point = make("input", { type: "checkbox", checked: Boolean(area.click_point), ariaLabel: `Click point in area ${index + 1}` });
  point.dataset.key = `click-${index}`;
  point.addEventListener("change", () => { area.click_point = point.checked ? "center" : undefined; changed(); });
  const remove = make("button", { type: "button", textContent: "✕", ariaLabel: `Remove area ${index + 1}` });
  remove.addEventListener("click", () => { areas = areas.filter(other => other !== area); changed(); });
  return make("tr", {}, cell(kind), number("xpos", 0, width), number("ypos", 0, height), number("width", 1, width),
    number("height", 1, height), number("match", 1, 100, 96), number("margin", 0, 2000, 50), cell(point), cell(remove));
}

byId("add").addEventListener("click", () => {
  areas.push({ xpos: Math.round(width * .4), ypos: Math.round(height * .4), width: Math.round(width * .2), height: Math.round(height * .2), type: "match" });
  changed();
  const last = canvas.lastElementChild;
  if (last) last.focus();
});

const from = byId("from");
if (from) from.addEventListener("change", async () => {
  if (!from.value) return;
  const answer = await fetch(`/api/assay/v1/blobs/${from.value}`);
  if (!answer.ok) { tell("The needle's file is gone.", true); return; }
  let needle;
  try { needle = await answer.json(); } catch { tell("The needle's file cannot be read.", true); return; }
  const numbers = ["xpos", "ypos", "width", "height", "match", "margin"];
  areas = (needle.area ?? []).map(area => {
    const taken = { type: KINDS.includes(area.type) ? area.type : "match", click_point: area.click_point };
    for (const name of numbers) if (area[name] !== undefined && area[name] !== null) taken[name] = Number(area[name]);
    settle(taken);
    return taken;
  });
  const option = from.selectedOptions[0];
  const tags = new Set([...byId("tags").value.split(/\s+/), ...option.dataset.tags.split(" ")].filter(Boolean));
  byId("tags").value = [...tags].join(" ");
  changed();
});

function draft() {
  const workaround = byId("workaround").value.trim();
  return {
    screenshot: form.dataset.screenshot,
    name: byId("name").value.trim(),
    tags: byId("tags").value.split(/\s+/).filter(Boolean),
    area: areas,
    properties: workaround ? [{ name: "workaround", value: workaround }] : [],
    message: byId("message").value,
    overwrite: byId("overwrite").checked,
  };
}

async function post(path) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(draft()) });
  const body = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Error([body.error, body.help].filter(Boolean).join(" "));
  return body;
}

function tell(text, bad) {
  said.textContent = text;
  said.className = bad ? "fails" : "good";
}

async function tryOn() {
  if (!areas.some(area => area.type === "match")) {
    preview.replaceChildren(make("p", { className: "quiet", textContent: "Draw a match area." }));
    return;
  }
  const mine = ++asked;
  let found;
  try { found = await post(`${api}/preview`); } catch (error) {
    if (mine === asked) preview.replaceChildren(make("p", { className: "fails", textContent: error.message }));
    return;
  }
  if (mine !== asked) return;
  const screen = one => {
    const picture = make("img", { src: `/api/assay/v1/blobs/${one.screenshot}`, alt: "", loading: "lazy" });
    const percent = `${Math.floor(one.similarity * 1000) / 10} %`;
    const word = make("b", { className: one.matched ? "good" : "fails", textContent: one.matched ? `✓ matches, ${percent}` : `✗ does not, ${percent}` });
    const link = make("a", { href: `/jobs/${one.job}/steps/${encodeURIComponent(one.module)}/${one.step}`, textContent: `#${one.job} ${one.module} / ${one.step}` });
    const note = make("small", { textContent: one.tags.length ? `${one.found ? "found" : "missed"} ${one.tags.join(" or ")}` : "" });
    return make("li", {}, picture, make("div", {}, word, link, note));
  };
  preview.replaceChildren(make("ol", { className: "tried" }, ...found.screens.map(screen)),
    ...found.warnings.map(text => make("p", { className: "quiet small", textContent: text })));
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  tell("Saving …", false);
  try {
    const saved = await post(api);
    dirty = false;
    if (saved.patch) {
      const [file, href] = [`${saved.name}.patch`, URL.createObjectURL(new Blob([saved.patch], { type: "text/plain" }))];
      tell("These needles are fetched from elsewhere, where nothing is pushed. Apply the patch there with git am: ", false);
      said.append(make("a", { href, download: file, textContent: file }));
      return;
    }
    tell(saved.commit ? `Saved ${saved.name} in commit ${saved.commit.slice(0, 10)}.` : `${saved.name} was there just so.`, false);
  } catch (error) {
    tell(error.message, true);
  }
});
byId("tags").addEventListener("change", changed);
addEventListener("beforeunload", event => { if (dirty) event.preventDefault(); });
render();
})();
