"""The student `tiny`: a Llama of about 4 million parameters with a vocabulary of its own, made from public text.

Two processor cores train it on a thousand short texts in about a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretext.evaluation.student import TINY, CausalStudent
from pretext.evaluation.training import Training
from pretext.files import replace_folder

START, END = "<start>", "<end>"
VOCABULARY = 4096
PRETRAINING = Training(tokens=2_400_000, batch_tokens=2048, rate=3e-3, checks=8)
_SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
}


def make_untrained_student(
    texts: Sequence[str], *, seed: int = 0, vocabulary: int = VOCABULARY, training: Training = PRETRAINING, **shape: int
) -> CausalStudent:
    """Make a student with random weights and a byte-level BPE vocabulary of the texts; `shape` overrides its sizes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _train_tokenizer(texts, vocabulary)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **(_SHAPE | shape | ends))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: Any = LlamaForCausalLM(config)
    return CausalStudent(TINY, module.eval(), tokenizer, training)


def save_student(student: CausalStudent, folder: Path) -> None:
    """Save the student whole or not at all; an existing one is replaced."""
    with replace_folder(folder) as fresh:
        student.module.save_pretrained(fresh)  # type: ignore[operator]
        student.tokenizer.save_pretrained(fresh)


def _train_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(texts, trainer)
    tokenizer: Any = PreTrainedTokenizerFast
    return tokenizer(tokenizer_object=bare, bos_token=START, eos_token=END, pad_token=END)
