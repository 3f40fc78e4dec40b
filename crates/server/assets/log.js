// Appends the rows that a running job's console gets. The server renders them; without this the page is what it was.
(async () => {
  const box = document.querySelector(".console[data-rows]");
  if (!box) return;
  const reader = (await fetch(box.dataset.rows)).body.pipeThrough(new TextDecoderStream()).getReader();
  const page = document.scrollingElement;
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    rest += value;
    const end = rest.lastIndexOf("</div>\n") + 7;
    if (end < 7) continue;
    const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 40;
    box.insertAdjacentHTML("beforeend", rest.slice(0, end));
    rest = rest.slice(end);
    if (atEnd) page.scrollTop = page.scrollHeight;
  }
})().catch(() => {});
