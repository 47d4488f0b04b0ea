"""Writes `docs/schema/events.json` (JSON Schema) and `docs/schema/asyncapi.json` from the code.

python -m schemas.documents docs/schema
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import msgspec

from schemas.events import ActorEvent, Event, Tick
from schemas.game import Game
from schemas.model_events import ModelEvent
from schemas.records import DeadLetter, Experience, Metric, Retraction, Watermark, Window
from schemas.topics import Topics

VERSION = "1.0.0"
_JSON = "application/json"
_MSGPACK = "application/msgpack"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_CARRIED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "game_events": (_JSON, (*get_args(ActorEvent), Tick)),
    "experiences": (_MSGPACK, (Experience, Retraction, Watermark)),
    "replay_windows": (_JSON, (Window,)),
    "models": (_JSON, get_args(ModelEvent)),
    "dead_letters": (_MSGPACK, (DeadLetter,)),
    "metrics": (_JSON, (Metric,)),
}
"""What each topic carries, by the name of its property in `Topics`, and in which coding."""

_KEYS = {
    "game_events": "actor_id; none for a pack, whose partition is its events'",
    "experiences": "none; the partition is that of the events",
    "replay_windows": "game/archetype",
    "models": "model",
    "dead_letters": "the source topic",
    "metrics": "process",
}


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema of one event as a game sends it."""
    (schema,), components = msgspec.json.schema_components([Event])
    return {
        "$schema": _DIALECT,
        "title": "Grindstone game event",
        **schema,
        "$defs": components,
    } | {"description": "One event on game-events. A pack is a MessagePack array of these."}


def game_schema() -> dict[str, Any]:
    """Return the JSON Schema of a game description (TOML decoded)."""
    (schema,), components = msgspec.json.schema_components([Game])
    return {"$schema": _DIALECT, "title": "Game description", **schema, "$defs": components}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of every topic."""
    types = [t for _, carried in _CARRIED.values() for t in carried]
    _, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    topics = Topics()
    channels, operations = {}, {}
    for name, (coding, carried) in _CARRIED.items():
        spec = {s.name: s for s in topics.specs(4)}[getattr(topics, name)]
        channels[name] = {
            "address": spec.name,
            "description": f"{spec.purpose}. Key: {_KEYS[name]}.",
            "messages": {t.__name__: _message(t, coding) for t in carried},
            "bindings": {
                "kafka": {
                    "topic": spec.name,
                    "partitions": spec.partitions,
                    "topicConfiguration": {
                        "cleanup.policy": [spec.cleanup],
                        "retention.ms": spec.retention_ms,
                    },
                }
            },
        }
        operations[f"read_{name}"] = _operation("receive", name)
    operations["write_game_events"] = _operation("send", "game_events")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Grindstone",
            "version": VERSION,
            "description": "Topics of an event-sourced streaming learner. Readers read committed.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _JSON,
        "channels": channels,
        "operations": operations,
        "components": {"schemas": components},
    }


def _message(carried: Any, coding: str) -> dict[str, Any]:
    return {
        "name": carried.__struct_config__.tag,
        "contentType": coding,
        "payload": {"$ref": f"#/components/schemas/{carried.__name__}"},
    }


def _operation(action: str, channel: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def documents() -> dict[str, bytes]:
    """Return the generated files by name."""
    made = {"events.json": event_schema(), "game.json": game_schema(), "asyncapi.json": asyncapi()}
    return {
        name: msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
        for name, document in made.items()
    }


def main(folder: str) -> None:
    """Write the files."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    for name, data in documents().items():
        (path / name).write_bytes(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
