from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from schemas.codec import encode_event
from schemas.documents import documents, event_schema
from tests.schemas.test_codec import SAMPLES

DOCS = Path("docs/schema")


@pytest.mark.parametrize("name", sorted(documents()))
def test_generated_documents_are_current(name: str) -> None:
    current = (DOCS / name).read_bytes()
    assert current == documents()[name], "run: python -m schemas.documents docs/schema"


@pytest.mark.parametrize("tag", sorted(SAMPLES))
def test_event_schema_takes_what_the_codec_writes(tag: str) -> None:
    Draft202012Validator.check_schema(event_schema())
    validator = Draft202012Validator(event_schema())
    document = json.loads(encode_event(SAMPLES[tag]))
    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors(document | {"colour": 1}))
    assert list(validator.iter_errors(document | {"type": "decision.v9"}))
