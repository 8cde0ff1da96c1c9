/** How times, amounts and places are written: pure functions from values to text. */

import { IBudget, IDevice, IHere, ISession, IState, ITicket } from './state';

/** A length of time, for example "1 h 12 min"; nobody needs seconds. */
export function duration(seconds: number): string {
  const minutes = Math.floor(Math.max(0, seconds) / 60);
  if (minutes < 1) {
    return 'less than a minute';
  }
  const days = Math.floor(minutes / 1440);
  const hours = Math.floor(minutes / 60) % 24;
  const parts = [
    [days, 'd'],
    [hours, 'h'],
    [minutes % 60, 'min']
  ] as const;
  return parts
    .filter(([amount]) => amount > 0)
    .slice(0, 2)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(' ');
}

/** A moment as the browser's clock on the wall would show it; with the day where it is not today. */
export function clock(moment: number, now: number): string {
  const then = new Date(moment * 1000);
  const time = then.toLocaleTimeString(undefined, {
    hour: '2-digit',
    minute: '2-digit'
  });
  if (then.toDateString() === new Date(now * 1000).toDateString()) {
    return time;
  }
  const day = then.toLocaleDateString(undefined, {
    weekday: 'short',
    day: 'numeric',
    month: 'short'
  });
  return `${day}, ${time}`;
}

/** The same with the second, for what says how old it is. */
export function clockWithSeconds(moment: number): string {
  return new Date(moment * 1000).toLocaleTimeString();
}

/** The zone of the times above, for tooltips. */
export function zone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** A number with as many places as are worth reading. */
export function amount(value: number): string {
  const size = Math.abs(value);
  return String(Number(value.toFixed(size < 1 ? 2 : size < 100 ? 1 : 0)));
}

/** Bytes in GB, as the form counts memory. */
export function gigabytes(bytes: number): string {
  return amount(bytes / 1024 ** 3);
}

export function ordinal(place: number): string {
  const teen = place % 100 > 10 && place % 100 < 14;
  const ending = teen ? undefined : ['', 'st', 'nd', 'rd'][place % 10];
  return `${place}${ending || 'th'}`;
}

