import { Notification } from '@jupyterlab/apputils';

import { Leaving } from '../src/leaving';
import { SessionModel } from '../src/model';
import { Desk } from './documents';
import { aSession, NOW, Server, started } from './server';

/** A session that stops in so many seconds, of which everything was said at the start. */
async function stopping(seconds: number, because: string, desk: Desk) {
  const server = new Server();
  const state = aSession({ stop_at: NOW + seconds, stop_because: because });
  server.does('GET state', () => {
    const now = Date.now() / 1000;
    return new Response(JSON.stringify({ ...state, now, as_of: now }));
  });
  const starting = started(server);
  await jest.advanceTimersByTimeAsync(100);
  const { model } = await starting;
  const went: string[] = [];
  const leaving = new Leaving(model, desk.read(), path => went.push(path));
  model.stateChanged.emit(undefined);
  return { server, model, leaving, went };
}

function end(model: SessionModel, leaving: Leaving): void {
  leaving.dispose();
  model.dispose();
}

describe('Leaving', () => {
  beforeEach(() => {
    jest.useFakeTimers({ now: 1000 * NOW });
    Notification.manager.dismiss();
  });
  afterEach(() => jest.useRealTimers());

  it('saves 90 s before the stop, and again 20 s before it', async () => {
    const document = { path: 'a.ipynb', dirty: true };
    const desk = new Desk([document]);
    const { model, leaving } = await stopping(300, 'idle', desk);
    await jest.advanceTimersByTimeAsync(200_000);
    expect(desk.saved).toEqual([]);
    await jest.advanceTimersByTimeAsync(20_000);
    expect(desk.saved).toEqual(['a.ipynb']);
    document.dirty = true;
    await jest.advanceTimersByTimeAsync(70_000);
    expect(desk.saved).toEqual(['a.ipynb', 'a.ipynb']);
    expect(Notification.manager.notifications[0]?.message).toBe(
      'The session stops soon: 1 document saved.'
    );
    end(model, leaving);
  });

  it('saves at once where it hears of the stop late', async () => {
    const desk = new Desk([{ path: 'a.ipynb', dirty: true }]);
    const { model, leaving } = await stopping(30, 'budget', desk);
    await jest.advanceTimersByTimeAsync(100);
    expect(desk.saved).toEqual(['a.ipynb']);
    end(model, leaving);
  });

  it('does nothing when the stop is called off', async () => {
    const desk = new Desk([{ path: 'a.ipynb', dirty: true }]);
    const { server, model, leaving, went } = await stopping(
      100,
      'switch',
      desk
    );
    server.says('GET state', aSession({ stop_at: null }));
    const refreshed = model.refresh();
    await jest.advanceTimersByTimeAsync(200_000);
    await refreshed;
    expect(desk.saved).toEqual([]);
    expect(went).toEqual([]);
    end(model, leaving);
  });

  it('goes to the queue when the session is switched', async () => {
    const { model, leaving, went } = await stopping(60, 'switch', new Desk());
    await jest.advanceTimersByTimeAsync(59_000);
    expect(went).toEqual([]);
    await jest.advanceTimersByTimeAsync(2_000);
    expect(went[0]).toBe('/services/armillary/queue');
    end(model, leaving);
  });

  it.each(['idle', 'limit', 'budget', 'admin'])(
    'stays when it stops because of "%s"',
    async because => {
      const { model, leaving, went } = await stopping(10, because, new Desk());
      await jest.advanceTimersByTimeAsync(20_000);
      expect(went).toEqual([]);
      end(model, leaving);
    }
  );

  it('stays, and says which, where something could not be saved', async () => {
    const desk = new Desk([
      {
        path: 'full.ipynb',
        dirty: true,
        save: () => Promise.reject(new Error('disk full'))
      }
    ]);
    const warn = jest.spyOn(console, 'warn').mockImplementation();
    const { model, leaving, went } = await stopping(10, 'switch', desk);
    await jest.advanceTimersByTimeAsync(20_000);
    expect(went).toEqual([]);
    expect(Notification.manager.notifications[0]?.message).toBe(
      'The session stops soon, and not saved could be: full.ipynb'
    );
    warn.mockRestore();
    end(model, leaving);
  });
});
