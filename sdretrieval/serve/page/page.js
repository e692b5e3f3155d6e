"use strict";
// Everything that comes from a document goes through textContent: nothing in it is markup here.

const SHOWN = 300;
const byId = (id) => document.getElementById(id);
let key = "", about = null, chosen = -1, latest = 0;

function make(tag, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const how = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(path, how);
  if (answer.status === 401) {
    byId("key-form").hidden = false;
    byId("key").focus();
  }
  if (answer.status === 204) return null;
  const record = await answer.json();
  if (!answer.ok) throw new Error(record.error ? record.error.message : `status ${answer.status}`);
  return record;
}

// The part of a text that meets the query, its words marked. Offsets count characters, as Python does.
function passage(hit) {
  const signs = Array.from(hit.text), element = make("p", undefined, "text");
  const [start, end] = hit.passage;
  let at = start;
  if (start > 0) element.append("… ");
  for (const [from, to] of hit.words) {
    element.append(signs.slice(at, from).join(""), make("mark", signs.slice(from, to).join("")));
    at = to;
  }
  element.append(signs.slice(at, end).join(""), end < signs.length ? " …" : "");
  return element;
}

function moved(hit, before) {
  if (!before) return null;
  const place = before.get(hit.id);
  if (place === undefined) return make("span", "new", "moved-up");
  if (place === hit.rank) return null;
  const up = place > hit.rank;
  return make("span", `${up ? "▲" : "▼"} from ${place}`, up ? "moved-up" : "moved-down");
}

function thumbs(query, hit) {
  const box = make("div", undefined, "thumbs");
  for (const [verdict, sign, says] of [["relevant", "👍", "relevant"], ["not", "👎", "not relevant"]]) {
    const button = make("button", sign);
    button.type = "button";
    button.setAttribute("aria-label", `${says}: ${hit.title || hit.id}`);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", async () => {
      try {
        await ask("verdicts", { query, document_id: hit.id, verdict });
        for (const one of box.children) one.setAttribute("aria-pressed", String(one === button));
      } catch (problem) {
        byId("status").textContent = problem.message;
      }
    });
    box.append(button);
  }
  return box;
}

function column(name, found, before) {
  const part = make("section"), list = make("ol");
  part.append(make("h2", `${name}: ${found.hits.length} hits, ${found.milliseconds.toFixed(0)} ms`), list);
  for (const hit of found.hits) {
    const item = make("li"), facts = make("div", undefined, "facts");
    item.tabIndex = -1;
    facts.append(make("span", `${hit.rank}.`), make("span", hit.id, "id"), make("span", hit.score.toFixed(3)));
    if (hit.probability !== null) facts.append(make("span", `relevant: ${(100 * hit.probability).toFixed(0)} %`));
    const change = moved(hit, before);
    if (change) facts.append(change);
    item.append(make("h3", hit.title || hit.text.slice(0, 80)), facts, passage(hit));
    if (about.verdicts && name !== "base") item.append(thumbs(found.query, hit));
    list.append(item);
  }
  return part;
}

async function search() {
  const query = byId("query").value.trim(), mode = byId("mode").value, number = ++latest;
  if (!query || !about) return;
  byId("status").textContent = "…";
  try {
    const systems = about.base ? ["student", "base"] : ["student"];
    const found = await Promise.all(systems.map((system) => ask("search", { query, mode, k: 10, system })));
    if (number !== latest) return; // another search was begun meanwhile
    const before = found[1] ? new Map(found[1].hits.map((hit) => [hit.id, hit.rank])) : null;
    byId("columns").replaceChildren(...found.map((one, n) => column(systems[n], one, n === 0 ? before : null)));
    chosen = -1;
    byId("status").textContent = found[0].hits.length ? "" : "Nothing was found.";
    history.replaceState(null, "", `?${new URLSearchParams({ q: query.slice(0, SHOWN), mode })}`);
  } catch (problem) {
    if (number === latest) byId("status").textContent = problem.message;
  }
}

async function begin() {
  try {
    about = await ask("info");
  } catch (problem) {
    byId("status").textContent = problem.message;
    return;
  }
  byId("key-form").hidden = true;
  byId("status").textContent = "";
  document.title = `Search: ${about.name}`;
  const parameters = new URLSearchParams(location.search), modes = byId("mode");
  modes.replaceChildren(...about.modes.map((mode) => make("option", mode)));
  modes.value = about.modes.includes(parameters.get("mode")) ? parameters.get("mode") : "dense";
  byId("about").textContent =
    `${about.name}, version ${about.version.slice(0, 12)}: ${about.documents} documents, ${about.dims} dims, ${about.format}`;
  if (parameters.get("q")) {
    byId("query").value = parameters.get("q");
    search();
  }
}

byId("form").addEventListener("submit", (event) => { event.preventDefault(); search(); });
byId("mode").addEventListener("change", search);
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  begin();
});
document.addEventListener("keydown", (event) => {
  const writing = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !writing) {
    event.preventDefault();
    byId("query").select();
  }
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const hits = Array.from(document.querySelectorAll("section:first-child li"));
    if (!hits.length || event.target instanceof HTMLSelectElement) return;
    event.preventDefault();
    chosen = Math.min(Math.max(chosen + (event.key === "ArrowDown" ? 1 : -1), 0), hits.length - 1);
    hits.forEach((one, n) => one.classList.toggle("chosen", n === chosen));
    hits[chosen].focus();
  }
});
begin();
