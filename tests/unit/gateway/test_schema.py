"""The printed schema is what is served, and everything in it is described."""

from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLInterfaceType, GraphQLObjectType, build_schema
from vigie_gateway.schema import compare, printed


def test_the_committed_schema_is_what_the_gateway_serves(repository):
    assert compare(repository / "docs/schema.graphql") == []


def test_every_type_and_field_is_described():
    bare = []
    for name, found in build_schema(printed()).type_map.items():
        if name.startswith("__") or name in ("String", "Int", "Float", "Boolean", "ID"):
            continue
        if not found.description and not name.endswith(("Connection", "Edge")):
            bare.append(name)
        if isinstance(found, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            bare += [f"{name}.{field}" for field, one in found.fields.items() if not one.description]
        assert not isinstance(found, GraphQLEnumType) or found.values
    assert bare == []


def test_a_removed_field_is_called_breaking(tmp_path):
    path = tmp_path / "schema.graphql"
    path.write_text(printed().replace("type Viewer {", 'type Viewer {\n  "Gone."\n  shoeSize: Int\n'))
    assert compare(path) == ["breaking: Viewer.shoeSize was removed."]
