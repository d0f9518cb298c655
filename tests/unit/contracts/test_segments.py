"""The predicate language: text and tree, what null means, and errors that point at the place and suggest."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.scores import BANDS
from vigie_contracts.segments import (
    ALWAYS,
    EXCLUSIVE_FAMILIES,
    And,
    Comparison,
    IsNull,
    Node,
    Not,
    OneOf,
    Or,
    SegmentSpec,
    SegmentTable,
    Value,
    Vocabulary,
    compile_predicate,
    decode_tree,
    encode_tree,
    evaluate,
    features_used,
    format_predicate,
    needs_scores,
    parse,
    read_definition,
    scores_used,
)

TABLE = FeatureTable(
    [
        FeatureSpec(name="logins", description="", measure="count", events=("a",), window_days=30),
        FeatureSpec(name="logins", version=2, description="", measure="count", events=("b",), window_days=30),
        FeatureSpec(name="recency", description="", measure="recency", events=("a",)),
        FeatureSpec(name="age_band", description="", measure="attribute", attribute="age", categories=("young", "old")),
    ]
)
VOCABULARY = Vocabulary(TABLE, ["closure"])

names = st.sampled_from(["logins", "logins@2", "âge", "_x9", "churn.closure.probability", "inner", "nullable"])
literals = st.one_of(
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
signs = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
leaves = st.one_of(
    st.builds(Comparison, names, signs, literals),
    st.builds(OneOf, names, st.lists(literals, min_size=1, max_size=4).map(tuple), st.booleans()),
    st.builds(IsNull, names, st.booleans()),
)


def _several(children: st.SearchStrategy[Node], kind: type[And] | type[Or]) -> st.SearchStrategy[Node]:
    parts = children.filter(lambda node: not isinstance(node, kind))
    return st.lists(parts, min_size=2, max_size=4).map(lambda found: kind(tuple(found)))


trees = st.recursive(
    leaves,
    lambda children: st.one_of(st.builds(Not, children), _several(children, And), _several(children, Or)),
    max_leaves=8,
)


@given(trees)
def test_a_formatted_tree_parses_back_to_itself(tree: Node) -> None:
    assert parse(format_predicate(tree)) == tree


@given(trees)
def test_a_tree_in_json_is_read_back_as_itself(tree: Node) -> None:
    assert decode_tree(encode_tree(tree)) == tree
    assert parse(read_definition(encode_tree(tree).decode())) == tree


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"type":"comparison","subject":"logins","operator":"=","value":1}', "Invalid enum value '='"),
        ('{"type":"comparison","subject":"logins == 1 or logins","operator":"==","value":2}', "no name of a feature"),
        ('{"type":"one_of","subject":"logins","values":[]}', "expected a number or a text in quotes"),
        ('{"type":"or","operands":[{"type":"and","operands":[]},{"type":"and","operands":[]}]}', "expected the name"),
        ('{"type":"is_null","subject":"logins","negate":true}', "unknown field `negate`"),
        ('{"type":"is_null"', "truncated"),
        ('{"type":"not","operand":' * 300 + '{"type":"is_null","subject":"a"}' + "}" * 300, "levels"),
        (" " * 20_001, "at most 20000 characters"),
    ],
)
def test_json_that_is_no_predicate_is_refused_in_words(body: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(words)):
        decode_tree(body)


def test_nested_operands_of_a_tree_are_flattened_as_the_text_would_be() -> None:
    inner = Comparison("logins", "==", 1)
    nested = And((And((inner, IsNull("recency"))), And((inner,))))
    assert decode_tree(encode_tree(nested)) == And((inner, IsNull("recency"), inner))


@given(st.text(max_size=60))
def test_any_text_is_a_predicate_or_refused_with_a_position(text: str) -> None:
    position = 0
    try:
        parse(text)
    except InvalidInput as error:
        position = error.details["position"]
    assert 0 <= position <= len(text)


@given(st.text(alphabet="logins <>=!()and ornotinis\"',.0123456789@-e", max_size=40))
def test_texts_that_look_like_predicates_never_break_the_parser(text: str) -> None:
    try:
        tree = parse(text)
    except InvalidInput:
        return
    assert parse(format_predicate(tree)) == tree


checked_leaves = st.one_of(
    st.builds(Comparison, st.sampled_from(["logins", "recency"]), signs, st.integers(-2, 2)),
    st.builds(Comparison, st.just("churn.closure.band"), signs, st.sampled_from(BANDS)),
    st.builds(OneOf, st.just("logins"), st.lists(st.integers(-2, 2), min_size=1).map(tuple), st.booleans()),
    st.builds(IsNull, st.sampled_from(["logins", "churn.closure.band"]), st.booleans()),
)
checked_trees = st.recursive(
    checked_leaves,
    lambda children: st.one_of(st.builds(Not, children), _several(children, And), _several(children, Or)),
    max_leaves=8,
)
values = st.fixed_dictionaries(
    {
        "logins": st.none() | st.integers(-2, 2),
        "recency": st.none() | st.integers(-2, 2),
        "churn.closure.band": st.none() | st.sampled_from(BANDS),
    }
)


def naive(node: Node, found: dict[str, Value]) -> bool:
    """The same meaning by Python's own eval of the formatted text."""
    if isinstance(node, And):
        return all([naive(part, found) for part in node.operands])
    if isinstance(node, Or):
        return any([naive(part, found) for part in node.operands])
    if isinstance(node, Not):
        return not naive(node.operand, found)
    value = found[node.subject]
    if isinstance(node, IsNull):
        return (value is not None) if node.negated else (value is None)
    if value is None:
        return False
    if isinstance(node, OneOf):
        return (value not in node.values) if node.negated else (value in node.values)
    left, right = (BANDS.index(each) if isinstance(each, str) else each for each in (value, node.value))
    return bool(eval(f"left {node.operator} right", {"left": left, "right": right}))


