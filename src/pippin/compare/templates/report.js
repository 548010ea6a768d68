"use strict";
// Sorting and filtering of tables, examples without names. Everything can be read without it.
const value = (group, column) => {
  const cell = group.rows[0].cells[column];
  const raw = cell.dataset.order;
  return raw === undefined ? cell.textContent.trim().toLowerCase() : raw === "" ? null : Number(raw);
};
const before = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
const sort = (table, column, direction) => {
  const groups = [...table.tBodies].filter((group) => !group.classList.contains("heading"));
  groups
    .map((group, place) => ({ group, place, key: value(group, column) }))
    .sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
      return direction * before(a.key, b.key) || a.place - b.place;
    })
    .forEach(({ group }) => table.append(group));
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      sort(table, column, down ? 1 : -1);
    });
  });
}
for (const form of document.querySelectorAll("form[data-table]")) {
  const table = document.getElementById(form.dataset.table);
  form.hidden = false;
  form.addEventListener("change", () => {
    const chosen = new FormData(form);
    const decoding = chosen.get("decoding");
    for (const group of table.tBodies) {
      group.hidden = Boolean(decoding) && group.dataset.decoding !== decoding;
      for (const row of group.querySelectorAll("tr.seed")) row.hidden = !chosen.has("seeds");
    }
  });
}
for (const form of document.querySelectorAll("form[data-blind]")) {
  const section = form.closest("section");
  form.hidden = false;
  form.addEventListener("change", () => {
    const blind = new FormData(form).has("blind");
    section.classList.toggle("blind", blind);
    const place = (answer) => Number(blind ? answer.dataset.mixed : answer.dataset.arm);
    for (const answers of section.querySelectorAll(".answers")) {
      answers.append(...[...answers.children].sort((a, b) => place(a) - place(b)));
    }
    for (const key of section.querySelectorAll(".which")) key.open = false;
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.which)").forEach((part) => (part.open = true)));
