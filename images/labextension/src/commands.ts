/** The commands: in the File menu (schema/plugin.json), the palette, the panel and the notifications. */

import { Notification } from '@jupyterlab/apputils';
import { CommandRegistry } from '@lumino/commands';

import { Client, told } from './client';
import { SessionModel } from './model';

export const CommandIDs = {
  keep: 'armillary:keep',
  show: 'armillary:show',
  switch: 'armillary:switch',
  usage: 'armillary:usage'
} as const;

/** What is behind the commands. */
export interface ICommandParts {
  client: Client;
  model: SessionModel;
  switching: { ask: () => Promise<void> };
  /** Opens or closes the panel; null: there is no status bar. */
  toggle: (() => void) | null;
  /** Opens a page beside this one. */
  open: (path: string) => void;
}

const NO_ARGS = { args: { type: 'object', properties: {} } } as const;

export function addCommands(
  commands: CommandRegistry,
  parts: ICommandParts
): void {
  const { model } = parts;
  const known = () => model.state !== null;

  commands.addCommand(CommandIDs.switch, {
    label: 'Switch accelerator…',
    caption: 'Go on with another accelerator and the same files',
    describedBy: NO_ARGS,
    isVisible: known,
    isEnabled: known,
    execute: () => parts.switching.ask()
  });
  commands.addCommand(CommandIDs.keep, {
    label: 'Keep my session',
    caption: 'Do not stop this session because nothing uses it',
    describedBy: NO_ARGS,
    isVisible: known,
    isEnabled: () => model.state?.session.keep.possible ?? false,
    execute: () => keep(parts)
  });
  commands.addCommand(CommandIDs.usage, {
    label: 'My usage',
    caption: 'What I have used and what is left, in a new tab',
    describedBy: NO_ARGS,
    isVisible: () => Boolean(model.state?.links.usage),
    isEnabled: () => Boolean(model.state?.links.usage),
    execute: () => parts.open(model.state?.links.usage ?? '')
  });
  commands.addCommand(CommandIDs.show, {
    label: 'Show what this session has',
    describedBy: NO_ARGS,
    isVisible: () => known() && parts.toggle !== null,
    isEnabled: () => known() && parts.toggle !== null,
    // the click that asked for it must not close what it opens
    execute: () => void window.setTimeout(() => parts.toggle?.(), 0)
  });
}

/** Tell Armillary to keep the session, and the person what came of it. */
async function keep({ client, model }: ICommandParts): Promise<void> {
  try {
    const { text } = await client.keep();
    Notification.success(text, { autoClose: 10_000 });
  } catch (error) {
    Notification.error(told(error), { autoClose: false });
  }
  await model.refresh();
}

/** Leave the queue for another accelerator, and say so. */
export async function leaveQueue(
  client: Client,
  model: SessionModel
): Promise<void> {
  try {
    const { text } = await client.leaveQueue();
    Notification.info(text, { autoClose: 10_000 });
  } catch (error) {
    Notification.error(told(error), { autoClose: false });
  }
  await model.refresh();
}