@given(checked_trees, values)
def test_evaluation_agrees_with_a_naive_one(tree: Node, found: dict[str, Value]) -> None:
    assert evaluate(tree, found) == naive(tree, found)


@pytest.mark.parametrize("text", ["logins == 1", "logins != 1", "logins < 1", "logins in (1)", "logins not in (1)"])
def test_every_comparison_with_null_is_false_and_its_negation_true(text: str) -> None:
    tree = compile_predicate(text, VOCABULARY)
    assert (evaluate(tree, {"logins": None}), evaluate(Not(tree), {"logins": None})) == (False, True)


def test_and_binds_stronger_than_or_and_not_than_and() -> None:
    tree = parse("not a == 1 and b == 2 or c == 3")
    assert tree == Or((And((Not(Comparison("a", "==", 1)), Comparison("b", "==", 2))), Comparison("c", "==", 3)))


def test_the_empty_text_holds_for_everybody() -> None:
    assert (parse("  "), evaluate(parse(""), {})) == (ALWAYS, True)


def test_a_checked_tree_holds_category_indices_and_text_keeps_the_names() -> None:
    text = 'age_band >= "old" or age_band in ("young", 1)'
    tree = compile_predicate(text, VOCABULARY)
    assert tree == Or((Comparison("age_band", ">=", 1), OneOf("age_band", (0, 1))))
    assert format_predicate(parse(text)) == text


