"""Accepts, validates and deduplicates events; keeps identities, profiles and consent."""
