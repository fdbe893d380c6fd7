"""Find identifiers of people in a text: short patterns, each checked by a checksum, a numbering plan or a parser.

The guarantee covers a synthetic text whatever it contains. But a number in it may still belong to somebody, from the
language model's memory or by chance. This module finds e-mail addresses, phone numbers, card numbers (Luhn), IBANs (mod
97), United States social security numbers, public IP addresses, and web addresses that name a user or contain a
password. Addresses reserved for examples and private networks identify nobody and pass.

It does not find names, postal addresses, dates of birth, or anything spelled out or masked. Finding names takes a
model. Of the maintained tools that use one, presidio brings spaCy and downloads its model from elsewhere, and scrubadub
brings nltk, textblob and Faker (11 packages). For numeric identifiers, both use the packages used here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

import phonenumbers
from stdnum import iban, luhn
from stdnum.us import ssn

# Every repetition before a mark is bounded, so that no text takes more than linear time.
_EMAIL = re.compile(r"[\w.+-]{1,64}@((?:[\w-]{1,63}\.){1,30}[^\W\d_]{2,63})")
_RESERVED_DOMAIN = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|localhost|local)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/@:]{1,200}:[^\s/@]{1,200}@", re.IGNORECASE)
_PROFILE = re.compile(
    r"\b(?:https?://|www\.)\S{0,300}?/(?:~|@|users?/|u/|in/)\w|"
    r"\b(?:(?:www\.)?(?:facebook|instagram|twitter|tiktok)|(?<=//)x)\.com/(?!(?:home|share|search|intent|hashtag)\b)\w",
    re.IGNORECASE,
)
_CARD = re.compile(r"(?<![\w.-])[3-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-f]{3}:[0-9a-f:]{2,}(?![\w:])", re.IGNORECASE)
_PHONE = re.compile(r"(?<![\w.,:/-])(?:\+|\()?\d(?:[ ().-]{0,2}\d){6,14}(?![\w:/-])")
_NUMERIC = re.compile(r"\d[\d ().:-]{5,}\d|[\da-fA-F]{4}:[\da-fA-F]*:")  # in every numeric identifier
_NON_DIGIT = re.compile(r"[^\d]")


def find_identifiers(text: str, region: str) -> Iterator[str]:
    """Yield the kinds of identifiers in a text, lazily, the cheapest check first.

    Args:
        region: two-letter code of the country whose phone numbers are recognized without a country code.
    """
    if "@" in text and any(not _RESERVED_DOMAIN.search(domain) for domain in _EMAIL.findall(text)):
        yield "e-mail address"
    if "/" in text and (_CREDENTIALS.search(text) or _PROFILE.search(text)):
        yield "personal web address"
    if not _NUMERIC.search(text):
        return
    if any(map(_is_public_address, [*_IPV4.findall(text), *_IPV6.findall(text)])):
        yield "IP address"
    if any(luhn.is_valid(_NON_DIGIT.sub("", number)) for number in _CARD.findall(text)):
        yield "card number"
    if any(map(iban.is_valid, _IBAN.findall(text))):
        yield "account number"
    if any(map(ssn.is_valid, _SSN.findall(text))):
        yield "social security number"
    if any(_is_phone_number(number, region) for number in _PHONE.findall(text)):
        yield "phone number"


def _is_public_address(address: str) -> bool:
    with suppress(ValueError):
        return ip_address(address).is_global
    return False


def _is_phone_number(number: str, region: str) -> bool:
    """Whether the numbering plan has such a number; digits without separators are too often something else."""
    if not _NON_DIGIT.search(number):
        return False
    with suppress(phonenumbers.NumberParseException):
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    return False
