/** The newest that is known of the session, for everything that shows some of it. */

import { VDomModel } from '@jupyterlab/ui-components';
import { Poll } from '@lumino/polling';

import { Client, told } from './client';
import { IState } from './state';

/** How often the server half is asked. In a tab that nobody sees browsers make this a minute. */
export const EVERY_MS = 15_000;

/** How long without news from the service until what is shown is called old. */
export const OLD_AFTER_S = 90;

export class SessionModel extends VDomModel {
  constructor(private readonly _client: Client) {
    super();
    this._poll = new Poll({
      name: 'armillary-lab:state',
      auto: false,
      // also while the tab is hidden: documents must be saved before the session ends
      standby: 'never',
      frequency: { interval: EVERY_MS, backoff: 2, max: 4 * EVERY_MS },
      factory: () => this._read()
    });
  }

  /** Begin to ask. */
  async start(): Promise<void> {
    await this._poll.start();
    await this._poll.tick;
  }

  /** Ask now; settles when the answer is there or cannot be had. */
  async refresh(): Promise<void> {
    if (this.isDisposed || this.absent) {
      return;
    }
    await this._poll.refresh();
    try {
      await this._poll.tick;
    } catch {
      // `problem` says it
    }
  }

  /** What was said last; null: nothing yet. */
  get state(): IState | null {
    return this._state;
  }

  /** Whether this server was started by something else than Armillary. */
  get absent(): boolean {
    return this._absent;
  }

  /** What time it is by the server's clock, in seconds since 1970. */
  get now(): number {
    return Date.now() / 1000 + this._ahead_s;
  }

  /** Why what is shown may be old; empty: it is not. */
  get problem(): string {
    if (this._trouble) {
      return this._trouble;
    }
    if (this._state === null || this._state.problem) {
      return this._state?.problem ?? '';
    }
    const heard = this._state.as_of;
    return heard === null || this.now - heard > OLD_AFTER_S
      ? 'Armillary’s service has not been heard for a while.'
      : '';
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this._poll.dispose();
      super.dispose();
    }
  }

  private async _read(): Promise<void> {
    const turn = ++this._asked;
    let said: IState | null;
    try {
      said = await this._client.state();
    } catch (error) {
      if (turn > this._heard) {
        this._trouble = told(error);
        this.stateChanged.emit(undefined);
      }
      throw error; // the poll then waits longer each time
    }
    if (this.isDisposed || turn < this._heard) {
      return; // what was asked later has been answered already
    }
    this._heard = turn;
    this._trouble = '';
    this._absent = said === null;
    if (said === null) {
      void this._poll.stop();
    } else {
      this._ahead_s = said.now - Date.now() / 1000;
      this._state = said;
    }
    this.stateChanged.emit(undefined);
  }

  private _poll: Poll<void>;
  private _state: IState | null = null;
  private _absent = false;
  private _trouble = '';
  private _ahead_s = 0;
  private _asked = 0;
  private _heard = 0;
}
