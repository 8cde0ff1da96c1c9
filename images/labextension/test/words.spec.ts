import { losses } from '../src/documents';
import { pageAddress } from '../src/pages';
import { IBudget } from '../src/state';
import {
  account,
  amount,
  budgetName,
  budgetText,
  clock,
  concerning,
  counted,
  duration,
  endText,
  gigabytes,
  holding,
  measured,
  ordinal,
  reason,
  statusDetails,
  statusParts,
  tightest
} from '../src/words';
import { aSession, aState, NOW } from './server';

const WEEK: IBudget = {
  whose: 'group cms',
  what: 'A100',
  window: 'this week',
  used_h: 27.6,
  limit_h: 40,
  renews_at: null,
  field: 'hours:week:a100-1g.5gb'
};

describe('times', () => {
  it.each([
    [-5, 'less than a minute'],
    [59, 'less than a minute'],
    [60, '1 min'],
    [3599, '59 min'],
    [3600, '1 h'],
    [4321, '1 h 12 min'],
    [86400 + 3600 + 60, '1 d 1 h'],
    [86400 + 60, '1 d 1 min']
  ])('%d s is "%s"', (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });

  it('names the day only where it is another', () => {
    const noon = new Date(2026, 10, 21, 12, 0).getTime() / 1000;
    expect(clock(noon + 3600, noon)).toMatch(/^0?1:00|^13:00/);
    expect(clock(noon + 86400, noon)).toMatch(/22/);
    expect(clock(noon + 86400, noon)).toMatch(/Nov/);
  });
});

describe('amounts', () => {
  it.each([
    [0, '0'],
    [0.034, '0.03'],
    [12.44, '12.4'],
    [27.96, '28'],
    [163.7, '164']
  ])('%d is "%s"', (value, text) => {
    expect(amount(value)).toBe(text);
  });

  it.each([
    [1, '1st'],
    [2, '2nd'],
    [3, '3rd'],
    [4, '4th'],
    [11, '11th'],
    [12, '12th'],
    [13, '13th'],
    [21, '21st'],
    [112, '112th']
  ])('place %d is "%s"', (place, text) => {
    expect(ordinal(place)).toBe(text);
  });

  it('counts one and many', () => {
    expect(counted(1, 'kernel')).toBe('1 kernel');
    expect(counted(2, 'kernel')).toBe('2 kernels');
    expect(gigabytes(3.1 * 1024 ** 3)).toBe('3.1');
  });
});

describe('the session', () => {
  it('says what it has', () => {
    expect(holding(aState().session)).toBe('A100 slice 1/7');
    expect(
      holding(aSession({ count: 2, title: 'T4', simulated: true }).session)
    ).toBe('2 × T4 (simulated)');
    expect(holding(aSession({ title: '', count: 0 }).session)).toBe('CPU only');
  });

  it('says when and why it stops rather than when it ends', () => {
    const stopping = aSession({ stop_at: NOW + 540, stop_because: 'idle' });
    expect(endText(stopping.session, NOW)).toMatch(
      /^It stops at .*, in 9 min: nothing has used it for a while\.$/
    );
    expect(statusParts(stopping, NOW)).toContain('stops in 9 min');
    expect(endText(aState().session, NOW)).toMatch(/^It ends at .*, in 2 h\.$/);
    expect(endText(aSession({ ends_at: null }).session, NOW)).toBe(
      'It has no time limit.'
    );
  });

  it('shows a reason that it does not know as it is', () => {
    expect(reason('flood')).toBe('flood');
    expect(reason('constructor')).toBe('constructor');
  });

  it('says who pays', () => {
    expect(account('group:cms')).toBe('group cms');
    expect(account('user:someone')).toBe('you');
    expect(account('')).toBe('');
  });
});

