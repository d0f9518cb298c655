"""The stream kernel: fold events into tiles, finalise features at a read instant, say when they move next.

All three work on many members or customers at once. Blobs of another layout raise IncompatibleData.
"""

from vigie_tiles.kernel.finalise import Matrix, finalise
from vigie_tiles.kernel.fold import FoldedMember, fold
from vigie_tiles.kernel.next_change import NEVER_US, next_change

__all__ = ["NEVER_US", "FoldedMember", "Matrix", "finalise", "fold", "next_change"]
