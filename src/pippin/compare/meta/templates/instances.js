"use strict";
// Shows one pair at a time. Whatever comes from the data is set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const MOST = 400;
const byId = (id) => document.getElementById(id);
const make = (name, className, text) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const shown = (text) => {
  const box = make("div", "text", text);
  box.dir = "auto";
  box.tabIndex = 0;
  return box;
};
const side = (value) => (value === null ? "no vote" : value === 0 ? "tie" : `output ${value > 0 ? 1 : 2}`);
const MISSING = new Set(["abstained", "unparsed", "truncated", "refused", "failed"]);
// A verdict about the pair as it was shown, in the pair's own numbering: 1, -1, 0 a tie, null missing.
const named = (said, order) =>
  MISSING.has(said[0]) ? null : said[0] === "first" ? (order ? -1 : 1) : said[0] === "second" ? (order ? 1 : -1) : 0;
const grade = (said, order, gold) => {
  const value = named(said, order);
  if (value === null) return "missing";
  if (value === gold) return "right";
  return value === 0 ? "tie" : gold === 0 ? "other" : "wrong";
};
for (const judge of data.judges) judge.at = new Map(judge.rows.map((row, place) => [row, judge.said[place]]));

const STATES = {
  "": ["all pairs", () => true],
  wrong: ["wrong in an order", (g) => g.includes("wrong")],
  both: ["wrong in both orders", (g) => g[0] === "wrong" && g[1] === "wrong"],
  split: ["split: right in one order only", (g) => g.filter((one) => one === "right").length === 1],
  missing: ["missing in an order", (g) => g.includes("missing")],
  conflict: ["contradicts itself", (g, said) => said.some((one) => one[4])],
};
const option = (select, value, text) => {
  const made = make("option", "", text);
  made.value = value;
  select.append(made);
};
for (const [value, [text]] of Object.entries(STATES)) option(byId("state"), value, text);
option(byId("judge"), "", "any judge");
data.judges.forEach((judge, place) => option(byId("judge"), String(place), judge.name));

const low = data.pairs.map((pair) =>
  [...pair.prompt.map((turn) => turn[1]), ...pair.outputs].map((at) => data.texts[at].toLowerCase()));
const fits = (row, words, judges, test) => {
  if (!words.every((word) => low[row].some((text) => text.includes(word)))) return false;
  if (test === STATES[""][1]) return judges === data.judges || judges[0].at.has(row);
  return judges.some((judge) => {
    const said = judge.at.get(row);
    return said && test(said.map((one, order) => grade(one, order, data.pairs[row].gold)), said);
  });
};
let chosen = -1;
const list = () => {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const judges = byId("judge").value === "" ? data.judges : [data.judges[Number(byId("judge").value)]];
  const rows = data.pairs.map((_, row) => row).filter((row) => fits(row, words, judges, STATES[byId("state").value][1]));
  const items = rows.slice(0, MOST).map((row) => {
    const item = make("li");
    const turn = data.pairs[row].prompt.at(-1);
    const button = make("button", "", `${row}  ${turn ? data.texts[turn[1]].slice(0, 110) : ""}`);
    button.type = "button";
    button.dataset.row = row;
    if (row === chosen) button.setAttribute("aria-current", "true");
    item.append(button);
    return item;
  });
  if (rows.length > MOST) items.push(make("li", "more", `${rows.length - MOST} more: narrow the search`));
  byId("pairs").replaceChildren(...items);
  byId("count").textContent = `${rows.length} of ${data.pairs.length} pairs`;
  return rows;
};

