"use strict";
// Sorting, filtering and pointing. What decides has no document in it, and is tested without a browser.

/** Order of two cells: numbers by value, words by their letters; what is empty comes last either way. */
function compareCells(one, other, isNumber, descending) {
  const empty = (value) => value === "" || value === null || value === undefined;
  if (empty(one) || empty(other)) return empty(one) - empty(other);
  const order = isNumber ? Number(one) - Number(other) : String(one).localeCompare(String(other), "en", { numeric: true });
  return descending ? -order : order;
}

/** The places of values in their new order; equal ones stay as they were. */
function sortedPlaces(values, isNumber, descending) {
  return values
    .map((value, place) => [value, place])
    .sort((a, b) => compareCells(a[0], b[0], isNumber, descending) || a[1] - b[1])
    .map((entry) => entry[1]);
}

/** Whether a row's text holds every word that was typed, in any order and case. */
function matches(text, typed) {
  const low = text.toLowerCase();
  return typed.toLowerCase().split(/\s+/).filter(Boolean).every((word) => low.includes(word));
}

/** Whether a picture is of the row that was chosen, and has a mark of the class and kind together; "" is any. */
function isShown(picture, chosen) {
  const isMeant = ([name, kind]) =>
    (chosen.name === "" || name === chosen.name) && (chosen.kind === "" || kind === chosen.kind);
  return (chosen.row === "" || picture.row === chosen.row) && picture.marks.some(isMeant);
}

function sortTable(table, place, descending) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const head = table.tHead.rows[0].cells;
  const isNumber = head[place].classList.contains("number");
  const values = rows.map((row) => row.cells[place].dataset.value ?? "");
  for (const row of sortedPlaces(values, isNumber, descending)) body.append(rows[row]);
  for (const cell of head) cell.removeAttribute("aria-sort");
  head[place].setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function prepareTable(section) {
  const table = section.querySelector("table");
  for (const [place, cell] of Array.from(table.tHead.rows[0].cells).entries()) {
    cell.querySelector("button").addEventListener("click", () => {
      const isNumber = cell.classList.contains("number");
      const before = cell.getAttribute("aria-sort");
      sortTable(table, place, before === null ? isNumber : before === "ascending");
    });
  }
  const input = section.querySelector("input");
  const count = section.querySelector(".count");
  const filter = () => {
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = !matches(row.textContent, input.value);
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
  };
  input.addEventListener("input", filter);
  filter();
  for (const row of table.tBodies[0].rows) row.addEventListener("click", () => pick(row.dataset.row));
}

let picked = "";
function pick(row) {
  picked = picked === row ? "" : row;
  const isPicked = (element) => picked !== "" && element.dataset.row === picked;
  document.body.classList.toggle("dimmed", picked !== "" && !!document.querySelector(`.mark[data-row="${CSS.escape(picked)}"]`));
  for (const element of document.querySelectorAll("[data-row]")) element.classList.toggle("picked", isPicked(element));
}

function preparePictures(section) {
  const pictures = Array.from(section.querySelectorAll("figure"), (figure) => ({
    figure,
    row: figure.dataset.of,
    marks: JSON.parse(figure.dataset.marks),
  }));
  const [row, name, kind] = section.querySelectorAll("select");
  const count = section.querySelector(".count");
  const filter = () => {
    const chosen = { row: row.value, name: name.value, kind: kind.value };
    let shown = 0;
    for (const picture of pictures) {
      picture.figure.hidden = !isShown(picture, chosen);
      shown += picture.figure.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${pictures.length} pictures`;
  };
  for (const select of [row, name, kind]) select.addEventListener("change", filter);
  filter();
}

function prepareTheme(button) {
  const root = document.documentElement;
  button.hidden = false;
  button.addEventListener("click", () => {
    const system = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  });
}

if (typeof document !== "undefined") {
  document.querySelectorAll("section.table").forEach(prepareTable);
  document.querySelectorAll("section.examples").forEach(preparePictures);
  document.querySelectorAll(".mark").forEach((mark) => {
    mark.addEventListener("click", () => pick(mark.dataset.row));
    mark.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(mark.dataset.row); }
    });
  });
  prepareTheme(document.querySelector("#theme"));
}
if (typeof module !== "undefined") module.exports = { compareCells, sortedPlaces, matches, isShown };
