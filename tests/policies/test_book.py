"""The book: what is in the packaged one, and how a person's own becomes one."""

from pathlib import Path

import pytest

from policies.book import Book
from policies.errors import ConfigError

PROMISED = {
    *("code", "tech_docs", "data_query", "general_knowledge", "conversation", "creative", "customer_support"),
    *(
        "finance_personal",
        "finance_market",
        "news",
        "weather",
        "travel",
        "medical",
        "legal",
        "math",
        "default",
    ),
}


def own(folder: Path, name: str, rest: str = "") -> Path:
    (folder / f"{name}.yaml").write_text(f"name: {name}\nthreshold: 0.9\nttl: 1h\n{rest}")
    return folder


def test_the_packaged_categories() -> None:
    book = Book.from_folder()
    assert set(book.categories) == PROMISED
    assert sum(category.quota for category in book.categories.values()) <= 1
    for category in book.categories.values():
        assert category.scope == "tenant", "answers cross tenants only when a person says so"
        assert category.description


@pytest.mark.parametrize("name", ["medical", "legal", "finance_market"])
def test_where_a_wrong_answer_hurts_overload_changes_nothing(name: str) -> None:
    load = Book.from_folder().get(name).load
    assert (load.threshold_drop, load.ttl_factor) == (0, 1)


def test_an_own_folder_stands_alone_but_for_the_default(tmp_path: Path) -> None:
    book = Book.from_folder(own(tmp_path, "recipes"))
    assert list(book.categories) == ["default", "recipes"]
    assert book.default == Book.from_folder().default
    assert book.get("recipes").ttl == 3600
    assert book.get("code") is book.default


def test_an_own_default_is_taken(tmp_path: Path) -> None:
    assert Book.from_folder(own(tmp_path, "default", "priority: 77\n")).default.priority == 77


def test_the_version_tells_books_apart_and_nothing_else_does(tmp_path: Path) -> None:
    own(tmp_path, "recipes")
    first = Book.from_folder(tmp_path).version
    (tmp_path / "recipes.yaml").rename(tmp_path / "other-file-name.yaml")
    assert Book.from_folder(tmp_path).version == first
    (tmp_path / "other-file-name.yaml").unlink()
    assert Book.from_folder(own(tmp_path, "recipes", "priority: 3\n")).version != first


def test_a_broken_folder_is_an_error_and_not_a_book(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name a folder with a YAML file per category"):
        Book.from_folder(tmp_path / "nowhere")
    with pytest.raises(
        ConfigError, match=r"recipes\.yaml:4: unknown key 'prority'; did you mean 'priority'\?"
    ):
        Book.from_folder(own(tmp_path, "recipes", "prority: 3\n"))


def test_a_folder_without_categories_is_an_error_and_not_the_default_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        Book.from_folder(tmp_path)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(str(tmp_path))
    assert "put a YAML file per category" in line


def test_a_book_cannot_be_changed() -> None:
    book = Book.from_folder()
    with pytest.raises(TypeError):
        book.categories["code"] = book.default  # type: ignore[index]
