/** The form in which somebody picks what to switch to. */

import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { IChoice, IWanted } from './state';

/** What an accelerator's line says of how soon one would have it. */
export function soon(choice: IChoice): string {
  if (choice.current) {
    return 'this session has it';
  }
  if (choice.refused) {
    return choice.refused;
  }
  const parts: string[] = [];
  if (choice.free !== null) {
    const of = choice.total === null ? '' : ` of ${choice.total}`;
    parts.push(choice.free > 0 ? `${choice.free}${of} free` : 'none free now');
  } else if (choice.accelerator) {
    parts.push('nobody can tell now how many are free');
  }
  if (choice.ahead > 0) {
    parts.push(`queue: ${choice.ahead} ahead`);
  }
  if (choice.estimate) {
    parts.push(choice.estimate);
  }
  return parts.join(', ');
}

/** Whether it can be picked: one's own again only where another number of it may be had. */
export function open(choice: IChoice): boolean {
  return !choice.refused && (!choice.current || choice.most > 1);
}

/** A dialog's body; its value is what was picked, null where there is nothing to pick. */
export class ChoiceForm extends ReactWidget {
  constructor(
    private readonly _choices: readonly IChoice[],
    private readonly _warnings: readonly string[]
  ) {
    super();
    this.addClass('armillary-Choice');
    const first = _choices.find(each => open(each) && !each.current);
    this._value = first ? { accelerator: first.accelerator, count: 1 } : null;
  }

  getValue(): IWanted | null {
    return this._value;
  }

  protected render(): JSX.Element {
    const { _value: value } = this;
    const picked = this._choices.find(
      each => each.accelerator === value?.accelerator
    );
    return (
      <>
        <fieldset>
          <legend>Switch to</legend>
          {this._choices.map(each => this._line(each))}
        </fieldset>
        {picked && picked.most > 1 ? (
          <label className="armillary-Choice-count">
            How many{' '}
            <select
              value={value?.count}
              onChange={event =>
                this._pick(picked.accelerator, Number(event.target.value))
              }
            >
              {Array.from({ length: picked.most }, (_, i) => i + 1).map(n => (
                <option key={n} value={n}>
                  {n}
                </option>
              ))}
            </select>
          </label>
        ) : null}
        {value === null ? (
          <p>There is nothing else that this session could be switched to.</p>
        ) : (
          this._warnings.map((text, index) => <p key={index}>{text}</p>)
        )}
      </>
    );
  }

  private _line(choice: IChoice): JSX.Element {
    const name = `${choice.title || 'none, CPU only'}${choice.simulated ? ' (simulated)' : ''}`;
    const note = soon(choice);
    return (
      <label key={choice.accelerator} className="armillary-Choice-line">
        <input
          type="radio"
          name="armillary-accelerator"
          value={choice.accelerator}
          checked={this._value?.accelerator === choice.accelerator}
          disabled={!open(choice)}
          autoFocus={this._value?.accelerator === choice.accelerator}
          onChange={() => this._pick(choice.accelerator, 1)}
        />
        <span>
          {name}
          {note ? <span className="armillary-Choice-note"> {note}</span> : null}
        </span>
      </label>
    );
  }

  private _pick(accelerator: string, count: number): void {
    this._value = { accelerator, count };
    this.update();
  }

  private _value: IWanted | null;
}
