// On every page: times in the reader's own zone, named in the tooltip, and forms that are sent once.
const localTimes = (root) => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const time of root.querySelectorAll("time[data-show]")) {
    const when = new Date(time.dateTime);
    time.textContent = time.dataset.show === "time"
      ? when.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })
      : when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    time.title = zone;
  }
};
localTimes(document);
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    setTimeout(() => { for (const button of form.querySelectorAll("button")) button.disabled = true; }, 0);
  });
}
addEventListener("pageshow", (event) => {
  if (event.persisted) for (const button of document.querySelectorAll("form[method=post] button")) button.disabled = false;
});
