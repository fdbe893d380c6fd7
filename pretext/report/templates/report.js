"use strict";
// Filters the table of texts. Without this script all rows are there to read.
const rows = [...document.querySelectorAll("#rows tr")];
const haystacks = rows.map((row) => row.textContent.toLowerCase());
const search = document.getElementById("search");
const kind = document.getElementById("kind");
const found = document.getElementById("found");

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  rows.forEach((row, place) => {
    const right = !kind.value || row.dataset.kind === kind.value;
    row.hidden = !(right && words.every((word) => haystacks[place].includes(word)));
    shown += !row.hidden;
  });
  found.textContent = `${shown} of ${rows.length} shown`;
  document.getElementById("rows").classList.toggle("filtered", shown < rows.length);
}

if (search) {
  search.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  document.getElementById("controls").hidden = false;
  filter();
}

// On paper nothing can be unfolded.
const folded = () => document.querySelectorAll("details:not([open])");
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...folded()];
  unfolded.forEach((part) => (part.open = true));
});
addEventListener("afterprint", () => unfolded.forEach((part) => (part.open = false)));
