"""The one parser of options, through every shape that the doors give it."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.access import Person
from profiles.model import Catalogue
from spawner.options import FORM_PREFIX, MAX_TEXT, from_form, parse, parse_saved
from spawner.overrides import environment
from spawner.refusal import Refusal
from spawner.request import Chosen, Request
from tests.spawner.catalogues import ANN, BEN, catalogue, contents

CATALOGUE = catalogue()


def refusal(options: dict[str, Any], person: Person = ANN, engine: Any = "kubernetes") -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(options, CATALOGUE, person, engine)
    return caught.value


def test_no_options_give_the_default_profile_with_its_defaults() -> None:
    assert parse({}, CATALOGUE, ANN, "local") == Request("cpu", image="lab", cpu=Decimal(1), memory=2 * 1024**3)


def test_every_option_is_taken() -> None:
    options = {
        "profile": "gpu",
        "image": "lab",
        "cpu": 4,
        "memory": "16Gi",
        "accelerator": "t4",
        "count": "2",
        "dataset": "large",
    }
    assert parse(options, CATALOGUE, ANN, "kubernetes") == Request(
        "gpu", "lab", Decimal(4), 16 * 1024**3, "t4", 2, (Chosen("dataset", choice="large"),)
    )


def test_without_an_accelerator_the_count_is_nought() -> None:
    request = parse({"profile": "gpu", "accelerator": "none"}, CATALOGUE, ANN, "kubernetes")
    assert (request.accelerator, request.count) == (None, 0)


@pytest.mark.parametrize("value", [0.5, "0.5", "500m", ".5"])
def test_numbers_are_quantities(value: object) -> None:
    assert parse({"cpu": value}, CATALOGUE, ANN, "local").cpu == Decimal("0.5")


@pytest.mark.parametrize(
    ("options", "code", "status", "text"),
    [
        pytest.param({"profile": "gpux"}, "unknown-profile", 400, "There is no profile 'gpux'. Choose one of: cpu, gpu.", id="profile"),
        pytest.param({"profile": ["cpu"]}, "unknown-profile", 400, "There is no profile a list. Choose one of: cpu, gpu.", id="profile-type"),
        pytest.param({"gpu": 1}, "unknown-option", 400, "The profile “CPU” has no option 'gpu'. It has: cpu, image, memory.", id="key"),
        pytest.param({"image": "evil.example/any"}, "unknown-choice", 400, "Image has no choice 'evil.example/any'. Choose one of: lab, torch.", id="choice"),
        pytest.param({"cpu": 9999}, "out-of-range", 400, "CPU cores: '9999' is not possible. Choose 500m to 8.", id="cpu-range"),
        pytest.param({"cpu": 0}, "out-of-range", 400, "CPU cores: '0' is not possible. Choose 500m to 8.", id="cpu-nought"),
        pytest.param({"cpu": True}, "bad-value", 400, "cpu must be a number, such as 2 or 1.5, not true or false.", id="cpu-bool"),
        pytest.param({"cpu": {}}, "bad-value", 400, "cpu must be a number, such as 2 or 1.5, not an object.", id="cpu-object"),
        pytest.param({"cpu": "two"}, "bad-value", 400, "CPU cores: 'two' is not a number as Kubernetes writes them, such as 2 or 500m.", id="cpu-word"),
        pytest.param({"cpu": "２"}, "bad-value", 400, "CPU cores: '２' is not a number as Kubernetes writes them, such as 2 or 500m.", id="full-width-digit"),
        pytest.param({"memory": "3Gi"}, "unknown-choice", 400, "Memory has no choice '3Gi'. Choose one of: 2Gi, 4Gi.", id="memory"),
        pytest.param({"profile": "gpu", "count": "1.5"}, "bad-value", 400, "Number of accelerators: '1.5' is not a whole number of cards.", id="count-part"),
        pytest.param({"profile": "gpu", "count": 99}, "out-of-range", 400, "Number of accelerators: '99' is not possible. Choose 1 to 2.", id="count-99"),
        pytest.param({"profile": "gpu", "memory": "1"}, "out-of-range", 400, "Memory: '1' is not possible. Choose 1 GiB to 64 GiB.", id="memory-range"),
        pytest.param({"profile": "gpu", "dataset": "cms"}, "unknown-choice", 400, "Data set has no choice 'cms'. Choose one of: small, large.", id="free-choice"),
        pytest.param({"image": "ｌａｂ"}, "unknown-choice", 400, "Image has no choice 'ｌａｂ'. Choose one of: lab, torch.", id="look-alike"),
        pytest.param({"image": "<script>"}, "unknown-choice", 400, "Image has no choice '<script>'. Choose one of: lab, torch.", id="html"),
        pytest.param({"image": "{x}"}, "unknown-choice", 400, "Image has no choice '{x}'. Choose one of: lab, torch.", id="braces"),
        pytest.param({"profile": "gpu", "accelerator": "u55c"}, "not-offered", 403, "Accelerator: “Alveo U55c” is not open to you: needs group fpga-users.", id="group"),
        pytest.param({"profile": "teaching"}, "not-offered", 403, "The profile “Teaching” is not open to you: needs group instructors.", id="profile-group"),
        pytest.param({"cpu--unlisted-choice": "3"}, "unknown-option", 400, "The profile “CPU” has no option 'cpu--unlisted-choice'. It has: cpu, image, memory.", id="no-unlisted"),
        pytest.param({"profile": "gpu", "dataset--unlisted-choice": "cms-1"}, "bad-value", 400, "Data set: 'cms-1' is not possible. Lower-case letters, then digits.", id="pattern"),
        pytest.param({"profile": "gpu", "dataset--unlisted-choice": "cms\nx"}, "bad-value", 400, "'dataset' must be one line without control characters.", id="newline"),
        pytest.param({"profile": "gpu", "dataset--unlisted-choice": 5}, "bad-value", 400, "dataset must be a text, not int.", id="text-type"),
        pytest.param({"profile": "gpu", "dataset": "small", "dataset--unlisted-choice": "cms"}, "bad-value", 400, "Data set: choose one of the list or fill in the text, not both.", id="both"),
        pytest.param({"profile": "gpu", "dataset": "unlisted-choice"}, "bad-value", 400, "Data set: fill in the text, or choose one of the list.", id="no-text"),
    ],
)  # fmt: skip
def test_what_is_not_in_the_catalogue_is_refused_with_the_legal_values(
    options: dict[str, Any], code: str, status: int, text: str
) -> None:
    refused = refusal(options)
    assert (refused.code, refused.status_code, refused.text) == (code, status, text)


def test_the_pattern_of_an_unlisted_choice_is_anchored_at_its_end() -> None:
    # upstream uses re.match: "cms1; rm" would pass there
    assert refusal({"profile": "gpu", "dataset--unlisted-choice": "cms1; rm"}).code == "bad-value"


def test_a_megabyte_is_refused_and_not_repeated() -> None:
    refused = refusal({"profile": "gpu", "dataset--unlisted-choice": "a" * 1_000_000})
    assert refused.text == f"'dataset' has 1000000 characters; at most {MAX_TEXT} are possible."
    assert len(refusal({"profile": "x" * 1_000_000}).log_message) < 300
    assert len(refusal({"x" * 1_000_000: 1}).log_message) < 300


def test_the_text_of_an_unlisted_choice_reaches_the_environment_as_it_is() -> None:
    request = parse({"profile": "gpu", "dataset--unlisted-choice": "cms7"}, CATALOGUE, ANN, "kubernetes")
    assert request.choices == (Chosen("dataset", text="cms7"),)
    assert environment(request, CATALOGUE) == {"DATASET": "own-cms7"}


def test_a_member_of_the_group_gets_what_others_do_not() -> None:
    assert parse({"profile": "gpu", "accelerator": "u55c"}, CATALOGUE, BEN, "kubernetes").accelerator == "u55c"


def test_the_local_engine_says_why_it_cannot() -> None:
    refused = refusal({"profile": "cpu", "image": "torch"}, engine="local")
    assert (refused.status_code, refused.code) == (403, "not-offered")
    assert refused.text == "Image: “PyTorch” is not open to you: only on Kubernetes: it is a container image."


def test_who_may_start_nothing_is_told_why() -> None:
    only = catalogue(profiles={"teaching": contents()["profiles"]["teaching"]})
    with pytest.raises(Refusal) as caught:
        parse({}, only, ANN, "local")
    assert caught.value.status_code == 403
    assert caught.value.text == "There is nothing that you may start here. Teaching: needs group instructors."


@pytest.mark.parametrize(
    "saved", [{"profile": "gone"}, {"profile": "cpu", "image": "gone"}, {"x": 1}, {"cpu": 99}, {"profile": "teaching"}]
)
def test_saved_options_that_are_no_longer_possible_fall_back_with_a_notice(saved: dict[str, Any]) -> None:
    request, notice = parse_saved(saved, CATALOGUE, ANN, "local")
    assert request == parse({}, CATALOGUE, ANN, "local")
    assert notice is not None
    assert notice.startswith("Your last choice is no longer possible: ")
    assert notice.endswith("Starting “CPU” instead.")


def test_saved_options_that_are_possible_are_kept_without_a_notice() -> None:
    request, notice = parse_saved({"profile": "cpu", "cpu": "2"}, CATALOGUE, ANN, "local")
    assert (request.cpu, notice) == (Decimal(2), None)


def test_none_is_none_again_where_an_accelerator_comes_first() -> None:
    profiles = contents()["profiles"]
    profiles["gpu"]["options"]["accelerator"] = ["t4", "none"]
    made = catalogue(profiles=profiles)
    first = parse({"profile": "gpu", "accelerator": "none"}, made, ANN, "kubernetes")
    assert first.options()["accelerator"] == "none"
    assert parse_saved(first.options(), made, ANN, "kubernetes") == (first, None)
    assert first.accelerator is None


def test_a_card_without_a_choice_of_how_many_can_be_started_again() -> None:
    profiles = contents()["profiles"]
    del profiles["gpu"]["options"]["count"]
    made = catalogue(profiles=profiles)
    first = parse({"profile": "gpu", "accelerator": "t4"}, made, ANN, "kubernetes")
    assert first.count == 1
    assert parse_saved(first.options(), made, ANN, "kubernetes") == (first, None)
    with pytest.raises(Refusal, match="has no option 'count'"):
        parse({"profile": "gpu", "accelerator": "t4", "count": "2"}, made, ANN, "kubernetes")


@pytest.mark.parametrize("text", ["\ud800", "a\udc80b"])
def test_half_a_surrogate_pair_which_no_environment_can_hold_is_refused(text: str) -> None:
    profiles = contents()["profiles"]
    profiles["gpu"]["options"]["choices"]["dataset"]["unlisted"]["pattern"] = ".+"
    with pytest.raises(Refusal) as caught:
        parse({"profile": "gpu", "dataset--unlisted-choice": text}, catalogue(profiles=profiles), ANN, "kubernetes")
    assert caught.value.text == "'dataset' must be one line without control characters."


def test_a_form_gives_the_options_of_the_picked_profile_only() -> None:
    form = {
        "_xsrf": ["x"],
        "profile": ["gpu"],
        f"{FORM_PREFIX}cpu--cpu": ["8"],
        f"{FORM_PREFIX}gpu--cpu": ["4"],
        f"{FORM_PREFIX}gpu--memory": [""],
        f"{FORM_PREFIX}gpu--dataset": ["large"],
        f"{FORM_PREFIX}gpu--dataset--unlisted-choice": ["left over"],
    }
    assert from_form(form, CATALOGUE) == {"profile": "gpu", "cpu": "4", "dataset": "large"}


def test_a_form_with_an_unlisted_choice_gives_its_text() -> None:
    form = {
        "profile": ["gpu"],
        f"{FORM_PREFIX}gpu--dataset": ["unlisted-choice"],
        f"{FORM_PREFIX}gpu--dataset--unlisted-choice": ["cms7"],
    }
    request = parse(from_form(form, CATALOGUE), CATALOGUE, ANN, "kubernetes")
    assert request.choices == (Chosen("dataset", text="cms7"),)


def test_a_link_gives_plain_option_names() -> None:
    assert from_form({"profile": ["gpu"], "cpu": ["4"]}, CATALOGUE) == {"profile": "gpu", "cpu": "4"}


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({f"{FORM_PREFIX}nosuch--cpu": ["1"]}, id="field of no profile"),
        pytest.param({"profile": ["cpu", "gpu"]}, id="twice"),
        pytest.param({"profile": ["cpu"], f"{FORM_PREFIX}cpu--cpu": ["1", "2"]}, id="option twice"),
        pytest.param({"profile": ["cpu"], "note_file": [{"filename": "x", "body": b""}]}, id="file"),
        pytest.param({"profile": ["x" * 2000]}, id="long"),
    ],
)
def test_a_form_that_is_not_ours_is_refused(form: dict[str, list[Any]]) -> None:
    with pytest.raises(Refusal) as caught:
        parse(from_form(form, CATALOGUE), CATALOGUE, ANN, "kubernetes")
    assert caught.value.status_code == 400


@pytest.mark.parametrize("count", [0, -1, 99, "1.5", 1.5, "0", "-1", "1e3", "NaN", "", [], True, "２"])
def test_a_number_of_cards_that_cannot_be_had_is_refused(count: object) -> None:
    with pytest.raises(Refusal) as caught:
        parse({"profile": "gpu", "accelerator": "t4", "count": count}, CATALOGUE, ANN, "kubernetes")
    assert caught.value.status_code == 400
    assert "Number of accelerators" in caught.value.text or "count" in caught.value.text


def test_more_cards_than_any_node_has_are_refused_for_that_accelerator_only() -> None:
    said = contents()
    said["accelerators"]["t4"]["per_node"] = 1
    said["profiles"]["gpu"]["options"]["accelerator"] = ["t4", "l4"]
    said["accelerators"]["l4"] = {"title": "L4", "kubernetes": {"resource": "example.org/l4"}, "per_node": 2}
    found = Catalogue.model_validate(said)
    with pytest.raises(Refusal, match="At most 1 T4 can be had at once"):
        parse({"profile": "gpu", "accelerator": "t4", "count": 2}, found, ANN, "kubernetes")
    assert parse({"profile": "gpu", "accelerator": "l4", "count": 2}, found, ANN, "kubernetes").count == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["profile", "image", "cpu", "memory", "accelerator", "count", "dataset", "dataset--unlisted-choice"]
) | st.text(max_size=12)


@given(
    options=st.dictionaries(
        KEYS, JSON | st.sampled_from(["cpu", "gpu", "lab", "t4", "none", "4Gi", "2", "large"]), max_size=6
    )
)
def test_whatever_arrives_is_a_request_or_a_refusal(options: dict[str, Any]) -> None:
    try:
        request = parse(options, CATALOGUE, ANN, "kubernetes")
    except Refusal as refused:
        assert refused.status_code in (400, 403)
        assert len(refused.text) < 1000
    else:
        saved = json.loads(json.dumps(request.options()))
        assert parse(saved, CATALOGUE, ANN, "kubernetes") == request
