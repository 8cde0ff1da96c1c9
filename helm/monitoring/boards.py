"""The dashboards about what people do: sessions, accelerators, queue, quotas, usage."""

from __future__ import annotations

from helm.monitoring.health import HEALTH
from helm.monitoring.model import Board, Panel, Query

__all__ = ["BOARDS", "quantiles"]


def quantiles(metric: str, *, by: str = "", only: str = "") -> tuple[Query, ...]:
    """Return the queries for half and for 95 % of what a histogram has seen."""
    labels = ", ".join(filter(None, ("le", by)))
    matchers = ",".join(filter(None, ("INSTALLATION", only)))
    shown = f" {{{{{by}}}}}" if by else ""
    return tuple(
        Query(
            f"histogram_quantile({part}, sum by ({labels}) (rate({metric}_bucket{{{matchers}}}[WINDOW])))", name + shown
        )
        for part, name in (("0.5", "half"), ("0.95", "95 %"))
    )


SESSIONS = Board(
    "sessions",
    "Armillary: sessions",
    "What runs, how starts end, why sessions are stopped.",
    (
        Panel(
            "Sessions by accelerator",
            "Sessions that run, as the ledger has them.",
            (Query("sum by (accelerator) (armillary_sessions{INSTALLATION})", "{{accelerator}}"),),
            stacked=True,
        ),
        Panel(
            "Sessions by profile",
            "The same, by what was picked in the form.",
            (Query("sum by (profile) (armillary_sessions{INSTALLATION})", "{{profile}}"),),
            stacked=True,
        ),
        Panel(
            "Starts by outcome",
            "How starts ended that the hub began. Refusals are below: they are no failures.",
            (
                Query(
                    "sum by (status) (increase(jupyterhub_server_spawn_duration_seconds_count{INSTALLATION}[WINDOW]))",
                    "{{status}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "How long a start takes",
            "From the hub's first step until the session answers.",
            quantiles("jupyterhub_server_spawn_duration_seconds", only='status="success"'),
            unit="s",
        ),
        Panel(
            "Refusals by code",
            "What people were told instead of a session; the reference of refusals explains each code.",
            (
                Query(
                    'sum by (code) (increase(armillary_decisions_total{INSTALLATION,answer="refused"}[WINDOW]))',
                    "{{code}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Stops by reason",
            "Sessions that the hub was asked to stop, and for what.",
            (Query("sum by (because) (increase(armillary_session_stops_total{INSTALLATION}[WINDOW]))", "{{because}}"),),
            stacked=True,
        ),
        Panel(
            "Held",
            "Granted and not begun, being started, running. Many that are granted: the hub does not start them.",
            (Query("sum by (state) (armillary_holds{INSTALLATION})", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Stops by outcome",
            "How the hub's own stops ended.",
            (
                Query(
                    "sum by (status) (increase(jupyterhub_server_stop_seconds_count{INSTALLATION}[WINDOW]))",
                    "{{status}}",
                ),
            ),
        ),
    ),
)

ACCELERATORS = Board(
    "accelerators",
    "Armillary: accelerators",
    "How many there are, who has them, and whether the counts may be believed.",
    (
        Panel(
            "Free",
            "As the form shows it. A gap: nobody could tell.",
            (Query('max by (accelerator) (armillary_accelerators{INSTALLATION,state="free"})', "{{accelerator}}"),),
        ),
        Panel(
            "In use",
            "By sessions of this installation and by others on the same cluster.",
            (
                Query(
                    'max by (accelerator, state) (armillary_accelerators{INSTALLATION,state=~"used_by_us|used_by_others"})',
                    "{{accelerator}} {{state}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Part in use",
            "Of all that there are.",
            (
                Query(
                    'sum by (accelerator) (max by (accelerator, state) (armillary_accelerators{INSTALLATION,state=~"used_by_us|used_by_others"}))'
                    ' / sum by (accelerator) (max by (accelerator, state) (armillary_accelerators{INSTALLATION,state="total"}))',
                    "{{accelerator}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Held back",
            "They exist and cannot be had: cordoned nodes, nodes that are not ready, broken devices.",
            (
                Query(
                    'max by (accelerator) (armillary_accelerators{INSTALLATION,state="held_back"})', "{{accelerator}}"
                ),
            ),
        ),
        Panel(
            "Largest request that fits",
            "On one node. Below the number of free ones they are spread over nodes, or short of cpu or memory.",
            (Query("max by (accelerator) (armillary_accelerators_largest{INSTALLATION})", "{{accelerator}}"),),
        ),
        Panel(
            "Age of the counts",
            "Some seconds while all is well.",
            (Query("max(armillary_capacity_age_seconds{INSTALLATION})", "age"),),
            unit="s",
        ),
        Panel(
            "Counts published",
            "About one in three seconds.",
            (
                Query(
                    "sum by (outcome) (rate(armillary_controller_publications_total{INSTALLATION}[WINDOW]))",
                    "{{outcome}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            "Watches that failed",
            "Lists and watches of the Kubernetes API that had to be begun again, in the hub and in the controller.",
            (Query("sum by (kind) (increase(armillary_reflector_failures_total{INSTALLATION}[WINDOW]))", "{{kind}}"),),
        ),
        Panel(
            "Full lists read",
            "More than a few after a start: watches cannot be resumed.",
            (Query("sum by (kind) (increase(armillary_reflector_lists_total{INSTALLATION}[WINDOW]))", "{{kind}}"),),
        ),
        Panel(
            "Changes taken over from the cluster",
            "Nodes and pods, all of the cluster.",
            (Query("sum(rate(armillary_controller_events_total{INSTALLATION}[WINDOW]))", "changes"),),
            unit="ops",
        ),
    ),
)

QUEUE = Board(
    "queue",
    "Armillary: queue",
    "Who waits for what, how long, and whether starts from the queue succeed.",
    (
        Panel(
            "Waiting",
            "Tickets by accelerator.",
            (Query('sum by (accelerator) (armillary_queue_tickets{INSTALLATION,state="waiting"})', "{{accelerator}}"),),
            stacked=True,
        ),
        Panel(
            "Longest wait now",
            "Of those who wait.",
            (Query("max(armillary_queue_oldest_seconds{INSTALLATION})", "longest"),),
            unit="s",
        ),
        Panel(
            "How long people had waited when their turn came", "", quantiles("armillary_queue_wait_seconds"), unit="s"
        ),
        Panel(
            "Start slots",
            "Taken at total for long: servers take too long to start.",
            (Query("sum by (state) (armillary_start_slots{INSTALLATION})", "{{state}}"),),
        ),
        Panel(
            "Turns that came",
            "Tickets for which was reserved.",
            (Query("sum(increase(armillary_promotions_total{INSTALLATION}[WINDOW]))", "turns"),),
        ),
        Panel(
            "Starts from the queue",
            "Whose login had ended keeps the place; all else that is not `ready` wants a look.",
            (Query("sum by (outcome) (increase(armillary_queue_starts_total{INSTALLATION}[WINDOW]))", "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Decisions",
            "Admitted, queued, refused; by the hub's own door and by the service.",
            (
                Query(
                    "sum by (door, answer) (increase(armillary_decisions_total{INSTALLATION}[WINDOW]))",
                    "{{door}} {{answer}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "How long a decision takes",
            "Its transaction and the wait for other writers included.",
            quantiles("armillary_decision_seconds", by="door"),
            unit="s",
        ),
        Panel(
            "Mails",
            "Notices to those whose session is up.",
            (Query("sum by (outcome) (increase(armillary_mails_total{INSTALLATION}[WINDOW]))", "{{outcome}}"),),
        ),
    ),
)

QUOTAS = Board(
    "quotas",
    "Armillary: quotas",
    "Where limits and budgets act.",
    (
        Panel(
            "Refused by a limit",
            "By code: `quota-…` a limit at once, `budget-spent` a budget of hours.",
            (
                Query(
                    'sum by (code) (increase(armillary_decisions_total{INSTALLATION,answer="refused",code=~"quota-.*|budget-spent|too-long"}[WINDOW]))',
                    "{{code}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Budgets in use",
            "Those that running sessions use: open, nearly used up (four fifths), spent.",
            (Query("sum by (state) (armillary_budgets{INSTALLATION})", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Sessions that a limit ended",
            "By a budget that was used up, or a session's longest time.",
            (
                Query(
                    'sum by (because) (increase(armillary_session_stops_total{INSTALLATION,because=~"budget|limit"}[WINDOW]))',
                    "{{because}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Part of requests that are refused",
            "All codes, both doors.",
            (
                Query(
                    'sum(rate(armillary_decisions_total{INSTALLATION,answer="refused"}[WINDOW]))'
                    " / sum(rate(armillary_decisions_total{INSTALLATION}[WINDOW]))",
                    "refused",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Audit trail",
            "Entries so far: changes of quotas, tickets and sessions by administrators, repairs, copies.",
            (Query("max(armillary_audit_entries{INSTALLATION})", "entries"),),
        ),
    ),
)

USAGE = Board(
    "usage",
    "Armillary: usage",
    "What is charged, and whether it can be.",
    (
        Panel(
            "Cards that are charged for",
            "Whole cards: a session with a seventh of a card counts a seventh.",
            (Query("sum by (accelerator) (armillary_usage_cards{INSTALLATION})", "{{accelerator}}"),),
            stacked=True,
        ),
        Panel(
            "Card-hours of the last day",
            "Minute by minute. The ledger has the exact sums: *My usage*, and `armillary usage`.",
            (
                Query(
                    "sum by (accelerator) (sum_over_time(armillary_usage_cards{INSTALLATION}[24h:1m])) / 60",
                    "{{accelerator}}",
                ),
            ),
            unit="h",
        ),
        Panel(
            "Sessions charged",
            "By the last heartbeat of the ledger; and its rows that are open.",
            (
                Query("sum(armillary_ledger_sessions{INSTALLATION})", "charged"),
                Query("sum(armillary_ledger_open_rows{INSTALLATION})", "open rows"),
            ),
        ),
        Panel(
            "Oldest heartbeat",
            "Of sessions that run. Above 30 s something is not charged.",
            (Query("max(armillary_ledger_oldest_heartbeat_seconds{INSTALLATION})", "oldest"),),
            unit="s",
        ),
        Panel(
            "Heartbeats",
            "",
            (
                Query(
                    "sum by (outcome) (increase(armillary_ledger_heartbeats_total{INSTALLATION}[WINDOW]))",
                    "{{outcome}}",
                ),
            ),
        ),
        Panel("How long a heartbeat takes", "", quantiles("armillary_ledger_heartbeat_seconds"), unit="s"),
    ),
)

BOARDS: tuple[Board, ...] = (SESSIONS, ACCELERATORS, QUEUE, QUOTAS, USAGE, HEALTH)
