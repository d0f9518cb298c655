"""Renews the vendored GraphiQL, for maintainers: `make graphiql`; needs npm.

Takes the released UMD builds from the npm registry, byte for byte, and writes beside them the licence texts of
everything that they contain and a manifest of versions, sizes and hashes, which a test compares with the files. To move
to another version, change `RELEASES`, run this, and run the browser test.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "gateway/vigie_gateway/graphiql/static/vendor"
RELEASES = {"graphiql": "3.9.0", "react": "18.3.1", "react-dom": "18.3.1"}  # React 19 has no UMD builds
FILES = (
    "graphiql/graphiql.min.css",
    "graphiql/graphiql.min.js",
    "react/umd/react.production.min.js",
    "react-dom/umd/react-dom.production.min.js",
)
LICENCES_ONLY = {
    "graphql-ws": "5",  # bundled into graphiql.min.js, an optional dependency of its source
    "@fontsource/fira-code": "5",  # the licence of the font that graphiql.min.css embeds
}
ROBOTO = "Roboto, the other font that graphiql.min.css embeds (Apache-2.0, Google)"


def install(folder: Path) -> Path:
    """The packages, unpacked into `folder`; none of their scripts run."""
    wanted = [f"{name}@{version}" for name, version in {**RELEASES, **LICENCES_ONLY}.items()]
    quiet = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    subprocess.run(["npm", "install", *quiet, "--prefix", str(folder), *wanted], check=True)
    return folder / "node_modules"


def licences(modules: Path) -> str:
    """Every package's licence, packages with the same text together."""
    texts: dict[str, list[str]] = {}
    for path in sorted([*modules.glob("[!@.]*/package.json"), *modules.glob("@*/*/package.json")]):
        package = json.loads(path.read_text())
        if package["name"].startswith("@types/"):  # declarations, in no bundle
            continue
        texts.setdefault(licence_text(path.parent, package), []).append(f"{package['name']} {package['version']}")
    texts.setdefault((ROOT / "LICENSE").read_text().strip(), []).append(ROBOTO)
    blocks = [f"{', '.join(names)}\n\n{text}\n" for text, names in sorted(texts.items(), key=lambda one: one[1])]
    return f"\n{'=' * 80}\n\n".join(["Licences of what the files in this folder contain.\n", *blocks])


def licence_text(folder: Path, package: dict[str, Any]) -> str:
    """The package's licence file; where it has none, what its package.json says."""
    found = sorted(path for path in folder.iterdir() if path.name.lower().startswith(("licence", "license")))
    if found:
        lines = found[0].read_text().strip().splitlines()
        return "\n".join(line.rstrip() for line in lines)
    author = package.get("author", "its contributors")
    author = author["name"] if isinstance(author, dict) else author
    return f"Licence: {package['license']}; author: {author}. The package holds no licence text of its own."


def main() -> None:
    """Replace the folder's files."""
    shutil.rmtree(VENDOR, ignore_errors=True)
    VENDOR.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        modules = install(Path(folder))
        for name in FILES:
            shutil.copyfile(modules / name, VENDOR / Path(name).name)
        (VENDOR / "LICENCES.txt").write_text(licences(modules))
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(VENDOR.iterdir())
    }
    (VENDOR / "manifest.json").write_text(json.dumps({"releases": RELEASES, "files": files}, indent=2) + "\n")


if __name__ == "__main__":
    main()
