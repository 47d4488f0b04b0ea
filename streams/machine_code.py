"""All that is compiled to machine code: `python -m streams.machine_code` keeps it beside its files.

An install does this once, so that no process has to compile for some seconds at its start.
"""

from __future__ import annotations

import schemas.kernels
import schemas.spans
import streams.timescale.wire_rows

__all__ = ["schemas", "streams"]
