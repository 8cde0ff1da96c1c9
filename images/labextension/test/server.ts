/** A server that answers as a test says, over the same `fetch` that JupyterLab uses; and a state to begin with. */

import { ServerConnection } from '@jupyterlab/services';

import { Client } from '../src/client';
import { SessionModel } from '../src/model';
import { IState } from '../src/state';

export const NOW = 1_790_000_000;

export function aState(changes: Partial<IState> = {}): IState {
  return {
    now: NOW,
    as_of: NOW - 1,
    problem: '',
    session: {
      server: '',
      accelerator: 'a100-1g.5gb',
      title: 'A100 slice 1/7',
      count: 1,
      share: 1 / 7,
      simulated: false,
      profile: 'JupyterLab',
      account: 'group:cms',
      started_at: NOW - 3600,
      ends_at: NOW + 2 * 3600,
      stop_at: null,
      stop_because: '',
      keep: { possible: false, left: null }
    },
    budgets: [],
    notices: [],
    ticket: null,
    links: {
      usage: '/services/armillary/usage',
      queue: '/services/armillary/queue'
    },
    here: {
      cpu: null,
      cpu_limit: null,
      memory: null,
      memory_limit: null,
      devices: [],
      kernels: 0,
      busy_kernels: 0,
      terminals: 0,
      busy_terminals: 0,
      connections: 0
    },
    ...changes
  };
}

/** The state with changes to its session. */
export function aSession(changes: Partial<IState['session']>): IState {
  const state = aState();
  return { ...state, session: { ...state.session, ...changes } };
}

type Answer = (body: unknown) => Response | Promise<Response>;

export class Server {
  /** What was asked, in order: "POST keep {}". */
  readonly asked: string[] = [];
  readonly settings: ServerConnection.ISettings;
  private readonly _answers = new Map<string, Answer>();

  constructor(state: IState | null = aState()) {
    this.settings = ServerConnection.makeSettings({
      baseUrl: 'http://lab.test/user/someone/',
      fetch: (request: RequestInfo) => this._answer(request as Request)
    });
    if (state !== null) {
      this.says('GET state', state);
    }
  }

  /** Answer a request with a document. */
  says(request: string, document: unknown, status = 200): void {
    this.does(
      request,
      () =>
        new Response(status === 204 ? null : JSON.stringify(document), {
          status
        })
    );
  }

  does(request: string, answer: Answer): void {
    this._answers.set(request, answer);
  }

  /** How often something was asked. */
  count(request: string): number {
    return this.asked.filter(each => each.startsWith(request)).length;
  }

  private async _answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const prefix = '/user/someone/armillary/';
    expect(url.pathname.startsWith(prefix)).toBe(true);
    const key = `${request.method} ${url.pathname.slice(prefix.length)}`;
    const body = await request.text();
    // JupyterLab adds the moment to every address, so that nothing comes from a cache
    const search = url.search.replace(/[?&]\d+$/, '');
    this.asked.push(`${key}${search}${body ? ` ${body}` : ''}`);
    const answer = this._answers.get(key);
    return answer
      ? answer(body ? JSON.parse(body) : undefined)
      : new Response('Not here', { status: 404, statusText: 'Not Found' });
  }
}

/** A model that has asked once. */
export async function started(
  server: Server
): Promise<{ client: Client; model: SessionModel }> {
  const client = new Client(server.settings);
  const model = new SessionModel(client);
  await model.start();
  return { client, model };
}
