// A tap on a figure shows it at its full size; a tap or Escape puts it back.
document.addEventListener("click", (event) => {
  const image = event.target.closest(".bd-article :is(.cell_output, figure) img");
  if (!image) return;
  const dialog = document.createElement("dialog");
  dialog.className = "zoomed";
  dialog.classList.toggle("picture", image.closest(".tag_picture, figure.picture") !== null);
  const copy = image.cloneNode();
  copy.removeAttribute("style");
  dialog.append(copy);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});
