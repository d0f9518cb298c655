"""Where the kill test may end this process: before and after every commit, append, rename and acknowledgement.

`events_commit` is the commit of what was tailed (events, memberships of features), `commit` that of a scoring pass.
"""

FAILPOINTS: tuple[str, ...] = (
    "scoring.before_commit",
    "scoring.after_commit",
    "scoring.before_append",
    "scoring.after_append",
    "scoring.before_events_commit",
    "scoring.after_events_commit",
    "scoring.before_rename",
    "scoring.after_rename",
    "scoring.before_ack",
    "scoring.after_ack",
)
