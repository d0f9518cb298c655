"""One module a wire shape: a readable body -> envelopes. Pure. Drafts, log and receipts are the same for all.

Segment's own shape is `vigie_ingest.messages`: its message is the envelope that the others make.
"""
