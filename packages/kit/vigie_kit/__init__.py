"""Plumbing without a domain word: settings, logs, database, server, clock."""
