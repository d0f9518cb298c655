"""An event's name as a bag of plain words, whichever way it was written and in English or French.

A line of `CONCEPTS` puts words of one meaning under its first one: the acts of a customer, and the things of a bank. A
word that is in no line stands for itself, without its plural.
"""

import re
import unicodedata

CONCEPTS = """
open opened opening opens ouvert ouverte ouverture ouvrir
close closed closing closure cloture cloturee ferme fermee fermeture resilie resiliation
view viewed viewing views vu vue vues consulte consultee consultation seen display displayed visualisation
view visualise affichage affiche affichee visit visited visite visitee
click clicked clicks clic clique cliquee
send sent sending deliver delivered delivery envoi envoye envoyee envoyer delivre
show shown presented presente presentee impression proposed propose proposee montre
create created creation cree creee creer new add added ajout ajoute ajoutee set setup enabled nouveau nouvelle
create definition defini
delete deleted deletion remove removed supprime supprimee suppression retire retrait
change changed update updated modified toggled toggle modifie modifiee modification changement mise
login signin authenticated authentication connexion connecte connectee connection identification
login authentification
accept accepted acceptance accepte acceptee acceptation
decline declined rejected refuse refusee refus dismissed
make made done effectue effectuee completed complete realise execute executed
use used usage utilise utilisee utilisation paid payment paiement
read lu lue lecture
end ended ending fin finished termine terminee stop stopped
answer answered reponse repondu repondue submitted responded response
contact contacted contacte contactee call called appel appele
resolve resolved solved resolu resolue resolution
escalate escalated escalade escalation transfere
file filed depose deposee depot lodged raised
receive received recu recue reception credited credit
charge charged debit debited preleve prelevee preleves prelevement
attend attended suivi suivie participation participated
start started demarre demarree debut begin began launched lance
message email mail courriel sms push newsletter
transfer virement transfert wire
account compte
card carte
balance solde
transactions transaction history historique operations operation mouvements
complaint reclamation plainte
branch agence
offer offre promotion promo
help aide faq
search searched recherche recherchee
survey enquete questionnaire sondage nps csat
goal objectif but
savings saving epargne
alert alerte
session seance
report rapport releve statement
screen ecran
watchlist favoris favorites
salary salaire paie payroll wage
fee fees frais commission
recurring permanent recurrent standing programme
comment commentaire verbatim avis review
chatbot chat bot assistant
ticket case demande dossier
app application appli
uninstall uninstalled desinstalle desinstallee desinstallation
support sav conseiller adviser advisor hotline
notification notifications
setting settings preference preferences parametre parametres reglage
webinar webinaire
tutorial tutoriel tuto
feature fonction fonctionnalite
method moyen
event evenement
"""
LITTLE_WORDS = """
the a an of to in on for by with from at and user customer client
le la les l de du d des un une en au aux par sur avec via et son sa
"""
_BY_WORD = {word: line.split()[0] for line in CONCEPTS.strip().splitlines() for word in line.split()}
_STOP = frozenset(LITTLE_WORDS.split())
_CAMEL = re.compile(r"(?<=[a-zà-ÿ0-9])(?=[A-ZÀ-Þ])|(?<=[A-ZÀ-Þ])(?=[A-ZÀ-Þ][a-zà-ÿ])")
_JOINED = (
    (re.compile(r"\be[-_ ]mail"), "email"),
    (re.compile(r"\b(log|sign)(?:ged|ned|ed)?[-_. ](in|out|up)\b"), r"\1\2"),
)


def plain(text: str) -> str:
    """Lower case without accents, camelCase and separators as spaces."""
    spaced = _CAMEL.sub(" ", text)
    flat = "".join(c for c in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(c)).lower()
    for pattern, whole in _JOINED:
        flat = pattern.sub(whole, flat)
    return " ".join(re.findall(r"[a-z0-9]+", flat))


def concepts(text: str) -> str:
    """The name's concepts, sorted, each once: `Ouverture e-mail`, `emailOpened` and `email_opened` are one."""
    words = [word for word in plain(text).split() if word not in _STOP] or plain(text).split()
    return " ".join(sorted({_concept(word) for word in words}))


def _concept(word: str) -> str:
    single = word[:-1] if len(word) > 3 and word[-1] == "s" else word
    return _BY_WORD.get(word) or _BY_WORD.get(single, single)
