"""The proof that experiences, windows and files follow from the log: nothing lost or doubled."""

from streams.verify.partition import PartitionProof, verify_partition
from streams.verify.report import Culprit, PartitionReport, VerifyProgress, VerifyReport
from streams.verify.run import VerifySettings, verify

__all__ = [
    "Culprit",
    "PartitionProof",
    "PartitionReport",
    "VerifyProgress",
    "VerifyReport",
    "VerifySettings",
    "verify",
    "verify_partition",
]
