"""One GraphQL graph over the three services."""
