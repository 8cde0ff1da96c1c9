/** What the line in the status bar opens: all that is known of the session, and what can be done about it. */

import { VDomRenderer } from '@jupyterlab/ui-components';
import * as React from 'react';

import { SessionModel } from './model';
import { IBudget, INotice, IState, ITicket } from './state';
import {
  account,
  budgetName,
  budgetText,
  clockWithSeconds,
  counted,
  endText,
  holding,
  measured,
  ticketPlace,
  zone
} from './words';

/** What its buttons do. */
export interface IPanelActions {
  keep: () => void;
  switch: () => void;
  usage: () => void;
  leaveQueue: () => void;
  dismiss: (notice: string) => void;
}

export class Panel extends VDomRenderer<SessionModel> {
  constructor(
    model: SessionModel,
    private readonly _actions: IPanelActions
  ) {
    super(model);
    this.addClass('armillary-Panel');
    this.node.tabIndex = -1;
    this.node.setAttribute('role', 'dialog');
    this.node.setAttribute('aria-label', 'This session');
  }

  protected render(): JSX.Element | null {
    const { model } = this;
    if (!model?.state) {
      return null;
    }
    const { state, now } = model;
    return (
      <>
        <Session state={state} now={now} />
        {state.ticket ? (
          <Waiting ticket={state.ticket} leave={this._actions.leaveQueue} />
        ) : null}
        <Budgets budgets={state.budgets} now={now} />
        <Told notices={state.notices} dismiss={this._actions.dismiss} />
        <Buttons state={state} actions={this._actions} />
        <p className="armillary-Panel-age" title={zone()}>
          {state.as_of === null
            ? 'The service has not been heard yet.'
            : `As of ${clockWithSeconds(state.as_of)}.`}
          {model.problem ? ` Not up to date: ${model.problem}` : ''}
        </p>
      </>
    );
  }
}

function Session({ state, now }: { state: IState; now: number }): JSX.Element {
  const { session } = state;
  const heard = state.as_of !== null;
  const rows: [string, string][] = [
    ['Started', session.profile],
    ['Accelerator', heard ? holding(session) : ''],
    ['Charged to', account(session.account)],
    ...measured(state.here)
  ];
  return (
    <section>
      <h2>This session</h2>
      {heard ? (
        <p
        className={session.stop_at === null ? undefined : 'armillary-mod-warning'}
        title={zone()}
      >
        {endText(session, now)}
      </p>
      ) : null}
      <dl>
        {rows
          .filter(([, value]) => value !== '')
          .map(([name, value], index) => (
            <div key={index}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
    </section>
  );
}

function Waiting(props: { ticket: ITicket; leave: () => void }): JSX.Element {
  const { ticket } = props;
  return (
    <section>
      <h2>Switch</h2>
      <p>
        {ticketPlace(ticket)}
        {ticket.of > 1 ? ` (${ticket.of} wait)` : ''}.{' '}
        {ticket.text}
      </p>
      <button type="button" className="jp-Button" onClick={props.leave}>
        Leave the queue
      </button>
    </section>
  );
}

function Budgets(props: {
  budgets: readonly IBudget[];
  now: number;
}): JSX.Element | null {
  if (props.budgets.length === 0) {
    return null;
  }
  return (
    <section>
      <h2>Budgets</h2>
      <ul title={zone()}>
        {props.budgets.map((budget, index) => (
          <li key={index}>
            <span className="armillary-Panel-budget">{budgetName(budget)}</span>
            <Bar budget={budget} />
            <span>{budgetText(budget, props.now)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** A picture of what the text beside it says. */
function Bar({ budget }: { budget: IBudget }): JSX.Element {
  const part = budget.limit_h > 0 ? budget.used_h / budget.limit_h : 1;
  return (
    <span className="armillary-Panel-bar" aria-hidden="true">
      <span style={{ width: `${100 * Math.min(1, Math.max(0, part))}%` }} />
    </span>
  );
}

const LEVELS: Readonly<Record<string, string>> = {
  warning: 'Warning: ',
  danger: 'Important: '
};

function Told(props: {
  notices: readonly INotice[];
  dismiss: (id: string) => void;
}): JSX.Element | null {
  if (props.notices.length === 0) {
    return null;
  }
  return (
    <section>
      <h2>{counted(props.notices.length, 'notice')}</h2>
      <ul>
        {props.notices.map(notice => (
          <li key={notice.id} className="armillary-Panel-notice">
            <span>
              <strong>{LEVELS[notice.level] ?? ''}</strong>
              {notice.text}
            </span>
            <button
              type="button"
              className="jp-Button"
              aria-label={`Dismiss: ${notice.text}`}
              onClick={() => props.dismiss(notice.id)}
            >
              Dismiss
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Buttons(props: {
  state: IState;
  actions: IPanelActions;
}): JSX.Element {
  const { state, actions } = props;
  const { keep } = state.session;
  return (
    <div className="armillary-Panel-buttons">
      {keep.possible ? (
        <button
          type="button"
          className="jp-Button armillary-mod-accept"
          title={keep.left === null ? undefined : `${counted(keep.left, 'time')} more`}
          onClick={actions.keep}
        >
          Keep my session
        </button>
      ) : null}
      <button type="button" className="jp-Button" onClick={actions.switch}>
        Switch accelerator…
      </button>
      {state.links.usage ? (
        <button type="button" className="jp-Button" onClick={actions.usage}>
          My usage
        </button>
      ) : null}
    </div>
  );
}
