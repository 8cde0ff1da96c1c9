/** Notices become JupyterLab's notifications: each comes up once, and stays in the list until it is dismissed. */

import { Notification } from '@jupyterlab/apputils';
import { IDisposable } from '@lumino/disposable';

import { Client } from './client';
import { SessionModel } from './model';
import { INotice, IState } from './state';

/** JupyterLab cuts what is longer (MAX_MESSAGE_LENGTH of its notification plugin, 4.6). */
export const LONGEST = 140;

/** What the buttons of notifications do. */
export interface INoticeActions {
  keep: () => void;
  usage: () => void;
  /** Show the panel, where notices are in full. */
  read: () => void;
}

/** Remembers what has come up in this tab, over reloads: `window.sessionStorage`. */
export type Memory = Pick<Storage, 'getItem' | 'setItem'>;

const KEY = 'armillary-lab:notices';
const REMEMBERED = 100;
const TYPES: Readonly<Record<string, Notification.TypeOptions>> = {
  info: 'info',
  warning: 'warning',
  danger: 'error'
};

export class Notices implements IDisposable {
  constructor(
    private readonly _model: SessionModel,
    private readonly _client: Client,
    private readonly _actions: INoticeActions,
    private readonly _memory: Memory
  ) {
    _model.stateChanged.connect(this._look, this);
    Notification.manager.changed.connect(this._changed, this);
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    this._model.stateChanged.disconnect(this._look, this);
    Notification.manager.changed.disconnect(this._changed, this);
  }

  /** Dismiss one, here and on the pages of the service. */
  dismiss(id: string): void {
    for (const notice of this._model.state?.notices ?? []) {
      if (notice.id === id) {
        this._take(keyOf(notice));
        this._dismissed.add(keyOf(notice));
      }
    }
    this._client
      .dismiss(id)
      .catch(error =>
        console.warn('armillary: the notice could not be dismissed', error)
      )
      .finally(() => void this._model.refresh());
  }

  private _look(): void {
    const state = this._model.state;
    if (state === null) {
      return;
    }
    const current = state.notices.filter(
      ({ until }) => until === null || until > this._model.now
    );
    const keys = new Set(current.map(keyOf));
    for (const key of [...this._open.keys()]) {
      if (!keys.has(key)) {
        this._take(key);
      }
    }
    for (const notice of current) {
      const key = keyOf(notice);
      if (!this._open.has(key) && !this._dismissed.has(key)) {
        this._tell(notice, state);
      }
    }
  }

  private _tell(notice: INotice, state: IState): void {
    const seen = this._seen();
    const key = keyOf(notice);
    const id = Notification.emit(
      shortened(notice.text),
      TYPES[notice.level] ?? 'default',
      {
        // 0: in the list only
        autoClose: seen.includes(key) ? 0 : false,
        actions: this._buttons(notice, state)
      }
    );
    this._open.set(key, { id: notice.id, notification: id });
    const now = [...seen.filter(each => each !== key), key];
    this._memory.setItem(KEY, JSON.stringify(now.slice(-REMEMBERED)));
  }

  private _buttons(notice: INotice, state: IState): Notification.IAction[] {
    // A button closes its notification unless the event says otherwise: these stay until they have done something.
    const staying = (act: () => void) => (event: MouseEvent) => {
      event.preventDefault();
      act();
    };
    const buttons: Notification.IAction[] = [];
    if (notice.kind === 'idle' && state.session.keep.possible) {
      buttons.push({
        label: 'Keep my session',
        displayType: 'accent',
        callback: staying(this._actions.keep)
      });
    }
    if (notice.kind === 'budget') {
      buttons.push({
        label: 'My usage',
        displayType: 'accent',
        callback: staying(this._actions.usage)
      });
    }
    if (notice.text.length > LONGEST) {
      buttons.push({
        label: 'Read all',
        callback: staying(this._actions.read)
      });
    }
    buttons.push({ label: 'Dismiss', callback: () => undefined });
    return buttons;
  }

  /** Somebody dismissed one of ours: in its notification, or in JupyterLab's list. */
  private _changed(_: unknown, change: Notification.IChange): void {
    if (change.type !== 'removed') {
      return;
    }
    for (const [key, { id, notification }] of this._open) {
      if (notification === change.notification.id) {
        this._open.delete(key);
        this._dismissed.add(key);
        this.dismiss(id);
      }
    }
  }

  /** Take a notification away without a word to the service. */
  private _take(key: string): void {
    const shown = this._open.get(key);
    this._open.delete(key);
    if (shown !== undefined) {
      Notification.dismiss(shown.notification);
    }
  }

  private _seen(): string[] {
    try {
      const said: unknown = JSON.parse(this._memory.getItem(KEY) ?? '[]');
      return Array.isArray(said) ? said.filter(id => typeof id === 'string') : [];
    } catch {
      return []; // not ours
    }
  }

  private _disposed = false;
  /** Of those that are shown, by `keyOf`: the notice's id, and the notification's. */
  private _open = new Map<string, { id: string; notification: string }>();
  private _dismissed = new Set<string>();
}

/** A warning that comes a second time has the same id, and is another one. */
function keyOf({ id, made_at }: INotice): string {
  return `${id}@${made_at}`;
}

/** A text that JupyterLab does not cut in the middle of a word. */
export function shortened(text: string): string {
  if (text.length <= LONGEST) {
    return text;
  }
  const start = text.slice(0, LONGEST - 1);
  const end = start.lastIndexOf(' ');
  return `${start.slice(0, end > 0 ? end : undefined)}…`;
}
