/** Asks the server half of the extension; the documents are in `state.ts`. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import {
  IChoices,
  IProblem,
  ISaid,
  IState,
  ISwitched,
  IWanted
} from './state';

/** A "no" with a text for the person. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string
  ) {
    super(detail);
    this.name = 'Problem';
  }
}

/** What a person is told of whatever went wrong. */
export function told(error: unknown): string {
  if (error instanceof ServerConnection.NetworkError) {
    return 'The session does not answer; it may be starting again, or your network may be down.';
  }
  return error instanceof Error ? error.message : String(error);
}

/** One way for each request. All but `state` raise `Problem`, or `ServerConnection.NetworkError`. */
export class Client {
  constructor(readonly settings: ServerConnection.ISettings) {}

  /** What is known of the session; null: this server knows nothing of Armillary. */
  async state(): Promise<IState | null> {
    try {
      // Looking at the clock is no sign of work: the server is asked not to count it as such.
      return await this._ask<IState>('state?no_track_activity=1');
    } catch (error) {
      if (error instanceof Problem && error.status === 404) {
        return null;
      }
      throw error;
    }
  }

  keep(): Promise<ISaid> {
    return this._ask<ISaid>('keep', 'POST', {});
  }

  choices(): Promise<IChoices> {
    return this._ask<IChoices>('switch');
  }

  switchTo(wanted: IWanted): Promise<ISwitched> {
    return this._ask<ISwitched>('switch', 'POST', wanted);
  }

  leaveQueue(): Promise<ISaid> {
    return this._ask<ISaid>('switch', 'DELETE');
  }

  async dismiss(notice: string): Promise<void> {
    await this._ask(`notices/${encodeURIComponent(notice)}`, 'DELETE');
  }

  private async _ask<T>(
    path: string,
    method = 'GET',
    body?: unknown
  ): Promise<T> {
    const url = URLExt.join(this.settings.baseUrl, 'armillary', path);
    const init: RequestInit = { method };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
    }
    const answer = await ServerConnection.makeRequest(url, init, this.settings);
    const text = await answer.text();
    if (!answer.ok) {
      throw problem(answer, text);
    }
    return (text ? JSON.parse(text) : undefined) as T;
  }
}

function problem(answer: Response, text: string): Problem {
  let said: Partial<IProblem> = {};
  try {
    said = JSON.parse(text) ?? {};
  } catch {
    // a proxy in between answers in its own words, which say nothing to this person
  }
  const detail =
    said.detail || `The session answered ${answer.status} ${answer.statusText}.`;
  return new Problem(answer.status, said.code || 'unknown', detail);
}
