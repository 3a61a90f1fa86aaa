// A tap on a figure shows it at its full size; a tap or Escape puts it back.
document.addEventListener("click", (event) => {
  const image = event.target.closest(".cell_output img");
  if (!image || image.closest("dialog")) return;
  const dialog = document.createElement("dialog");
  dialog.className = "zoomed";
  const copy = image.cloneNode();
  copy.removeAttribute("style");
  dialog.append(copy);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});
