"""The vigie command: the composition root."""
