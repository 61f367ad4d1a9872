"use strict";
// Tables sort by a click on a head: up, down, and as they were. A field finds exhibits by their words. The name of a
// method leads to its records.

for (const row of document.querySelectorAll("tr[data-variant]")) {
  const target = `of-${row.dataset.variant}`;
  if (!document.getElementById(target)) continue;
  const link = document.createElement("a");
  link.href = `#${encodeURIComponent(target)}`;
  link.append(...row.cells[0].childNodes);
  row.cells[0].append(link);
}

for (const table of document.querySelectorAll("table")) {
  const heads = table.tHead ? [...table.tHead.rows[table.tHead.rows.length - 1].cells] : [];
  const body = table.tBodies[0];
  const rows = [...body.rows];
  if (rows.length < 2) continue; // the list of examples too, which its own script fills
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.classList.add("sorts");
    const sort = () => {
      const next = { none: "descending", descending: "ascending", ascending: "none" };
      const order = next[head.ariaSort || "none"];
      heads.forEach((other) => (other.ariaSort = "none"));
      head.ariaSort = order;
      const sorted = order === "none" ? rows : [...rows].sort((a, b) => compare(a, b, column, order));
      body.classList.toggle("sorted", order !== "none");
      body.append(...sorted);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter") sort();
    });
  });
}

function compare(first, second, column, order) {
  // A duration is shown in several units, and sorted by its seconds.
  const [a, b] = [first, second].map((row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim());
  const [x, y] = [a, b].map((text) => parseFloat(text.replace("\u2212", "-").replaceAll(",", "")));
  const sign = order === "ascending" ? 1 : -1;
  if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
  // What is no number, a dash, comes last.
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return -sign * a.localeCompare(b);
}

const find = document.getElementById("find");
if (find) {
  const show = () => {
    const words = find.value.toLowerCase().split(" ");
    const cards = [...document.querySelectorAll("section.card")];
    for (const card of cards) {
      const text = card.textContent.toLowerCase();
      card.hidden = !words.every((word) => text.includes(word));
    }
    document.getElementById("none").hidden = cards.some((card) => !card.hidden);
  };
  find.hidden = false;
  find.addEventListener("input", show);
  // A link leads nowhere while what it names is not found.
  document.addEventListener("click", (event) => {
    if (!event.target.closest('a[href^="#"]')) return;
    find.value = "";
    show();
  });
}
