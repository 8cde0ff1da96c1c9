"""Catalogues from YAML: every problem at once, each at its place, in words that say what to do; never a traceback."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.loader import CatalogueError, Problem, load, loads
from profiles.model import Catalogue

GOOD = """\
images:
  lab: {title: Lab, local: {}, reference: registry.example.org/lab:1}
accelerators:
  t4: {title: T4, kubernetes: {resource: nvidia.com/gpu}}
profiles:
  cpu:
    title: CPU
    options:
      image: lab
"""


def problems(text: str) -> list[str]:
    with pytest.raises(CatalogueError) as refused:
        loads(text, name="c.yaml")
    assert str(refused.value) == "\n".join(map(str, refused.value.problems))
    return [str(problem) for problem in refused.value.problems]


def profile(body: str) -> str:
    """The good catalogue with this as its only profile's content, in flow style, so that only line 6 is in question."""
    return GOOD[: GOOD.index("  cpu:")] + f"  p: {{title: P, {body}}}\n"


def test_a_good_catalogue() -> None:
    catalogue = loads(GOOD)
    assert list(catalogue.profiles) == ["cpu"]
    assert catalogue.default_profile == "cpu"
    assert catalogue.images["lab"].title == "Lab"


def test_problems_say_file_line_column_and_path() -> None:
    assert str(Problem("catalogue.yaml", 31, 9, "profiles.gpu.options.cpu", "is odd")) == (
        "catalogue.yaml:31:9 profiles.gpu.options.cpu: is odd"
    )
    assert str(Problem("catalogue.yaml", 1, 1, "", "is empty")) == "catalogue.yaml:1:1: is empty"


