// Numbers such as 91.2 ± 0.4 stay on one line; the style sheet says so for small screens.
document.addEventListener("DOMContentLoaded", () => {
  for (const cell of document.querySelectorAll("table.dataframe td")) {
    if (!/[a-z]/i.test(cell.textContent)) cell.classList.add("number");
  }
});
