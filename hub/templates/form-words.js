// What is said about counts, in the words of spawner/capacity/card.py and grant_text.py, and what would be refused, as
// spawner/capacity/grant.py decides it. Nothing of the page is touched here; a test compares the two languages.
const words = (() => {
  const OTHERWISE = "Try again later, or choose another accelerator.";
  const MOST_DOTS = 24;

  function memory(size) {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = 0;
    while (power < units.length - 1 && size >= 1024 ** (power + 1)) power += 1;
    const hundredths = size / 1024 ** power * 100;
    const whole = Math.floor(hundredths), rest = hundredths - whole;
    const rounded = whole + (rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? 1 : 0);  // half to even, as Python
    return `${rounded / 100} ${units[power]}`;
  }

  const cores = (cpu) => `${Number((cpu / 1000).toPrecision(10))} CPU core${cpu === 1000 ? "" : "s"}`;
  const amounts = (cpu, size) => [...(cpu === null ? [] : [cores(cpu)]), ...(size === null ? [] : [memory(size)])].join(" and ");
  const beside = (title, count) => title ? ` beside ${count === 1 ? "one" : count} ${title}` : "";

  function largest(fits) {
    if (!fits.length) return "";
    const by = (one, other) => fits.reduce((best, fit) => fit[one] > best[one] || (fit[one] === best[one] && fit[other] > best[other]) ? fit : best);
    const ends = new Set([by("cpu_m", "memory"), by("memory", "cpu_m")].map((fit) => amounts(fit.cpu_m, fit.memory)));
    return [...ends].join(", or ") + (ends.size > 1 ? "," : "");
  }
  const ended = (text) => text.replace(/,$/, "");

  const reasons = (because) => because.length === 1 ? because[0][0] : because.map(([why, number]) => `${number} ${why}`).join(", ") || "held back";
  const users = (card) => [...(card.others ? [`${card.others} by others`] : []), ...(card.mine ? [`${card.mine} by you`] : [])].join(", ");
  const held = (card) => card.held_back ? `${card.held_back} cannot be used now: ${reasons(card.held_because)}` : "";

  // What a card says: {state, text, held, dots, parts}.
  function card(one) {
    const empty = { held: "", dots: [], parts: [] };
    if (one.free === null) return { ...empty, state: "unknown", text: "how many are free is not known now" + (one.why ? `: ${one.why}` : "") };
    if (one.total === 0) return { ...empty, state: "full", text: "none there at the moment" };
    const numbers = [["mine", one.mine], ["others", one.others], ["held", one.held_back], ["free", one.free]];
    return {
      state: one.free ? "free" : "full",
      text: cardText(one),
      held: held(one),
      dots: one.total > MOST_DOTS ? [] : numbers.flatMap(([dot, number]) => Array(number).fill(dot)),
      parts: one.total > MOST_DOTS ? numbers.filter(([, number]) => number).map(([dot, number]) => [dot, 100 * number / one.total]) : [],
    };
  }

  function cardText(one) {
    if (one.free) return `${one.free} of ${one.total} free` + (one.mine ? `, ${one.mine} used by you` : "");
    if (!users(one)) return "none free";
    return one.held_back ? `none free: in use ${users(one)}` : `all in use: ${users(one)}`;
  }

  function fitsLine(data, key, count) {
    const one = data.accelerators[key];
    if (!one || !data.fresh || one.free === null || !one.fits_empty.length) return "";
    if (key !== "none" && one.free < count) return "";
    const here = data.engine === "local";  // one machine, which its sessions share
    if (here && key !== "none" && most(one.fits_now) < count) return "";
    const found = ended(largest((here ? one.fits_empty : one.fits_now).filter((fit) => fit.count >= count)));
    if (!found) return here ? "" : `Nothing fits${beside(one.title, count)} at the moment.`;
    return `Fits${beside(one.title, count)}${here ? "" : " now"}: up to ${found}.`;
  }

  function full(one, asked) {
    const by = users(one), waiting = held(one), { title, total } = one;
    if (one.free) {
      const why = [...(by ? [`${by} in use`] : []), ...(waiting ? [waiting] : [])].join("; ");
      return `Only ${one.free} of ${total} ${title} ${one.free === 1 ? "is" : "are"} free, you asked for ${asked}${why ? `: ${why}` : ""}. `
        + "Ask for fewer, try again later, or choose another accelerator.";
    }
    if (!waiting) return `${total > 1 ? `All ${total} ${title} are` : `The only ${title} is`} in use${by ? `: ${by}` : ""}. ${OTHERWISE}`;
    if (!by) return `${total > 1 ? `None of the ${total} ${title} can` : `The only ${title} cannot`} be used now: ${reasons(one.held_because)}. ${OTHERWISE}`;
    return `None of the ${total} ${title} is free: in use ${by}; ${waiting}. ${OTHERWISE}`;
  }

  const fitting = (asked, fits) => fits.some((fit) => (asked.cpu ?? 0) <= fit.cpu_m && (asked.memory ?? 0) <= fit.memory);
  const most = (fits) => Math.max(0, ...fits.map((fit) => fit.count));

  function neverFits(one, asked) {
    if (!one.fits_empty.length) return "";
    const room = one.fits_empty.filter((fit) => fit.count >= asked.count);
    if (!room.length) {
      return `You asked for ${asked.count} ${one.title}, but a session gets at most ${most(one.fits_empty)}: no node has more. Ask for fewer.`;
    }
    if (fitting(asked, room)) return "";
    const does = asked.cpu !== null && (asked.memory !== null || asked.cpu !== 1000) ? "do" : "does";
    return `${amounts(asked.cpu, asked.memory)} ${does} not fit: at most ${largest(room)}${beside(one.title, asked.count)} on any node. Ask for less.`;
  }

  function noRoomNow(one, asked, isCard) {
    if (!one.fits_empty.length) return "";
    const room = one.fits_now.filter((fit) => fit.count >= asked.count);
    if (isCard && !room.length && most(one.fits_now)) {
      return `${one.free} ${one.title} are free, but on one node at most ${most(one.fits_now)} at the moment, and a session runs on one. Ask for fewer, or try again later.`;
    }
    if (fitting(asked, room)) return "";
    const found = ended(largest(room));
    return `No node has ${amounts(asked.cpu, asked.memory)} free${beside(one.title, asked.count)} at the moment${found ? `: at most ${found}` : ""}. Ask for less, or try again later.`;
  }

  function sharesOfTooFew(one, asked) {
    const devices = most(one.fits_now);
    return `${one.free} of ${one.total} ${one.title} are free, but as shares of ${devices === 1 ? "one device" : `${devices} devices`}, and a session gets one share of each: `
      + `you asked for ${asked}. Ask for fewer, try again later, or choose another accelerator.`;
  }

  function fullHere(one, asked) {
    if (one.free < asked) return full(one, asked);
    return most(one.fits_now) < asked ? sharesOfTooFew(one, asked) : "";
  }

  function refusedHere(data, key, one, asked) {
    if (key === "none") return data.fresh ? neverFits(one, asked) : "";
    if (one.free === null) return `It is not known which ${one.title} are free (${one.why || "the counts are old"}). Try again in a minute, or choose no accelerator.`;
    if (one.total === 0) return `This machine has no ${one.title} at the moment. Choose another accelerator, or tell your administrators.`;
    const devices = most(one.fits_empty);  // one may have several shares; a session gets one of each
    if (devices < asked.count) return `You asked for ${asked.count} ${one.title}, but this machine has ${devices}. Ask for fewer.`;
    return neverFits(one, asked) || fullHere(one, asked.count);
  }

  // Why a start that asks for {count, cpu, memory} would be refused now; empty: it would not, as far as one can tell.
  // cpu is in thousandths of a core, memory in bytes, each null where the profile leaves it open.
  function refused(data, key, asked, { byHand = false, nodesMayAppear = false } = {}) {
    const one = data.accelerators[key];
    if (!one) return "";
    if (data.engine === "local") return refusedHere(data, key, one, asked);
    if (!data.fresh || one.free === null) return "";
    const isCard = key !== "none";
    if (isCard && one.total === 0) return nodesMayAppear ? "" : `No node of the cluster has ${one.title} at the moment. ${OTHERWISE}`;
    const never = byHand ? "" : neverFits(one, asked);
    if (never || nodesMayAppear) return never;
    if (isCard && !(byHand && one.held_back) && one.free < asked.count) return full(one, asked.count);
    return byHand ? "" : noRoomNow(one, asked, isCard);
  }

  return { card, fitsLine, refused, memory };
})();
