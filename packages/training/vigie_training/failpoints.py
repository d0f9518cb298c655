"""Where promotion can be killed on purpose; the kill test goes through all of them."""

FAILPOINTS: tuple[str, ...] = ("training.before_commit", "training.after_commit")
