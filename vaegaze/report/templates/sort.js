// A click on a heading sorts the table by that column; a second click turns the order round.
for (const button of document.querySelectorAll("table.sortable thead button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex, descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const keyed = [...body.rows].map((row) => {
      const cell = row.cells[column], text = cell.dataset.value ?? cell.textContent.trim();
      return [text === "" ? null : isNaN(text) ? text : Number(text), row];
    });
    const compared = (a, b) => typeof a === typeof b && typeof a === "string" ? a.localeCompare(b) :
      typeof a === "string" ? 1 : typeof b === "string" ? -1 : a - b;
    // Rows without a value stay last in either order.
    keyed.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1 :
      descending ? compared(b, a) : compared(a, b));
    body.append(...keyed.map(([, row]) => row));
  });
}
