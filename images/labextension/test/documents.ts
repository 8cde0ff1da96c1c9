/** Documents of which a test says whether they can be saved, and kernels that run. */

import { Documents } from '../src/documents';

export interface IDocument {
  path: string;
  dirty: boolean;
  /** What a save does; leaves it as it is unless it sets `dirty`. */
  save?: () => Promise<void>;
}

export interface IKernel {
  kernel: { execution_state: string } | null;
}

export class Desk {
  /** Paths in the order in which they were saved. */
  readonly saved: string[] = [];
  kernels: IKernel[] = [];
  terminals: unknown[] = [];

  constructor(readonly documents: IDocument[] = []) {}

  read(): Documents {
    const contexts = new Map(
      this.documents.map(each => [each, this._context(each)])
    );
    const app = {
      shell: {
        // the same document twice, as with two views of one notebook
        widgets: (area: string) =>
          area === 'main' ? [...this.documents, ...this.documents] : []
      },
      serviceManager: {
        sessions: { running: () => this.kernels },
        terminals: { running: () => this.terminals }
      }
    };
    const manager = {
      contextForWidget: (widget: unknown) => contexts.get(widget as IDocument)
    };
    return new Documents(app as never, manager as never);
  }

  private _context(document: IDocument): unknown {
    return {
      path: document.path,
      model: {
        get dirty() {
          return document.dirty;
        }
      },
      save: async () => {
        this.saved.push(document.path);
        await (document.save
          ? document.save()
          : Promise.resolve((document.dirty = false)));
      }
    };
  }
}
