"""The dashboard about the installation itself: hub, service, controller, database, login provider."""

from __future__ import annotations

from helm.monitoring.model import Board, Panel, Query

__all__ = ["HEALTH"]


def _late(metric: str, by: str, *, part: str = "0.95", only: str = "") -> Query:
    labels = ", ".join(filter(None, ("le", by)))
    matchers = ",".join(filter(None, ("INSTALLATION", only)))
    text = f"histogram_quantile({part}, sum by ({labels}) (rate({metric}_bucket{{{matchers}}}[WINDOW])))"
    return Query(text, f"{{{{{by}}}}}" if by else "hub")


HEALTH = Board(
    "health",
    "Armillary: hub health",
    "Whether everything answers, and how quickly.",
    (
        Panel(
            "Up",
            "Processes that answer, by component.",
            (Query("sum by (component) (up{INSTALLATION})", "{{component}}"),),
            single=True,
        ),
        Panel(
            "Controllers that act",
            "One. The others stand by.",
            (Query("sum(armillary_controller_leading{INSTALLATION})", "leading"),),
            single=True,
        ),
        Panel(
            "Counts may be believed",
            "1: yes.",
            (Query("min(armillary_capacity_fresh{INSTALLATION})", "fresh"),),
            single=True,
        ),
        Panel(
            "Newest copy",
            "Age of the newest backup that was made and checked.",
            (Query("max(armillary_backup_age_seconds{INSTALLATION})", "age"),),
            unit="s",
            single=True,
        ),
        Panel(
            "Hub: requests",
            "By HTTP status.",
            (
                Query(
                    "sum by (code) (rate(jupyterhub_request_duration_seconds_count{INSTALLATION}[WINDOW]))", "{{code}}"
                ),
            ),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Hub: delay of its event loop",
            "99 % of the time it is less. Some tenths of a second: everybody notices.",
            (_late("jupyterhub_event_loop_interval_seconds", "", part="0.99"),),
            unit="s",
        ),
        Panel(
            "Hub: routes",
            "95 % of additions, removals and whole checks take less.",
            (
                Query(_late("jupyterhub_proxy_add_duration_seconds", "").text, "added"),
                Query(_late("jupyterhub_proxy_delete_duration_seconds", "").text, "removed"),
                Query(_late("jupyterhub_check_routes_duration_seconds", "").text, "all checked"),
            ),
            unit="s",
        ),
        Panel(
            "People",
            "Active within a day, a week, a month.",
            (Query("sum by (period) (jupyterhub_active_users{INSTALLATION})", "{{period}}"),),
        ),
        Panel(
            "Logins",
            "`provider`: the login provider did not answer, or wrongly.",
            (Query("sum by (outcome) (increase(armillary_logins_total{INSTALLATION}[WINDOW]))", "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Groups looked at again",
            "`ended`: the person must log in again.",
            (Query("sum by (outcome) (increase(armillary_login_checks_total{INSTALLATION}[WINDOW]))", "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Service: answers",
            "By HTTP status.",
            (Query("sum by (status) (rate(armillary_service_answers_total{INSTALLATION}[WINDOW]))", "{{status}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Service: time to answer",
            "95 % take less.",
            (Query(_late("armillary_service_seconds", "").text, "service"),),
            unit="s",
        ),
        Panel(
            "Service: live pages",
            "Pages that are kept up to date, and how many there may be.",
            (
                Query("sum(armillary_service_live_pages{INSTALLATION})", "open"),
                Query("sum(armillary_service_live_pages_limit{INSTALLATION})", "at most"),
            ),
        ),
        Panel(
            "Service: questions to the hub",
            "",
            (Query("sum(rate(armillary_service_hub_questions{INSTALLATION}[WINDOW]))", "questions"),),
            unit="reqps",
        ),
        Panel(
            "Controller: delay of its event loop",
            "",
            (Query(_late("armillary_controller_loop_lag_seconds", "", part="0.99").text, "99 %"),),
            unit="s",
        ),
        Panel(
            "Repairs",
            "By the reconciler. Now and then one after a node or a process died; many want a look at the log.",
            (Query("sum by (kind) (increase(armillary_reconciler_repairs_total{INSTALLATION}[WINDOW]))", "{{kind}}"),),
            stacked=True,
        ),
        Panel(
            "Findings",
            "What the reconciler's last look found; most of it is over at the next.",
            (Query("sum by (kind) (armillary_reconciler_findings{INSTALLATION})", "{{kind}}"),),
            stacked=True,
        ),
        Panel(
            "Sessions whose state was not told",
            "Kubernetes did not answer; they are taken for running.",
            (Query("sum(increase(armillary_polls_unknown_total{INSTALLATION}[WINDOW]))", "looks"),),
        ),
        Panel(
            "Memory",
            "",
            (Query("sum by (component) (process_resident_memory_bytes{INSTALLATION})", "{{component}}"),),
            unit="bytes",
        ),
        Panel(
            "Cores in use",
            "",
            (Query("sum by (component) (rate(process_cpu_seconds_total{INSTALLATION}[WINDOW]))", "{{component}}"),),
        ),
        Panel(
            "Open files",
            "As part of what a process may have.",
            (
                Query(
                    "max by (component) (process_open_fds{INSTALLATION} / process_max_fds{INSTALLATION})",
                    "{{component}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Room for homes",
            "On one machine. In a cluster homes are claims: see the dashboards of the storage.",
            (Query("max by (state) (armillary_homes_bytes{INSTALLATION})", "{{state}}"),),
            unit="bytes",
        ),
    ),
)
