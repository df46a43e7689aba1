"""Rendering the templates of model cards: values from files are shown, never interpreted."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData

from tsllm.escape import escape_fenced, escape_markdown

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent / "templates"


class _Raw(str):
    """A text that is set as it is."""

    __slots__ = ()


def render_card(template: str, card_data: ModelCardData, **values: Any) -> ModelCard:
    """Renders a card; every value that is set into it is escaped, within fences by the filter `fenced`.

    Args:
        template: Name of a file in the folder of templates.
        card_data: The metadata, written as YAML on top.
        **values: What the template names.
    """
    text = _open_templates().get_template(template).render(card_data=_Raw(card_data.to_yaml()), **values)
    return ModelCard(text)


@cache
def _open_templates() -> "Environment":
    """Returns what finds the templates and keeps them compiled."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=False,  # of Markdown, not HTML: `finalize` sees every value instead
        finalize=lambda value: escape_markdown(value) if type(value) is str else value,
    )
    environment.filters["fenced"] = lambda value: _Raw(escape_fenced(value))
    return environment
