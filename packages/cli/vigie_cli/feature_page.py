"""The catalogue page of a feature table: every feature under its concept, in Markdown."""

from pathlib import Path

from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.scores import load_concepts

_HEAD = """# The features

Written by `vigie features list --markdown`; the rows are those of `feature_repo/features.toml`, and
[features.md](features.md) says exactly what each measure means. {count} features.
"""


def page(feature_repo: Path) -> str:
    """The whole page. InvalidInput when the feature repository is wrong."""
    table, concepts = FeatureTable.load(feature_repo), load_concepts(feature_repo)
    parts = [_HEAD.format(count=len(table.features))]
    for code, concept in concepts.items():
        rows = [row for row in table.features if row.concept == code]
        if rows:
            lines = [f"| `{row.key}` | {_measure(row)} | {_without_events(row)} | {row.description} |" for row in rows]
            head = "| feature | measure | without events | what it says |\n|---|---|---|---|"
            parts.append(f"\n## {concept.title['en']}\n\n{head}\n" + "\n".join(lines) + "\n")
    return "".join(parts)


def _measure(row: FeatureSpec) -> str:
    window = "" if row.window_days is None else f", {row.window_days} d"
    return f"{row.measure}{window}"


def _without_events(row: FeatureSpec) -> str:
    return "null" if row.default is None else str(row.default)
