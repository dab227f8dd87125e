"use strict";
// A click on a column's name sorts the table by it, numbers as numbers; a second click turns the order round.
function sort(head) {
  const table = head.closest("table"), column = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending" || (head.className === "number" && !head.hasAttribute("aria-sort"));
  const value = row => row.cells[column].textContent.trim();
  const order = (a, b) => {
    const [x, y] = [parseFloat(value(a)), parseFloat(value(b))];
    return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) || value(a).localeCompare(value(b)) : x - y;
  };
  const rows = [...table.tBodies[0].rows].sort((a, b) => down ? order(b, a) : order(a, b));
  table.tBodies[0].append(...rows);
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
}
// A click on a frame plays the video from there, where the file still lies beside the page as it did.
function play(link) {
  const part = link.closest("article"), file = link.getAttribute("href").split("#")[0];
  let video = part.querySelector("video");
  if (!video) {
    video = document.createElement("video");
    Object.assign(video, { controls: true, muted: true, playsInline: true, src: file });
    const seek = () => { video.currentTime = Number(video.dataset.at); };
    video.addEventListener("loadedmetadata", seek);
    video.addEventListener("error", () => {
      const note = document.createElement("p");
      note.textContent = `This browser cannot play ${decodeURIComponent(file)} from here.`;
      video.replaceWith(note);
    });
    part.querySelector(".plot").after(video);
  }
  video.dataset.at = link.dataset.at;
  if (video.readyState > 0) video.currentTime = Number(link.dataset.at);
}
document.addEventListener("click", event => {
  const head = event.target.closest("th"), frame = event.target.closest("a[data-at]");
  if (head) sort(head);
  if (frame) { play(frame); event.preventDefault(); }
});