def test_every_problem_at_once_in_the_order_of_the_file() -> None:
    text = """\
acelerators: {}
images:
  lab: {title: Lab}
  Two: {title: 2, local: {environment: {1A: x, B: yes}}}
profiles:
  p:
    title: P
    default: true
    options:
      cpu: [1, two]
      image: [lab, labs]
      accelerator: t4
    kubespawner_override: {privileged: true}
  q: {titel: Q, default: true}
"""
    assert problems(text) == [
        "c.yaml:1:1 acelerators: unknown key (did you mean accelerators?); legal here: accelerators, apps, images, profiles",
        "c.yaml:3:3 images.lab: can start nowhere: write `reference` (Kubernetes), `local: {}` (one machine) or both",
        "c.yaml:4:3 images.Two: 'Two' is no key: use up to 63 lower-case letters, digits, '-' and '.', first and last a "
        "letter or digit",
        "c.yaml:4:9 images.Two.title: must be text, got the number 2; write it in quotes",
        "c.yaml:4:41 images.Two.local.environment.1A: '1A' is no name of an environment variable: letters, digits and "
        "'_', not a digit first",
        "c.yaml:4:48 images.Two.local.environment.B: must be text, got true; write it in quotes",
        "c.yaml:10:16 profiles.p.options.cpu[1]: 'two' is no quantity; write one such as 2, 1.5, 500m, 2Gi or 1e3",
        "c.yaml:11:20 profiles.p.options.image[1]: there is no image 'labs' (did you mean lab?); defined: lab, Two",
        "c.yaml:12:7 profiles.p.options.accelerator: there is no accelerator 't4'; defined: none",
        "c.yaml:13:28 profiles.p.kubespawner_override.privileged: weakens security: gives the container every right on its "
        "node; take it out, or set allow_weaker_security",
        "c.yaml:14:3 profiles.q: needs 'title'",
        "c.yaml:14:7 profiles.q.titel: unknown key (did you mean title?); legal here: title, description, default, access, "
        "options, environment, kubespawner_override, start_timeout_s",
        "c.yaml:14:17 profiles.q.default: there is a default already: 'P'; keep one of the two",
    ]


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        (
            "options: {cpu: {min: 4, max: 2}}",
            "6:33 profiles.p.options.cpu.min",
            "the minimum is larger than the maximum",
        ),
        (
            "options: {cpu: {min: 1, max: 2, default: 3}}",
            "6:49 profiles.p.options.cpu.default",
            "lies outside of `min` to",
        ),
        ("options: {cpu: {min: 1}}", "6:27 profiles.p.options.cpu", "a range needs both `min` and `max`"),
        (
            "options: {cpu: {min: 1, max: 2, minimum: 1}}",
            "6:49 profiles.p.options.cpu.minimum",
            "unknown key (did you mean min?)",
        ),
        ("options: {cpu: {choices: [1], min: 1, max: 2}}", "6:27 profiles.p.options.cpu", "has choices and a range"),
        ("options: {cpu: {choices: [1, 2], default: 3}}", "6:50 profiles.p.options.cpu.default", "none of the choices"),
        ("options: {cpu: []}", "6:27 profiles.p.options.cpu", "lets nobody choose anything"),
        ("options: {cpu: {}}", "6:27 profiles.p.options.cpu", "needs 'default'"),
        ("options: {cpu: [1, 1000m]}", "6:36 profiles.p.options.cpu[1]", "the same choice was given before"),
        ("options: {cpu: 0}", "6:27 profiles.p.options.cpu", "write more than 0"),
        ("options: {cpu: -1}", "6:27 profiles.p.options.cpu", "write more than 0"),
        ("options: {cpu: 0.5m}", "6:27 profiles.p.options.cpu", "finer than Kubernetes allows"),
        (
            "options: {cpu: true}",
            "6:27 profiles.p.options.cpu",
            "must be a number of CPU cores such as 0.5, 500m or 2, got",
        ),
        ("options: {cpu: .nan}", "6:27 profiles.p.options.cpu", "write a finite number"),
        ("options: {cpu: 1_000}", "6:27 profiles.p.options.cpu", "'1_000' is no quantity"),
        (
            "options: {memory: 4}",
            "6:27 profiles.p.options.memory",
            "4 is 4 bytes; memory is at least 1Mi (did you mean 4Gi?)",
        ),
        ("options: {memory: 512m}", "6:27 profiles.p.options.memory", "did you mean 512Mi?"),
        ("options: {memory: 2GB}", "6:27 profiles.p.options.memory", "did you mean 2G?"),
        ("options: {memory: -2Gi}", "6:27 profiles.p.options.memory", "is no amount of memory"),
        ("options: {count: 1}", "6:27 profiles.p.options.count", "the profile offers none: add `accelerator`"),
        ("options: {accelerator: none, count: 1}", "6:46 profiles.p.options.count", "the profile offers none"),
        (
            "options: {accelerator: t4, count: 1.5}",
            "6:44 profiles.p.options.count",
            "write a whole number from 1 to 1024",
        ),
        (
            "options: {accelerator: t5}",
            "6:27 profiles.p.options.accelerator",
            "there is no accelerator 't5'; defined: t4, none",
        ),
        ("options: {image: []}", "6:27 profiles.p.options.image", "lets nobody choose anything"),
        ("options: {image: [lab, lab]}", "6:40 profiles.p.options.image[1]", "the same choice was given before"),
        (
            "options: {image: {choices: [lab], default: x}}",
            "6:51 profiles.p.options.image.default",
            "'x' is none of the",
        ),
        ("options: {image: 3}", "6:27 profiles.p.options.image", "must be text, got the number 3; write it in quotes"),
        (
            "options: {choices: {cpu: {title: T, choices: {a: {title: A}}}}}",
            "6:37 profiles.p.options.choices.cpu",
            "'cpu' means",
        ),
        (
            "options: {choices: {a--b: {title: T, choices: {a: {title: A}}}}}",
            "6:37 profiles.p.options.choices.a--b",
            "holds '--'",
        ),
        (
            "options: {choices: {a_b: {title: T, choices: {a: {title: A}}}}}",
            "6:37 profiles.p.options.choices.a_b",
            "is no key",
        ),
        ("options: {choices: {a: {title: T}}}", "6:37 profiles.p.options.choices.a", "lets nobody choose anything"),
        (
            "options: {choices: {a: {title: T, choices: {b: {title: B}}, default: c}}}",
            "6:77 profiles.p.options.choices.a.default",
            "'c' is none of the choices",
        ),
        (
            "options: {choices: {a: {title: T, unlisted: {title: U, pattern: '('}}}}",
            "6:72 profiles.p.options.choices.a.unlisted.pattern",
            "is no regular expression",
        ),
        ("access: {}", "6:17 profiles.p.access", "names nobody"),
        ("access: all", "6:17 profiles.p.access", "'all': write 'everyone', or a mapping"),
        ("access: [cms]", "6:17 profiles.p.access", "must be a mapping, got a list"),
        ("access: {groups: cms}", "6:26 profiles.p.access.groups", "must be a list, got 'cms'"),
        ("access: {group: [cms]}", "6:26 profiles.p.access.group", "unknown key (did you mean groups?)"),
        ("access: {groups: [5]}", "6:35 profiles.p.access.groups[0]", "must be text, got the number 5"),
        ("environment: {A-B: x}", "6:31 profiles.p.environment.A-B", "is no name of an environment variable"),
        (
            "environment: {JUPYTERHUB_API_TOKEN: x}",
            "6:31 profiles.p.environment.JUPYTERHUB_API_TOKEN",
            "is set by the hub",
        ),
        ("environment: {A: 1}", "6:31 profiles.p.environment.A", "must be text, got the number 1; write it in quotes"),
        ("environment: null", "6:17 profiles.p.environment", "must be a mapping, but nothing is written here"),
        ("default: yes please", "6:17 profiles.p.default", "must be true or false, got 'yes please'"),
        ("start_timeout_s: 1", "6:17 profiles.p.start_timeout_s", "greater than or equal to 10, got 1"),
        ("start_timeout_s: '60'", "6:17 profiles.p.start_timeout_s", "must be a whole number, got '60'"),
        (
            "kubespawner_override: {cpu_limt: 1}",
            "6:40 profiles.p.kubespawner_override.cpu_limt",
            "did you mean cpu_limit?",
        ),
        ("description: [a]", "6:17 profiles.p.description", "must be text, got a list"),
    ],
)
def test_bad_profiles(body: str, place: str, said: str) -> None:
    (problem,) = problems(profile(body))
    assert problem.startswith(f"c.yaml:{place}: ")
    assert said in problem


