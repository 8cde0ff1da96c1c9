"""The alerts, each with what to do: from here come the rules that Prometheus reads and the runbook pages.

An alert is about something that a person should do now or today. What needs nobody is in the dashboards only. `after`
is how long it must last; the chart's value `monitoring.alerts.after` changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ALERTS", "Alert"]


@dataclass(frozen=True)
class Alert:
    """One alert.

    Parameters
    ----------
    query
        True while something is wrong; `INSTALLATION` stands for the installation's label.
    after
        How long it must be true, as Prometheus writes it.
    summary
        One sentence, for the message.
    meaning
        What people notice of it.
    causes
        What it was, as a rule; the likeliest first.
    todo
        What to look at and to do, in order; code in backquotes.
    """

    name: str
    severity: Literal["critical", "warning"]
    query: str
    after: str
    summary: str
    meaning: str
    causes: tuple[str, ...]
    todo: tuple[str, ...]

    @property
    def page(self) -> str:
        """Name of its runbook page: `alert-hub-down` of `ArmillaryHubDown`."""
        words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in self.name)
        return f"alert{words.removeprefix('-armillary')}"


_LOGS = "The logs: `kubectl logs deploy/RELEASE-{part}`, on one machine `logs/{log}.log` in `state_dir`."

ALERTS: tuple[Alert, ...] = (
    Alert(
        "ArmillaryHubDown",
        "critical",
        'absent(up{INSTALLATION,component="hub"} == 1)',
        "2m",
        "The hub does not answer.",
        "Nobody can log in, start or stop a session. Sessions that run go on, and stay reachable.",
        (
            "The hub's pod cannot be placed, or its image cannot be pulled.",
            "It does not come up: its settings are refused, or its database is away.",
            "It hangs: its probes restart it after two minutes.",
            "Prometheus may not reach it: a NetworkPolicy, or a token that was changed.",
        ),
        (
            "See how the hub is: `kubectl get pods`, `kubectl describe deploy/RELEASE-hub`; on one machine what `armillary run` prints.",
            _LOGS.format(part="hub", log="hub"),
            "Ask it yourself: `curl -i https://…/hub/health`. If that is 200, look at the target's error on Prometheus' own page.",
            "A refused setting is named with its file and the legal values; mend it, and upgrade again.",
        ),
    ),
    Alert(
        "ArmillaryServiceDown",
        "critical",
        'absent(up{INSTALLATION,component="service"} == 1)',
        "2m",
        "No replica of the service answers.",
        "Forms show no live counts, the pages of queue and usage do not open, and nobody gets a place by the form. "
        "On one machine, where the controller is in the same process, nothing is charged and no turn comes, too.",
        (
            "The database is away, or has not the tables that this version needs.",
            "The pods cannot be placed.",
            "Prometheus may not reach it: a NetworkPolicy, or a token that was changed.",
        ),
        (
            "See how it is: `kubectl get pods -l app.kubernetes.io/component=service`.",
            _LOGS.format(part="service", log="service"),
            "`armillary db check` says whether the tables are right, and what to do.",
        ),
    ),
    Alert(
        "ArmillaryNobodyLeads",
        "critical",
        "(sum(armillary_controller_leading{INSTALLATION}) or vector(0)) < 1",
        "2m",
        "No controller acts.",
        "Nothing is counted, nobody is started from the queue, sessions are neither charged nor stopped when idle. "
        "Sessions that run are not touched.",
        (
            "No controller runs: `kubectl get pods -l app.kubernetes.io/component=controller`.",
            "The database does not answer, so that nobody can take the lease.",
            "Clocks do not matter here: the lease goes by the database's clock.",
        ),
        (
            _LOGS.format(part="controller", log="service"),
            "`armillary db check`.",
            "One that was killed is followed by another within 15 s; if it is not, restart one: it loses nothing.",
        ),
    ),
    Alert(
        "ArmillaryCountsOld",
        "warning",
        "min(armillary_capacity_fresh{INSTALLATION}) < 1",
        "2m",
        "Nobody knows how many accelerators are free.",
        "Forms show no numbers; on one machine nobody gets an accelerator, in a cluster whoever asks waits.",
        (
            "The controller cannot write into the database.",
            "It cannot see the cluster: then ArmillaryBlind is there, too.",
            "No controller acts: then ArmillaryNobodyLeads is there, too.",
        ),
        (
            "`/services/armillary/health` says since when.",
            _LOGS.format(part="controller", log="service"),
            "Look at the panel *Counts published* of the dashboard of accelerators: `failed` means the database.",
        ),
    ),
    Alert(
        "ArmillaryBlind",
        "warning",
        "max(armillary_controller_blind{INSTALLATION}) > 0",
        "5m",
        "The controller that acts does not see the cluster, or the machine's cards.",
        "Nothing is counted as free, and no turn comes, until it sees again. What runs is kept.",
        (
            "The Kubernetes API does not answer, or refuses: the role of the controller lacks a right.",
            "On one machine: NVIDIA's driver does not answer.",
        ),
        (
            _LOGS.format(part="controller", log="service"),
            "`kubectl auth can-i list nodes --as=system:serviceaccount:NAMESPACE:RELEASE-controller`, and the same for pods.",
            "On one machine `nvidia-smi`.",
        ),
    ),
    Alert(
        "ArmillaryLedgerBehind",
        "critical",
        "max(armillary_ledger_oldest_heartbeat_seconds{INSTALLATION}) > 60",
        "2m",
        "Sessions run that are not charged.",
        "Budgets do not end what they should end. What is written later catches up, unless the controller is restarted "
        "while it cannot write: then up to 30 s of each session are lost.",
        (
            "The database takes no writes: its disk is full, or somebody holds a lock.",
            "The controller is blind: what it does not see it does not charge.",
        ),
        (
            "The panel *Heartbeats* of the dashboard of usage: `failed` means the database.",
            "PostgreSQL: `SELECT * FROM pg_stat_activity WHERE wait_event_type = 'Lock'`; room on the disk; its log.",
            "SQLite: another program holds `armillary.sqlite` open for writing; end it.",
        ),
    ),
    Alert(
        "ArmillaryDecisionsSlow",
        "warning",
        "histogram_quantile(0.95, sum by (le) (rate(armillary_decision_seconds_bucket{INSTALLATION}[5m]))) > 2.5",
        "5m",
        "One decision in twenty takes longer than 2.5 s.",
        "Whoever presses *Start* waits before anything happens.",
        (
            "Writers wait for one another: the database is slow, or a long transaction holds its lock.",
            "Too many ask at once for the cores that the database has.",
        ),
        (
            "The panel *How long a decision takes* of the dashboard of the queue: since when, and by which door.",
            "Load and latency of the database's disk. SQLite bears some tens of people who start at once, PostgreSQL hundreds.",
        ),
    ),
    Alert(
        "ArmillaryStartsFail",
        "critical",
        'sum(increase(jupyterhub_server_spawn_duration_seconds_count{INSTALLATION,status=~"error|failure",reason=~"|exited|image-.*|home.*|volume|init-failed|cannot-start|start-timeout|not-set-up|no-uids?|claim-.*|no-claims|leftover|crashed|ended|killed"}[15m])) > 3',
        "5m",
        "Sessions fail to start.",
        "People see a failed start instead of their session. Refusals are not counted here.",
        (
            "An image cannot be pulled, or does not begin to serve in `servers.start_timeout_s`.",
            "Homes cannot be mounted.",
            "Nodes are lost while sessions start on them.",
        ),
        (
            _LOGS.format(part="hub", log="hub") + " Each failed start is there with its cause.",
            "Start the same profile yourself: the page of progress says what Kubernetes says.",
            "`kubectl get events -n USERS-NAMESPACE --sort-by=.lastTimestamp`.",
        ),
    ),
    Alert(
        "ArmillaryQueueStartsFail",
        "warning",
        'sum(increase(armillary_queue_starts_total{INSTALLATION,outcome=~"failed|away"}[15m])) > 2',
        "5m",
        "Starts from the queue fail.",
        "People whose turn has come do not get their session. They keep their place for some attempts, and then read why.",
        (
            "As for ArmillaryStartsFail.",
            "`away`: the controller does not reach the hub, by network or because its token was changed.",
        ),
        (
            "The panel *Starts from the queue* tells `failed` from `away`.",
            _LOGS.format(part="controller", log="service"),
            "For `away`: `service.api_token_file` of hub and controller must be the same, and a NetworkPolicy must let it through.",
        ),
    ),
    Alert(
        "ArmillaryQueueLong",
        "warning",
        "max(armillary_queue_oldest_seconds{INSTALLATION}) > 4 * 3600",
        "15m",
        "Somebody has waited for an accelerator for more than four hours.",
        "More is asked for than there is, or what there is does not become free.",
        (
            "Demand: all are in use, by sessions that work.",
            "Sessions that do nothing are kept: limits of idle time are missing or long.",
            "Devices are held back: cordoned nodes, nodes that are not ready.",
        ),
        (
            "The dashboard of accelerators: in use, or held back?",
            "The page *Administration* of the queue: who waits for what, and why.",
            "`idle.limits` in the settings, or quotas of accelerators at once.",
        ),
    ),
    Alert(
        "ArmillaryServiceErrors",
        "warning",
        'sum(increase(armillary_service_answers_total{INSTALLATION,status=~"5.."}[10m])) > 5',
        "5m",
        "The service answers with errors of its own.",
        "Pages and programs are told to come back later (503), or met a mistake of ours (500).",
        (
            "503: the database or the hub does not answer in time.",
            "503: more live pages are open than `service.live_limit`.",
            "500: a fault in Armillary.",
        ),
        (
            _LOGS.format(part="service", log="service") + " Each has the id that the person was shown.",
            'By path: `sum by (path, status) (increase(armillary_service_answers_total{status=~"5.."}[1h]))`.',
            "A 500 is worth a report, with the lines of the log.",
        ),
    ),
    Alert(
        "ArmillaryHubAway",
        "warning",
        "min(armillary_service_hub_away{INSTALLATION}) > 0",
        "5m",
        "The service does not reach the hub.",
        "Nobody can log in to the service's pages, and nobody is started from the queue.",
        (
            "The hub is down: then ArmillaryHubDown is there, too.",
            "It is up, and the network between them is not: a NetworkPolicy, DNS, `hub.connect_url`.",
        ),
        (
            "From a pod of the service: `curl -i http://RELEASE-hub.NAMESPACE.svc:8081/hub/health`.",
            _LOGS.format(part="service", log="service"),
        ),
    ),
    Alert(
        "ArmillaryHubSlow",
        "warning",
        "sum(increase(jupyterhub_event_loop_interval_seconds_count{INSTALLATION}[10m]))"
        ' - sum(increase(jupyterhub_event_loop_interval_seconds_bucket{INSTALLATION,le="1.0"}[10m])) > 5',
        "10m",
        "The hub hangs for more than a second, again and again.",
        "Every page of the hub is slow, and sessions may lose contact while they start.",
        (
            "Too little cpu: `hub.resources`, or a node that is too full.",
            "Very many start at once: `hub.concurrent_starts`.",
            "Configuration of your own that blocks (`hub.extraConfig`): calls without `await`.",
        ),
        (
            "The panels *Cores in use* and *Memory* of the dashboard of health: at its limit?",
            "`kubectl top pod`, and the throttling of its cpu.",
            "Take your own configuration out for a while.",
        ),
    ),
    Alert(
        "ArmillaryLoginsFail",
        "critical",
        'sum(increase(armillary_logins_total{INSTALLATION,outcome=~"provider|failed"}[10m])) > 2',
        "2m",
        "People cannot log in: the login provider does not answer, or wrongly.",
        "Who is logged in stays so for `login.outage_grace_s`; nobody else gets in.",
        (
            "The provider is down, or answers too slowly (`login.timeout_s`).",
            "Its certificate has expired, or is signed by an authority that the hub does not know (`login.ca_file`).",
            "The hub's secret there was changed, or has expired.",
        ),
        (
            _LOGS.format(part="hub", log="hub") + " Each failed login is there with what the provider said.",
            "From the hub's pod: `curl -i ISSUER/.well-known/openid-configuration`.",
        ),
    ),
    Alert(
        "ArmillaryMailsFail",
        "warning",
        'sum(increase(armillary_mails_total{INSTALLATION,outcome="failed"}[1h])) > 0',
        "1m",
        "Notices by e-mail cannot be sent.",
        "People are not told that their session is up; the pages tell it all the same.",
        ("The mail server refuses, or is not reached: `queue.mail`.", "Its password has changed."),
        (
            _LOGS.format(part="controller", log="service") + " What the mail server said is there.",
            "A NetworkPolicy of your own must let the controller and the service through to it.",
        ),
    ),
    Alert(
        "ArmillaryBackupOld",
        "warning",
        "min(armillary_backup_age_seconds{INSTALLATION}) > 2 * 86400",
        "1h",
        "The newest copy of the installation is older than two days.",
        "Nothing yet. A restore would lose what has happened since.",
        (
            "The CronJob fails: its volume is full, or the databases cannot be read.",
            "It was switched off (`backup.schedule`), after copies had been made.",
        ),
        (
            "`kubectl get jobs -l app.kubernetes.io/component=backup`, and the log of the last one.",
            "Make one now: `armillary backup create`.",
        ),
    ),
    Alert(
        "ArmillaryHomesFull",
        "critical",
        'min(armillary_homes_bytes{INSTALLATION,state="free"} / ignoring(state) armillary_homes_bytes{INSTALLATION,state="total"}) < 0.05',
        "10m",
        "Less than 5 % of the room for homes is left.",
        "Soon nobody can save a file, and sessions fail to start. On one machine only; in a cluster homes are claims.",
        ("Large files in one home.", "Logs or copies on the same file system."),
        (
            "Who has how much: `du -xsh HOMES/*`.",
            "`df` of the file system: it may be shared with `state_dir`.",
        ),
    ),
    Alert(
        "ArmillaryWatchFails",
        "warning",
        "sum(increase(armillary_reflector_failures_total{INSTALLATION}[10m])) > 5",
        "5m",
        "Hub or controller lose sight of the cluster again and again.",
        "States of sessions come late; a start may look as if it hung.",
        (
            "The Kubernetes API is overloaded or restarted.",
            "A right is missing: `rbac.create`, or roles of your own.",
            "Something between them ends long connections.",
        ),
        (
            _LOGS.format(part="hub", log="hub") + " Look for `Watching … failed`.",
            "`kubectl auth can-i --list --as=system:serviceaccount:NAMESPACE:RELEASE-hub -n USERS-NAMESPACE`.",
        ),
    ),
)
