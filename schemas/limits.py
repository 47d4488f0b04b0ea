"""Limits on what travels. They protect a partition from one bad producer."""

MAX_RECORD_BYTES = 1_000_000
"""One Kafka record; under the broker's default ``message.max.bytes`` of 1,048,588."""

MAX_PACK_EVENTS = 500
MAX_PACK_BYTES = 500_000
"""A pack as our writers send it. A reader takes any pack up to `MAX_RECORD_BYTES`."""

MAX_ID_CHARS = 200
MAX_FACTS = 64
MAX_RELATED = 32
MAX_DETAIL_CHARS = 2_000
MAX_TEXT_CHARS = 50_000
"""A prompt, a response or a reasoning; also when it is encrypted."""
MAX_VECTOR = 65_536
"""Floats in one observation or probabilities in one decision."""

MAX_EVENT_TIME_MS = 2**53
"""UTC milliseconds stay exact in JSON readers that know only doubles."""
