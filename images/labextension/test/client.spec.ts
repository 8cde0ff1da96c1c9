import { ServerConnection } from '@jupyterlab/services';

import { Client, Problem, told } from '../src/client';
import { aState, Server } from './server';

describe('Client', () => {
  it('asks for the state without counting as work', async () => {
    const server = new Server();
    expect(await new Client(server.settings).state()).toEqual(aState());
    expect(server.asked).toEqual(['GET state?no_track_activity=1']);
  });

  it('takes 404 for a server that Armillary did not start', async () => {
    const server = new Server(null);
    expect(await new Client(server.settings).state()).toBeNull();
  });

  it('sends what was chosen', async () => {
    const server = new Server();
    server.says('POST switch', { outcome: 'waiting', text: '1st in line.' });
    const client = new Client(server.settings);
    await client.switchTo({ accelerator: 't4', count: 2 });
    expect(server.asked).toEqual(['POST switch {"accelerator":"t4","count":2}']);
  });

  it('escapes what it puts into a path', async () => {
    const server = new Server();
    server.says('DELETE notices/..%2Fkeep', null, 204);
    await new Client(server.settings).dismiss('../keep');
    expect(server.asked).toEqual(['DELETE notices/..%2Fkeep']);
  });

  it('raises a refusal with its code and its text', async () => {
    const server = new Server();
    const detail = 'Your session was kept 3 times, which is the most.';
    server.says('POST keep', { code: 'kept-enough', detail }, 409);
    const error = await new Client(server.settings)
      .keep()
      .catch((error: unknown) => error);
    expect(error).toBeInstanceOf(Problem);
    expect(error).toMatchObject({
      status: 409,
      code: 'kept-enough',
      message: detail
    });
  });

  it('makes a sentence of an answer that is not ours', async () => {
    const server = new Server();
    server.does(
      'POST keep',
      () =>
        new Response('<html>', { status: 502, statusText: 'Bad Gateway' })
    );
    await expect(new Client(server.settings).keep()).rejects.toThrow(
      'The session answered 502 Bad Gateway.'
    );
  });

  it('says in plain words that nobody answers', () => {
    const error = new ServerConnection.NetworkError(new TypeError('x'));
    expect(told(error)).toMatch(/^The session does not answer/);
  });
});
