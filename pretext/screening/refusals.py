"""Recognize a chat model's refusal by how it opens. Public.

Only what a model says of the request itself counts: "I'm sorry, but I can't come on Friday" is a text like any other.
"""

from __future__ import annotations

import re

_APOLOGY = (
    r"(?:(?:i(?:['’]m| am)(?: very| so| really| truly)? sorry|(?:my )?apologies|sorry|i apologi[sz]e|unfortunately|"
    r"i understand[^\n.!?]{0,60})[ ,.;:!–—-]*(?:but |however,? )?)?"
)
_CANNOT = (
    r"(?:i |we )?(?:can(?:['’]t|not| not)|could(?:n['’]t| not)|won['’]t|will not|(?:am |['’]m )?(?:not able|unable) to|"
    r"i(?:['’]m| am) (?:not able|unable) to|(?:i(?:['’]m| am) )?not comfortable|(?:must|have to) (?:decline|refuse)|"
    r"do(?:n['’]t| not) feel comfortable|do(?:n['’]t| not) have the (?:ability|capability))"
)
_TASK = (
    r"(?:(?:help|assist)(?: you)? (?:with|in|by) (?:that|this|the|your|creating|writing|generating|any|such|it)\b|"
    r"comply\b|(?:fulfil+|complete|process|answer|accommodate|satisfy|honou?r)\b"
    r"[^\n.!?]{0,30}\b(?:request|prompt|question|that|this)\b|"
    r"(?:(?:re)?writ(?:e|ing)|creat(?:e|ing)|generat(?:e|ing)|(?:re)?produc(?:e|ing)|provid(?:e|ing)|shar(?:e|ing)|give|"
    r"rephrase|continue|engage|participate|discuss(?:ing)?)\b"
    r"[^\n.!?]{0,60}\b(?:request|prompt|content|texts?|samples?|examples?|that|this|material|harmful|guidelines|"
    r"polic(?:y|ies)|personal (?:data|information))\b)"
)
_PATTERNS = [
    rf"{_APOLOGY}{_CANNOT}(?: be able)?(?: to)? {_TASK}",
    # A whole answer that names no object but the request.
    rf"{_APOLOGY}(?:i(?:['’]m| am) afraid |i regret (?:that )?)?{_CANNOT}(?: be able)?(?: to)? "
    r"(?:do|help|assist|answer|write)(?: you)?(?: with)?(?: (?:that|this|it))?(?: for you)?"
    r"(?: today| here)?[\s.!\"”*_]*\Z",
    rf"{_APOLOGY}(?:(?:this|that|the|your) (?:request|prompt|topic)|it is|(?:but )?this goes)\b[^\n.!?]{{0,60}}"
    r"\b(?:violat\w+|against|flagged|prohibited)\b[^\n.!?]{0,60}\b(?:polic(?:y|ies)|guidelines|principles)\b",
    rf"{_APOLOGY}[^\n.!?]{{0,40}}\b(?:as an?|i(?:['’]m| am)(?: just| only)? an?) (?:large )?"
    r"(?:ai|artificial intelligence|language model)(?: language| ai)?(?: model| assistant| system| chatbot)?"
    r"(?: created by \w+)?\s*(?:[,.;!]|and\b|i\b)",
    rf"{_APOLOGY}(?:it|that|this)(?:['’]s| is| would be)(?: not|n['’]t)? (?:appropriate|ethical|possible) for me to\b",
    r"als (?:ki|künstliche intelligenz)\b|en tant qu['’](?:ia|intelligence artificielle)\b"
    r"|como (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)\b|作为一?[个名]?(?:ai|人工智能|语言模型)",
    r"(?:es tut mir (?:sehr )?leid,? (?:aber )?)?(?:leider )?(?:ich kann|kann ich) (?:dir|ihnen|euch)?[^\n.!?]{0,20}"
    r"\b(?:dabei|damit|bei dieser anfrage)\b[^\n.!?]{0,20}\bnicht\b[^\n.!?]{0,10}\b(?:helfen|weiterhelfen)\b",
    r"(?:es )?tut mir (?:sehr )?leid[^\n.!?]{0,40}\b(?:anfrage|dabei|damit)\b[^\n.!?]{0,30}\bnicht\b",
    r"(?:mi dispiace|scusa|desculpe|sinto muito|lamento)[^\n.!?]{0,20}\b(?:non posso|não posso|no puedo)\b"
    r"[^\n.!?]{0,40}\b(?:aiutart?[ei]|aiutarla|ajudar|soddisfare|richiesta|pedido|solicitação|ayudar)",
    r"(?:het spijt me|sorry)[^\n.!?]{0,20}\bik kan\b[^\n.!?]{0,30}\bniet\b[^\n.!?]{0,20}\b(?:helpen|verzoek)\b",
    r"(?:к сожалению|извините|простите)[^\n.!?]{0,20}\bя не могу\b[^\n.!?]{0,40}\b(?:помочь|запрос)",
    r"(?:lo siento|je suis désolée?|désolée?)[^\n.!?]{0,20}\b(?:no puedo|je ne peux pas)\b[^\n.!?]{0,40}"
    r"\b(?:ayudar|cumplir|solicitud|aider|répondre|demande)\b",
    r"(?:对不起|抱歉|很抱歉)[，,、]?我?(?:无法|不能)|申し訳(?:ありません|ございません)[^\n。]{0,40}(?:お手伝い|お応え|できません)",
]
_REFUSAL = re.compile(rf"\A[\s\"“*_]*(?:{'|'.join(_PATTERNS)})", re.IGNORECASE)


def is_refusal(text: str) -> bool:
    """Whether the text opens as a refusal of a request to write."""
    return bool(_REFUSAL.match(text))