@pytest.mark.parametrize(
    ("section", "entry", "place", "said"),
    [
        ("accelerators", "none: {title: N}", "none", "stands for no accelerator"),
        ("accelerators", "A100: {title: A}", "A100", "is no key"),
        ("accelerators", "a/../b: {title: A}", "'a/../b'", "is no key"),
        ("accelerators", f"{'a' * 64}: {{title: A}}", "a" * 64, "is no key"),
        ("accelerators", "a: {title: A, share: 0}", "a.share", "above 0 and at most 1"),
        ("accelerators", "a: {title: A, share: 1.5}", "a.share", "above 0 and at most 1"),
        ("accelerators", "a: {title: A, share: 8/7}", "a.share", "above 0 and at most 1"),
        ("accelerators", "a: {title: A, share: 1/0}", "a.share", "is no share of a card"),
        ("accelerators", "a: {title: A, share: 1/2/3}", "a.share", "is no share of a card"),
        ("accelerators", "a: {title: A, share: true}", "a.share", "is no share of a card"),
        ("accelerators", "a: {title: A, share: nan}", "a.share", "is no share of a card"),
        ("accelerators", "a: {title: A, memory: 40}", "a.memory", "did you mean 40Gi?"),
        ("accelerators", "a: {title: A, kubernetes: {}}", "a.kubernetes", "write one of `resource`"),
        ("accelerators", "a: {title: A, kubernetes: {resource: gpu}}", "a.kubernetes.resource", "it has no domain"),
        (
            "accelerators",
            "a: {title: A, kubernetes: {resource: x.kubernetes.io/g}}",
            "a.kubernetes.resource",
            "kubernetes.io is",
        ),
        ("accelerators", "a: {title: A, kubernetes: {resource: a.b/c/d}}", "a.kubernetes.resource", "is no domain"),
        (
            "accelerators",
            "a: {title: A, kubernetes: {resource: a.b/-g}}",
            "a.kubernetes.resource",
            "'-g' is not made of",
        ),
        (
            "accelerators",
            "a: {title: A, kubernetes: {resource: requests.a/b}}",
            "a.kubernetes.resource",
            "is no domain",
        ),
        ("images", "a: {title: A}", "a", "can start nowhere"),
        ("images", "a: {title: A, reference: a.io/Upper}", "a.reference", "is no image reference"),
        ("images", "a: {title: A, reference: 'a b'}", "a.reference", "is no image reference"),
        ("images", "a: {title: A, reference: 'a:b:c'}", "a.reference", "is no image reference"),
        (
            "images",
            "a: {title: A, local: {}, pull_policy: always}",
            "a.pull_policy",
            "must be 'Always', 'IfNotPresent' or",
        ),
        ("images", "a: {title: A, local: {}, default_url: lab}", "a.default_url", "is no path inside a server"),
        ("images", "a: {title: A, local: {}, default_url: //evil}", "a.default_url", "is no path inside a server"),
        ("images", "a: {title: A, local: {command: run}}", "a.local.command", "must be a list, got 'run'"),
        ("images", 'a: {title: "A\\nB", local: {}}', "a.title", "holds a line break"),
        ("images", "a: {title: '  ', local: {}}", "a.title", "at least 1 character"),
        ("images", "a: 5", "a", "must be a mapping with title, description, reference"),
    ],
)
def test_bad_accelerators_and_images(section: str, entry: str, place: str, said: str) -> None:
    (problem,) = problems(f"{section}:\n  {entry}\nprofiles: {{p: {{title: P}}}}\n")
    assert problem.startswith("c.yaml:2:")
    assert f" {section}.{place}: " in problem
    assert said in problem


