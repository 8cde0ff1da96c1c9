/** What is open and what runs: what a stop of the session would lose. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { DocumentRegistry } from '@jupyterlab/docregistry';

import { counted } from './words';

/** Kernels and terminals that run now. */
export interface IRunning {
  kernels: number;
  /** Of these, how many compute. */
  busy: number;
  terminals: number;
}

export class Documents {
  constructor(
    private readonly _app: Pick<JupyterFrontEnd, 'shell' | 'serviceManager'>,
    private readonly _manager: Pick<IDocumentManager, 'contextForWidget'>
  ) {}

  /** Documents with changes that are not in their files. */
  unsaved(): DocumentRegistry.Context[] {
    const found = new Set<DocumentRegistry.Context>();
    for (const area of ['main', 'left', 'right', 'down']) {
      for (const widget of this._app.shell.widgets(area)) {
        const context = this._manager.contextForWidget(widget);
        if (context?.model.dirty) {
          found.add(context);
        }
      }
    }
    return [...found];
  }

  /** Save them all. Returns the paths of those that could not be saved. */
  async save(): Promise<string[]> {
    const failed = await Promise.all(
      this.unsaved().map(async context => {
        try {
          await context.save();
        } catch (error) {
          console.warn(`armillary: ${context.path} could not be saved`, error);
        }
        // a save that the person calls off, or of a file that may not be written, raises nothing
        return context.model.dirty ? context.path : '';
      })
    );
    return failed.filter(path => path !== '').sort();
  }

  running(): IRunning {
    const { sessions, terminals } = this._app.serviceManager;
    const models = [...sessions.running()];
    return {
      kernels: models.length,
      busy: models.filter(each => each.kernel?.execution_state === 'busy')
        .length,
      terminals: [...terminals.running()].length
    };
  }
}

/** What ends with the session, as a sentence; empty: nothing does. */
export function losses({ kernels, busy, terminals }: IRunning): string {
  const parts: string[] = [];
  if (kernels > 0) {
    const computing = busy > 0 ? ` (${busy} computing now)` : '';
    parts.push(`${counted(kernels, 'kernel')}${computing}`);
  }
  if (terminals > 0) {
    parts.push(counted(terminals, 'terminal'));
  }
  if (parts.length === 0) {
    return '';
  }
  const one = kernels + terminals === 1;
  return `${parts.join(' and ')} ${one ? 'ends' : 'end'} then, and what ${one ? 'it holds' : 'they hold'} in memory is lost.`;
}
