"""Rules of the house that no linter knows: short functions, small files, broad excepts only in supervisors."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("packages", "services", "gateway", "feature_repo", "benchmarks", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
SUPERVISORS = {
    "packages/kit/vigie_kit/worker.py",
    "gateway/vigie_gateway/app.py",
    "packages/cli/vigie_cli/supervisor.py",
    "services/ingest/vigie_ingest/tracking.py",  # the edge that SDKs meet: answers in their shape
    "services/ingest/vigie_ingest/writer.py",  # one poisonous request must not fail its neighbours
}
SQL_PLACES = ("store.py", "sqlite_log.py", "log.py", "database.py")


def nodes(kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> list[tuple[str, ast.AST]]:
    return [
        (str(path.relative_to(ROOT)), node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kind)
    ]


def test_no_function_is_longer_than_sixty_lines():
    functions = nodes((ast.FunctionDef, ast.AsyncFunctionDef))
    long = [f"{path}:{node.lineno} {node.name}" for path, node in functions if node.end_lineno - node.lineno >= 60]
    assert long == []
    assert len(functions) > 500


def test_no_file_is_longer_than_six_hundred_lines():
    assert [str(path) for path in SOURCES if len(path.read_text().splitlines()) > 600] == []


def test_every_exception_is_caught_only_by_supervisors():
    caught = {
        path
        for path, node in nodes(ast.ExceptHandler)
        if node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception")
    }
    assert caught <= SUPERVISORS, caught - SUPERVISORS


def test_sqlalchemy_is_imported_only_where_sql_belongs():
    importing = {
        path
        for path, node in nodes((ast.Import, ast.ImportFrom))
        if (getattr(node, "module", None) or "").startswith("sqlalchemy")
        or any(alias.name.startswith("sqlalchemy") for alias in node.names)
    }
    assert {path for path in importing if not path.endswith(SQL_PLACES)} == set()
