"""A mapping of a small CSV file that tests import."""

LOGINS = """
source = "file"
[[table]]
name = "logins"
file = "logins.csv"
kind = "event"
event = "login"
user_id = "{id}"
effective_at = { column = "at" }
properties = { n = { column = "n", type = "integer" } }
"""
