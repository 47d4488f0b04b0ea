"""A learned policy, run from its ONNX file as it is served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from agents.policies.artefact import MODEL_FILE, PolicyError, verified_model
from agents.policies.choice import Choice, Uniforms, checked_epsilon, choose, one_hot

_OBSERVATION: Final = "observation"
_LEGAL: Final = "legal"
_VALUES: Final = "q"


class OnnxPolicy:
    """Takes the action of the highest value, or with probability epsilon any legal one.

    The graph holds the normaliser and the mask: `observation` f32[B, D] and `legal` bool[B, A]
    go in, `q` f32[B, A] comes out with illegal actions far below all others. Ties fall to the
    lower action. One thread, which does not spin while it waits: games share their cores.
    """

    def __init__(self, model: bytes, version: str, epsilon: float = 0.0, source: str = "") -> None:
        """Takes a verified graph; raises PolicyError when it is none of ours.

        `source` is the path that errors name.
        """
        self.version = version
        self.epsilon = checked_epsilon(epsilon)
        self._source = source or MODEL_FILE
        self._session = _session(model, self._source)
        self.n_observation, self.n_actions = self._check_graph()

    @classmethod
    def load(
        cls,
        folder: Path | str,
        epsilon: float = 0.0,
        announced: Mapping[str, str] | None = None,
        version: str | None = None,
    ) -> Self:
        """Returns the policy of a version's folder, whose files are verified first.

        The version is the folder's name unless given. `announced`: see `verified_model`. Raises
        PolicyError that names the file, the rule and what came.
        """
        folder = Path(folder)
        model = verified_model(folder, announced)
        return cls(model, version or folder.name, epsilon, str(folder / MODEL_FILE))

    def require(self, n_observation: int, n_actions: int) -> Self:
        """Returns itself; raises PolicyError when the graph is for another game's shapes."""
        if (self.n_observation, self.n_actions) != (n_observation, n_actions):
            rule = f"a graph of {n_observation} numbers to {n_actions} actions"
            raise self._refusal(rule, f"{self.n_observation} to {self.n_actions}")
        return self

    def with_epsilon(self, epsilon: float) -> Self:
        """Returns the same policy, on the same session, with another exploration."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.epsilon = checked_epsilon(epsilon)
        return other

    def values(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """f32[B, A]: what the network expects of each action; raises PolicyError for a NaN."""
        inputs = {_OBSERVATION: observations, _LEGAL: legal}
        q: NDArray[np.float32] = self._session.run([_VALUES], inputs)[0]
        if np.isnan(q).any():
            rule = "a network of finite values"
            raise self._refusal(rule, "NaN")
        return q

    def distribution(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """See `Rule.distribution`: all on the best legal action."""
        if len(observations) == 0:
            return np.zeros((0, self.n_actions))
        # The mask is applied once more: what is played must not hang on what a graph does.
        q = np.where(legal, self.values(observations, legal), -np.inf)
        return one_hot(q.argmax(axis=1), self.n_actions)

    def act(
        self, observations: NDArray[np.float32], legal: NDArray[np.bool_], rng: Uniforms
    ) -> Choice:
        """See `Policy.act`."""
        return choose(self.distribution(observations, legal), legal, self.epsilon, rng)

    def _check_graph(self) -> tuple[int, int]:
        """Returns (D, A) of a graph with the agreed inputs and output."""
        inputs = {i.name: i for i in self._session.get_inputs()}
        outputs = {o.name: o for o in self._session.get_outputs()}
        if set(inputs) != {_OBSERVATION, _LEGAL} or _VALUES not in outputs:
            rule = f"a graph of {_OBSERVATION} and {_LEGAL} to {_VALUES}"
            raise self._refusal(rule, f"{sorted(inputs)} to {sorted(outputs)}")
        types = (inputs[_OBSERVATION].type, inputs[_LEGAL].type, outputs[_VALUES].type)
        if types != ("tensor(float)", "tensor(bool)", "tensor(float)"):
            rule = "a graph of types float, bool and float"
            raise self._refusal(rule, types)
        shapes = (inputs[_OBSERVATION].shape, inputs[_LEGAL].shape)
        if any(len(s) != 2 or isinstance(s[0], int) or not isinstance(s[1], int) for s in shapes):
            rule = "a graph of shapes [batch, D] and [batch, A]"
            raise self._refusal(rule, shapes)
        return int(shapes[0][1]), int(shapes[1][1])

    def _refusal(self, rule: str, got: object) -> PolicyError:
        return PolicyError(f"{self._source} must be {rule}; got {got}")


def _session(model: bytes, source: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # a bad graph is reported by the error below
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base for its errors
        msg = f"{source} must be an ONNX graph that onnxruntime runs; got {error}"
        raise PolicyError(msg) from error