describe('budgets', () => {
  it('shows the one of which the smallest part is left', () => {
    const wide = { ...WEEK, used_h: 30, limit_h: 400 };
    expect(tightest([wide, WEEK])).toBe(WEEK);
    expect(tightest([{ ...WEEK, limit_h: 0, used_h: 0 }, WEEK])?.limit_h).toBe(0);
    expect(tightest([])).toBeUndefined();
  });

  it('counts those that the session uses', () => {
    const every = { ...WEEK, field: 'hours:week' };
    const barred = { ...WEEK, field: 'hours:week:t4', used_h: 0, limit_h: 0 };
    const state = aState({ budgets: [barred, every, WEEK] });
    expect(concerning(state)).toEqual([every, WEEK]);
    expect(statusParts(state, NOW)).toContain('budget: 12.4 of 40 h left');
    expect(statusDetails(state, NOW)).toContain('12.4 h left');
    const cpu = { ...state, session: { ...state.session, accelerator: '' } };
    expect(concerning(cpu)).toEqual([every]);
  });

  it('says what is left, never less than nothing', () => {
    expect(budgetText(WEEK, NOW)).toBe('27.6 of 40 h used (69 %), 12.4 h left');
    expect(budgetText({ ...WEEK, used_h: 42 }, NOW)).toBe(
      '42 of 40 h used (105 %), 0 h left'
    );
    expect(budgetText({ ...WEEK, renews_at: NOW + 86400 }, NOW)).toMatch(
      /12\.4 h left; begins anew /
    );
  });

  it('says whose it is', () => {
    expect(budgetName(WEEK)).toBe('A100 hours of group cms, this week');
    expect(budgetName({ ...WEEK, whose: 'you', what: '' })).toBe(
      'your accelerator hours, this week'
    );
  });
});

describe('the status line', () => {
  it('has accelerator, time left, budget and place, in this order', () => {
    const state = aState({
      budgets: [WEEK],
      ticket: { id: 't', title: 'A100', place: 2, of: 3, text: '' }
    });
    expect(statusParts(state, NOW)).toEqual([
      'A100 slice 1/7',
      '2 h left',
      'budget: 12.4 of 40 h left',
      '2nd in line for A100'
    ]);
    expect(statusDetails(state, NOW)).toContain(
      'A100 hours of group cms, this week: 27.6 of 40 h used'
    );
  });

  it('names no place where there is none any more', () => {
    const ticket = { id: 't', title: 'A100', place: 0, of: 0, text: '' };
    expect(statusParts(aState({ ticket }), NOW)).toContain('switch to A100');
  });

  it('claims nothing before the service was heard', () => {
    expect(statusParts(aState({ as_of: null }), NOW)).toEqual([
      'nothing known yet'
    ]);
    expect(statusDetails(aState({ as_of: null }), NOW)).toMatch(
      /not been heard yet/
    );
  });

  it('leaves out what does not exist', () => {
    expect(statusParts(aSession({ ends_at: null }), NOW)).toEqual([
      'A100 slice 1/7'
    ]);
  });
});

it('says what the session uses, and nothing of what is not known', () => {
  const GB = 1024 ** 3;
  expect(
    measured({
      ...aState().here,
      cpu: 1.25,
      cpu_limit: 4,
      memory: 3 * GB,
      devices: [
        {
          name: 'A100',
          utilisation: 0.402,
          memory_used: 2 * GB,
          memory_total: 5 * GB
        },
        {
          name: '',
          utilisation: null,
          memory_used: null,
          memory_total: null
        }
      ]
    })
  ).toEqual([
    ['CPU', '1.3 of 4 cores in use'],
    ['Memory', '3 GB in use'],
    ['A100', '40 % busy, 2 of 5 GB in use'],
    ['Accelerator', 'not measured']
  ]);
  expect(measured(aState().here)).toEqual([]);
});

it.each([
  [{ kernels: 0, busy: 0, terminals: 0 }, ''],
  [
    { kernels: 1, busy: 0, terminals: 0 },
    '1 kernel ends then, and what it holds in memory is lost.'
  ],
  [
    { kernels: 2, busy: 1, terminals: 1 },
    '2 kernels (1 computing now) and 1 terminal end then, and what they hold in memory is lost.'
  ]
])('of %j it says "%s"', (running, text) => {
  expect(losses(running)).toBe(text);
});

describe('pages', () => {
  const HERE = 'https://hub.example.org/user/someone/lab';

  it('are those of the same site', () => {
    expect(pageAddress('/services/armillary/usage', HERE)).toBe(
      'https://hub.example.org/services/armillary/usage'
    );
  });

  it.each([
    'https://elsewhere.example.org/',
    '//elsewhere.example.org/',
    '/\\elsewhere.example.org/',
    'javascript:alert(1)',
    ''
  ])('%j is none', path => {
    expect(pageAddress(path, HERE)).toBeUndefined();
  });
});
