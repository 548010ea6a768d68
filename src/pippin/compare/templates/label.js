"use strict";
// One pair at a time; what was said is kept in the browser until it is downloaded. Texts are shown as text alone.
const draw = JSON.parse(document.getElementById("draw").textContent);
const part = (id) => document.getElementById(id);
const KEYS = { 1: "first", 2: "second", 0: "tie", b: "both_bad" };
const COLUMNS = Object.keys(draw.rows[0]);
const mine = draw.rows.filter((row) => row.choice === "" || row.annotator === draw.annotator);
const kept = `pippin-label-${draw.id}`;
const known = (row) => `${row.first} ${row.second}`;
let at = 0;

const say = (text) => {
  part("note").textContent = text;
  part("note").hidden = text === "";
};
const keep = () => {
  const choices = Object.fromEntries(mine.filter((row) => row.choice).map((row) => [known(row), row.choice]));
  try {
    localStorage.setItem(kept, JSON.stringify({ choices, annotator: part("annotator").value }));
  } catch {
    say("This browser keeps nothing for this page: download before you close it.");
  }
};
const restore = () => {
  part("annotator").value = draw.annotator;
  try {
    const held = JSON.parse(localStorage.getItem(kept) ?? "{}");
    if (typeof held.annotator === "string") part("annotator").value = held.annotator;
    for (const row of mine) {
      const choice = held.choices?.[known(row)];
      if (Object.values(KEYS).includes(choice)) row.choice = choice;
    }
  } catch {
    say("Nothing that was kept could be read: you start anew.");
  }
};
const show = () => {
  const row = mine[at];
  const done = mine.filter((one) => one.choice).length;
  part("progress").textContent = `pair ${at + 1} of ${mine.length}, ${done} labelled`;
  part("prompt").textContent = row.prompt;
  part("first").textContent = row.text_first;
  part("second").textContent = row.text_second;
  for (const button of document.querySelectorAll(".choice")) {
    button.setAttribute("aria-pressed", String(button.dataset.choice === row.choice));
  }
};
const go = (to) => {
  at = Math.max(0, Math.min(mine.length - 1, to));
  show();
  scrollTo(0, 0);
};
const open = () => {
  for (let step = 1; step <= mine.length; step++) {
    const place = (at + step) % mine.length;
    if (!mine[place].choice) return place;
  }
  return -1;
};
const choose = (choice) => {
  mine[at].choice = choice;
  say("");
  keep();
  const place = open();
  if (place < 0) say("All pairs are labelled. Download the labels.");
  go(place < 0 ? at : place);
};
const quoted = (value) => {
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r']/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const download = () => {
  const name = part("annotator").value.trim();
  const lines = draw.rows.map((row) => {
    const filled = mine.includes(row) ? { ...row, annotator: name } : row;
    return COLUMNS.map((column) => quoted(filled[column])).join(",");
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([[COLUMNS.join(","), ...lines, ""].join("\n")], { type: "text/csv" }));
  link.download = draw.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

if (mine.length === 0) {
  say("Every pair is labelled already.");
} else {
  restore();
  if (mine[at].choice) at = Math.max(0, open());
  show();
  for (const button of document.querySelectorAll(".choice")) {
    button.addEventListener("click", () => choose(button.dataset.choice));
  }
  part("back").addEventListener("click", () => go(at - 1));
  part("next").addEventListener("click", () => go(at + 1));
  part("annotator").addEventListener("input", keep);
  addEventListener("keydown", (event) => {
    if (event.target === part("annotator") || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const choice = KEYS[(event.key ?? "").toLowerCase()];
    if (choice) choose(choice);
    else if (event.key === "ArrowLeft") go(at - 1);
    else if (event.key === "ArrowRight") go(at + 1);
    else return;
    event.preventDefault();
  });
}
part("download").addEventListener("click", download);
