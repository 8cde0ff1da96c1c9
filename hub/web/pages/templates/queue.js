// One's own places, live: the service's events of each ticket. What is not heard of any more is greyed, and said to be old.
(() => {
  const QUIET_MS = 15_000;
  const sections = [...document.querySelectorAll("[data-ticket]")];

  const ordinal = (number) => {
    const last = { 1: "st", 2: "nd", 3: "rd" }[number % 10] ?? "th";
    return `${number}${number % 100 > 10 && number % 100 < 14 ? "th" : last}`;
  };

  function follow(section) {
    const part = (name) => section.querySelector(`[data-part="${name}"]`);
    let heardAt = Date.now(), lost = false, told = "", events = null, done = false, leading = false;

    const change = (name, text) => { const element = part(name); if (element && element.textContent !== text) element.textContent = text; };

    function line(ticket) {
      const list = part("line");
      if (!list) return;
      const many = ticket.place && ticket.of <= 12 ? ticket.of : 0;
      list.replaceChildren(...Array.from({ length: many }, (_, index) => {
        const item = document.createElement("li");
        item.textContent = index + 1 === ticket.place ? `${index + 1} you` : `${index + 1}`;
        if (index + 1 === ticket.place) item.className = "arm-you";
        return item;
      }));
    }

    function show(ticket) {
      const place = ticket.place ? `${ordinal(ticket.place)} of ${ticket.of} in line`
        : ticket.state === "starting" ? "Your session is being started"
        : ticket.state === "ended" ? (ticket.ended_as === "started" ? "Your session is up" : "Your place has ended")
        : "Your turn has come";
      change("place", place);
      change("estimate", ticket.estimate ? `· ${ticket.estimate.startsWith("not known") ? "how long is " : ""}${ticket.estimate}` : "");
      change("why", ticket.why);
      line(ticket);
      if (told && told !== place) change("news", `${place}. ${ticket.estimate}`);
      told = place;
      move(ticket);
    }

    // Straight on, where this is all that one waits for.
    function move(ticket) {
      if (done || !["starting", "ended"].includes(ticket.state)) return;
      if (ticket.state === "ended") {
        done = true;
        events.close();
        section.querySelector(".arm-actions")?.remove();
        if (ticket.ended_as === "started" && sections.length === 1) location.assign(section.dataset.open);
        return;
      }
      // The session that it replaces is stopped first, and the hub has no page of a start until then.
      if (ticket.replaces) return;
      // The hub takes a moment to begin: its page of the start would say that nothing runs.
      if (sections.length === 1 && !leading) setTimeout(() => { if (!done) location.assign(section.dataset.pending); }, 3000);
      leading = true;
    }

    function asOf() {
      const old = lost || Date.now() - heardAt > QUIET_MS;
      section.classList.toggle("arm-stale", old && !done);
      part("as-of").classList.toggle("arm-is-live", !old && !done && events !== null);
      part("as-of").classList.toggle("arm-old", old);
      change("word", done ? "" : old ? "not live: reconnecting, " : "live, ");
      if (old) return;
      const clock = part("as-of").querySelector("time");
      clock.dateTime = new Date(heardAt).toISOString();
      clock.textContent = new Date(heardAt).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
    }

    function connect() {
      events = new EventSource(section.dataset.events);
      const heard = () => { heardAt = Date.now(); lost = false; asOf(); };
      events.addEventListener("ticket", (event) => { heard(); show(JSON.parse(event.data)); });
      events.addEventListener("beat", heard);
      events.addEventListener("full", () => { events.close(); setTimeout(() => location.reload(), 30_000 + 30_000 * Math.random()); });
      events.addEventListener("login-ended", () => { events.close(); location.reload(); });
      // A browser gives up for good at any status but 200: then it is asked again, later each time by chance.
      events.onerror = () => {
        lost = true;
        asOf();
        if (!done && events.readyState === EventSource.CLOSED) setTimeout(connect, 3000 + 5000 * Math.random());
      };
    }

    connect();
    setInterval(asOf, 1000);
  }

  sections.forEach(follow);
})();
