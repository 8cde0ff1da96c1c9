import { CommandRegistry } from '@lumino/commands';
import { Notification } from '@jupyterlab/apputils';
import { Widget } from '@lumino/widgets';

import * as schema from '../schema/plugin.json';
import { addCommands, CommandIDs } from '../src/commands';
import plugin from '../src/index';
import { SessionModel } from '../src/model';
import { Panel } from '../src/panel';
import { IState } from '../src/state';
import { StatusItem } from '../src/status';
import { aSession, aState, NOW, Server, started } from './server';

async function attached(widget: Widget): Promise<HTMLElement> {
  Widget.attach(widget, document.body);
  while (!widget.node.textContent) {
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  return widget.node;
}

async function status(state: IState) {
  const { model } = await started(new Server(state));
  const item = new StatusItem(model, () => new Widget());
  const node = await attached(item);
  const button = node.querySelector('button') as HTMLButtonElement;
  return { model, item, button };
}

function gone(model: SessionModel, ...widgets: Widget[]): void {
  widgets.forEach(each => each.dispose());
  model.dispose();
}

describe('StatusItem', () => {
  it('is a button whose name is what it shows', async () => {
    const { model, item, button } = await status(aState());
    expect(button.textContent).toMatch(
      /^Session: A100 slice 1\/7 · (2 h|1 h 59 min) left$/
    );
    expect(button.getAttribute('aria-label')).toBeNull();
    expect(button.getAttribute('aria-expanded')).toBe('false');
    expect(button.title).toContain('This session has A100 slice 1/7.');
    gone(model, item);
  });

  it('says that a session stops, not by colour alone', async () => {
    const { model, item, button } = await status(
      aSession({ stop_at: NOW + 330, stop_because: 'idle' })
    );
    expect(button.textContent).toContain('stops in 5 min');
    expect(button.textContent).toContain('⚠');
    gone(model, item);
  });

  it('says that it is not up to date', async () => {
    const { model, item, button } = await status(
      aState({ problem: 'The service does not answer.' })
    );
    expect(button.textContent).toContain('not up to date');
    expect(button.title).toContain('The service does not answer.');
    gone(model, item);
  });

  it('opens and closes, and gives the focus back', async () => {
    const { model, item, button } = await status(aState());
    button.focus();
    item.toggle();
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(button.getAttribute('aria-expanded')).toBe('true');
    item.toggle();
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(button.getAttribute('aria-expanded')).toBe('false');
    expect(document.activeElement).toBe(button);
    gone(model, item);
  });
});

describe('Panel', () => {
  const NOTICE = {
    id: 'n1',
    kind: 'maintenance',
    level: 'danger',
    text: '<b>The hub stops</b> at 18:00.',
    made_at: NOW,
    until: null
  };

  async function panel(state: IState) {
    const { model } = await started(new Server(state));
    const did: string[] = [];
    const body = new Panel(model, {
      keep: () => did.push('keep'),
      switch: () => did.push('switch'),
      usage: () => did.push('usage'),
      leaveQueue: () => did.push('leave'),
      dismiss: id => did.push(`dismiss ${id}`)
    });
    const node = await attached(body);
    const press = (name: string) =>
      [...node.querySelectorAll('button')]
        .find(each => each.textContent === name)
        ?.click();
    return { model, body, node, did, press };
  }

  it('says what the session has, what is left and what was told', async () => {
    const { model, body, node } = await panel(
      aState({
        budgets: [
          {
            whose: 'you',
            what: 'A100',
            window: 'today',
            used_h: 1,
            limit_h: 4,
            renews_at: null,
            field: ''
          }
        ],
        notices: [NOTICE],
        ticket: { id: 't', title: 'T4', place: 1, of: 3, text: 'All in use.' }
      })
    );
    expect(node.getAttribute('role')).toBe('dialog');
    expect(node.textContent).toContain('AcceleratorA100 slice 1/7');
    expect(node.textContent).toContain('Charged togroup cms');
    expect(node.textContent).toContain('1 of 4 h used (25 %), 3 h left');
    expect(node.textContent).toContain(
      '1st in line for T4 (3 wait). All in use.'
    );
    expect(node.textContent).toContain(`Important: ${NOTICE.text}`);
    expect(node.querySelector('b')).toBeNull();
    gone(model, body);
  });

  it('does what its buttons say', async () => {
    const state = aSession({ keep: { possible: true, left: 1 } });
    const { model, body, did, press } = await panel({
      ...state,
      notices: [NOTICE],
      ticket: { id: 't', title: 'T4', place: 1, of: 1, text: '' }
    });
    press('Keep my session');
    press('Switch accelerator…');
    press('My usage');
    press('Leave the queue');
    press('Dismiss');
    expect(did).toEqual(['keep', 'switch', 'usage', 'leave', 'dismiss n1']);
    gone(model, body);
  });

  it('offers to keep only what can be kept', async () => {
    const { model, body, node } = await panel(aState());
    expect(node.textContent).not.toContain('Keep my session');
    gone(model, body);
  });
});

describe('commands', () => {
  async function registered(state: IState | null) {
    const server = new Server(state);
    const { client, model } = await started(server);
    const commands = new CommandRegistry();
    const opened: string[] = [];
    addCommands(commands, {
      client,
      model,
      switching: { ask: () => Promise.resolve() },
      toggle: () => undefined,
      open: path => opened.push(path)
    });
    return { server, model, commands, opened };
  }

  it('are not seen where Armillary is not', async () => {
    const { model, commands } = await registered(null);
    for (const id of Object.values(CommandIDs)) {
      expect(commands.isVisible(id)).toBe(false);
      expect(commands.isEnabled(id)).toBe(false);
    }
    model.dispose();
  });

  it('keep the session, say so and look again', async () => {
    Notification.manager.dismiss();
    const { server, model, commands } = await registered(
      aSession({ keep: { possible: true, left: 2 } })
    );
    server.says('POST keep', { text: 'Kept for 2 h.' });
    await commands.execute(CommandIDs.keep);
    expect(server.asked.slice(1)).toEqual([
      'POST keep {}',
      'GET state?no_track_activity=1'
    ]);
    expect(Notification.manager.notifications).toMatchObject([
      { message: 'Kept for 2 h.', type: 'success' }
    ]);
    model.dispose();
  });

  it('say why the session cannot be kept', async () => {
    Notification.manager.dismiss();
    const { server, model, commands } = await registered(
      aSession({ keep: { possible: true, left: 1 } })
    );
    server.says('POST keep', { code: 'kept-enough', detail: 'No more.' }, 409);
    await commands.execute(CommandIDs.keep);
    expect(Notification.manager.notifications).toMatchObject([
      { message: 'No more.', type: 'error', options: { autoClose: false } }
    ]);
    model.dispose();
  });

  it('open the page of usage', async () => {
    const { model, commands, opened } = await registered(aState());
    await commands.execute(CommandIDs.usage);
    expect(opened).toEqual(['/services/armillary/usage']);
    model.dispose();
  });

  it('in the menu exist', () => {
    const known = Object.values(CommandIDs) as string[];
    const items = schema['jupyter.lab.menus'].main.flatMap(
      ({ items }) => items
    );
    const named = items.flatMap(each =>
      'command' in each && each.command ? [each.command] : []
    );
    expect(named.length).toBeGreaterThan(0);
    expect(named.filter(each => !known.includes(each))).toEqual([]);
    expect(plugin.id).toBe('armillary-lab:plugin');
  });
});
