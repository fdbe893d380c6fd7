"""Describe each private set as the public knows it: one sentence, and three invented examples.

Both were written from the set's name and kind alone; no private text was copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pretext.errors import UsageError


@dataclass(frozen=True)
class Domain:
    """A public sentence about a domain, and invented examples of it."""

    sentence: str
    examples: tuple[str, ...]


DOMAINS: Final = {
    "commits_rails": Domain(
        "Commit messages of developers of a web framework written in Ruby",
        (
            "Fix a typo in the guide about routing.",
            "Do not load the schema cache twice when the connection pool is reset.",
            "Add an option to skip callbacks in the test helper. Without it every test has to stub the mailer.",
        ),
    ),
    "irc_ubuntu": Domain(
        "Messages in a chat room where users of Ubuntu Linux ask each other for help",
        (
            "how do i mount my usb drive? it doesnt show up on the desktop",
            "try sudo apt-get update first, then install it again",
            "thanks, that worked. now i only need to get the sound card going",
        ),
    ),
    "meetings_qmsum": Domain(
        "What people say, one turn each, in transcripts of meetings of project teams, researchers and committees",
        (
            "Um, okay, so I think we should first go over what we decided last time.",
            "Yeah, but the question is whether the remote should have that many buttons at all.",
            "Thank you, Chair. Can the Minister tell us when the funding for schools will be reviewed?",
        ),
    ),
    "sgd_user_turns": Domain(
        "Requests of users to a digital assistant that books restaurants, flights, hotels and appointments",
        (
            "I would like to reserve a table for two at an Italian place tonight.",
            "Can you find me a cheap flight to Chicago on the 3rd of May?",
            "Yes, that sounds good. What is their phone number?",
        ),
    ),
}


def domain_of(name: str) -> Domain:
    """Return the domain of a private set, by the name of its file. Raises UsageError for an unknown set."""
    if name not in DOMAINS:
        raise UsageError(
            f"Nothing public is known of the set {name!r}; there are {', '.join(DOMAINS)}. "
            "Add a sentence and three invented examples to scripts/studies/comparison/domains.py."
        )
    return DOMAINS[name]
