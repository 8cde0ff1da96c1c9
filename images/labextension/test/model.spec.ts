import { OLD_AFTER_S } from '../src/model';
import { aState, NOW, Server, started } from './server';

describe('SessionModel', () => {
  it("counts by the server's clock, whatever the browser's says", async () => {
    const { model } = await started(new Server());
    expect(Math.abs(Date.now() / 1000 - NOW)).toBeGreaterThan(1000);
    expect(model.now - NOW).toBeGreaterThanOrEqual(0);
    expect(model.now - NOW).toBeLessThan(60);
    model.dispose();
  });

  it('tells of every answer', async () => {
    const server = new Server();
    const { model } = await started(server);
    let told = 0;
    model.stateChanged.connect(() => (told += 1));
    server.says('GET state', aState({ links: { usage: '/u', queue: '' } }));
    await model.refresh();
    expect(told).toBe(1);
    expect(model.state?.links.usage).toBe('/u');
    model.dispose();
  });

  it('keeps what it knew when nobody answers, and says so', async () => {
    const server = new Server();
    const { model } = await started(server);
    expect(model.problem).toBe('');
    server.does('GET state', () => Promise.reject(new TypeError('no network')));
    await model.refresh();
    expect(model.state).toEqual(aState());
    expect(model.problem).toMatch(/does not answer/);
    server.says('GET state', aState());
    await model.refresh();
    expect(model.problem).toBe('');
    model.dispose();
  });

  it.each([
    [{ problem: 'The service does not answer.' }, /service does not answer/],
    [{ as_of: null }, /not been heard/],
    [{ as_of: NOW - OLD_AFTER_S - 1 }, /not been heard/]
  ])('with %j it says that this is old', async (changes, words) => {
    const { model } = await started(new Server(aState(changes)));
    expect(model.problem).toMatch(words);
    model.dispose();
  });

  it('asks no more where Armillary is not', async () => {
    const server = new Server(null);
    const { model } = await started(server);
    expect(model.absent).toBe(true);
    expect(model.state).toBeNull();
    await model.refresh();
    expect(server.count('GET state')).toBe(1);
    model.dispose();
  });
});
