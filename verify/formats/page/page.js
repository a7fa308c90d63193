"use strict";
// Hides what does not contain the words in the box. Without it the page is whole.
const box = document.getElementById("filter");
const items = [...document.querySelectorAll(".finding, .journey")];
const groups = [...document.querySelectorAll(".code, .family")];
const text = new Map(items.map((item) => [item, `${item.dataset.code ?? ""} ${item.textContent}`.toLowerCase()]));

function filter() {
  const words = box.value.toLowerCase().split(/\s+/);
  for (const item of items) item.hidden = !words.every((word) => text.get(item).includes(word));
  for (const group of groups) group.hidden = !group.querySelector(".finding:not([hidden])");
  const left = items.filter((item) => !item.hidden).length;
  document.getElementById("told").textContent = box.value.trim() ? `${left} of ${items.length}` : "";
}

if (box) {
  box.closest(".filter").hidden = false;
  box.addEventListener("input", filter);
}
