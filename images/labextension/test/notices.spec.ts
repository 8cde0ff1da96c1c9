import { Notification } from '@jupyterlab/apputils';

import { LONGEST, Memory, Notices, shortened } from '../src/notices';
import { INotice, IState } from '../src/state';
import { aSession, aState, NOW, Server, started } from './server';

const WARNING: INotice = {
  id: 'n1',
  kind: 'budget',
  level: 'warning',
  text: '80 % of 40 A100 hours are used.',
  made_at: NOW - 10,
  until: null
};
const IDLE: INotice = { ...WARNING, id: 'n2', kind: 'idle', text: 'Idle.' };

function memory(): Memory {
  const kept = new Map<string, string>();
  return {
    getItem: key => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value)
  };
}

/** Notices in a tab with this memory; `did` is what buttons did. */
async function told(state: IState, remembered = memory()) {
  const server = new Server(state);
  server.says('DELETE notices/n1', null, 204);
  const { client, model } = await started(server);
  const did: string[] = [];
  const actions = {
    keep: () => did.push('keep'),
    usage: () => did.push('usage'),
    read: () => did.push('read')
  };
  const notices = new Notices(model, client, actions, remembered);
  model.stateChanged.emit(undefined);
  const end = () => {
    notices.dispose();
    model.dispose();
  };
  return { server, model, notices, did, end };
}

function press(label: string, index = 0): MouseEvent {
  const action = Notification.manager.notifications[
    index
  ]?.options.actions?.find(each => each.label === label);
  expect(action).toBeDefined();
  const event = new MouseEvent('click', { cancelable: true });
  action?.callback(event);
  return event;
}

describe('Notices', () => {
  beforeEach(() => Notification.manager.dismiss());

  it('come up once, whatever is asked again', async () => {
    const { model, end } = await told(aState({ notices: [WARNING] }));
    await model.refresh();
    await model.refresh();
    const shown = Notification.manager.notifications;
    expect(shown.map(({ message }) => message)).toEqual([WARNING.text]);
    expect(shown[0]).toMatchObject({
      type: 'warning',
      options: { autoClose: false }
    });
    end();
  });

  it('after a reload are in the list, and do not come up', async () => {
    const remembered = memory();
    const first = await told(aState({ notices: [WARNING] }), remembered);
    first.end();
    Notification.manager.dismiss();
    const second = await told(aState({ notices: [WARNING] }), remembered);
    expect(Notification.manager.notifications).toMatchObject([
      { message: WARNING.text, options: { autoClose: 0 } }
    ]);
    second.end();
  });

  it('go when the service says them no more', async () => {
    const { server, model, end } = await told(aState({ notices: [WARNING] }));
    server.says('GET state', aState());
    await model.refresh();
    expect(Notification.manager.count).toBe(0);
    expect(server.count('DELETE')).toBe(0);
    end();
  });

  it('are not shown after their time', async () => {
    const late = { ...WARNING, until: NOW - 1 };
    const { end } = await told(aState({ notices: [late] }));
    expect(Notification.manager.count).toBe(0);
    end();
  });

  it('dismissed in the list of JupyterLab are dismissed for good', async () => {
    const { server, model, end } = await told(aState({ notices: [WARNING] }));
    Notification.manager.dismiss();
    await model.refresh();
    expect(server.count('DELETE notices/n1')).toBe(1);
    expect(Notification.manager.count).toBe(0);
    end();
  });

  it('come up again when the same warning is given a second time', async () => {
    const { server, model, end } = await told(aState({ notices: [WARNING] }));
    Notification.manager.dismiss();
    server.says('GET state', aState());
    await model.refresh();
    const again = { ...WARNING, made_at: WARNING.made_at + 7200 };
    server.says('GET state', aState({ notices: [again] }));
    await model.refresh();
    expect(Notification.manager.count).toBe(1);
    expect(Notification.manager.notifications[0]?.options.autoClose).toBe(false);
    end();
  });

  it("leave other extensions' notifications alone", async () => {
    const { server, end } = await told(aState({ notices: [WARNING] }));
    const other = Notification.info('from somebody else');
    Notification.dismiss(other);
    expect(Notification.manager.count).toBe(1);
    expect(server.count('DELETE')).toBe(0);
    end();
  });

  it('offer to keep the session where that is possible, and stay until it is kept', async () => {
    const state = aSession({ keep: { possible: true, left: 2 } });
    const { did, end } = await told({ ...state, notices: [IDLE] });
    expect(press('Keep my session').defaultPrevented).toBe(true);
    expect(did).toEqual(['keep']);
    expect(Notification.manager.count).toBe(1);
    end();
  });

  it('offer nothing that is not possible', async () => {
    const { end } = await told(aState({ notices: [IDLE] }));
    const labels = Notification.manager.notifications[0]?.options.actions?.map(
      ({ label }) => label
    );
    expect(labels).toEqual(['Dismiss']);
    end();
  });

  it('lead to the usage and to the whole text', async () => {
    const text = 'word '.repeat(60).trim();
    const { did, end } = await told(
      aState({ notices: [{ ...WARNING, text }] })
    );
    press('My usage');
    press('Read all');
    expect(did).toEqual(['usage', 'read']);
    const message = Notification.manager.notifications[0]?.message ?? '';
    expect(message.length).toBeLessThanOrEqual(LONGEST);
    expect(message.endsWith('word…')).toBe(true);
    end();
  });

  it('survive a memory that is not theirs', async () => {
    const remembered = memory();
    remembered.setItem('armillary-lab:notices', '{');
    const { end } = await told(aState({ notices: [WARNING] }), remembered);
    expect(Notification.manager.count).toBe(1);
    end();
  });
});

it('shortens a text of one word too', () => {
  expect(shortened('x'.repeat(LONGEST))).toHaveLength(LONGEST);
  expect(shortened('x'.repeat(LONGEST + 1))).toHaveLength(LONGEST);
});