@pytest.mark.parametrize(
    ("device", "place", "said"),
    [
        ("node_labels: {'a b': x}", "node_labels.'a b'", "is no label key"),
        ("node_labels: {UP.per/x: x}", "node_labels.'UP.per/x'", "must be a lower-case domain"),
        ("node_labels: {a: 'b c'}", "node_labels.a", "is no label value"),
        ("node_labels: {a: []}", "node_labels.a", "at least 1 item"),
        ("node_labels: {a: [b, 5]}", "node_labels.a[1]", "must be text, got the number 5"),
        ("tolerations: [{key: a, operator: Is}]", "tolerations[0].operator", "must be 'Exists' or 'Equal', got 'Is'"),
        ("tolerations: [{key: a, operator: Equal}]", "tolerations[0]", "operator Equal needs a value"),
        (
            "tolerations: [{key: a, operator: Exists, value: b}]",
            "tolerations[0].value",
            "operator Exists takes no value",
        ),
        (
            "tolerations: [{key: a, effect: NoExec}]",
            "tolerations[0].effect",
            "must be 'NoSchedule', 'PreferNoSchedule' or",
        ),
        ("tolerations: {key: a}", "tolerations", "must be a list, got a mapping"),
        ("runtime_class: 'Nvidia!'", "runtime_class", "is no Kubernetes name"),
    ],
)
def test_bad_devices(device: str, place: str, said: str) -> None:
    text = f"accelerators: {{a: {{title: A, kubernetes: {{resource: nvidia.com/gpu, {device}}}}}}}\nprofiles: {{p: {{title: P}}}}"
    found = [problem for problem in problems(text) if place.replace("'UP.per/x'", "") in problem]
    assert len(problems(text)) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "c.yaml:1:1: is empty: a catalogue has `profiles`"),
        ("# nothing\n", "c.yaml:1:1: is empty"),
        ("null", "c.yaml:1:1: is empty"),
        ("- a", "c.yaml:1:1: is no mapping"),
        ("text", "c.yaml:1:1: is no mapping"),
        ("images: {}", "c.yaml:1:1: needs at least one profile, in `profiles`"),
        ("profiles: {}", "c.yaml:1:1 profiles: needs at least one profile"),
        ("profiles: []", "c.yaml:1:1 profiles: needs at least one profile"),
        ("profiles:", "c.yaml:1:1 profiles: needs at least one profile"),
        ("profiles: 5", "c.yaml:1:1 profiles: must be a mapping from keys to entries"),
        ("profiles: {p: {title: P}}\nimages: [a]", "c.yaml:2:1 images: must be a mapping from keys to entries"),
        ("profiles:\n\tp: {}", "c.yaml:2:1: a tab cannot indent in YAML: use spaces"),
        ("profiles: {p: {title: P}", "c.yaml:1:25: is no YAML"),
        ("profiles: {p: {title: P: Q}}", "c.yaml:1:"),
        ("a: b: c", "c.yaml:1:5: is no YAML: ':' is not allowed here"),
        ("profiles: *gone", "c.yaml:1:11: is no YAML: found undefined alias 'gone'"),
        ("a: 1\n---\nb: 2", "holds more than one document"),
        ('profiles: {p: {title: "\x00"}}', "c.yaml:1:24: holds the character U+0000, which YAML does not allow"),
        ("profiles: {p: {title: '\ud800'}}", "holds the character U+D800"),
        ("profiles: !!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system means nothing"),
        ("profiles: !secret x", "the tag !secret means nothing in a catalogue"),
        ("profiles: {p: {title: P, title: Q}}", "c.yaml:1:26 profiles.p.title: the key was given before, in line 1"),
        ("profiles: {1: {title: P}}", "c.yaml:1:12 profiles.1: the key 1 is a number: write it in quotes"),
        ("profiles: {no: {title: P}}", "profiles.no: the key no is a truth value"),
        ("profiles: {[a]: {title: P}}", "a key must be text, not a list or mapping"),
        ("profiles: {p: {<<: 5, title: P}}", "'<<' merges mappings only"),
        ("profiles: {p: {title: !!int x}}", "'x' is not what its tag says"),
        ("profiles: {p: {title: !!binary aGk=}}", "the tag !!binary means nothing"),
        ("profiles: &p {p: *p}", "holds itself"),
        ("profiles: {p: &p {<<: *p, title: P}}", "merges too much, or itself"),
        ("profiles: {p: {display_name: P}}", "a KubeSpawner profile_list is a list here"),
        ("profiles: {p: {title: P}}\nprofile: {}", "c.yaml:2:1 profile: unknown key (did you mean profiles?)"),
    ],
)
def test_what_is_no_catalogue(text: str, said: str) -> None:
    assert any(said in problem for problem in problems(text)), problems(text)


