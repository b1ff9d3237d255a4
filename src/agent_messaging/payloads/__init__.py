"""Payloads and JSON: the one place that encodes, checks and decodes them.

A payload is whatever is JSON after pydantic's rules: a model, dataclass, TypedDict, dict, list, text, number, bool or
None, with values inside such as datetime, UUID, Enum, Decimal or set. It is refused before anything is stored if a
store or another process could not give it back as it was; whether its own type would is looked at in `fidelity`.

Text is written by field names, not by aliases, and read by both, so that a model comes back whatever its aliases are.
Keys that are not text become text as pydantic writes them (1 → "1"); two that become the same are refused. Sets have no
order: repeat a call with an idempotency key with lists instead.

No message here contains a payload's values; they name the place and the type.
"""

from __future__ import annotations

from .annotations import MISSING, Late, annotation_of, payload_type
from .decoding import Decoder
from .encoding import MAX_DEPTH, MAX_METADATA_BYTES, checksum, encode, encode_metadata, fingerprint, seal
from .matching import find_best, find_clash, identity_of
from .wording import name_of, problems_of

__all__ = [
    "MAX_DEPTH",
    "MAX_METADATA_BYTES",
    "MISSING",
    "Decoder",
    "Late",
    "annotation_of",
    "checksum",
    "encode",
    "encode_metadata",
    "find_best",
    "find_clash",
    "fingerprint",
    "identity_of",
    "name_of",
    "payload_type",
    "problems_of",
    "seal",
]
