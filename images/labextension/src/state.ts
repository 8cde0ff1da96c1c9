/**
 * What the server part tells the browser part, and how it is asked. `armillary_lab/state.py` makes these documents.
 *
 * Moments are seconds since 1970 by the server's clock; the browser's own clock may be wrong, so every document says
 * what time it is (`now`). Texts are for people and are shown as they are, as text and never as markup.
 *
 * | request | sends | gets |
 * | --- | --- | --- |
 * | `GET armillary/state` | | `IState` |
 * | `POST armillary/keep` | `{}` | `ISaid` |
 * | `GET armillary/switch` | | `IChoices` |
 * | `POST armillary/switch` | `IWanted` | `ISwitched` |
 * | `DELETE armillary/switch` | | `ISaid` |
 * | `DELETE armillary/notices/{id}` | | nothing (204) |
 *
 * Every answer of 400 and more is `IProblem`. 404 for the state means that this server was not started by Armillary:
 * the extension then shows nothing at all.
 */

/** What is known of this session. */
export interface IState {
  /** What time it is. */
  now: number;
  /** When the service was last heard; null: never. */
  as_of: number | null;
  /** Why nothing newer is known; empty: all is well. */
  problem: string;
  session: ISession;
  /** Of the person and of the account that this session charges; empty: nothing is limited. */
  budgets: IBudget[];
  /** What its owner has not dismissed yet. */
  notices: INotice[];
  /** What this session waits to be switched to; null: nothing. */
  ticket: ITicket | null;
  links: ILinks;
  /** What the session measured of itself last. */
  here: IHere;
}

/** The session that this JupyterLab runs in. */
export interface ISession {
  /** Its name; empty: the one without a name. */
  server: string;
  /** Key of the accelerator; empty: none. */
  accelerator: string;
  /** What it is called on screen, for example "A100 slice 1/7"; empty: none. */
  title: string;
  count: number;
  /** Of whole cards, all of the count together. */
  share: number;
  simulated: boolean;
  /** Title of what was started. */
  profile: string;
  /** What is charged: `user:NAME` or `group:NAME`. */
  account: string;
  started_at: number | null;
  /** When its length reaches its limit; null: no limit. */
  ends_at: number | null;
  /** When it will be stopped, announced; null: it will not. */
  stop_at: number | null;
  /** Why: idle, limit, budget, switch or admin; empty: it will not be stopped. */
  stop_because: string;
  keep: IKeep;
}

/** Whether *Keep my session* would do something now. */
export interface IKeep {
  possible: boolean;
  /** How often it may still be asked; null: as often as one likes. */
  left: number | null;
}

/** One limit over a time, in share-hours: hours of a whole card. */
export interface IBudget {
  /** "you" or, for example, "group cms". */
  whose: string;
  /** What is counted, for example "A100"; empty: accelerators of every kind. */
  what: string;
  /** In words: "today", "this week", "this month", "the last 24 hours", "the last 7 days", "the last 30 days". */
  window: string;
  used_h: number;
  limit_h: number;
  /** When it begins anew; null: it slides. */
  renews_at: number | null;
  /** As in the API of quotas: `hours:week:a100`. */
  field: string;
}

/** Something to be told once. */
export interface INotice {
  id: string;
  /** idle, budget, limit, stopped, queue or maintenance. */
  kind: string;
  /** info, warning or danger. */
  level: string;
  text: string;
  made_at: number;
  /** Not shown from then on; null: until it is dismissed. */
  until: number | null;
}

/** A place in the queue. */
export interface ITicket {
  id: string;
  /** What is waited for, as on screen. */
  title: string;
  place: number;
  of: number;
  /** Why it waits, and an estimate if there is one. */
  text: string;
}

/** Pages of the service: paths that begin with "/". */
export interface ILinks {
  usage: string;
  queue: string;
}

/** One accelerator as the session sees it. */
export interface IDevice {
  name: string;
  /** 0 to 1; null: the driver does not tell, as for slices of a card. */
  utilisation: number | null;
  /** Bytes. */
  memory_used: number | null;
  memory_total: number | null;
}

/** What the session measured of itself; null: not known. */
export interface IHere {
  /** Cores in use, over the last interval. */
  cpu: number | null;
  cpu_limit: number | null;
  /** Bytes. */
  memory: number | null;
  memory_limit: number | null;
  devices: IDevice[];
  kernels: number;
  busy_kernels: number;
  terminals: number;
  busy_terminals: number;
  /** Of applications such as VS Code. */
  connections: number;
}

/** What this session could be switched to. */
export interface IChoices {
  choices: IChoice[];
}

export interface IChoice {
  /** Key; empty: none. */
  accelerator: string;
  title: string;
  simulated: boolean;
  /** What this session has. */
  current: boolean;
  /** Null: nobody can tell now. */
  free: number | null;
  total: number | null;
  /** How many wait for it. */
  ahead: number;
  /** When one that asks now would have it, in words; empty: at once or not known. */
  estimate: string;
  /** Why this person cannot have it; empty: they can. */
  refused: string;
  /** How many one may ask for; 1 or more. */
  most: number;
}

export interface IWanted {
  accelerator: string;
  count: number;
}

export interface ISwitched {
  /** waiting: there is a ticket; starting: the present session is about to be stopped. */
  outcome: 'waiting' | 'starting';
  text: string;
}

export interface ISaid {
  text: string;
}

/** Why something was refused (RFC 9457). */
export interface IProblem {
  code: string;
  detail: string;
}