export function counted(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? '' : 's'}`;
}

/** What the session has, for example "2 × A100 slice 1/7 (simulated)". */
export function holding(session: ISession): string {
  if (!session.title) {
    return 'CPU only';
  }
  const many = session.count > 1 ? `${session.count} × ` : '';
  return `${many}${session.title}${session.simulated ? ' (simulated)' : ''}`;
}

const REASONS: ReadonlyMap<string, string> = new Map([
  ['idle', 'nothing has used it for a while'],
  ['limit', 'a session may last no longer'],
  ['budget', 'a budget is used up'],
  ['switch', 'it is switched to another accelerator'],
  ['admin', 'an administrator asked for it']
]);

/** Why a session will be stopped; a code that is newer than this extension is shown as it is. */
export function reason(code: string): string {
  return REASONS.get(code) ?? code;
}

/** Who pays, from `user:NAME` or `group:NAME`. */
export function account(key: string): string {
  if (key.startsWith('group:')) {
    return `group ${key.slice(6)}`;
  }
  return key ? 'you' : '';
}

/** The budget of which the smallest part is left; undefined: there is none. */
export function tightest(budgets: readonly IBudget[]): IBudget | undefined {
  const part = (budget: IBudget) =>
    budget.limit_h > 0 ? budget.used_h / budget.limit_h : 1;
  return [...budgets].sort((a, b) => part(b) - part(a))[0];
}

/** The budgets that a session with this accelerator uses; of one without, those that are of no kind. */
export function concerning(state: IState): IBudget[] {
  return state.budgets.filter(budget => {
    const kind = budget.field.split(':')[2];
    return kind === undefined || kind === state.session.accelerator;
  });
}

/** How much of a budget is left; what was used too much is not left. */
export function left(budget: IBudget): number {
  return Math.max(0, budget.limit_h - budget.used_h);
}

/** Whose budget it is, of what and for how long: "A100 hours of group cms, this week". */
export function budgetName(budget: IBudget): string {
  const what = budget.what ? `${budget.what} hours` : 'accelerator hours';
  const whose = budget.whose === 'you' ? 'your' : '';
  const name = whose
    ? `${whose} ${what}`
    : `${what}${budget.whose ? ` of ${budget.whose}` : ''}`;
  return `${name}, ${budget.window}`;
}

/** How much of it is left, and when there is more. */
export function budgetText(budget: IBudget, now: number): string {
  const part = budget.limit_h > 0 ? budget.used_h / budget.limit_h : 1;
  const used = `${amount(budget.used_h)} of ${amount(budget.limit_h)} h used (${Math.round(100 * part)} %)`;
  const rest = `${amount(left(budget))} h left`;
  return budget.renews_at === null
    ? `${used}, ${rest}`
    : `${used}, ${rest}; begins anew ${clock(budget.renews_at, now)}`;
}

/** When the session ends, in the fewest words; empty: it does not. */
export function shortEnd(session: ISession, now: number): string {
  if (session.stop_at !== null) {
    return `stops in ${duration(session.stop_at - now)}`;
  }
  return session.ends_at === null
    ? ''
    : `${duration(session.ends_at - now)} left`;
}

/** Where it stands in the queue; one whose turn has come stands nowhere any more. */
export function ticketPlace(ticket: ITicket): string {
  return ticket.place > 0
    ? `${ordinal(ticket.place)} in line for ${ticket.title}`
    : `switch to ${ticket.title}`;
}

/** What stands in the status bar, part by part. */
export function statusParts(state: IState, now: number): string[] {
  const { session, ticket } = state;
  if (state.as_of === null) {
    return ['nothing known yet'];
  }
  const budget = tightest(concerning(state));
  return [
    holding(session),
    shortEnd(session, now),
    budget
      ? `budget: ${amount(left(budget))} of ${amount(budget.limit_h)} h left`
      : '',
    ticket ? ticketPlace(ticket) : ''
  ].filter(part => part !== '');
}

/** The same in whole sentences, for the tooltip. */
export function statusDetails(state: IState, now: number): string {
  const { session } = state;
  if (state.as_of === null) {
    return 'Armillary’s service has not been heard yet.';
  }
  const budget = tightest(concerning(state));
  const lines = [`This session has ${holding(session)}.`, endText(session, now)];
  if (budget) {
    const name = budgetName(budget);
    lines.push(
      `${name.charAt(0).toUpperCase()}${name.slice(1)}: ${budgetText(budget, now)}.`
    );
  }
  return lines.join('\n');
}

/** When the session ends and why, as a sentence. */
export function endText(session: ISession, now: number): string {
  if (session.stop_at !== null) {
    const when = `${clock(session.stop_at, now)}, in ${duration(session.stop_at - now)}`;
    return `It stops at ${when}: ${reason(session.stop_because)}.`;
  }
  if (session.ends_at === null) {
    return 'It has no time limit.';
  }
  return `It ends at ${clock(session.ends_at, now)}, in ${duration(session.ends_at - now)}.`;
}

/** What the session uses: pairs of a name and an amount. */
export function measured(here: IHere): [string, string][] {
  const found: [string, string][] = [];
  if (here.cpu !== null) {
    const of = here.cpu_limit === null ? '' : ` of ${amount(here.cpu_limit)}`;
    found.push(['CPU', `${amount(here.cpu)}${of} cores in use`]);
  }
  if (here.memory !== null) {
    const of =
      here.memory_limit === null ? '' : ` of ${gigabytes(here.memory_limit)}`;
    found.push(['Memory', `${gigabytes(here.memory)}${of} GB in use`]);
  }
  here.devices.forEach(device => {
    found.push([device.name || 'Accelerator', deviceText(device)]);
  });
  return found;
}

function deviceText(device: IDevice): string {
  const parts: string[] = [];
  if (device.utilisation !== null) {
    parts.push(`${Math.round(100 * device.utilisation)} % busy`);
  }
  if (device.memory_used !== null) {
    const of =
      device.memory_total === null ? '' : ` of ${gigabytes(device.memory_total)}`;
    parts.push(`${gigabytes(device.memory_used)}${of} GB in use`);
  }
  return parts.join(', ') || 'not measured';
}