def test_bands_are_ordered_from_low_to_critical() -> None:
    tree = compile_predicate('churn.closure.band >= "HIGH"', VOCABULARY)
    assert [evaluate(tree, {"churn.closure.band": band}) for band in BANDS] == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("logns == 1", 0, "nothing is called 'logns'; did you mean logins"),
        ("logins == 1 and recncy > 3", 16, "did you mean recency"),
        ('age_band == "youg"', 12, 'did you mean "young"'),
        ('logins == "young"', 10, "logins is a number"),
        ("logins == 1.5", 10, "logins is a whole number"),
        ('churn.closure.band == "high"', 22, "it has LOW, MEDIUM, HIGH, CRITICAL"),
        ("churn.other.probability > 0.1", 0, "nothing is called 'churn.other.probability'"),
        ("logins == null", 10, "write `is null`"),
        ("logins = 1", 7, "'=' does not belong here; write `==`"),
        ("logins == 1 AND recency == 2", 12, "expected `and`, `or` or the end, not 'AND'; write `and`"),
        ("logins == 1 && recency == 2", 12, "'&' does not belong here; write `and`"),
        ("logins", 6, "expected a comparison after logins (== != < <= > >=, in, not in, is null, is not null)"),
        ("(logins == 1", 12, "expected ')' before the end"),
        ("logins == 1 recency == 2", 12, "expected `and`, `or` or the end, not 'recency'"),
        ("logins in ()", 11, "expected a number or a text in quotes, not ')'"),
        ("logins is 3", 10, "expected 'null', not '3'"),
        ("logins == 99999999999999999999", 10, "does not fit 64 bits"),
    ],
)
def test_errors_name_the_place_and_what_would_be_right(text: str, position: int, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        compile_predicate(text, VOCABULARY)
    assert raised.value.details["position"] == position
    assert words in raised.value.message
    assert f"at character {position + 1}" in raised.value.message


def test_too_deep_and_too_long_texts_are_refused_not_crashed_on() -> None:
    with pytest.raises(InvalidInput, match="more than 40 levels"):
        parse("not " * 900)
    with pytest.raises(InvalidInput, match="at most 4000 characters"):
        parse("(" * 4_001)


def test_what_a_tree_uses_is_told_apart_into_features_and_scores() -> None:
    tree = parse('recency > 3 and (logins == 1 or recency is null) and churn.closure.band == "LOW"')
    assert features_used(tree) == ("recency", "logins")
    assert scores_used(tree) == ("churn.closure.band",)
    assert (needs_scores(tree), needs_scores(parse("logins == 1"))) == (True, False)


def _spec(key: str, predicate: str, family: str = "behavioural") -> SegmentSpec:
    return SegmentSpec(key=key, name={"en": key}, family=family, predicate=predicate)  # type: ignore[arg-type]


def test_a_segment_error_names_the_segment() -> None:
    with pytest.raises(InvalidInput, match="segment 'x': at character 1: nothing is called 'logns'"):
        SegmentTable([_spec("x", "logns == 1")], VOCABULARY)


def test_a_support_model_may_not_name_scores_and_keys_are_unique() -> None:
    with pytest.raises(InvalidInput, match="may not name scores"):
        SegmentTable([_spec("x", 'churn.closure.band == "LOW"', "support_model")], VOCABULARY)
    with pytest.raises(InvalidInput, match="share a key"):
        SegmentTable([_spec("x", ""), _spec("x", "")], VOCABULARY)


def test_the_shipped_segments_cover_every_family(feature_repo: Path) -> None:
    table = SegmentTable.load(feature_repo, FeatureTable.load(feature_repo), ["closure"])
    families = {segment.spec.family for segment in table.without_scores}
    assert families == {
        "demographic",
        "geographic",
        "behavioural",
        "psychographic",
        "transactional",
        "life_cycle",
        "value_tier",
        "support_model",
    }
    assert len(table.segments) >= 12
    assert len(table.with_scores) == 3
    exclusive = {
        family: [segment.spec.key for segment in table.segments if segment.spec.family == family]
        for family in EXCLUSIVE_FAMILIES
    }
    assert exclusive == {
        "life_cycle": ["onboarding", "prospect", "lapsed", "dormant", "declining", "growing", "established"],
        "value_tier": ["tier_private", "tier_affluent", "tier_core", "tier_basic"],
        "support_model": ["dedicated_adviser", "branch_and_phone", "digital", "hybrid"],
    }
    assert all(segment.spec.because.keys() == {"en", "fr"} for segment in table.segments)


def test_without_a_file_there_are_no_segments(tmp_path: Path) -> None:
    assert SegmentTable.load(tmp_path, TABLE).segments == ()
