"""YAML as people write settings: no aliases, by which a few lines stand for gigabytes, and no depth without end."""

from __future__ import annotations

from typing import Any

import yaml


class PlainLoader(yaml.SafeLoader):
    """Reads what `yaml.safe_load` does, but for aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """See `yaml.composer.Composer`."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read, write the value out")
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        ValueError: in one line, if it is no YAML, or has aliases or too many levels.
    """
    try:
        return yaml.load(text, Loader=PlainLoader)
    # dates and numbers that cannot be end in errors of Python's own
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
    except RecursionError:
        raise ValueError("it has too many levels") from None
