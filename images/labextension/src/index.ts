/** Puts the parts together when JupyterLab starts. */

import {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { IStatusBar } from '@jupyterlab/statusbar';

import { Client } from './client';
import { addCommands, CommandIDs, leaveQueue } from './commands';
import { Documents } from './documents';
import { Leaving } from './leaving';
import { SessionModel } from './model';
import { Notices } from './notices';
import { goToPage, openPage } from './pages';
import { Panel } from './panel';
import { StatusItem } from './status';
import { Switching } from './switching';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'armillary-lab:plugin',
  description:
    'Shows what a session of Armillary holds, for how long and at what cost.',
  autoStart: true,
  requires: [IDocumentManager],
  optional: [IStatusBar, ICommandPalette],
  activate
};

function activate(
  app: JupyterFrontEnd,
  documentManager: IDocumentManager,
  statusBar: IStatusBar | null,
  palette: ICommandPalette | null
): void {
  const { commands } = app;
  const client = new Client(app.serviceManager.serverSettings);
  const model = new SessionModel(client);
  const documents = new Documents(app, documentManager);
  const switching = new Switching(client, model, documents);
  const run = (id: string) => () => void commands.execute(id);

  const notices = new Notices(
    model,
    client,
    {
      keep: run(CommandIDs.keep),
      usage: run(CommandIDs.usage),
      read: run(CommandIDs.show)
    },
    window.sessionStorage
  );
  new Leaving(model, documents, goToPage);

  const item = new StatusItem(model, () => {
    // a dialog is not to open behind the panel
    const closing = (id: string) => () => {
      item.closePanel();
      void commands.execute(id);
    };
    return new Panel(model, {
      keep: run(CommandIDs.keep),
      switch: closing(CommandIDs.switch),
      usage: closing(CommandIDs.usage),
      leaveQueue: () => void leaveQueue(client, model),
      dismiss: id => notices.dismiss(id)
    });
  });
  statusBar?.registerStatusItem(plugin.id, {
    item,
    align: 'left',
    rank: 10,
    isActive: () => model.state !== null,
    activeStateChanged: model.stateChanged
  });

  addCommands(commands, {
    client,
    model,
    switching,
    toggle: statusBar ? () => item.toggle() : null,
    open: openPage
  });
  for (const command of Object.values(CommandIDs)) {
    palette?.addItem({ command, category: 'Session' });
  }
  model.stateChanged.connect(() => commands.notifyCommandChanged());

  // Later than what people wait for when JupyterLab opens.
  void app.restored.then(() => model.start());
}

export default plugin;
