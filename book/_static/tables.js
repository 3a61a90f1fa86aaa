// Tables of results as the style sheet wants them, and formulas with the comma that follows them.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-article table.dataframe").forEach((table) => {
    joinHeads(table);
    markCells(table);
  });
  document.querySelectorAll(".bd-article span.math").forEach(keepPunctuation);
});

const filled = (cell) => cell.textContent.trim() !== "";

/** pandas writes the names of the index into a row of their own: they move up into empty corners. */
function joinHeads(table) {
  const [above, names] = [...table.tHead.rows].slice(-2);
  if (!names) return;
  const n = table.tBodies[0].rows[0].querySelectorAll("th").length;
  const [corners, named] = [above, names].map((row) => [...row.cells].slice(0, n));
  if (corners.some(filled) || [...names.cells].slice(n).some(filled)) return;
  corners.forEach((corner, i) => {
    corner.textContent = named[i].textContent;
    corner.classList.add("words");
  });
  names.remove();
}

/** Numbers stay on one line; columns of words, and single columns, are set from the left. */
function markCells(table) {
  const rows = [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll("td")]);
  const head = [...table.tHead.rows].at(-1).cells;
  const columns = rows[0].map((_, j) => rows.map((row) => row[j]));
  columns.forEach((column, j) => {
    for (const cell of column) {
      if (!/[a-z]/i.test(cell.textContent)) cell.classList.add("number");
      else if (/^[+-]?\d/.test(cell.textContent)) cell.classList.add("interval");
    }
    const isWords = column.every((cell) => /^[a-z]/i.test(cell.textContent.trim()));
    if (!isWords && columns.length > 1) return;
    for (const cell of [...column, head[head.length - columns.length + j]]) {
      cell.classList.add("words");
    }
  });
  const all = [...table.rows].map((row) => [...row.cells].reverse());
  const letters = Array.from(all.at(-1), (_, j) =>
    Math.max(...all.map((row) => row[j]?.textContent.trim().length ?? 0)),
  );
  const width = letters.reduce((sum, n) => sum + n + 2, 0);
  table.classList.toggle("few", width <= 48); // room for wide columns on a phone
}

/** A formula is a box, beside which a line may end: but not between it and its comma or bracket. */
function keepPunctuation(formula) {
  const [before, after] = [formula.previousSibling, formula.nextSibling];
  const opening = endsOf(before, /[([\u201c]+$/);
  const closing = endsOf(after, /^[^\s\w([]+/);
  if (!opening && !closing) return;
  const kept = document.createElement("span");
  kept.className = "formula";
  formula.before(kept);
  kept.append(opening, formula, closing);
  if (opening) before.data = before.data.slice(0, -opening.length);
  if (closing) after.data = after.data.slice(closing.length);
}

function endsOf(node, pattern) {
  return (node?.nodeType === Node.TEXT_NODE && node.data.match(pattern)?.[0]) || "";
}
