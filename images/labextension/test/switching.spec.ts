import { Dialog, Notification } from '@jupyterlab/apputils';

import { open, soon } from '../src/choice';
import { IChoice } from '../src/state';
import { Switching } from '../src/switching';
import { Desk } from './documents';
import { Server, started } from './server';

const CHOICE: IChoice = {
  accelerator: 't4',
  title: 'T4',
  simulated: false,
  current: false,
  free: 1,
  total: 2,
  ahead: 0,
  estimate: '',
  refused: '',
  most: 1
};
const CHOICES: IChoice[] = [
  { ...CHOICE, accelerator: 'a100', title: 'A100', current: true },
  { ...CHOICE, accelerator: 'u55c', title: 'U55c', refused: 'needs group fpga' },
  { ...CHOICE, most: 2 },
  {
    ...CHOICE,
    accelerator: 'rtx',
    title: 'RTX 5000',
    free: 0,
    ahead: 2,
    estimate: 'about 25 min',
    simulated: true
  }
];

async function asking(desk = new Desk(), choices = CHOICES) {
  const server = new Server();
  server.says('GET switch', { choices });
  server.says('POST switch', { outcome: 'waiting', text: '1st in line.' });
  const { client, model } = await started(server);
  const switching = new Switching(client, model, desk.read());
  const done = switching.ask();
  await dialog();
  return { server, model, done };
}

/** Wait until a dialog is drawn. */
async function dialog(text = ''): Promise<HTMLElement> {
  for (;;) {
    const shown = document.querySelector<HTMLElement>('.jp-Dialog');
    if (shown?.querySelector('button') && shown.textContent?.includes(text)) {
      return shown;
    }
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}

async function drawn(selector: string): Promise<HTMLElement> {
  for (;;) {
    const found = document.querySelector<HTMLElement>(`.jp-Dialog ${selector}`);
    if (found) {
      return found;
    }
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}

async function press(label: string): Promise<void> {
  const buttons = [...document.querySelectorAll<HTMLElement>('.jp-Dialog button')];
  const found = buttons.find(each => each.textContent === label);
  expect(found).toBeDefined();
  found?.click();
}

describe('Switching', () => {
  beforeEach(() => Notification.manager.dismiss());
  afterEach(() => Dialog.flush());

  it('offers what is free first, says how long the rest takes, and why not', async () => {
    const { model, done } = await asking();
    await drawn('input');
    const lines = [
      ...document.querySelectorAll('.armillary-Choice-line')
    ].map(each => each.textContent);
    expect(lines).toEqual([
      'A100 this session has it',
      'U55c needs group fpga',
      'T4 1 of 2 free',
      'RTX 5000 (simulated) none free now, queue: 2 ahead, about 25 min'
    ]);
    const inputs = [
      ...document.querySelectorAll<HTMLInputElement>('.jp-Dialog input')
    ];
    expect(inputs.map(each => each.disabled)).toEqual([
      true,
      true,
      false,
      false
    ]);
    expect(inputs.map(each => each.checked)).toEqual([
      false,
      false,
      true,
      false
    ]);
    await press('Cancel');
    await done;
    model.dispose();
  });

  it('saves first, then asks for what was picked', async () => {
    const desk = new Desk([{ path: 'a.ipynb', dirty: true }]);
    const { server, model, done } = await asking(desk);
    (await drawn('input[value=rtx]')).click();
    await new Promise(resolve => setTimeout(resolve, 20));
    expect(document.querySelector('.jp-Dialog')?.textContent).toContain(
      '1 document with unsaved changes will be saved first.'
    );
    server.does('POST switch', () => {
      expect(desk.saved).toEqual(['a.ipynb']);
      return new Response(JSON.stringify({ outcome: 'waiting', text: 'Ok.' }));
    });
    await press('Switch');
    await done;
    expect(server.asked).toContain(
      'POST switch {"accelerator":"rtx","count":1}'
    );
    expect(Notification.manager.notifications[0]?.message).toBe('Ok.');
    model.dispose();
  });

  it('does nothing when it is called off', async () => {
    const desk = new Desk([{ path: 'a.ipynb', dirty: true }]);
    const { server, model, done } = await asking(desk);
    await press('Cancel');
    await done;
    expect(server.count('POST')).toBe(0);
    expect(desk.saved).toEqual([]);
    model.dispose();
  });

  it('asks again before changes are lost', async () => {
    const desk = new Desk([
      { path: 'ro.txt', dirty: true, save: () => Promise.resolve() }
    ]);
    const { server, model, done } = await asking(desk);
    await press('Switch');
    const shown = await dialog('could not be saved');
    expect(shown.textContent).toContain('ro.txt');
    await press('Do not switch');
    await done;
    expect(server.count('POST')).toBe(0);
    model.dispose();
  });

  it('has nothing to press where there is nothing to pick', async () => {
    const { server, model, done } = await asking(
      new Desk(),
      CHOICES.slice(0, 2)
    );
    await dialog('nothing else');
    await press('Close');
    await done;
    expect(server.count('POST')).toBe(0);
    model.dispose();
  });

  it('says why it was refused', async () => {
    const { server, model, done } = await asking();
    const detail = 'Your budget of A100 hours is used up until Monday.';
    server.says('POST switch', { code: 'budget-spent', detail }, 409);
    await press('Switch');
    const shown = await dialog('used up until Monday');
    expect(shown.textContent).toContain('The accelerator cannot be switched');
    shown.querySelector<HTMLElement>('.jp-Dialog-footer button')?.click();
    await done;
    model.dispose();
  });

  it('warns of what runs', async () => {
    const desk = new Desk();
    desk.kernels = [
      { kernel: { execution_state: 'busy' } },
      { kernel: { execution_state: 'idle' } },
      { kernel: null }
    ];
    desk.terminals = [{}];
    const server = new Server();
    const { client, model } = await started(server);
    const [, lost] = new Switching(client, model, desk.read()).warnings();
    expect(lost).toBe(
      '3 kernels (1 computing now) and 1 terminal end then, and what they hold in memory is lost.'
    );
    model.dispose();
  });
});

it('lets one pick another number of what one has', () => {
  expect(open({ ...CHOICE, current: true, most: 1 })).toBe(false);
  expect(open({ ...CHOICE, current: true, most: 4 })).toBe(true);
  expect(open({ ...CHOICE, refused: 'no' })).toBe(false);
});

it('says that it does not know', () => {
  expect(soon({ ...CHOICE, free: null, total: null })).toBe(
    'nobody can tell now how many are free'
  );
});
