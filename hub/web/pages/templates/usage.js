// What running sessions measure, each half minute: they send it as often.
(() => {
  const EVERY_MS = 30_000;
  const place = document.querySelector("[data-sessions]");
  if (!place || !place.querySelector("[data-session]")) return;
  const asOf = place.querySelector('[data-part="as-of"]'), word = place.querySelector('[data-part="word"]');
  let heardAt = Date.now();

  function memory(size) {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let power = 0;
    while (power < units.length - 1 && size >= 1024 ** (power + 1)) power += 1;
    return `${Math.round(size / 1024 ** power * 100) / 100} ${units[power]}`;
  }

  function points(values, top) {
    const end = Math.max(...values, top) || 1;
    return values.map((value, index) => `${(index * 120 / (values.length - 1)).toFixed(1)},${(23 - Math.min(value / end, 1) * 22).toFixed(1)}`).join(" ");
  }

  function show(one) {
    const panel = place.querySelector(`[data-session="${CSS.escape(one.id)}"]`);
    if (!panel) return false;
    const last = one.measures.last ?? {}, past = one.measures.past ?? [];
    const busy = (last.devices ?? []).map((device) => device.utilisation).filter((value) => value !== null && value !== undefined);
    const now = {
      cpu: last.cpu == null ? null : `${Math.round(last.cpu * 100) / 100} cores`,
      memory: last.memory == null ? null : memory(last.memory),
      gpu: busy.length ? `${Math.round(Math.max(...busy) * 100)} % busy` : null,
    };
    for (const [key, text] of Object.entries(now)) {
      const said = panel.querySelector(`[data-now="${key}"]`);
      if (said && said.textContent !== (text ?? "not known")) said.textContent = text ?? "not known";
    }
    for (const [index, key] of [[1, "cpu"], [2, "memory"], [3, "gpu"]]) {
      const line = panel.querySelector(`[data-line="${key}"]`);
      const values = past.map((point) => point[index]).filter((value) => value !== null);
      if (line && values.length > 1) line.setAttribute("points", points(values, key === "gpu" ? 1 : 0));
    }
    return true;
  }

  async function ask() {
    if (document.hidden) return;
    try {
      const answer = await fetch(place.dataset.sessions, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const sessions = await answer.json();
      const known = sessions.map(show);
      heardAt = Date.now();
      // Another session has begun, or one has ended: the page as a whole is old.
      if (known.includes(false) || known.length !== place.querySelectorAll("[data-session]").length) word.textContent = "what runs has changed, reload the page; ";
    } catch { /* said below, when it is old */ }
    draw();
  }

  function draw() {
    const old = Date.now() - heardAt > 2.5 * EVERY_MS;
    place.classList.toggle("arm-stale", old);
    asOf.classList.toggle("arm-old", old);
    asOf.classList.toggle("arm-is-live", !old);
    const clock = asOf.querySelector("time");
    clock.dateTime = new Date(heardAt).toISOString();
    clock.textContent = new Date(heardAt).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  }

  ask();
  setInterval(ask, EVERY_MS);
  setInterval(draw, 5000);
  document.addEventListener("visibilitychange", ask);
})();
