/** The line in the status bar: accelerator, time left, budget; it opens the panel. */

import { showPopup } from '@jupyterlab/statusbar';
import { VDomRenderer } from '@jupyterlab/ui-components';
import { Widget } from '@lumino/widgets';
import * as React from 'react';

import { SessionModel } from './model';
import { statusDetails, statusParts } from './words';

/** Frames to wait for a popup to have its place; until then it is invisible and takes no focus. */
const FRAMES = 120;

function focusWhenShown(node: HTMLElement, frames = FRAMES): void {
  node.focus();
  if (frames > 0 && node.isConnected && document.activeElement !== node) {
    requestAnimationFrame(() => focusWhenShown(node, frames - 1));
  }
}

export class StatusItem extends VDomRenderer<SessionModel> {
  /**
   * @param makePanel - makes what the line opens; called each time, as a closed panel is disposed
   */
  constructor(
    model: SessionModel,
    private readonly _makePanel: () => Widget
  ) {
    super(model);
    this.addClass('armillary-Status');
  }

  /** Open the panel, or close it. */
  toggle(): void {
    if (this._panel !== null) {
      this._panel.dispose();
      return;
    }
    const body = this._makePanel();
    this._panel = showPopup({
      body,
      anchor: this,
      // it is moved to the left as far as it must be; the other way round it would be hidden where it does not fit
      align: 'left',
      hasDynamicSize: true
    });
    const { node } = this._panel;
    this._panel.disposed.connect(() => {
      this._panel = null;
      this.update();
      // it is told before the panel leaves the page
      const active = document.activeElement;
      if (active === document.body || node.contains(active)) {
        this.node.querySelector('button')?.focus();
      }
    });
    focusWhenShown(body.node);
    this.update();
  }

  closePanel(): void {
    this._panel?.dispose();
  }

  protected render(): JSX.Element | null {
    const { model } = this;
    if (!model?.state) {
      return null;
    }
    const { state, now, problem } = model;
    const stops = state.session.stop_at !== null;
    const classes = [
      'jp-StatusBar-TextItem',
      'armillary-Status-button',
      stops ? 'armillary-mod-warning' : '',
      problem ? 'armillary-mod-old' : ''
    ];
    return (
      <button
        type="button"
        className={classes.filter(Boolean).join(' ')}
        title={
          problem
            ? `${problem}\n${statusDetails(state, now)}`
            : statusDetails(state, now)
        }
        aria-haspopup="dialog"
        aria-expanded={this._panel !== null}
        onClick={() => this.toggle()}
      >
        <span className="armillary-unseen">Session: </span>
        {stops ? <span aria-hidden="true">⚠ </span> : null}
        {statusParts(state, now).join(' · ')}
        {problem ? ' · not up to date' : ''}
      </button>
    );
  }

  private _panel: Widget | null = null;
}
