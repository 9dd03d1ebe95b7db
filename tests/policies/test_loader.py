"""Category files: what is understood, and what is said about what is not."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from policies import located
from policies.errors import ConfigError, Problem
from policies.loader import load_category, load_folder
from policies.located import check, load, nearest, parse
from policies.model import Audit, Category, Load
from policies.values import fraction, seconds

SMALLEST = "name: tiny\nthreshold: 0.9\nttl: 1h\n"

WHOLE = r"""
name: code
description: Programming questions
match:
  models: ["*-code-*"]
  patterns: ["```", "\\bTraceback\\b", "ends in space "]
examples: [how do I sort a list]
examples_file: more.txt
cacheable: false
scope: shared
threshold: 0.90
ttl: 7d
stale: {while_revalidate: 1h, if_error: 1d}
quota: 40%
priority: 2
guards: [numbers]
mode: shadow
load:
  threshold_drop: 0.04
  threshold_floor: 0.86
  ttl_factor: 3
  ttl_ceiling: 30d
  stale_at: 70%
  renew_below: 0.6
  share_flights: false
audit: {share: 5%, per_hour: 7, threshold_floor: 0.85, threshold_ceiling: 0.97}
target_wrong_rate: 2%
wrong_hit_costs: 2m
"""


def written(folder: Path, text: str, name: str = "one.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_category(written(folder, text))
    return str(caught.value).replace(str(folder) + "/", "")


def test_every_key_arrives(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("sort in place\n\n  reverse a list \n")
    category = load_category(written(tmp_path, WHOLE))
    assert category.match.models == ("*-code-*",)
    assert category.match.patterns == ("```", r"\bTraceback\b", "ends in space ")
    assert category.examples == ("how do I sort a list", "sort in place", "reverse a list")
    assert (category.cacheable, category.scope, category.threshold) == (False, "shared", 0.90)
    assert (category.ttl, category.quota, category.priority) == (7 * 86400, 0.4, 2)
    assert (category.stale.while_revalidate, category.stale.if_error) == (3600, 86400)
    assert category.guards == ("numbers",)
    assert category.mode == "shadow"
    assert category.load == Load(0.04, 0.86, 3, 30 * 86400, 0.7, 0.6, False)
    assert category.audit == Audit(0.05, 7, 0.85, 0.97)
    assert (category.target_wrong_rate, category.wrong_hit_costs) == (0.02, 120)


def test_what_is_left_out_has_the_models_defaults(tmp_path: Path) -> None:
    assert load_category(written(tmp_path, SMALLEST)) == Category("tiny", threshold=0.9, ttl=3600)


def test_floors_may_be_the_threshold_itself(tmp_path: Path) -> None:
    category = load_category(
        written(tmp_path, SMALLEST + "load: {threshold_floor: 0.9}\naudit: {threshold_floor: 0.9}\n")
    )
    assert category.load.threshold_floor == category.audit.threshold_floor == 0.9


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("treshold: 0.9", "one.yaml:4: unknown key 'treshold'; did you mean 'threshold'?"),
        ("stale: {if_eror: 1d}", "one.yaml:4: unknown key 'stale.if_eror'; did you mean 'if_error'?"),
        (
            "load:\n  threshold_dorp: 0.1",
            "one.yaml:5: unknown key 'load.threshold_dorp'; did you mean 'threshold_drop'?",
        ),
        (
            "load:\n  threshold_drop: 2",
            "one.yaml:5: load.threshold_drop should be less than or equal to 1, not 2",
        ),
        (
            "load: {threshold_floor: 0.95}",
            "one.yaml:4: load has a threshold_floor above the threshold; lower the floor",
        ),
        (
            "audit: {threshold_floor: 0.95}",
            "one.yaml:4: audit has a threshold_floor above the threshold; lower the floor",
        ),
        (
            "load: {ttl_factor: 0.5}",
            "one.yaml:4: load.ttl_factor should be greater than or equal to 1, not 0.5",
        ),
        ("load: {ttl_ceiling: 1m}", "one.yaml:4: load has a ttl_ceiling below the ttl; raise the ceiling"),
        ("cacheable: 'yes'", "one.yaml:4: cacheable should be a valid boolean, not 'yes'"),
        ("scope: everyone", "one.yaml:4: scope should be 'tenant' or 'shared', not 'everyone'"),
        ("quota: 140%", "one.yaml:4: quota should be a share such as 40% or 0.4, at most 100%, not '140%'"),
        ("quota: 140", "one.yaml:4: quota should be a share such as 40% or 0.4, at most 100%, not 140"),
        ("priority: -1", "one.yaml:4: priority should be greater than or equal to 0, not -1"),
        ("priority: high", "one.yaml:4: priority should be a valid integer, not 'high'"),
        ("match: {patterns: ['(']}", "one.yaml:4: match.patterns.0 should be a regular expression"),
        ("guards:\n- numbers\n- luck", "one.yaml:6: guards.1 should be one of the guards"),
        ("stale: 5", "one.yaml:4: stale should be a mapping (key: value), not 5"),
        ("examples_file: none.txt", "one.yaml:4: none.txt cannot be read"),
        ("ttl: 2h", "one.yaml:4: 'ttl' stands twice; remove one"),
        ("match: [", "one.yaml:5: not valid YAML: while parsing a flow node"),
        (
            "description: a: b",
            "one.yaml:4: not valid YAML: mapping values are not allowed here; correct this line",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_place(tmp_path: Path, line: str, says: str) -> None:
    text = complaint(tmp_path, SMALLEST + line + "\n")
    assert text.startswith(says)
    assert "\n" not in text


@pytest.mark.parametrize("ttl", ["0", "-5", "soon", "7 days", "7d!", "true", ".inf", "''", "[]"])
def test_a_ttl_that_is_none(tmp_path: Path, ttl: str) -> None:
    assert complaint(tmp_path, f"name: tiny\nthreshold: 0.9\nttl: {ttl}\n").startswith(
        "one.yaml:3: ttl should be"
    )


def test_every_mistake_of_a_file_has_a_line(tmp_path: Path) -> None:
    text = complaint(tmp_path, "name: Tiny\nttl: x\nscope: 1\n")
    assert [line.split(": ")[0] for line in text.splitlines()] == [
        "one.yaml:1",
        "one.yaml",
        "one.yaml:2",
        "one.yaml:3",
    ]
    assert "'threshold' is missing; add it" in text


@pytest.mark.parametrize("text", ["- a\n- b\n", "word\n", "&a [*a]\n"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    assert "the file should be a mapping" in complaint(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml: is not UTF-8"):
        load_category(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read \(No such file"):
        load_category(tmp_path / "gone.yaml")


@pytest.mark.parametrize(("closed", "told"), [("iterdir", "name a folder"), ("exists", "let this user read")])
def test_what_this_user_may_not_look_at_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str, told: str
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.yaml").write_text("name: a")
    monkeypatch.setattr(Path, closed, refuse)
    with pytest.raises(ConfigError, match=told):
        load_folder(tmp_path)


def test_a_folder_reports_all_its_files_at_once(tmp_path: Path) -> None:
    written(tmp_path, SMALLEST, "a.yaml")
    written(tmp_path, "colour: blue\n" + SMALLEST, "b.yml")
    written(tmp_path, "\n" + SMALLEST, "c.yaml")
    written(tmp_path, "broken: [", ".hidden.yaml")
    with pytest.raises(ConfigError) as caught:
        load_folder(tmp_path)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path}/b.yml:1: unknown key 'colour'; known here: ")
    assert second == f"{tmp_path}/c.yaml:2: 'tiny' is a category already; rename one"


def test_guarantees_may_fill_the_room_but_not_more(tmp_path: Path) -> None:
    for name, share in (("a", "70%"), ("b", "0.3")):
        written(tmp_path, f"name: {name}\nthreshold: 1\nttl: 1\nquota: {share}\n", f"{name}.yaml")
    assert set(load_folder(tmp_path)) == {"a", "b"}
    written(tmp_path, "name: c\nthreshold: 1\nttl: 1\nquota: 1%\n", "c.yaml")
    with pytest.raises(
        ConfigError, match=r"c\.yaml:4: guarantees now exceed 100 %; lower some of a 70%, b 30%, c 1%"
    ):
        load_folder(tmp_path)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    url: str = ""


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    named: dict[str, Inner] = {}
    listed: list[Inner] = []
    either: Inner | None = None


@pytest.mark.parametrize("text", ["named:\n  a: {urk: x}", "listed:\n- {urk: x}", "either:\n  urk: x"])
def test_unknown_keys_are_advised_on_at_any_depth(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, Outer)
    assert str(caught.value).startswith(f"{path}:2: unknown key ")
    assert str(caught.value).endswith("did you mean 'url'?")


@pytest.mark.parametrize("pipe", ["a.yaml", "examples.txt"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, pipe: str) -> None:
    text = "name: a\nthreshold: 0.9\nttl: 1h\nexamples_file: examples.txt\n"
    for name in ("a.yaml", "examples.txt"):
        os.mkfifo(tmp_path / name) if name == pipe else (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="not a file"):
        load_folder(tmp_path)


def test_aliases_of_aliases_are_not_written_out(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert complaint(tmp_path, "\n".join([SMALLEST, *rows])) == (
        "one.yaml: not valid YAML: its aliases stand for too many values; correct the file"
    )
    assert "unknown key 'a'" in complaint(tmp_path, SMALLEST + "a: &a [*a, {b: *a}]\n")
    again = "examples: &same [one, two]\nguards: []\nmatch: {models: *same}\n"
    assert load_category(written(tmp_path, SMALLEST + again)).match.models == ("one", "two")


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(located, "LONGEST", 100)
    with pytest.raises(ConfigError, match="zero: has more than 5,000,000 characters"):
        located.read(Path("/dev/zero"))
    (tmp_path / "one.yaml").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="is not a file"):
        load_folder(tmp_path)
    (tmp_path / "one.yaml").unlink()
    assert "not a file" in complaint(tmp_path, SMALLEST + "examples_file: /dev/zero\n")


def test_a_value_from_elsewhere_is_blamed_on_where_it_came_from() -> None:
    data, lines = parse("either:\n  url: x\n", "f.yaml")
    data["either"]["url"] = 5
    lines.places["either", "url"] = "NEARHIT_EITHER__URL"
    with pytest.raises(
        ConfigError, match=r"^NEARHIT_EITHER__URL: either.url should be a valid string, not 5$"
    ):
        check(Outer, data, lines)


def test_advice_without_anything_alike_lists_what_is_known() -> None:
    assert nearest("zzz", ["one", "two"]) == "known here: one, two"


@pytest.mark.parametrize(
    ("text", "value"),
    [("7d", 604800), ("1h30m", 5400), ("90s", 90), ("500ms", 0.5), ("1.5h", 5400), (12, 12), (0, 0),
     ("3600", 3600), (" 1.5 ", 1.5)],
)  # fmt: skip
def test_durations(text: object, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["-1", "1h30", "1.", "1e3", "inf", "", "²"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="should be a duration"):
        seconds(text)


@given(st.one_of(st.text(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())))
def test_no_input_makes_anything_but_an_amount_or_a_refusal(value: object) -> None:
    for read, most in ((seconds, float("inf")), (fraction, 1.0)):
        try:
            assert 0 <= read(value) <= most
        except ValueError:
            pass


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    complaints: tuple[Problem, ...] = ()
    try:
        parse(text, "f.yaml")
    except ConfigError as error:
        complaints = error.problems
    assert not any("\n" in str(each) for each in complaints)