def test_too_deep_too_much_and_too_large_are_one_plain_problem_each() -> None:
    assert problems("a: " + "[" * 100_000) == ["c.yaml:1:44: is nested deeper than 40 levels, too deep for a catalogue"]
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    (bomb,) = problems(laughs)
    assert "holds more than 50000 values, aliases followed" in bomb
    merges = "a0: &a0 {k: v}\n"
    merges += "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 9))
    (bomb,) = problems(merges)
    assert "merges too much" in bomb or "holds more than" in bomb
    assert problems("a: " + "x" * 2**20) == ["c.yaml:1:1: is larger than 1048576 characters, too large for a catalogue"]


def test_anchors_aliases_and_merge_keys_work() -> None:
    catalogue = loads(
        "profiles:\n"
        "  a: &base {title: A, environment: {X: '1'}, options: {cpu: &cpu [1, 2]}}\n"
        "  b: {<<: *base, title: B}\n"
        "  c: {<<: [{title: C}, *base], options: {cpu: *cpu}}\n"
    )
    assert [profile.title for profile in catalogue.profiles.values()] == ["A", "B", "C"]
    assert catalogue.profiles["b"].environment == {"X": "1"}
    assert catalogue.profiles["c"].options.cpu == catalogue.profiles["a"].options.cpu


