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

/** How many of columns one beside the other stay in sight within the room; the first does anyway. */
function stuckColumns(widths, room) {
  let left = 0;
  return widths.map((width, place) => {
    if (place > 0 && left + width > room) return null;
    left += width;
    return left - width;
  });
}

/** The places of the columns on each sheet as wide as the room: those of `whose` are on every one, the rest evenly. */
function sheetsOf(widths, whose, room) {
  const places = Array.from(widths.keys());
  const sum = (some) => some.reduce((total, place) => total + widths[place], 0);
  if (sum(places) <= room) return [places];
  const rest = places.filter((place) => !whose.includes(place));
  const filled = (width) => {
    const sheets = [[]];
    for (const place of rest) {
      const last = sheets[sheets.length - 1];
      if (last.length === 0 || sum([...last, place]) <= width) last.push(place);
      else sheets.push([place]);
    }
    return sheets;
  };
  const most = room - sum(whose);
  const fewest = filled(most).length;
  let width = sum(rest) / fewest;
  while (width < most && filled(width).length > fewest) width += room / 100;
  return filled(Math.min(width, most)).map((sheet) => [...whose, ...sheet].sort((a, b) => a - b));
}

function sortTable(table, place, descending) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const head = table.tHead.rows[0].cells;
  const isNumber = head[place].classList.contains("number");
  const values = rows.map((row) => row.cells[place].dataset.value ?? row.cells[place].textContent);
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

/** Keeps the columns that say whose row it is in sight, as far as they leave a third of the room to others. */
function stickColumns(section) {
  const scroll = section.querySelector(".scroll");
  const table = scroll.querySelector("table");
  const heads = Array.from(table.tHead.querySelectorAll(".whose"));
  const stick = () => {
    const widths = heads.map((head) => head.getBoundingClientRect().width);
    for (const [place, left] of stuckColumns(widths, 0.68 * scroll.clientWidth).entries()) {
      table.classList.toggle(`stuck-${place}`, left !== null);
      // Rounded down: nothing shows through between two of them.
      if (left !== null) table.style.setProperty(`--left-${place}`, `${Math.floor(left)}px`);
    }
  };
  // Filtering, opening a cell and turning a telephone make columns wider and narrower.
  const observer = new ResizeObserver(stick);
  for (const element of [scroll, ...heads]) observer.observe(element);
}

// Of a sheet: A4 across within its margins (page.css); about how wide a letter is there, and what is beside the letters.
const SHEET = 1040, LETTER = 5, BESIDE = 8;
const MOST_PRINTED = 100;

/** About how wide a column is on paper: numbers in one line, words and titles in a few, no word broken but in long cells. */
function widthOnPaper(head, cells) {
  const longest = (words) => Math.max(0, ...words.map((word) => word.length));
  const texts = cells.map((cell) => cell.textContent);
  const title = Math.max(longest(head.textContent.split(/\s+/)), head.textContent.length / 6);
  const most = longest(texts);
  const isLong = cells.some((cell) => cell.classList.contains("long"));
  const unbroken = longest(texts.flatMap((text) => text.split(/[\s-]+/)));
  const words = head.classList.contains("number") ? most : isLong ? Math.min(most, 45) : Math.max(unbroken, Math.min(most, 22));
  return Math.max(title, words) * LETTER + BESIDE;
}

/** What is printed of a table: its rows as they are sorted and filtered, its columns on as many sheets as they need. */
function laySheets(section) {
  const table = section.querySelector(".scroll table");
  const shown = Array.from(table.tBodies[0].rows).filter((row) => !row.hidden);
  const rows = shown.slice(0, MOST_PRINTED);
  const heads = Array.from(table.tHead.rows[0].cells);
  const widths = heads.map((head, place) => widthOnPaper(head, rows.map((row) => row.cells[place])));
  const whose = heads.flatMap((head, place) => (head.classList.contains("whose") ? [place] : []));
  const sheets = document.createElement("div");
  sheets.className = "sheets";
  for (const places of sheetsOf(widths, whose, SHEET)) {
    const sheet = sheets.appendChild(document.createElement("table"));
    const part = (row, parent) => {
      const copy = parent.appendChild(row.cloneNode(false));
      for (const place of places) copy.append(row.cells[place].cloneNode(true));
    };
    part(table.tHead.rows[0], sheet.createTHead());
    const body = sheet.createTBody();
    for (const row of rows) part(row, body);
  }
  const all = table.tBodies[0].rows.length;
  const told = [];
  if (rows.length < shown.length) told.push(`Printed are the first ${rows.length} of ${shown.length} rows.`);
  if (shown.length < all) told.push(`Of ${all} rows those that have the words "${section.querySelector("input").value}".`);
  if (told.length) {
    const note = sheets.appendChild(document.createElement("p"));
    note.className = "on-paper";
    note.textContent = told.join(" ");
  }
  section.querySelector(".scroll").after(sheets);
  section.classList.add("in-sheets");
}

function preparePrint(sections) {
  let opened = [];
  const clear = () => {
    for (const sheets of document.querySelectorAll(".sheets")) sheets.remove();
    for (const section of sections) section.classList.remove("in-sheets");
    for (const details of opened) details.open = false;
    opened = [];
  };
  window.addEventListener("beforeprint", () => {
    clear();
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    for (const details of opened) details.open = true;
    sections.forEach(laySheets);
  });
  window.addEventListener("afterprint", clear);
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
  const tables = document.querySelectorAll("section.table");
  tables.forEach(prepareTable);
  tables.forEach(stickColumns);
  preparePrint(tables);
  document.querySelectorAll("section.examples").forEach(preparePictures);
  document.querySelectorAll(".mark").forEach((mark) => {
    mark.addEventListener("click", () => pick(mark.dataset.row));
    mark.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(mark.dataset.row); }
    });
  });
  prepareTheme(document.querySelector("#theme"));
}
if (typeof module !== "undefined") module.exports = { compareCells, sortedPlaces, matches, isShown, stuckColumns, sheetsOf };
