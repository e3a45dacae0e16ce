"use strict";
// Sorting of tables by a click on a heading, and of pictures by their bits per dimension. Without this all is still shown.
const number = (text) => parseFloat(text.replace("−", "-").replace(/^[^\d.+-]+/, ""));

function sortRows(table, column, direction) {
  const key = (row) => row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [number(key(a)), number(key(b))];
    if (isNaN(x) && isNaN(y)) return direction * key(a).localeCompare(key(b));
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y); // what has no number comes last
    return direction * (x - y);
  };
  const rows = [...table.tBodies[0].rows].sort(compare);
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const rising = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      sortRows(table, column, rising ? 1 : -1);
    });
  });
}

for (const gallery of document.querySelectorAll(".gallery")) {
  const form = gallery.querySelector("form");
  const place = gallery.querySelector(".exhibits");
  const exhibits = [...place.children];
  const bpd = (exhibit) => parseFloat(exhibit.dataset.bpd);
  const bound = (field, otherwise) => (field.value === "" ? otherwise : parseFloat(field.value));
  const update = () => {
    const fields = form.elements;
    const direction = Number(fields.order.value);
    const [low, high] = [bound(fields.low, -Infinity), bound(fields.high, Infinity)];
    const words = fields.text.value.toLowerCase();
    const unbounded = low === -Infinity && high === Infinity;
    let shown = 0;
    for (const exhibit of exhibits) {
      const value = bpd(exhibit);
      const inside = unbounded || (value >= low && value <= high);
      exhibit.hidden = !(inside && exhibit.dataset.text.toLowerCase().includes(words));
      shown += !exhibit.hidden;
    }
    const last = (value) => (isNaN(value) ? Infinity : direction * value);
    place.append(...(direction ? [...exhibits].sort((a, b) => last(bpd(a)) - last(bpd(b)) || 0) : exhibits));
    form.querySelector("output").textContent = `${shown} of ${exhibits.length}`;
  };
  form.hidden = false;
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const box of document.querySelectorAll(".zoom > input:checked")) box.checked = false;
});
document.documentElement.dataset.ready = "true";
