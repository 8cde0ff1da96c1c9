/** *Switch accelerator*: ask which, save what is open, then ask Armillary. */

import {
  Dialog,
  Notification,
  showDialog,
  showErrorMessage
} from '@jupyterlab/apputils';

import { ChoiceForm } from './choice';
import { Client, told } from './client';
import { Documents, losses } from './documents';
import { SessionModel } from './model';
import { IChoice, IWanted } from './state';
import { counted } from './words';

const FAILED = 'The accelerator cannot be switched';

export class Switching {
  constructor(
    private readonly _client: Client,
    private readonly _model: SessionModel,
    private readonly _documents: Documents
  ) {}

  /** The whole way, from the list to the answer. */
  async ask(): Promise<void> {
    try {
      const { choices } = await this._client.choices();
      const wanted = await this._choose(choices);
      if (wanted !== null && (await this._saved())) {
        await this._send(wanted);
      }
    } catch (error) {
      await showErrorMessage(FAILED, told(error));
    }
  }

  /** What is said before somebody switches. */
  warnings(): string[] {
    const unsaved = this._documents.unsaved().length;
    const lost = losses(this._documents.running());
    return [
      'Your session goes on until the other accelerator is yours; then it is stopped and starts again with the same files.',
      lost,
      unsaved > 0
        ? `${counted(unsaved, 'document')} with unsaved changes will be saved first.`
        : ''
    ].filter(text => text !== '');
  }

  private async _choose(choices: readonly IChoice[]): Promise<IWanted | null> {
    const body = new ChoiceForm(choices, this.warnings());
    const possible = body.getValue() !== null;
    const answer = await showDialog({
      title: 'Switch accelerator',
      body,
      focusNodeSelector: 'input:checked',
      buttons: possible
        ? [Dialog.cancelButton(), Dialog.okButton({ label: 'Switch' })]
        : [Dialog.cancelButton({ label: 'Close' })]
    });
    return possible && answer.button.accept ? answer.value : null;
  }

  private async _saved(): Promise<boolean> {
    const failed = await this._documents.save();
    if (failed.length === 0) {
      return true;
    }
    const answer = await showDialog({
      title: 'Not everything is saved',
      body: `These have changes that could not be saved, and that are lost when the session switches: ${failed.join(', ')}`,
      buttons: [
        Dialog.cancelButton({ label: 'Do not switch' }),
        Dialog.warnButton({ label: 'Switch and lose the changes' })
      ]
    });
    return answer.button.accept;
  }

  private async _send(wanted: IWanted): Promise<void> {
    const { text } = await this._client.switchTo(wanted);
    Notification.info(text, { autoClose: 15_000 });
    await this._model.refresh();
  }
}
