/**
 * Before the session is stopped, whatever the reason, open documents are saved; where it is switched to another
 * accelerator, the page then goes to where the new session opens by itself.
 */

import { Notification } from '@jupyterlab/apputils';
import { IDisposable } from '@lumino/disposable';

import { Documents } from './documents';
import { SessionModel } from './model';
import { counted } from './words';

/** How long before the stop documents are saved: twice, as somebody may go on writing. */
export const SAVE_BEFORE_S = [90, 20] as const;

/** Longer than 24 days a browser's timer cannot wait. */
const LOOK_AGAIN_S = 3600;

export class Leaving implements IDisposable {
  /**
   * @param go - opens another page instead of this one
   */
  constructor(
    private readonly _model: SessionModel,
    private readonly _documents: Documents,
    private readonly _go: (path: string) => void
  ) {
    _model.stateChanged.connect(this._look, this);
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    clearTimeout(this._timer);
    this._model.stateChanged.disconnect(this._look, this);
  }

  private _look(): void {
    clearTimeout(this._timer);
    const state = this._model.state;
    const stop_at = state?.session.stop_at ?? null;
    if (state === null || stop_at === null || this._disposed) {
      this._saved = null;
      return;
    }
    const rest_s = stop_at - this._model.now;
    const due = SAVE_BEFORE_S.filter(before => rest_s <= before).length;
    if (this._saved?.stop_at !== stop_at) {
      this._saved = { stop_at, times: 0 };
    }
    if (due > this._saved.times) {
      this._saved.times = due;
      void this._save();
    }
    if (rest_s <= 0) {
      this._leave(state.session.stop_because, state.links.queue);
      return;
    }
    const next_s = rest_s - (SAVE_BEFORE_S[due] ?? 0);
    this._timer = window.setTimeout(() => this._look(), 1000 * Math.min(next_s, LOOK_AGAIN_S) + 50);
  }

  private async _save(): Promise<void> {
    const unsaved = this._documents.unsaved().length;
    const failed = await this._documents.save();
    if (failed.length > 0) {
      Notification.error(
        `The session stops soon, and not saved could be: ${failed.join(', ')}`,
        { autoClose: false }
      );
    } else if (unsaved > 0) {
      Notification.info(
        `The session stops soon: ${counted(unsaved, 'document')} saved.`,
        { autoClose: 10_000 }
      );
    }
  }

  private _leave(because: string, path: string): void {
    // who has unsaved work keeps the page, in which it still is
    if (because === 'switch' && path && this._documents.unsaved().length === 0) {
      this._go(path);
    }
  }

  private _disposed = false;
  private _timer = 0;
  private _saved: { stop_at: number; times: number } | null = null;
}
