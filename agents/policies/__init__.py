"""The deciding side: policies that choose actions and say how likely each choice was."""

from agents.policies.artefact import PolicyError
from agents.policies.choice import Choice, Policy, RowRandom, Rule, Uniforms
from agents.policies.mix import EpsilonMix, RandomPolicy
from agents.policies.onnx_policy import OnnxPolicy

__all__ = [
    "Choice",
    "EpsilonMix",
    "OnnxPolicy",
    "Policy",
    "PolicyError",
    "RandomPolicy",
    "RowRandom",
    "Rule",
    "Uniforms",
]
