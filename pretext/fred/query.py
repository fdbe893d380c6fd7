"""The query that FreD puts to the clients: made from public data, kept in a folder, bound to its release."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pretext.errors import RunFolderError
from pretext.files import read_file, replace_nonfinite
from privacy import Cost, DiscreteGaussian, Relation
from privacy.moments import Floats, MomentQuery, moments_cost, moments_mechanism

QUERY_FILE = "query.json"
"""Name of the file in a FreD folder, or in the folder of a run that looks for its public sets."""


@dataclass(frozen=True)
class Promise:
    """What a query is expected to tell: means over all stand-ins for the private texts.

    Attributes:
        bias: of a distance, before it is removed.
        error: root mean square error of the gap between two distances.
        chance: of ranking two public sets right; normal approximation.
        explained: share of the public sets' pooled variance in the directions of the second moments.
    """

    bias: float
    error: float
    chance: float
    explained: float


@dataclass(frozen=True)
class FredQuery:
    """Everything public about a release of moments; kept in a folder, so that more sets can be ranked later.

    Attributes:
        moments: what the clients are asked for.
        noise_multiplier: noise / sensitivity.
        relation: the relation that the noise was calibrated for.
        clients: the public number of clients; None where the release counts them.
        embedder: name of the embedder, and to how many tokens it cuts.
        texts: which texts of whom, and how many, are in a client's means.
        probes: shape (4, d), how it embeds four fixed sentences.
        promise: what the design expects, from public data alone.
    """

    moments: MomentQuery
    noise_multiplier: float
    relation: Relation
    clients: int | None
    embedder: str
    texts: str
    probes: NDArray[np.float32] = field(repr=False)
    promise: Promise

    @property
    def mechanism(self) -> DiscreteGaussian:
        """The noise."""
        return moments_mechanism(self.noise_multiplier, self.relation)

    @property
    def subject(self) -> str:
        """What the release is bound to: the moments that are asked for, and the embedder that gives them meaning."""
        return hashlib.sha256(f"{self.moments.digest} {self.embedder}".encode()).hexdigest()

    @property
    def label(self) -> str:
        """Name of the release in the ledger, by content: the same query with the same noise is never paid twice."""
        terms = f"{self.subject} {self.texts} {self.noise_multiplier!r} {self.relation.value}"
        return f"fred/{hashlib.sha256(terms.encode()).hexdigest()[:16]}"

    def cost(self, relation: Relation) -> Cost:
        """What the release costs under a relation."""
        return moments_cost(self.moments.dimension, self.mechanism, relation)

    def to_json(self) -> str:
        """Write the query as JSON; arrays exactly, in base 64."""
        moments = {
            name: _pack_array(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(self.moments).items()
        }
        values = {
            "moments": moments,
            "noise_multiplier": self.noise_multiplier,
            "relation": self.relation.value,
            "clients": self.clients,
            "embedder": self.embedder,
            "texts": self.texts,
            "probes": _pack_array(self.probes),
            "promise": asdict(self.promise),
        }
        return json.dumps(replace_nonfinite(values), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises AttributeError, KeyError, TypeError or ValueError if it is damaged."""
        values = json.loads(text)
        moments: dict[str, Any] = {
            name: _unpack_array(value) if isinstance(value, dict) else value
            for name, value in values["moments"].items()
        }
        return cls(
            MomentQuery(**moments),
            values["noise_multiplier"],
            Relation(values["relation"]),
            values["clients"],
            values["embedder"],
            values["texts"],
            _unpack_array(values["probes"]).astype(np.float32),
            Promise(**values["promise"]),
        )


def load_query(folder: Path) -> FredQuery | None:
    """Read the query that a folder keeps, or None if it keeps none.

    Raises:
        RunFolderError: the file is damaged.
    """
    path = folder / QUERY_FILE
    try:
        query = FredQuery.from_json(read_file(path).decode())
        query.cost(query.relation)  # numbers that no query has fail here, not in the middle of the work
    except FileNotFoundError:
        return None
    except Exception:  # an edited file may raise anything
        raise RunFolderError(
            f"{path} is damaged; put it back from a copy, or delete it and give the same command again: if nothing "
            "else changed, the ledger replays the release at no cost."
        ) from None
    return query


def _pack_array(array: NDArray[Any]) -> dict[str, object]:
    return {"shape": array.shape, "float64": base64.b64encode(array.astype("<f8").tobytes()).decode()}


def _unpack_array(packed: Any) -> Floats:
    return np.frombuffer(base64.b64decode(packed["float64"]), "<f8").reshape(packed["shape"]).astype(np.float64)
