"""Players' identifiers and free text at ingress: pseudonyms, sealed text, and keys to destroy."""

from streams.privacy.ingress import Ingress
from streams.privacy.pseudonym import Pseudonymiser
from streams.privacy.reveal import Revealer
from streams.privacy.seal import PrivacyError
from streams.privacy.store import KeyStore

__all__ = ["Ingress", "KeyStore", "PrivacyError", "Pseudonymiser", "Revealer"]
