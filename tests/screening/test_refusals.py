from __future__ import annotations

import pytest

from pretext.screening.refusals import is_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that request today.",
        "I’m sorry, but I can’t assist with that.",
        "I cannot assist with that, because it involves personal data here.",
        "As an AI language model, I can't write this text in detail.",
        "As an AI, I do not have personal experiences.",
        "Sorry, I can't comply.",
        "I'm unable to fulfill this request.",
        "Unfortunately, I am not able to provide that.",
        "I apologize, but I cannot create content of this kind.",
        "I won't be able to generate this text.",
        "I must decline to write such texts.",
        "I can't continue with this conversation's request.",
        "I do not feel comfortable writing this sample.",
        "It is not appropriate for me to write that.",
        "I'm just an AI, so that is not something I do.",
        "I understand your interest, but I cannot provide personal information.",
        '"I\'m sorry, but I cannot help with creating that."',
        "Es tut mir leid, aber ich kann dir dabei nicht helfen.",
        "Lo siento, pero no puedo ayudar con eso.",
        "Je suis désolé, mais je ne peux pas répondre à cette demande.",
        "抱歉，我无法提供这样的内容。",
        "作为一个AI，我不能写这个。",
        "Sorry, I can’t do that.",
        "I'm afraid I can't help with that.",
        "I regret that I am unable to help.",
        "As a language model AI, I do not have feelings.",
        "This request violates my content policy.",
        "Your request was flagged as potentially violating our usage policy.",
        "My apologies, but this goes against my guidelines.",
        "Ich kann dabei leider nicht helfen.",
        "Mi dispiace, ma non posso aiutarti con questa richiesta.",
        "Desculpe, mas não posso ajudar com isso.",
        "К сожалению, я не могу помочь с этим запросом.",
        "Het spijt me, maar ik kan daar niet mee helpen.",
    ],
)
def test_is_refusal__of_a_request__is_found(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't come to the party on Friday.",
        "I can't help but think about that old lamp.",
        "I cannot find my keys, and the car is gone.",
        "Sorry to hear that your printer broke.",
        "I won't buy from this shop again.",
        "As an airline pilot, I fly a lot.",
        "I'm an AI researcher from Ohio.",
        "Unfortunately, the router was unable to connect.",
        "We could not write to the disk before lunch.",
        "I am unable to walk since September.",
        "Lo siento, pero no puedo ir mañana.",
        "I'm afraid I can't help with the move on Friday.",
        "I can't do that again, my back hurts.",
        "This post violates the guidelines of the forum.",
        "It is against the law to park here.",
        "Ich kann dir am Freitag nicht helfen.",
        "Desculpe, mas não posso ir amanhã.",
    ],
)
def test_is_refusal__of_something_else__is_a_text(text: str) -> None:
    assert not is_refusal(text)
