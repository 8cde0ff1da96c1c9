"""The API's page for people: plain, made from the OpenAPI document, without a line of script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment, StrictUndefined

from hub.web.problems import KINDS

__all__ = ["docs_page", "docs_policy"]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid #8886; }
section { margin: 2.5rem 0; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ api.info.title }}</title><style>{{ style }}</style>
</head>
<body>
<main>
<h1>{{ api.info.title }} <small>{{ api.info.version }}</small></h1>
<p>{{ api.info.description }}</p>
<p>For programs: <a href="{{ prefix }}/openapi.json">openapi.json</a> (OpenAPI {{ api.openapi }}).</p>
{% for path, methods in api.paths.items() %}{% for method, said in methods.items() %}
<section id="{{ said.operationId }}">
<h2><code>{{ method.upper() }} {{ prefix }}{{ path }}</code></h2>
<p>{{ said.summary }}. {{ said.description }}</p>
{% if "parameters" in said %}
<h3>Parameters</h3>
<table><tr><th scope="col">Name</th><th scope="col">What it is</th></tr>
{% for parameter in said.parameters %}
<tr><td><code>{{ parameter.name }}</code></td><td>{{ parameter.description }}</td></tr>
{% endfor %}</table>
{% endif %}
<h3>Answers</h3>
<table><tr><th scope="col">Status</th><th scope="col">When</th></tr>
{% for status, answer in said.responses.items() %}
<tr><td>{{ status }}</td><td>{{ answer.description }}</td></tr>
{% endfor %}</table>
</section>
{% endfor %}{% endfor %}
<section>
<h2>Problems</h2>
<p>Every error is a document of problem details (RFC 9457) with one of these codes.</p>
<table><tr><th scope="col">Code</th><th scope="col">Status</th><th scope="col">Title</th></tr>
{% for code, (status, title) in kinds.items() %}
<tr id="{{ code }}"><td><code>{{ code }}</code></td><td>{{ status }}</td><td>{{ title }}</td></tr>
{% endfor %}</table>
</section>
</main>
</body>
</html>
"""


def docs_page(api: Mapping[str, Any], prefix: str) -> str:
    """Return the page of an OpenAPI document."""
    return str(_template().render(api=api, prefix=prefix, kinds=KINDS, style=_STYLE))


def docs_policy() -> str:
    """Return the page's Content-Security-Policy: its own style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"


@lru_cache(maxsize=1)
def _template() -> Any:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_PAGE)
