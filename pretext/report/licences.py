"""What a generator's licence asks of whoever passes its texts on, as far as its name tells.

A reading of the published licences (Llama 2, 3, and 3.1 to 4 Community License, Gemma Terms of Use, Apache-2.0), not
legal advice. A licence that is not listed is called not known, never free of duties.
"""

from __future__ import annotations

import re

_OLD_LLAMA = (
    "The {0} Community License applies: these texts may not be used to improve a large language model other than {0} "
    "and its derivatives{1}; its acceptable use policy goes with them."
)
_LLAMA = (
    "Built with Llama. The {} Community License applies: whoever passes these texts on, or a model that was trained or "
    'improved with them, shows "Built with Llama" prominently; the name of such a model begins with "Llama"; its '
    "acceptable use policy goes with them."
)
_SOME_LLAMA = (
    "Its name speaks of Llama: if it was made from Meta's weights, the Community License of their version applies, "
    "with duties on what it writes and on models that are trained with that; if not, its own licence."
)
_META_3 = '; whoever passes them on shows "Built with Meta Llama 3"'
_GEMMA = (
    "The Gemma Terms of Use apply: a model that is trained on these texts to behave like Gemma counts as its "
    "derivative, and their prohibited use policy goes with it."
)
_DUTIES = (
    (r"smollm2", "The generator is under Apache-2.0, which asks nothing of what it writes."),
    (r"llama-?2\b", _OLD_LLAMA.format("Llama 2", "")),
    (r"llama-?3(-|:|$)", _OLD_LLAMA.format("Meta Llama 3", _META_3)),
    (r"llama-?3[._][123]", _LLAMA.format("Llama 3.1, 3.2 or 3.3")),
    (r"llama-?4", _LLAMA.format("Llama 4")),
    (r"llama", _SOME_LLAMA),
    (r"gemma", _GEMMA),
)


def duties(model: str) -> str:
    """A sentence or two on the licence of the model of that name."""
    name = model.rsplit("/", 1)[-1].casefold()
    unknown = (
        f"The licence of {model} is not known to this program; read what it asks of the texts that the model writes."
    )
    return next((sentence for pattern, sentence in _DUTIES if re.search(pattern, name)), unknown)