def test_a_problem_in_a_merged_part_is_told_where_it_is_written() -> None:
    found = problems("profiles:\n  a: &base\n    title: A\n    defalt: true\n  b: {<<: *base, title: B}\n")
    assert [problem.split(": ")[0] for problem in found] == [
        "c.yaml:4:5 profiles.a.defalt",
        "c.yaml:4:5 profiles.b.defalt",
    ]


def test_dates_and_odd_numbers_stay_text() -> None:
    catalogue = loads("profiles: {p: {title: 2026-01-01, description: 1:30, environment: {A: 1_000}}}")
    made = catalogue.profiles["p"]
    assert (made.title, made.description, made.environment["A"]) == ("2026-01-01", "1:30", "1_000")


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@`#,?<\n \t1.~\x00é"), max_size=60))
def test_whatever_is_written_is_a_catalogue_or_a_list_of_problems(text: str) -> None:
    found: tuple[Problem, ...] = ()
    try:
        made: Catalogue | None = loads("profiles:\n " + text)
    except CatalogueError as refused:
        made, found = None, refused.problems
    assert (made is None) == bool(found)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in found)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(file).default_profile == "cpu"

    file.write_bytes(b"profiles:\n  p: {title: caf\xe9}\n")
    with pytest.raises(CatalogueError) as refused:
        load(file)
    assert str(refused.value) == f"{file}:2:17: is not UTF-8 text: the byte 0xe9 is not part of a character"

    with pytest.raises(CatalogueError, match=r"gone.yaml:1:1: cannot be read: No such file or directory"):
        load(tmp_path / "gone.yaml")
    with pytest.raises(CatalogueError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_weaker_security_when_allowed() -> None:
    text = profile("kubespawner_override: {privileged: true}")
    assert loads(text, allow_weaker_security=True).profiles["p"].kubespawner_override == {"privileged": True}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        pytest.param("start_timeout: ten", "start_timeout: must be a whole number of seconds from 1 to 86400, not 'ten'", id="word"),
        pytest.param("start_timeout: .nan", "start_timeout: must be a whole number of seconds from 1 to 86400, not nan", id="nan"),
        pytest.param("http_timeout: true", "http_timeout: must be a whole number of seconds from 1 to 86400, not True", id="truth"),
        pytest.param("mem_limit: much", "mem_limit: must be an amount of memory such as 512M or 2G, not 'much'", id="memory"),
        pytest.param("cpu_limit: .inf", "cpu_limit: must be a number of CPU cores such as 0.5 or 2, not inf", id="endless"),
        pytest.param("cpu_guarantee: -1", "cpu_guarantee: must be a number of CPU cores such as 0.5 or 2, not -1", id="negative"),
        pytest.param("args: --debug", "args: must be a list of texts, not '--debug'", id="args"),
        pytest.param("environment: [A]", "environment: must be a mapping, not ['A']", id="environment"),
        pytest.param("default_url: 5", "default_url: must be text, not 5", id="url"),
        pytest.param("debug: 1", "debug: must be true or false, not 1", id="switch"),
    ],
)  # fmt: skip
def test_an_override_that_would_fail_at_a_start_is_told_before(override: str, said: str) -> None:
    (problem,) = problems(profile(f"kubespawner_override: {{{override}}}"))
    assert problem.endswith(f"profiles.p.kubespawner_override.{said}")


def test_what_overrides_may_say_is_taken() -> None:
    override = "mem_limit: 1.5G, mem_guarantee: 1048576, cpu_limit: null, cpu_guarantee: 500m, args: [a], debug: true"
    assert loads(profile(f"kubespawner_override: {{{override}, start_timeout: 60, default_url: /lab}}"))


def test_the_key_of_a_profile_leaves_the_names_of_form_fields_clear() -> None:
    assert problems(GOOD.replace("  cpu:", "  cpu--big:")) == [
        "c.yaml:6:3 profiles.cpu--big: 'cpu--big' holds '--', which separates the parts of a form field's name; use one '-'"
    ]
