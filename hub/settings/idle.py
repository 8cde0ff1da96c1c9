"""The section about sessions that nobody uses, that last too long, or that have used up a budget."""

from string import Formatter
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from hub.settings.values import Name, Section, Url, setting

__all__ = ["IdleRule", "IdleSettings"]

Hours = Annotated[float, Field(ge=0, le=10_000)]
Minutes = Annotated[float, Field(ge=0, le=1440)]

_PLACES = frozenset({"namespace"})


class IdleRule(Section):
    """Limits for some sessions: those to which all that is named here applies."""

    profile: Name | None = setting(None, "Key of a profile. Default: any.", example="jupyterlab")
    accelerator: Name | None = setting(
        None, "Key of an accelerator, or `none` for sessions without one. Default: any.", example="a100"
    )
    group: Name | None = setting(None, "Group that the session is charged to. Default: any account.", example="cms")
    idle_hours: Hours | None = setting(
        None,
        "How long such a session may do nothing; 0: for ever. Default: as `gpu_hours` or `cpu_hours`.",
        example=4.0,
        unit="hours",
    )
    session_hours: Hours | None = setting(
        None,
        "How long such a session may last; 0: no limit. Default: as `idle.session_hours`.",
        example=24.0,
        unit="hours",
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.idle_hours is None and self.session_hours is None:
            raise ValueError("a rule must set idle_hours or session_hours")
        return self


class IdleSettings(Section):
    """When sessions are stopped that nobody uses, that last too long, or that have used up a budget."""

    gpu_hours: Hours = setting(
        2.0,
        "How long a session with an accelerator may do nothing before it is stopped; 0: for ever. 2: an accelerator "
        "that does nothing keeps somebody else waiting.",
        example=1.0,
        unit="hours",
    )
    cpu_hours: Hours = setting(
        12.0,
        "The same for a session without an accelerator. 12: a night passes, and the variables are still there.",
        example=24.0,
        unit="hours",
    )
    session_hours: Hours = setting(
        0.0,
        "How long a session may last, whatever it does; 0: no limit, the default. A quota `session_s` that is shorter "
        "wins.",
        example=72.0,
        unit="hours",
    )
    limits: tuple[IdleRule, ...] = setting(
        (),
        "Other limits for some profiles, accelerators and groups. The first rule that applies and sets a limit decides "
        "about that limit. Default: none.",
        example=[{"accelerator": "a100", "group": "cms", "idle_hours": 4}],
    )
    warn_minutes: Annotated[float, Field(gt=0, le=1440)] = setting(
        15.0,
        "How long before a stop its owner is told. Nothing is stopped sooner after the warning, also after an outage.",
        example=30.0,
        unit="minutes",
    )
    keeps: Annotated[int, Field(ge=0, le=1000)] = setting(
        3,
        "How often an owner may keep an idle session by *Keep my session*, in one session; each time it may do nothing "
        "for its whole limit again. 3: a button that can be pressed for ever is no limit.",
        example=1,
        unit="times",
    )
    busy_cores: Annotated[float, Field(gt=0, le=1000)] = setting(
        0.1,
        "From how many cores on a session works. 0.1: an idle JupyterLab with some kernels takes about 0.02.",
        example=0.5,
        unit="cores",
    )
    busy_accelerator: Annotated[float, Field(gt=0, le=1)] = setting(
        0.05,
        "From which utilisation of its accelerator on a session works, as a part of 1.",
        example=0.1,
    )
    silent_hours: Annotated[float, Field(gt=0, le=10_000)] = setting(
        24.0,
        "A session that measured itself and then fell silent may be cut off, and work: it is only taken for idle after "
        "so long without a sign, when the hub saw nobody use it either. Not shorter than its own limit.",
        example=48.0,
        unit="hours",
    )
    budget_grace_minutes: Minutes = setting(
        10.0,
        "How long a session goes on once a budget that it is charged to is used up: time to save.",
        example=5.0,
        unit="minutes",
    )
    prometheus_url: Url | None = setting(
        None,
        "A Prometheus that knows the utilisation of accelerators (NVIDIA's DCGM exporter), for the kubernetes engine: "
        "sessions whose image cannot measure are judged by it too. Default: none.",
        example="http://prometheus.monitoring.svc:9090",
    )
    prometheus_query: str = setting(
        'max by (pod) (max_over_time(DCGM_FI_DEV_GPU_UTIL{{namespace="{namespace}"}}[5m])) / 100',
        "What it is asked: the answer has a label `pod` and the utilisation as a part of 1. `{namespace}` stands for "
        "that of sessions; other braces are doubled. Where Prometheus renames labels of exporters, it is "
        "`max by (exported_pod)`, and the answer's label is taken all the same.",
        example='max by (pod) (my_gpu_utilisation{{namespace="{namespace}"}})',
    )

    @field_validator("prometheus_query")
    @classmethod
    def _can_be_filled(cls, value: str) -> str:
        try:
            places = {name for _, name, _, _ in Formatter().parse(value) if name is not None}
        except ValueError as error:
            raise ValueError(f"{error}: braces that are no place are doubled") from None
        if places != _PLACES:
            raise ValueError("must have {namespace} as its only place")
        return value
