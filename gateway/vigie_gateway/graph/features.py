"""The catalogue of features: what each means, from the feature table that every engine reads."""

import strawberry
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureSpec
from vigie_contracts.reads import CatalogueAnswer

from vigie_gateway.context import Texts
from vigie_gateway.graph.scalars import Info, Locale, text


@strawberry.type(description="A declared feature; docs/features.md defines the measures.")
class Feature:
    key: str = strawberry.field(description="Its name, with @ and the version from version 2 on.")
    measure: str = strawberry.field(description="How it is computed: count, recency, baseline, …")
    description: str = strawberry.field(description="What it says, in one line.")
    concept: str = strawberry.field(description="The concept that reasons group it under.")
    owner: str = strawberry.field(description="Who answers for it.")
    version: int = strawberry.field(description="Rises when its meaning changes.")
    window_days: int | None = strawberry.field(description="Days of its window; null when it has none.")
    events: list[str] = strawberry.field(description="The micro-conversions that it looks at.")
    value_property: str | None = strawberry.field(description="The property that is summed, or whose value is taken.")
    attribute: str | None = strawberry.field(description="The declared attribute that it repeats.")
    categories: list[str] = strawberry.field(
        description="An attribute's values; the feature is the place in this list."
    )
    unit: str | None = strawberry.field(
        description="minor (units of money) or seconds, where the measure does not say."
    )
    default_value: int | None = strawberry.field(description="The value of somebody without events; null: none.")
    definition_hash: str = strawberry.field(description="Changes when the meaning changes; models name it.")
    live: bool = strawberry.field(
        description="Whether it has values; false while the log is folded for a row that was just applied: null so far."
    )
    labels: strawberry.Private[dict[str, str]]
    titles: strawberry.Private[dict[str, str]]

    @strawberry.field(description="What people call it.")
    def label(self, locale: Locale | None = None) -> str:
        return text(self.labels, locale)

    @strawberry.field(description="What people call its concept.")
    def concept_title(self, locale: Locale | None = None) -> str:
        return text(self.titles, locale)


@strawberry.type
class FeatureQuery:
    """Mixed into `Query`."""

    @strawberry.field(description="The declared features in the order of the table; of one concept or measure only.")
    async def features(self, info: Info, concept: str | None = None, measure: str | None = None) -> list[Feature]:
        texts = info.context.texts
        found = await info.context.services.get("features", "/internal/catalogue", CatalogueAnswer)
        _check("concept", concept, set(texts.concepts))
        _check("measure", measure, {row.measure for row in found.features})
        awaited = set(found.awaited)
        return [
            _feature(row, texts, live=row.key not in awaited)
            for row in found.features
            if concept in (None, row.concept) and measure in (None, row.measure)
        ]


def _check(what: str, asked: str | None, known: set[str]) -> None:
    if asked is not None and asked not in known:
        raise InvalidInput(f"no feature has the {what} {asked!r}; there are: {', '.join(sorted(known))}")


def _feature(row: FeatureSpec, texts: Texts, *, live: bool) -> Feature:
    concept = texts.concepts.get(row.concept)
    return Feature(
        key=row.key,
        measure=row.measure,
        description=row.description,
        concept=row.concept,
        owner=row.owner,
        version=row.version,
        live=live,
        window_days=row.window_days,
        events=list(row.events),
        value_property=row.value_property,
        attribute=row.attribute,
        categories=list(row.categories),
        unit=row.unit,
        default_value=row.default,
        definition_hash=row.definition_hash,
        labels=row.label or {"en": row.key},
        titles=concept.title if concept else {"en": row.concept},
    )
