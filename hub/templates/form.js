// The form's counts, live, and what does not fit said before it is sent. Without this script the counts are those of
// when the page was made, and the server refuses in the same words.
(() => {
  const first = document.getElementById("arm-counts");
  if (!first) return;  // nobody counts here
  const STALE_MS = 15_000, NEWS_MS = 5_000;
  const inside = document.querySelector(".arm-form");
  const form = inside.closest("form");
  const button = form.querySelector("[type=submit]");
  const why = document.getElementById("arm-why"), news = document.getElementById("arm-news");
  const nodesMayAppear = inside.dataset.nodesMayAppear === "yes";
  const service = JSON.parse(form.dataset.service), queue = queueing(form, service);
  let data = JSON.parse(first.textContent), link = "", steady = performance.now(), wall = Date.now();
  let told = new Map(), newsTimer = 0, newsAt = -Infinity, pending = new Map();

  // Both clocks: the one stands still while a laptop sleeps, the other can be set.
  const old = () => Math.max(performance.now() - steady, Date.now() - wall) > STALE_MS;

  // What may be shown: nothing is free that was free a while ago.
  function known() {
    if (!old()) return data;
    const unknown = { free: null, why: "this page is not up to date" };
    const accelerators = Object.fromEntries(Object.entries(data.accelerators).map(([key, one]) => [key, { ...one, ...unknown }]));
    return { ...data, fresh: false, accelerators };
  }

  function drawing(card) {
    const picture = document.createElement("span");
    picture.className = card.parts.length ? "arm-bar" : "arm-dots";
    picture.setAttribute("aria-hidden", "true");
    for (const [dot, part] of card.parts.length ? card.parts : card.dots.map((dot) => [dot, null])) {
      const piece = document.createElement("i");
      piece.className = `arm-dot-${dot}`;
      if (part !== null) piece.style.width = `${part}%`;
      picture.append(piece);
    }
    return picture;
  }

  function change(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
  }

  function drawCards(now) {
    for (const cell of inside.querySelectorAll("[data-accelerator]")) {
      const one = now.accelerators[cell.dataset.accelerator];
      const card = words.card(one || { free: null, why: "it is not counted" });
      const drawn = JSON.stringify(card);
      if (cell.drawn === drawn) continue;
      cell.drawn = drawn;
      cell.dataset.state = card.state;
      change(cell.querySelector(".arm-free-text"), card.text);
      change(cell.querySelector(".arm-held"), card.held);
      cell.querySelector(".arm-picture").replaceChildren(...(card.dots.length || card.parts.length ? [drawing(card)] : []));
      const title = cell.querySelector(".arm-card-title").textContent;
      tell(cell.dataset.accelerator, card, title, cell.querySelector("input").checked);
    }
  }

  // One polite voice for all cards: of the picked one every change, of others only when the last is taken or one is free again.
  function tell(key, card, title, picked) {
    const before = told.get(key);
    told.set(key, card);
    if (!before || before.text === card.text || (!picked && before.state === card.state)) return;
    pending.set(key, `${title}: ${card.text}.`);
    clearTimeout(newsTimer);
    newsTimer = setTimeout(() => {
      newsAt = performance.now();
      const sentences = [...pending.values()];
      pending = new Map();
      news.textContent = sentences.slice(0, 3).join(" ") + (sentences.length > 3 ? ` ${sentences.length - 3} more have changed.` : "");
    }, Math.max(500, newsAt + NEWS_MS - performance.now()));
  }

  function drawTime(now) {
    const word = !now.fresh && !old() ? "the counts are old, " : link === "live" ? "live, " : link === "lost" ? "not live: reconnecting, " : "";
    for (const line of inside.querySelectorAll(".arm-as-of")) {
      line.classList.toggle("arm-old", !now.fresh);
      line.classList.toggle("arm-is-live", link === "live" && now.fresh);
      const clock = line.querySelector("time");
      if (!now.as_of) { line.textContent = "not counted yet"; continue; }
      const when = new Date(now.as_of);
      const text = when.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
      if (clock) {
        change(line.querySelector(".arm-live-word"), word);
        change(clock, text);
        clock.dateTime = now.as_of;
        clock.title = Intl.DateTimeFormat().resolvedOptions().timeZone;
      } else {
        const made = document.createElement("time"), live = document.createElement("span");
        made.className = "arm-clock";
        live.className = "arm-live-word";
        line.replaceChildren(live, "as of ", made);
        drawTime(now);
        return;
      }
    }
  }

  // A quantity as Kubernetes writes it, in units; NaN: it is none, and the server will say so.
  function quantity(text) {
    const scale = { n: 1e-9, u: 1e-6, m: 1e-3, "": 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18 };
    const found = /^\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:([KMGTPE])i|([numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?\s*$/.exec(text);
    if (!found) return NaN;
    const [, digits, binary, decimal, exponent] = found;
    return Number(digits) * (binary ? 1024 ** ("KMGTPE".indexOf(binary) + 1) : exponent ? 10 ** Number(exponent) : scale[decimal ?? ""]);
  }

  function asked(profile) {
    const field = (option) => form.elements.namedItem(`profile-option-${profile}--${option}`);
    const key = field("accelerator")?.value || "none";
    const cpu = field("cpu"), size = field("memory"), count = field("count");
    return {
      key,
      count: key === "none" ? 0 : count ? quantity(count.value) : 1,
      cpu: cpu ? Math.ceil(Number((quantity(cpu.value) * 1000).toPrecision(12))) : null,
      memory: size ? quantity(size.value) : null,
    };
  }

  // The counts if nobody had anything.
  function emptied(now, key) {
    const one = now.accelerators[key];
    if (!one || one.free === null) return now;
    const empty = { ...one, free: one.total - one.held_back, mine: 0, others: 0, fits_now: one.fits_empty };
    return { ...now, accelerators: { ...now.accelerators, [key]: empty } };
  }

  function drawFit(now) {
    const profile = form.elements.namedItem("profile")?.value ?? "";
    const part = [...inside.querySelectorAll(".arm-options")].find((options) => options.dataset.profile === profile);
    const line = part?.querySelector(".arm-fits");
    const wanted = asked(profile);
    const clear = [wanted.count, wanted.cpu, wanted.memory].every((number) => !Number.isNaN(number));
    const byHand = part !== undefined && "byHand" in part.dataset;
    const refusal = part && clear && !old() ? words.refused(now, wanted.key, wanted, { byHand, nodesMayAppear }) : "";
    change(line, clear && !byHand ? words.fitsLine(now, wanted.key, wanted.count) : "");
    const helps = refusal !== "" && words.refused(emptied(now, wanted.key), wanted.key, wanted, { byHand, nodesMayAppear }) === "";
    change(why, queue.offer(helps) ? refusal.replace("Try again later", "Wait in line") : refusal);
    if (!button) return;
    if (refusal) {
      button.setAttribute("aria-disabled", "true");
      button.setAttribute("aria-describedby", "arm-why");
    } else {
      button.removeAttribute("aria-disabled");
      button.removeAttribute("aria-describedby");
    }
  }

  function draw() {
    const now = known();
    drawCards(now);
    drawTime(now);
    drawFit(now);
  }

  function heard(said) {
    data = said;
    steady = performance.now();
    wall = Date.now();
    draw();
  }

  form.addEventListener("change", () => drawFit(known()));
  form.addEventListener("input", () => drawFit(known()));
  form.addEventListener("submit", (event) => {
    if (button?.getAttribute("aria-disabled") !== "true") {
      if (!queue.answers) return;
      event.preventDefault();
      queue.start();
      return;
    }
    event.preventDefault();
    const said = why.textContent;
    why.textContent = "";
    setTimeout(() => { why.textContent = said; }, 50);  // said again to who listens
  });
  draw();
  setInterval(draw, 1000);
  follow(service, {
    counts(said) {
      queue.accounts();
      // The titles are those of the server's own sentences.
      for (const [key, one] of Object.entries(said.accelerators)) one.title = data.accelerators[key]?.title ?? one.title;
      heard(said);
    },
    beat(asOf) {
      heard({ ...data, as_of: asOf });
    },
    link(state) {
      link = state;
      drawTime(known());
    },
  });
})();
