"""The places of this process where a test may kill it: around every append, commit and rename."""

FAILPOINTS: tuple[str, ...] = (
    "features.before_append",
    "features.after_append",
    "features.before_commit",
    "features.after_commit",
    "features.sweep_before_commit",
    "features.sweep_after_commit",
    "features.rebuild_before_commit",
    "features.rebuild_after_commit",
    "features.archive_before_rename",
    "features.archive_after_rename",
    "features.archive_before_manifest",
    "features.archive_after_manifest",
)

ERASURE_FAILPOINTS: tuple[str, ...] = ("features.archive_before_unlink",)
"""Passed only by an erasure."""

DEFINE_FAILPOINTS: tuple[str, ...] = ("features.define_before_commit", "features.define_after_commit")
"""Passed only by the definition of a segment; the walk that follows passes the rebuild's."""

APPLY_FAILPOINTS: tuple[str, ...] = ("features.apply_before_commit", "features.apply_after_commit")
"""Passed only when a changed feature table is taken over; folding for it passes the rebuild's."""
