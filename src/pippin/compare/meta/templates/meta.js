// One filter for all tables of judges: what is typed in one box stands in all of them.
const boxes = [...document.querySelectorAll("form.find input")];
const narrowed = (words) => {
  for (const table of document.querySelectorAll("table.judged")) {
    for (const group of table.tBodies) {
      const text = group.dataset.judge || "";
      group.hidden = words.length > 0 && (group.classList.contains("heading") || !words.every((w) => text.includes(w)));
    }
  }
};
for (const box of boxes) {
  box.form.hidden = false;
  box.form.addEventListener("submit", (event) => event.preventDefault());
  box.addEventListener("input", () => {
    for (const other of boxes) if (other !== box) other.value = box.value;
    narrowed(box.value.toLowerCase().split(/\s+/).filter(Boolean));
  });
}
