"""Forms, as a browser would send them."""

from __future__ import annotations

import pytest

from tests.bench import forms

pytestmark = pytest.mark.unit


def test_sends_what_is_selected() -> None:
    page = """
    <form method="get" action="/search"><input name="q" value="no"></form>
    <form action="/hub/spawn?_xsrf=a&amp;b=1" method="POST">
      <input type="hidden" name="token" value="t">
      <input type="radio" name="profile" value="one"><input type="radio" name="profile" value="two" checked>
      <input type="radio" name="size" value="small"><input type="radio" name="size" value="large">
      <input type="radio" name="gpu" value="no" disabled>
      <input type="checkbox" name="agree"><input type="checkbox" name="more" checked>
      <select name="image"><option value="a">A</option><option value="b" selected>B</option></select>
      <select name="cpu"><option value="1">1</option><option value="2">2</option></select>
      <input name="text" value="words"><input type="submit" name="go" value="Go"><button name="x">X</button>
    </form>
    <input name="outside" value="no">
    """

    form = forms.read(page)

    assert form.action == "/hub/spawn?_xsrf=a&b=1"
    assert form.fields == {
        "token": "t",
        "profile": "two",
        "size": "small",
        "more": "on",
        "image": "b",
        "cpu": "1",
        "text": "words",
    }


def test_a_page_without_a_form_is_said() -> None:
    with pytest.raises(ValueError, match="no form to submit"):
        forms.read("<p>Log in first.</p>")