const turn = (title, text) => {
  const box = make("div", "turn");
  box.append(make("h3", "", title), shown(text));
  return box;
};
const number = (value) => (value === null ? "" : String(Math.round(value * 1000) / 1000));
const details = (said, order) => {
  const box = make("div", "output");
  box.append(make("h3", "", order ? "swapped order: output 2 shown first" : "original order: output 1 shown first"));
  const facts = [`said ${said[0]}`];
  if (said[1] !== null) facts.push(`probability of the first shown ${number(said[1])}`);
  if (said[2] !== null) facts.push(`strength ${number(said[2])}`);
  if (said[3]) facts.push(`parser ${said[3]}`);
  if (said[4]) facts.push("contradicts itself");
  box.append(make("p", "foot", facts.join("; ")));
  for (const [role, at] of said[5]) {
    const raw = make("div", "raw");
    raw.append(make("h4", "", role), shown(data.texts[at]));
    box.append(raw);
  }
  if (!said[5].length) box.append(make("p", "foot", "no text at hand"));
  return box;
};
const judged = (judge, said, gold) => {
  const box = make("details", "judge");
  const head = make("summary");
  head.append(make("b", "", judge.name));
  said.forEach((one, order) => {
    const how = grade(one, order, gold);
    const value = named(one, order);
    head.append(make("span", `tag ${how}`, `${order ? "swapped" : "original"}: ${value === null ? one[0] : side(value)}${how === "right" || how === "wrong" ? `, ${how}` : ""}`));
  });
  if (said[0][1] !== null || said[1][1] !== null) {
    head.append(make("span", "tag", `p(output 1) ${said.map((one, order) => number(one[1] === null ? null : order ? 1 - one[1] : one[1])).join(" / ")}`));
  }
  if (said.some((one) => one[4])) head.append(make("span", "tag flag", "contradicts itself"));
  box.append(head);
  box.addEventListener("toggle", () => {
    if (!box.open || box.children.length > 1) return;
    const both = make("div", "outputs");
    both.append(...said.map(details));
    box.append(both);
  });
  return box;
};
const show = (row) => {
  const pair = data.pairs[row];
  if (!pair) return;
  chosen = row;
  const parts = [make("h2", "", `Pair ${row}`)];
  for (const [role, at] of pair.prompt) parts.push(turn(role, data.texts[at]));
  if (pair.reference !== undefined) parts.push(turn("reference", data.texts[pair.reference]));
  const outputs = make("div", "outputs");
  pair.outputs.forEach((at, place) => {
    const gold = pair.gold === (place ? -1 : 1);
    const box = make("div", gold ? "output gold" : "output");
    box.append(make("h3", "", `output ${place + 1}${pair.by[place] ? ` by ${pair.by[place]}` : ""}${gold ? ": better, people say" : ""}`));
    box.append(shown(data.texts[at]));
    outputs.append(box);
  });
  parts.push(outputs);
  if (pair.gold === 0) parts.push(make("p", "foot", "People call this pair a tie."));
  if (pair.votes) {
    const votes = pair.votes.map((vote, who) => `${data.people[who]}: ${side(vote)}`);
    parts.push(make("p", "foot votes", `Votes: ${votes.join("; ")}`));
  }
  parts.push(make("h3", "", "Judges"));
  const first = byId("judge").value === "" ? -1 : Number(byId("judge").value);
  const order = data.judges.map((_, place) => place).sort((a, b) => (b === first) - (a === first) || a - b);
  for (const place of order) {
    const said = data.judges[place].at.get(row);
    if (!said) continue;
    const box = judged(data.judges[place], said, pair.gold);
    parts.push(box);
    if (place === first) box.open = true;
  }
  byId("pair").replaceChildren(...parts);
  for (const button of document.querySelectorAll("#pairs button")) {
    button.setAttribute("aria-current", String(Number(button.dataset.row) === row));
  }
};
const browse = () => {
  const rows = list();
  if (rows.length) show(rows.includes(chosen) ? chosen : rows[0]);
  else byId("pair").replaceChildren(make("p", "foot", "No pair fits."));
};
byId("pairs").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  show(Number(button.dataset.row));
  history.replaceState(null, "", `#${button.dataset.row}`);
});
byId("browse").addEventListener("submit", (event) => event.preventDefault());
byId("browse").addEventListener("input", browse);
const asked = () => {
  if (!/^#\d+$/.test(location.hash)) return;
  chosen = Number(location.hash.slice(1));
};
addEventListener("hashchange", () => { asked(); browse(); });
asked();
browse();
