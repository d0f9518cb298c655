"""Suggestions: spellings in English and French are found again, strangers are not, and the lines can be added."""

from pathlib import Path

import msgspec
import pytest
from vigie_cli.cataloguing.suggesting import Suggester, lines_to_add, new_row
from vigie_cli.cataloguing.words import concepts, plain
from vigie_contracts.arrivals import PropertyShape
from vigie_contracts.catalogue import Catalogue, MicroConversion

HIDDEN = "qqqq"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load(Path(__file__).resolve().parents[3] / "feature_repo")


@pytest.fixture(scope="module")
def suggester(catalogue: Catalogue) -> Suggester:
    return Suggester(catalogue.micro_conversions.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("emailOpened", "email opened"),
        ("Email Opened", "email opened"),
        ("email_opened", "email opened"),
        ("e-mail.opened", "email opened"),
        ("HTTPRequestSent", "http request sent"),
        ("Réclamation déposée", "reclamation deposee"),
        ("User Signed In", "user signin"),
    ],
)
def test_every_way_of_writing_becomes_the_same_words(text: str, words: str) -> None:
    assert plain(text) == words


def test_words_of_one_meaning_are_one_concept() -> None:
    assert concepts("Ouverture e-mail") == concepts("emailOpened") == concepts("courriel ouvert") == "message open"
    assert concepts("Consultation du solde") == concepts("balance_viewed")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Ouverture e-mail", "message.opened"),
        ("Connexion utilisateur", "app.logged_in"),
        ("userLoggedIn", "app.logged_in"),
        ("Consultation du solde", "balance.viewed"),
        ("balanceConsulted", None),
        ("Clic sur offre", "offer.clicked"),
        ("createStandingOrder", "recurring_transfer.set"),
        ("COMPTE_FERME", "account.closed"),
        ("visite agence", "branch.visited"),
        ("PageView", "page.viewed"),
        ("Email Opned", "message.opened"),
        ("Déconnexion", None),
        ("logout", None),
        ("account_frozen", None),
        ("Watchlist Archived", None),
        ("Loan Requested", None),
        ("assessment.submitted", None),
        ("iban.changed", None),
        ("", None),
        ("!!!", None),
    ],
)
def test_spellings_are_suggested_or_left_alone(suggester: Suggester, spelling: str, name: str | None) -> None:
    assert suggester.suggest(spelling).name == name


def test_each_spelling_of_the_catalogue_is_found_by_the_others_and_what_is_sure_is_right(catalogue: Catalogue) -> None:
    rows = list(catalogue.micro_conversions.values())
    right = {"sure": 0, "likely": 0, "none": 0}
    wrong = {"sure": 0, "likely": 0, "none": 0}
    for row in rows:
        for spelling in row.spellings:
            if spelling.count(".") == 2:
                continue  # the names that our own readers of other systems give
            found = Suggester(_without(rows, spelling)).suggest(spelling)
            (right if found.name in (row.name, HIDDEN) else wrong)[found.strength] += 1
    assert wrong["sure"] == 0
    assert right["sure"] >= 0.8 * (sum(right.values()) + sum(wrong.values()))


def _without(rows: list[MicroConversion], spelling: str) -> list[MicroConversion]:
    """The catalogue without any text that is the spelling in another way of writing: a name is HIDDEN then."""
    gone = plain(spelling)
    return [
        msgspec.structs.replace(
            row,
            name=row.name if plain(row.name) != gone else HIDDEN,
            label={language: text for language, text in row.label.items() if plain(text) != gone},
            spellings=[text for text in row.spellings if plain(text) != gone],
        )
        if gone in map(plain, (row.name, *row.label.values(), *row.spellings))
        else row
        for row in rows
    ]


def test_the_lines_can_be_put_into_the_catalogue(catalogue: Catalogue, suggester: Suggester, tmp_path: Path) -> None:
    spellings = ['Ouverture "e-mail"', "emailOpened!"]
    lines = lines_to_add(catalogue, [suggester.suggest(spelling) for spelling in spellings])
    (line,) = [line for line in lines if line.startswith("spellings")]
    row = catalogue.micro_conversions["message.opened"]
    text = (Path(__file__).resolve().parents[3] / "feature_repo" / "catalogue.toml").read_text()
    before = next(old for old in text.splitlines() if old.startswith("spellings") and "push_message.action" in old)
    shape = PropertyShape(types=["number"], example="9.9")
    new = new_row("Invoice Paid", {"amount": shape, "é": shape})
    (tmp_path / "catalogue.toml").write_text("\n".join([text.replace(before, line), *new]))
    changed = Catalogue.load(tmp_path)
    assert changed.micro_conversions["message.opened"].spellings == [*row.spellings, *spellings]
    added = changed.micro_conversions["invoice.paid"]
    assert (added.spellings, list(added.properties), added.properties["amount"].type) == (
        ["Invoice Paid"],
        ["amount"],
        "decimal",
    )
