// Keeps counts up to date: asks the service once, then listens to its events, and begins again after every failure.
// `say.counts(data)` gets each answer, `say.beat(time)` that nothing has changed, `say.link(state)` whether it is "live",
// "polled", "lost" or "paused".
function follow(service, say) {
  const QUIET_MS = 12_000;        // the service says something every 5 s; after this silence one asks whether it is there
  const ANSWER_MS = 8_000;
  const HIDDEN_MS = 60_000;       // a page nobody sees does not hold a connection for longer
  const LONGEST_WAIT_MS = 30_000;
  const POLL_MS = 8_000;          // where it answers, but keeps no more pages up to date
  const LOGIN_AGAIN_MS = 300_000;
  let events = null, timer = 0, watchdog = 0, hiding = 0, failures = 0, round = 0, loggedIn = -Infinity;

  const get = (url, accept) => fetch(url, {
    headers: { Accept: accept }, cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(ANSWER_MS),
  });

  async function ask() {
    let answer = await get(service.counts, "application/json");
    if (answer.status === 401 && performance.now() - loggedIn > LOGIN_AGAIN_MS) {
      loggedIn = performance.now();
      // Through the hub and back here: who sees this page is logged in there and has nothing to do.
      const { login } = await answer.json();
      answer = await get(new URL(login, location.href), "application/json");
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return answer.json();
  }

  async function connect() {
    const mine = ++round;
    close();
    try {
      const data = await ask();
      if (mine !== round) return;
      say.counts(data);
    } catch {
      if (mine === round) again();
      return;
    }
    let heard = false;
    events = new EventSource(service.events);
    for (const kind of ["capacity", "beat"]) {
      events.addEventListener(kind, (event) => {
        let data;
        try { data = JSON.parse(event.data); } catch { again(); return; }
        heard = true;
        failures = 0;
        say.link("live");
        if (kind === "beat") say.beat(data.as_of);
        else say.counts(data);
        quiet();
      });
    }
    // A browser gives up for good at any status but 200.
    events.onerror = () => { if (mine === round) again(heard ? null : POLL_MS); };
    quiet();
  }

  function quiet() {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => { say.link("lost"); connect(); }, QUIET_MS);
  }

  function again(poll = null) {
    round += 1;
    close();
    say.link(poll === null ? "lost" : "polled");
    failures = poll === null ? failures + 1 : 0;
    const wait = poll ?? Math.min(LONGEST_WAIT_MS, 1000 * 2 ** (failures - 1));
    // up to half a wait more, by chance: thousands of pages do not come back at the same moment
    timer = setTimeout(connect, wait * (1 + Math.random() / 2));
  }

  function close() {
    clearTimeout(timer);
    clearTimeout(watchdog);
    if (events) events.close();
    events = null;
  }

  function pause() {
    round += 1;
    close();
    say.link("paused");
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(pause, HIDDEN_MS);
    else if (!events) connect();
  });
  window.addEventListener("pagehide", pause);
  window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  connect();
}
