// Starting and waiting in line from the form, and whom to charge: what the service tells of budgets, and POST /api/requests.
// Without script, or without the service, the hub decides in the same way: who has to wait is told so.
function queueing(form, service) {
  const PREFIX = "profile-option-", UNLISTED = "unlisted-choice";
  const start = document.getElementById("start-button"), button = document.getElementById("wait-button"), status = document.getElementById("start-status");
  const charge = document.getElementById("arm-charge"), choice = document.getElementById("arm-charge-choice");
  const select = document.getElementById("account"), left = document.getElementById("arm-left");
  const notify = document.getElementById("notify-part");  // not there where the site sends no mail
  let accounts = [], asked = false;

  // The fields of the picked profile, as the API takes them; a hidden text field does not count.
  function options() {
    const found = {}, fields = new FormData(form), profile = fields.get("profile");
    if (profile !== null) found.profile = profile;
    for (const [name, value] of fields) {
      const start = `${PREFIX}${profile}--`;
      if (name.startsWith(start) && value !== "") found[name.slice(start.length)] = value;
    }
    for (const key of Object.keys(found)) {
      if (key.endsWith(`--${UNLISTED}`) && found[key.slice(0, -UNLISTED.length - 2)] !== UNLISTED) delete found[key];
    }
    return found;
  }

  const number = (value) => Number(value.toPrecision(3)).toString();

  function picked() {
    const { profile } = options();
    return form.elements.namedItem(`${PREFIX}${profile}--accelerator`)?.value ?? "none";
  }

  // Budgets of the account for what is picked: of every kind together, and of this kind.
  function drawLeft() {
    const account = accounts.find((one) => one.account === select.value) ?? accounts[0];
    const key = picked();
    const said = key === "none" || !account ? [] : account.limits
      .filter((one) => one.value !== null && one.left !== null && /^hours:[a-z0-9]+(:|$)/.test(one.field))
      .filter((one) => one.field.split(":").length === 2 || one.field.split(":")[2] === key)
      .map((one) => `${number(one.left)} of ${one.text} left, ${one.holds_for}`);
    left.textContent = said.length ? `Your budget: ${said.join("; ")}.` : "";
    charge.hidden = accounts.length < 2 && !said.length;
  }

  async function askAccounts() {
    if (asked || !service.proof) return;
    asked = true;
    try {
      const answer = await fetch(service.quotas, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      ({ accounts } = await answer.json());
    } catch {
      asked = false;  // asked for again when the counts come again
      return;
    }
    select.replaceChildren(...accounts.map((one) => new Option(one.title, one.account)));
    select.disabled = accounts.length < 2;
    choice.hidden = accounts.length < 2;
    drawLeft();
  }

  function refuse(text) {
    const alert = document.getElementById("start-refusal");
    alert.textContent = text;
    alert.hidden = false;
    status.textContent = "";
    alert.scrollIntoView({ block: "nearest" });
  }

  // Asked of the service, which starts it, or gives a place in line: nobody is turned away because many come at once.
  // False: it cannot say, or not to this visitor; the hub can.
  async function ask() {
    const place = location.pathname.split("/spawn/")[1]?.split("/") ?? [];
    const body = { options: options(), server: place[1] ? decodeURIComponent(place[1]) : "" };
    if (!select.disabled && select.value) body.account = select.value;
    if (notify && !notify.hidden && notify.querySelector("input").checked) body.notify = true;
    try {
      const answer = await fetch(service.requests, {
        method: "POST", cache: "no-store", signal: AbortSignal.timeout(30_000),
        headers: { "Content-Type": "application/json", "X-CSRF-Token": service.proof }, body: JSON.stringify(body),
      });
      if (answer.status === 401 || answer.status >= 500) return false;
      const said = await answer.json();
      if (answer.ok) location.assign(said.begun ? [service.pending, ...place.slice(1)].join("/") : service.queue);
      else {
        busy(false);
        refuse(said.detail);
      }
      return true;
    } catch {
      return false;
    }
  }

  function busy(yes, saying = "") {
    button.disabled = start.disabled = yes;
    status.textContent = saying;
    if (yes) document.getElementById("start-refusal").hidden = true;
  }

  button.addEventListener("click", async () => {
    busy(true, "Asking for a place in line …");
    if (await ask()) return;
    busy(false, "The service does not answer. Try again in a minute.");
  });
  form.addEventListener("change", drawLeft);
  addEventListener("pageshow", (event) => { if (event.persisted) busy(false); });
  return {
    accounts: askAccounts,
    // Whether the service has answered before, so that it is asked, and not the hub.
    get answers() { return Boolean(service.proof) && asked; },
    async start() {
      busy(true, "Asking for your session …");
      if (!await ask()) form.submit();
    },
    // Whether waiting would help: it is in use now, and would be had if it were not. Returns whether it is offered.
    offer(helps) {
      button.hidden = !(helps && service.proof && asked);
      if (notify) notify.hidden = button.hidden;
      return !button.hidden;
    },
  };
}
